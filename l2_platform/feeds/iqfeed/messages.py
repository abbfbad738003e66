"""The words of the IQFeed wire that a collector needs: the commands it sends and the system lines it must understand.

Data lines (prices, sizes) are not here: `layouts` and the decoders own them. Pure: no I/O, no clock.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from l2_platform.errors import InputError

LINE_END = b"\r\n"
SYSTEM_LINE = re.compile(rb"\n[SETn]")
"""A line end followed by a letter that only system, error, time and not-found lines start with; data lines start with others."""
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ServerConnected:
    """The quote server is usable (again): every watch must be sent anew."""


@dataclass(frozen=True, slots=True)
class ServerDisconnected:
    """The quote server is lost while TCP stays up; what was received is stale until ServerConnected."""


@dataclass(frozen=True, slots=True)
class ProtocolAcked:
    """The socket speaks `version` from here on."""

    version: str


@dataclass(frozen=True, slots=True)
class ProtocolRefused:
    """The peer does not speak the version asked for, or never answered; `reason` is its line or ours."""

    reason: str


@dataclass(frozen=True, slots=True)
class FieldsAcked:
    """Level 1 lines have these columns from here on; `names` starts with Symbol."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FieldsUnacknowledged:
    """No form of SELECT UPDATE FIELDS was answered: the socket keeps the protocol's default columns."""

    reason: str


@dataclass(frozen=True, slots=True)
class FeedClock:
    """A `T` line: `text` is `yyyyMMdd HH:mm:ss`, New York wall time."""

    text: str


@dataclass(frozen=True, slots=True)
class SymbolLimit:
    """The watch of `symbol` was refused because the account's limit is reached."""

    symbol: str


@dataclass(frozen=True, slots=True)
class SymbolNotFound:
    """The feed does not know `symbol`."""

    symbol: str


@dataclass(frozen=True, slots=True)
class DepthCleared:
    """One side (`A` or `B`) of a book was declared empty."""

    symbol: str
    side: str


@dataclass(frozen=True, slots=True)
class ErrorLine:
    """An `E` line without a meaning of its own."""

    text: str


@dataclass(frozen=True, slots=True)
class Unauthorized:
    """The login was refused or the subscription has ended."""

    reason: str


@dataclass(frozen=True, slots=True)
class CustomerInfo:
    """`S,CUST`: service (`real_time`, `delayed`) and the most symbols of Level 1 (0 = not told)."""

    service: str
    symbols_max: int


@dataclass(frozen=True, slots=True)
class Stats:
    """`S,STATS`: symbol limit and count (0 = not told) and whether the login stands."""

    symbols_max: int
    symbols: int
    connected: bool


@dataclass(frozen=True, slots=True)
class CommandSent:
    """A command that the protocol itself queued, secrets masked, line end left out."""

    line: str


@dataclass(frozen=True, slots=True)
class SystemLine:
    """Any other `S` line."""

    text: str


Event = (
    ServerConnected | ServerDisconnected | ProtocolAcked | ProtocolRefused | FieldsAcked | FieldsUnacknowledged | FeedClock
    | SymbolLimit | SymbolNotFound | DepthCleared | ErrorLine | Unauthorized | CustomerInfo | Stats | CommandSent | SystemLine
)  # fmt: skip


def parse_system_line(line: bytes) -> Event | None:
    """What a line that starts with S, E, T or n says; None when it is not one of these after all (`SYM,…`)."""
    text = line.rstrip(b"\r\n").decode("latin-1")
    head, _, rest = text.partition(",")
    if head == "T" and rest:
        return FeedClock(rest.rstrip(","))
    if head == "n":
        return SymbolNotFound(rest.rstrip(","))
    if head == "E":
        return _parse_error(rest.rstrip(","))
    return _parse_status(rest) if head == "S" else None


def _parse_error(text: str) -> Event:
    lowered = text.lower()
    if "unauthorized" in lowered or "invalid login" in lowered or "login failed" in lowered:
        return Unauthorized(text)
    if lowered.rstrip(".").endswith("is not a valid protocol"):
        return ProtocolRefused(text)
    return ErrorLine(text)


def _parse_status(text: str) -> Event:
    word, _, rest = text.partition(",")
    match word:
        case "SERVER CONNECTED":
            return ServerConnected()
        case "SERVER DISCONNECTED":
            return ServerDisconnected()
        case "CURRENT PROTOCOL":
            return ProtocolAcked(rest.rstrip(","))
        case "CURRENT UPDATE FIELDNAMES":
            return FieldsAcked(tuple(rest.rstrip(",").split(",")))
        case "SYMBOL LIMIT REACHED":
            return SymbolLimit(rest.rstrip(","))
        case "CLEAR DEPTH":
            symbol, _, side = rest.rstrip(",").partition(",")
            return DepthCleared(symbol, side)
        case "CUST":
            parts = rest.split(",")
            return CustomerInfo(parts[0], _int_at(parts, 8))
        case "STATS":
            parts = rest.split(",")
            return Stats(_int_at(parts, 2), _int_at(parts, 3), len(parts) > 10 and parts[10] == "Connected")
        case _:
            return SystemLine(text)


