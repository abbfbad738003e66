"""What the collector is told to do: the desired state written for it, or settings and symbols file where there is none.

Level-triggered: the files are looked at several times a second and what they say now counts, whichever changes were missed.
A file that cannot be used leaves the last good intent in force and says why. What does not belong here: acting on it.
"""

from dataclasses import dataclass
from pathlib import Path

from l2_platform.errors import ConfigError
from l2_platform.monitoring.desired import DesiredState, read_desired
from l2_platform.monitoring.symbol_versions import keep_version
from l2_platform.monitoring.symbols_file import SymbolsFile, demo_symbols, load_symbols, symbols_of_stream
from l2_platform.settings import Settings


@dataclass(frozen=True, slots=True)
class Intent:
    """`sessions` is (session date, end ns UTC) and `recording` (start, stop) in ns UTC, empty where nothing was told of them.

    `generation` is echoed in the heartbeat.
    """

    enabled: bool
    symbols: tuple[str, ...]
    generation: int
    sessions: tuple[tuple[int, int], ...] = ()
    recording: tuple[tuple[int, int], ...] = ()


class IntentWatch:
    """Looks at the files of one worker."""

    def __init__(self, settings: Settings, stream: str) -> None:
        self._settings = settings
        self._stream = stream
        self._desired = settings.run_dir / "desired" / f"collector-{stream}.json"
        self._seen: tuple[tuple[int, int] | None, tuple[int, int] | None] | None = None
        self.problem = ""
        """Why the files on disk are not in force; empty when they are."""

    def poll(self) -> Intent | None:
        """The intent when the files changed since the last call and can be used; None otherwise."""
        seen = (_stamp(self._desired), _stamp(self._settings.symbols_file))
        if seen == self._seen:
            return None
        self._seen = seen
        try:
            intent = self._read()
        except ConfigError as error:
            self.problem = error.message
            return None
        self.problem = ""
        return intent

    def _read(self) -> Intent:
        desired = read_desired(self._desired)
        if desired is None:
            file = self._symbols_file()
            return Intent(True, self._share(file), file.version)
        symbols = desired.symbols
        if self._edited_since(desired):
            # an edit counts at once, before whoever derives desired states has seen it
            symbols = self._share(self._symbols_file())
        return Intent(desired.enabled, symbols, desired.generation, desired.sessions, desired.recording)

    def _symbols_file(self) -> SymbolsFile:
        settings = self._settings
        limits = settings.symbols
        if settings.symbols_file.exists():
            keep_version(settings.symbols_file, limits.versions_kept)
            return load_symbols(settings.symbols_file, limit=limits.limit, name_bytes_max=limits.name_bytes_max)
        if settings.feed.kind == "simulated":
            return demo_symbols(settings.simulator.symbols)
        raise ConfigError(
            f"symbols file {settings.symbols_file}: it does not exist; `l2 up` makes one, or write it by hand"
        )

    def _share(self, file: SymbolsFile) -> tuple[str, ...]:
        return symbols_of_stream(file.symbols, self._stream, self._settings.streams)

    def _edited_since(self, desired: DesiredState) -> bool:
        """The symbols file is another than the one that the desired state was derived from."""
        edited, derived = _stamp(self._settings.symbols_file), _stamp(self._desired)
        if edited is not None and desired.symbols_mtime_ns:
            return edited[0] != desired.symbols_mtime_ns
        return edited is not None and derived is not None and edited[0] > derived[0]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_ino
