"""What a worker is wanted to do: a small JSON file that is replaced in one step; the worker follows it and echoes its generation.

Imported by the collector: standard library only.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from l2_platform.errors import ConfigError
from l2_platform.monitoring.atomic import write_atomic


@dataclass(frozen=True, slots=True)
class DesiredState:
    """The intent for one worker."""

    worker: str
    generation: int
    """Rises with every change."""
    enabled: bool
    streams: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    sessions: tuple[tuple[int, int], ...] = ()
    """(session date, its end in ns UTC), the present one first."""
    calendar: str = "always_open"


def write_desired(path: Path, state: DesiredState) -> None:
    """Replace the file, durably."""
    write_atomic(path, json.dumps(asdict(state), indent=1).encode(), sync=True)


def read_desired(path: Path) -> DesiredState | None:
    """The newest intent, None when there is none; ConfigError when the file cannot be understood."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        fields = json.loads(data)
        return DesiredState(
            str(fields["worker"]), int(fields["generation"]), {True: True, False: False}[fields["enabled"]],
            tuple(str(name) for name in fields["streams"]), tuple(str(name) for name in fields["symbols"]),
            tuple((int(date), int(end)) for date, end in fields["sessions"]), str(fields["calendar"]),
        )  # fmt: skip
    except (ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path}: not a desired state ({error}); delete it and run `l2 up`") from None
