"""The symbols file: which instruments are recorded, in groups that can be switched as one.

    version = 3

    [groups.demo]
    symbols = ["SYM000", "SYM001"]
    enabled = true

It is the one source of symbols; every change raises `version` and replaces the file in one step. What does not belong here: what a
worker made of it (heartbeats) and which stream of a feed records which symbol over time (the journal).
"""

import fcntl
import os
import re
import tomllib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from l2_platform.errors import ConfigError
from l2_platform.monitoring.symbol_versions import VERSIONS_KEPT, keep_version

NAME_BYTES_MAX = 30
SYMBOLS_MAX = 10_000
_GROUP_NAME = re.compile(r"^[A-Za-z0-9_-]{1,40}$")
_SYMBOL = re.compile(r"^[!-+\--~]+$")
"""Printable ASCII without space and comma: anything else would shift the parameters of a watch command."""


@dataclass(frozen=True, slots=True)
class SymbolGroup:
    """Symbols of one group, in the file's order."""

    name: str
    symbols: tuple[str, ...]
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class SymbolsFile:
    """The whole file; `version` starts at 1 and grows with each change."""

    version: int
    groups: tuple[SymbolGroup, ...]

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols of the enabled groups, in order."""
        return tuple(symbol for group in self.groups if group.enabled for symbol in group.symbols)

    def group(self, name: str) -> SymbolGroup | None:
        """The group of that name, or None."""
        return next((group for group in self.groups if group.name == name), None)


def load_symbols(path: Path, *, limit: int = SYMBOLS_MAX, name_bytes_max: int = NAME_BYTES_MAX) -> SymbolsFile:
    """Read and check the file; ConfigError names file, group and symbol. `limit` counts the symbols of enabled groups."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"symbols file {path}: cannot read it: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"symbols file {path}: it is not UTF-8 text") from None
    return parse_symbols(text, str(path), limit=limit, name_bytes_max=name_bytes_max)


