"""The collector's log: one plain line per fact on stderr, `ts level event key=value …`; the process manager keeps it.

What does not belong here: one line per feed line (counters in the heartbeat tell those).
"""

import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from l2_platform.clock import Clock

LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}


class PlainLog:
    """Writes lines at or above a level."""

    def __init__(self, clock: Clock, level: str = "INFO", stream: TextIO | None = None) -> None:
        self._clock = clock
        self._level = LEVELS[level]
        self._stream = stream

    def debug(self, event: str, **fields: Any) -> None:
        """A detail for a developer."""
        self._write("DEBUG", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """A change of state."""
        self._write("INFO", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something that heals by itself or may need a look."""
        self._write("WARNING", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Something that does not heal by itself."""
        self._write("ERROR", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if LEVELS[level] < self._level:
            return
        stamp = datetime.fromtimestamp(self._clock.now_ns() / 1e9, UTC).isoformat(timespec="milliseconds")
        parts = [stamp, level.lower(), event, *(f"{key}={_shown(value)}" for key, value in fields.items())]
        stream = self._stream or sys.stderr
        try:
            stream.write(" ".join(parts) + "\n")
            stream.flush()
        except OSError:
            # a full disk or a closed terminal must not stop the recording
            return


def _shown(value: Any) -> str:
    text = str(value)
    return repr(text) if not text or any(character.isspace() for character in text) else text