def _int_at(parts: list[str], index: int) -> int:
    return int(parts[index]) if index < len(parts) and parts[index].isascii() and parts[index].isdigit() else 0


def command(*fields: str) -> bytes:
    """One command line; a comma, line end or non-ASCII character inside a field is refused, since it would shift the parameters."""
    for field in fields:
        if not field.isascii() or not field.isprintable() or "," in field:
            raise InputError(
                f"{field!r} cannot be sent to the feed: commas, line ends and non-ASCII characters are not allowed"
            )
    return ",".join(fields).encode("ascii") + LINE_END


def depth_watch_commands(symbol: str, watch: str, levels_max: int) -> tuple[bytes, ...]:
    """Level 2 watches of `symbol`: `watch` is WOR, WPL or both; `levels_max` 0 leaves MaxPriceLevels out."""
    orders = command("WOR", symbol)
    prices = command("WPL", symbol, str(levels_max)) if levels_max else command("WPL", symbol)
    return {"WOR": (orders,), "WPL": (prices,), "both": (orders, prices)}[watch]


def depth_unwatch_commands(symbol: str, watch: str) -> tuple[bytes, ...]:
    """The opposite of `depth_watch_commands`."""
    orders, prices = command("ROR", symbol), command("RPL", symbol)
    return {"WOR": (orders,), "WPL": (prices,), "both": (orders, prices)}[watch]


def level1_watch_commands(symbol: str, watch: str, *, regional: bool, refresh: bool) -> tuple[bytes, ...]:
    """Level 1 watch (`w` or `t`); `refresh` asks for a new F and P of a symbol that may be watched already."""
    lines = [command(watch + symbol)]
    if refresh:
        lines.append(command("f" + symbol))
    if regional:
        lines.append(command("S", "REGON", symbol))
    return tuple(lines)


def level1_unwatch_commands(symbol: str) -> tuple[bytes, ...]:
    """Level 1 unwatch; it ends regional quotes too."""
    return (command("r" + symbol),)


@lru_cache(maxsize=1)
def _new_york() -> ZoneInfo:
    return ZoneInfo("America/New_York")


def feed_clock_ns(text: str, near_ns: int) -> int | None:
    """A `T` line's time as ns since epoch, UTC; in the doubled hour of November the reading nearer to `near_ns`; None if unreadable."""
    try:
        wall = datetime.strptime(text, "%Y%m%d %H:%M:%S").replace(tzinfo=_new_york())
    except ValueError:
        return None
    epoch = datetime(1970, 1, 1, tzinfo=ZoneInfo("UTC"))
    readings = [(wall.replace(fold=fold) - epoch) // timedelta(seconds=1) * _NANOSECONDS for fold in (0, 1)]
    return min(readings, key=lambda reading: abs(reading - near_ns))


_LOGIN_LINES = (b"S,SET LOGINID,", b"S,CURRENT LOGINID,", b"S,SET PASSWORD,", b"S,CURRENT PASSWORD,")
_STATS_LOGIN_FIELD = 14
_SECRET_BYTES_MIN = 4
"""A shorter secret is masked only where the layout says that it stands: blind replacement would hit innocent digits."""


def mask_secrets(data: bytes, secrets: tuple[bytes, ...] = ()) -> bytes:
    """Login ids and passwords of admin lines replaced by `*` of equal length; whole lines or the piece of one."""
    masked = b"".join(_mask_line(line) for line in data.splitlines(keepends=True))
    for secret in secrets:
        if len(secret) >= _SECRET_BYTES_MIN:
            masked = masked.replace(secret, b"*" * len(secret))
    return masked


def _mask_line(line: bytes) -> bytes:
    for head in _LOGIN_LINES:
        if line.startswith(head):
            body = line[len(head) :]
            value = body.rstrip(b"\r\n,")
            return head + b"*" * len(value) + body[len(value) :]
    if not line.startswith(b"S,STATS,"):
        return line
    fields = line.split(b",")
    if len(fields) > _STATS_LOGIN_FIELD:
        login = fields[_STATS_LOGIN_FIELD]
        quotes = login.startswith(b'"') and login.endswith(b'"') and len(login) > 1
        bare = login.rstrip(b"\r\n")
        fields[_STATS_LOGIN_FIELD] = (
            b'"' + b"*" * (len(login) - 2) + b'"' if quotes else b"*" * len(bare) + login[len(bare) :]
        )
    return b",".join(fields)