def parse_symbols(
    text: str, name: str, *, limit: int = SYMBOLS_MAX, name_bytes_max: int = NAME_BYTES_MAX
) -> SymbolsFile:
    """The same for text that is at hand; `name` stands in messages."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"symbols file {name}: {error}") from None
    except RecursionError:
        raise ConfigError(f"symbols file {name}: lists are nested too deeply") from None
    unknown = sorted(document.keys() - {"version", "groups"})
    if unknown:
        raise ConfigError(f"symbols file {name}: unknown entry {unknown[0]!r}; use version and [groups.NAME]")
    version = document.get("version", 1)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ConfigError(f"symbols file {name}: version is {version!r}, use a whole number from 1")
    groups = document.get("groups", {})
    if not isinstance(groups, dict):
        raise ConfigError(f"symbols file {name}: groups must be tables, [groups.NAME]")
    parsed = SymbolsFile(version, tuple(_group(name, key, value) for key, value in groups.items()))
    check_symbols(parsed, name, limit=limit, name_bytes_max=name_bytes_max)
    return parsed


def check_symbols(
    file: SymbolsFile, name: str, *, limit: int = SYMBOLS_MAX, name_bytes_max: int = NAME_BYTES_MAX
) -> None:
    """Names, duplicates and the limit; ConfigError on the first that is wrong."""
    seen: dict[str, str] = {}
    for group in file.groups:
        where = f"symbols file {name}: group {group.name}"
        if not _GROUP_NAME.match(group.name):
            raise ConfigError(f"{where}: use 1 to 40 letters, digits, _ or - as the group's name")
        for symbol in group.symbols:
            if not _SYMBOL.match(symbol):
                raise ConfigError(
                    f"{where}: symbol {symbol!r} has a character that the feed does not take (space, comma, non-ASCII)"
                )
            if len(symbol) > name_bytes_max:
                raise ConfigError(f"{where}: symbol {symbol!r} is longer than {name_bytes_max} characters")
            if symbol != symbol.upper():
                raise ConfigError(f"{where}: symbol {symbol!r}: the feed's symbols are upper case, {symbol.upper()!r}")
            if symbol in seen:
                raise ConfigError(f"{where}: symbol {symbol!r} is already in group {seen[symbol]}")
            seen[symbol] = group.name
    if len(file.symbols) > limit:
        raise ConfigError(
            f"symbols file {name}: {len(file.symbols)} enabled symbols, the limit is {limit} (symbols.limit)"
        )


def _group(name: str, key: str, value: object) -> SymbolGroup:
    where = f"symbols file {name}: group {key}"
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: write it as a table, [groups.{key}]")
    unknown = sorted(value.keys() - {"symbols", "enabled"})
    if unknown:
        raise ConfigError(f"{where}: unknown entry {unknown[0]!r}; use symbols and enabled")
    symbols, enabled = value.get("symbols", []), value.get("enabled", True)
    if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
        raise ConfigError(f"{where}: symbols must be a list of names in quotes")
    if not isinstance(enabled, bool):
        raise ConfigError(f"{where}: enabled is {enabled!r}, use true or false")
    return SymbolGroup(key, tuple(symbols), enabled)


def format_symbols(file: SymbolsFile) -> str:
    """The file as text, ten symbols a line."""
    lines = [
        "# Which instruments are recorded. Every change is applied while running, within a second.",
        f"version = {file.version}",
    ]
    for group in file.groups:
        lines += ["", f"[groups.{group.name}]", "symbols = ["]
        for begin in range(0, len(group.symbols), 10):
            lines.append("    " + ", ".join(_quoted(symbol) for symbol in group.symbols[begin : begin + 10]) + ",")
        lines += ["]", f"enabled = {'true' if group.enabled else 'false'}"]
    return "\n".join(lines) + "\n"


def _quoted(symbol: str) -> str:
    return '"' + symbol.replace("\\", "\\\\").replace('"', '\\"') + '"'


def write_symbols(
    path: Path, file: SymbolsFile, *, limit: int = SYMBOLS_MAX, name_bytes_max: int = NAME_BYTES_MAX, kept: int = VERSIONS_KEPT
) -> None:
    """Check, then replace the file in one durable step: a reader sees the old one or the new one. Both are kept as versions."""
    check_symbols(file, str(path), limit=limit, name_bytes_max=name_bytes_max)
    path.parent.mkdir(parents=True, exist_ok=True)
    keep_version(path, kept)
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with part.open("w", encoding="utf-8") as stream:
            stream.write(format_symbols(file))
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ConfigError(f"symbols file {path}: cannot write it: {error.strerror}") from None
    _sync_folder(path.parent)
    keep_version(path, kept)


def edit_symbols(
    path: Path,
    change: Callable[[SymbolsFile], SymbolsFile],
    *,
    limit: int = SYMBOLS_MAX,
    name_bytes_max: int = NAME_BYTES_MAX,
    kept: int = VERSIONS_KEPT,
) -> SymbolsFile:
    """Apply `change` to what the file holds now and raise the version; editors wait for each other. Comments are not kept."""
    with _edit_lock(path):
        before = load_symbols(path, limit=limit, name_bytes_max=name_bytes_max)
        wanted = change(before)
        if wanted.groups == before.groups:
            return before
        after = SymbolsFile(before.version + 1, wanted.groups)
        write_symbols(path, after, limit=limit, name_bytes_max=name_bytes_max, kept=kept)
    return after


def with_added(file: SymbolsFile, group: str, symbols: Iterable[str]) -> SymbolsFile:
    """`file` with symbols added to `group` (made when new); those that the group has already stay as they are."""
    old = file.group(group) or SymbolGroup(group, ())
    new = [symbol for symbol in dict.fromkeys(symbols) if symbol not in set(old.symbols)]
    return _with_group(file, SymbolGroup(group, (*old.symbols, *new), old.enabled))


def with_removed(file: SymbolsFile, symbols: Iterable[str]) -> SymbolsFile:
    """`file` without these symbols, whichever group has them."""
    gone = set(symbols)
    groups = tuple(SymbolGroup(g.name, tuple(s for s in g.symbols if s not in gone), g.enabled) for g in file.groups)
    return SymbolsFile(file.version, groups)


def with_group(file: SymbolsFile, group: str, symbols: Sequence[str], *, enabled: bool = True) -> SymbolsFile:
    """`file` with `group` set to exactly these symbols."""
    return _with_group(file, SymbolGroup(group, tuple(symbols), enabled))


def _with_group(file: SymbolsFile, group: SymbolGroup) -> SymbolsFile:
    kept = [group if old.name == group.name else old for old in file.groups]
    if file.group(group.name) is None:
        kept.append(group)
    return SymbolsFile(file.version, tuple(kept))


def simulated_symbols(count: int) -> tuple[str, ...]:
    """The instruments of the simulated market: SYM000 …, four digits where there are more than 1,000."""
    width = 3 if count <= 1000 else 4
    return tuple(f"SYM{number:0{width}}" for number in range(count))


def demo_symbols(count: int) -> SymbolsFile:
    """The first symbols file of an instance on the simulated market."""
    return SymbolsFile(1, (SymbolGroup("demo", simulated_symbols(count)),))


def symbols_of_stream(symbols: Sequence[str], stream: str, streams: Sequence[str]) -> tuple[str, ...]:
    """The share of `stream`: streams of one channel split the symbols by a hash of the name, so that a symbol stays where it is.

    The admin channel records no symbols.
    """
    channel = stream.rsplit("-", 1)[0]
    siblings = sorted(name for name in streams if name.rsplit("-", 1)[0] == channel) or [stream]
    if channel.endswith("-admin"):
        return ()
    mine = siblings.index(stream) if stream in siblings else 0
    return tuple(symbol for symbol in symbols if zlib.crc32(symbol.encode("ascii")) % len(siblings) == mine)


@contextmanager
def _edit_lock(path: Path) -> Iterator[None]:
    # a lock file of its own: the symbols file itself is replaced, and a lock on the old one would protect nothing
    lock = path.with_name(f".{path.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
