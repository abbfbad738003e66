"""History requests and their replies without I/O: lines and time go in, commands and what a reply was come out.

One request at a time on a socket. A reply is every line that begins with the request's id, up to `!ENDMSG!`; its bytes are handed on
as they came. What does not belong here: sockets, clocks (`lookup`), what a reply line holds (`decode_history`).
"""

from enum import StrEnum
from typing import Final

from l2_platform.errors import FeedProtocolError, InputError

SYMBOL_BYTES_MAX: Final = 30
STRAY_LINES_MAX: Final = 100
"""Lines of nobody's request in one reply: more, and the peer does not speak this protocol."""
END: Final = b"!ENDMSG!"
PARAMETERS: Final = {
    "HTX": ("symbol", "points", "direction", "id", "per_send"),
    "HTD": ("symbol", "days", "points", "from_time", "to_time", "direction", "id", "per_send"),
    "HTT": ("symbol", "begin", "end", "points", "from_time", "to_time", "direction", "id", "per_send"),
    "HIX": ("symbol", "interval", "points", "direction", "id", "per_send", "kind", "label"),
    "HID": ("symbol", "interval", "days", "points", "from_time", "to_time", "direction", "id", "per_send", "kind", "label"),
    "HIT": ("symbol", "interval", "begin", "end", "points", "from_time", "to_time", "direction", "id", "per_send", "kind", "label"),
    "HDX": ("symbol", "points", "direction", "id", "per_send"),
    "HDT": ("symbol", "begin", "end", "points", "direction", "id", "per_send"),
    "HWX": ("symbol", "points", "direction", "id", "per_send"),
    "HMX": ("symbol", "points", "direction", "id", "per_send"),
}
"""Parameters of each request in the order of the wire. Empty = the vendor's default."""


def history_request(word: str, request_id: str, **values: str | int) -> str:
    """One request line without its end, oldest row first; InputError for a parameter that it does not have or that cannot be sent.

    Times are `CCYYMMDD HHMMSS` (HDT: `CCYYMMDD`), New York; `interval` in seconds with `kind` s; `label` 1 = begin of the bar.
    """
    names = PARAMETERS.get(word)
    if names is None:
        raise InputError(f"no history request {word!r}; there are {', '.join(PARAMETERS)}")
    given = {"direction": "1", "id": request_id} | {name: str(value) for name, value in values.items()}
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise InputError(f"{word} has no parameter {unknown[0]!r}; it has {', '.join(names)}")
    for name, value in given.items():
        if not value.isascii() or any(letter in value for letter in ",\r\n"):
            raise InputError(f"{word}: {name} {value!r} cannot be sent: a comma or line end would shift the parameters")
    if not 1 <= len(given.get("symbol", "")) <= SYMBOL_BYTES_MAX:
        raise InputError(f"{word}: the symbol {given.get('symbol', '')!r} must have 1 to {SYMBOL_BYTES_MAX} letters")
    return ",".join([word, *(given.get(name, "") for name in names)])


class Outcome(StrEnum):
    """How a reply ended."""

    DATA = "data"
    NO_DATA = "no_data"
    UNKNOWN_SYMBOL = "unknown_symbol"
    TOO_MANY = "too_many"
    """More requests than the vendor allows: ask again later."""
    UNAUTHORIZED = "unauthorized"
    REFUSED = "refused"


class ReplyReader:
    """Takes the lines of one socket while one request is open."""

    def __init__(self, protocol: str) -> None:
        self._tagged = protocol >= "6.2"
        self._prefix = b""
        self.outcome: Outcome | None = None
        """Set when the reply is over."""
        self.message = ""
        """The vendor's words for an outcome that is not data."""
        self.lines = 0
        """Data lines so far."""
        self._stray = 0
        self._error: Outcome | None = None

    def begin(self, request_id: str) -> None:
        """A request with this id was sent."""
        self._prefix = request_id.encode("ascii") + b","
        self.outcome, self._error, self.message, self.lines, self._stray = None, None, "", 0, 0

    def take(self, data: bytes) -> bytes:
        """Whole lines as they came; the bytes of them that belong to the reply. FeedProtocolError when the peer talks of other things."""
        prefix = self._prefix
        plain = data.count(b"\n")
        mine = data.count(b"\n" + prefix) + data.startswith(prefix)
        first = self._data_mark()
        if mine == plain and END not in data and data.count(prefix + first) == plain and first:
            self.lines += plain
            return data
        return b"".join([line for line in data.splitlines(keepends=True) if self._line(line)])

    def _data_mark(self) -> bytes:
        return b"LH," if self._tagged else b""

    def _line(self, line: bytes) -> bool:
        """Whether the line belongs to the reply."""
        if self.outcome is not None or not line.startswith(self._prefix):
            self._foreign(line)
            return False
        body = line[len(self._prefix) :].rstrip(b"\r\n")
        if body.startswith(END):
            self.outcome = self._error or (Outcome.DATA if self.lines else Outcome.NO_DATA)
        elif body.startswith(b"LH,") or (not self._tagged and body[:1].isdigit()):
            self.lines += 1
        elif body.startswith((b"E,", b"n,")):
            self._error, self.message = _meaning(body)
        else:
            self._foreign(line)
            return False
        return True

    def _foreign(self, line: bytes) -> None:
        """The end of a request that was given up, a system line: passed over, within a bound."""
        self._stray += 1
        if self._stray > STRAY_LINES_MAX:
            raise FeedProtocolError(f"the lookup port does not answer the request: {line[:80]!r} …; is it an IQConnect?")


def _meaning(body: bytes) -> tuple[Outcome, str]:
    text = body.decode("latin-1").rstrip(",")
    words = text[2:]
    if body.startswith(b"n,") or "Invalid symbol" in words:
        return Outcome.UNKNOWN_SYMBOL, text
    if "!NO_DATA!" in words:
        return Outcome.NO_DATA, ""
    if "Too many simultaneous" in words:
        return Outcome.TOO_MANY, words
    if "Unauthorized" in words:
        return Outcome.UNAUTHORIZED, words
    return Outcome.REFUSED, words
