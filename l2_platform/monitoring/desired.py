"""The desired state of a worker: written in one step by `l2 up` and Dagster, watched by the worker. Standard library only."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from l2_platform.errors import ConfigError


@dataclass(frozen=True, slots=True)
class DesiredState:
    """What a worker should be doing; the same generation always means the same state."""

    worker: str
    generation: int
    enabled: bool
    streams: tuple[str, ...]
    symbols: tuple[str, ...]
    sessions: tuple[tuple[int, int], ...]
    """(session date, its end in ns UTC), the present one first."""
    calendar: str


def write_desired(path: Path, state: DesiredState) -> None:
    """Replace the file in one step, durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(asdict(state), file, separators=(",", ":"))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_desired(path: Path) -> DesiredState | None:
    """The state; None when there is no file; ConfigError when it cannot be used."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: the desired state cannot be read ({error}); `l2 up` writes it anew once it is deleted") from None
    try:
        return DesiredState(
            worker=str(fields["worker"]), generation=int(fields["generation"]), enabled=bool(fields["enabled"]),
            streams=tuple(fields["streams"]), symbols=tuple(fields["symbols"]),
            sessions=tuple((int(date), int(end)) for date, end in fields["sessions"]), calendar=str(fields["calendar"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: the desired state lacks or garbles {error}; delete it and run `l2 up`") from None
