"""Threads and what they wait on: the seam where a simulation runs them one at a time, in an order of its own.

What does not belong here: what the threads do.
"""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol


class Condition(Protocol):
    """A lock that can be waited on, as `threading.Condition`."""

    def __enter__(self) -> bool:
        """Take the lock; the holder may take it again."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Give it back."""
        ...

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        """Give the lock back until `predicate` holds (or `timeout` s are over), then hold both."""
        ...

    def notify_all(self) -> None:
        """Let everybody who waits look again."""
        ...


class Event(Protocol):
    """A flag that can be waited for, as `threading.Event`."""

    def set(self) -> None:
        """Raise the flag."""
        ...

    def clear(self) -> None:
        """Take it down."""
        ...

    def is_set(self) -> bool:
        """Is it up?"""
        ...

    def wait(self, timeout: float | None = None) -> bool:
        """Until it is up, or `timeout` s are over; whether it is up."""
        ...


class Thread(Protocol):
    """A thread that was started."""

    def join(self) -> None:
        """Wait for its end."""
        ...


class Threads:
    """Threads as the system runs them."""

    def condition(self) -> Condition:
        """A new condition with a lock of its own."""
        return threading.Condition()

    def event(self) -> Event:
        """A new flag, down."""
        return threading.Event()

    def start(self, target: Callable[[], None], name: str) -> Thread:
        """Run `target` beside the caller; the process does not wait for it at its end."""
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        return thread
