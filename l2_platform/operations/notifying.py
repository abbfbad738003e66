"""Who is told what, and how often: one message for what happened together, never a storm, never a wait without end.

`plan` decides, purely, from what happened and what was told before; `Notifier` keeps that in a file and hands messages to apprise.
What does not belong here: finding out what happened (sensors of Dagster).
"""

import fcntl
import json
import logging
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from l2_platform.clock import Clock, SystemClock
from l2_platform.errors import ConfigError
from l2_platform.monitoring.atomic import write_atomic
from l2_platform.settings import NotifySettings, Settings

HOUR_NS: Final = 3600 * 10**9
TEXT_MAX: Final = 600
"""Characters of one event in a message."""
EVENTS_SHOWN: Final = 15
"""Events of one message; the rest is counted."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a person should know."""

    cause: str
    """Events of the same cause are one matter, e.g. `check trades:seq_is_unique`."""
    title: str
    text: str
    """What was seen, what to do, where to look."""
    good: bool = False
    """The matter is over; told at once, and the cause is forgotten."""


@dataclass(slots=True)
class Told:
    """What was told so far."""

    sent_ns: list[int] = field(default_factory=list)
    """When each message of the last hour went out."""
    causes: dict[str, list[int]] = field(default_factory=dict)
    """Cause → [when it was told, times it happened since]."""
    waiting: list[dict[str, Any]] = field(default_factory=list)
    """Events that wait for room in the hour."""
    uncounted: int = 0
    """Events beyond `causes_max`."""
    message: dict[str, Any] | None = None
    """A message that some receiver did not take yet: title, body, attempts, receivers (their numbers, from 1; [] = all)."""


def plan(told: Told, events: Sequence[Event], now_ns: int, settings: NotifySettings) -> tuple[str, str] | None:
    """(title, body) of the message to send now, None when there is none; `told` is brought up to date."""
    told.sent_ns = [at for at in told.sent_ns if 0 <= now_ns - at < HOUR_NS]
    repeat_ns = int(settings.repeat_s * 1e9)
    for event in events:
        known = told.causes.get(event.cause)
        if event.good:
            if known is None:
                continue
            del told.causes[event.cause]
            if told.waiting and any(item["cause"] == event.cause and not item["good"] for item in told.waiting):
                # over before anybody was told: nothing to tell
                told.waiting = [item for item in told.waiting if item["cause"] != event.cause]
                continue
        elif known is not None and 0 <= now_ns - known[0] < repeat_ns:
            known[1] += 1
            continue
        if len(told.waiting) >= settings.causes_max:
            told.uncounted += 1
            continue
        again = f" ({known[1]} times more since it was told)" if known is not None and known[1] else ""
        told.waiting.append(asdict(event) | {"title": event.title + again})
        if not event.good:
            told.causes[event.cause] = [now_ns, 0]
            while len(told.causes) > settings.causes_max:
                told.causes.pop(min(told.causes, key=lambda cause: told.causes[cause][0]))
    gathering = bool(told.sent_ns) and now_ns - max(told.sent_ns) < int(settings.group_s * 1e9)
    if not told.waiting or told.message is not None or gathering or len(told.sent_ns) >= settings.hour_max:
        return None
    message = _message(told.waiting, told.uncounted)
    told.waiting, told.uncounted = [], 0
    told.sent_ns.append(now_ns)
    return message


def _message(events: list[dict[str, Any]], uncounted: int) -> tuple[str, str]:
    bad = [event for event in events if not event["good"]]
    first = (bad or events)[0]
    others = len(events) + uncounted - 1
    title = f"l2: {first['title']}" + (f", and {others} more" if others else "")
    shown = [*bad, *(event for event in events if event["good"])][:EVENTS_SHOWN]
    body = "\n\n".join(f"{event['title']}\n{event['text'][:TEXT_MAX]}" for event in shown)
    hidden = len(events) + uncounted - len(shown)
    return title, body + (f"\n\n… and {hidden} more; see the overview in Dagster." if hidden else "")


