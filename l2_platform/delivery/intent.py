"""Whether a delivery is wanted to work: its desired state, looked at again and again; without one it works.

A file that cannot be used leaves the last good intent in force and says why. What does not belong here: acting on it.
"""

from pathlib import Path

from l2_platform.errors import ConfigError
from l2_platform.monitoring.desired import read_desired


class IntentFile:
    """`run/desired/<worker>.json` of one worker."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self.enabled = True
        self.generation = 0
        """Echoed in the heartbeat; 0 when there is no desired state."""
        self.problem = ""
        """Why the file on disk is not in force; empty when it is."""

    def look(self) -> None:
        """Take over what the file says when it changed."""
        seen = self._stamp()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            desired = read_desired(self._path)
        except ConfigError as error:
            self.problem = error.message
            return
        self.problem = ""
        self.enabled, self.generation = (desired.enabled, desired.generation) if desired else (True, 0)

    def _stamp(self) -> tuple[int, int] | None:
        try:
            state = self._path.stat()
        except OSError:
            return None
        return state.st_mtime_ns, state.st_ino