def _receivers(urls: Sequence[str]) -> list[Any]:
    with warnings.catch_warnings():
        # it loads its plugins at the first URL; deprecations between them and Python are not ours to act on
        warnings.simplefilter("ignore")
        import apprise

        found = []
        for number, url in enumerate(urls, 1):
            receiver = apprise.Apprise()
            if not receiver.add(url):
                raise ConfigError(f"notify.urls: receiver {number} is no URL that apprise understands; see l2 notify --help")
            found.append(receiver)
        return found


def _hand_over(receiver: Any, number: int, title: str, body: str, taken: set[int]) -> None:
    if receiver.notify(title=title, body=body, body_format="text"):
        taken.add(number)


def send(urls: Sequence[str], title: str, body: str, timeout_s: float) -> list[int]:
    """Hand a message to every receiver beside the others; numbers (from 1) of those that did not take it in time.

    A receiver that hangs is left behind in its thread. Raises ConfigError when a URL cannot be understood (its text is not repeated: it
    may hold a password).
    """
    # what it says of a failure may name the URL
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    taken: set[int] = set()
    threads = [
        threading.Thread(target=_hand_over, args=(receiver, number, title, body, taken), name=f"notify-{number}", daemon=True)
        for number, receiver in enumerate(_receivers(urls), 1)
    ]
    for thread in threads:
        thread.start()
    clock = SystemClock()
    deadline_ns = clock.monotonic_ns() + int(timeout_s * 1e9)
    for thread in threads:
        thread.join(max(0.0, (deadline_ns - clock.monotonic_ns()) / 1e9))
    return [number for number in range(1, len(urls) + 1) if number not in taken]


class Notifier:
    """Tells people; `run/notify.json` remembers what they were told."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings.notify
        self._path: Path = settings.run_dir / "notify.json"
        self._clock = clock

    @property
    def receivers(self) -> list[str]:
        """The URLs; never to be shown."""
        return self._settings.urls.get_secret_value().split()

    def send_test(self) -> list[int]:
        """A test message, past all bounds; the numbers (from 1) of the receivers that did not take it."""
        body = "If you read this, messages of this instance arrive. Sent by l2 notify --test."
        return send(self.receivers, "l2: test message", body, self._settings.timeout_s)

    def look(self) -> Told:
        """What was told, and what waits."""
        return self._read()

    def tell(self, events: Sequence[Event]) -> str | None:
        """Tell what is due, also what waits from earlier; the title of the message that was taken now."""
        with self._alone():
            told = self._read()
            now_ns = self._clock.now_ns()
            planned = plan(told, events, now_ns, self._settings)
            if planned is not None:
                told.message = {"title": planned[0], "body": planned[1], "attempts": 0, "receivers": []}
            # written before sending: a process that dies in between does not tell everything again
            self._write(told)
            return self._send(told) if told.message is not None else None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One sensor at a time: both keep what they told in one file. The wait is that of one message at most."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _send(self, told: Told) -> str | None:
        assert told.message is not None
        message = told.message
        urls = self.receivers
        # those that took it at an earlier attempt do not get it again
        chosen = [number for number in message["receivers"] if number <= len(urls)] or list(range(1, len(urls) + 1))
        failed = send([urls[number - 1] for number in chosen], message["title"], message["body"], self._settings.timeout_s)
        message["attempts"] += 1
        message["receivers"] = [chosen[number - 1] for number in failed]
        said = {"title": message["title"], "attempts": message["attempts"], "receivers": message["receivers"]}
        if not failed:
            told.message = None
        elif message["attempts"] >= self._settings.attempts_max:
            _log.error("notification_given_up", **said)
            told.message = None
        else:
            _log.warning("notification_not_taken", **said)
        self._write(told)
        return None if failed else str(message["title"])

    def _read(self) -> Told:
        try:
            fields = json.loads(self._path.read_bytes())
            return Told(**{name: fields[name] for name in Told.__dataclass_fields__})
        except (OSError, ValueError, KeyError, TypeError):
            # none yet, or not readable: at worst somebody is told twice
            return Told()

    def _write(self, told: Told) -> None:
        write_atomic(self._path, json.dumps(asdict(told)).encode(), sync=False)
