"""The exchange's RSS feed of trading halts (`rss.aspx?feed=tradehalts`) as rows of the columns that its files have.

Each `item` holds elements `ndaq:HaltDate`, `ndaq:HaltTime`, `ndaq:IssueSymbol` … A document type is refused, and with it every
entity: nothing can grow while it is read. What does not belong here: what the fields mean (halts).
"""

from collections.abc import Mapping
from typing import Final
from xml.parsers import expat

from l2_platform.errors import InputError

NAMESPACE: Final = "http://www.nasdaqtrader.com/"
_COLUMNS: Final[Mapping[str, str]] = {
    "HaltDate": "Halt Date", "HaltTime": "Halt Time", "IssueSymbol": "Issue Symbol", "IssueName": "Issue Name", "Market": "Market",
    "ReasonCode": "Reason Codes", "PauseThresholdPrice": "Pause Threshold Price", "ResumptionDate": "Resumption Date",
    "ResumptionQuoteTime": "Resumption Quote Time", "ResumptionTradeTime": "Resumption Trade Time",
}  # fmt: skip
"""Element → column."""
DEPTH_MAX: Final = 32
"""Elements inside each other; the feed has four."""


class _Items:
    """Gathers the items of a feed while the parser goes through it."""

    def __init__(self, name: str) -> None:
        self.rows: list[tuple[int, dict[str, str]]] = []
        """(line of the item's begin, its fields by column)."""
        self.root = ""
        self._name = name
        self._depth = 0
        self._row: dict[str, str] | None = None
        self._column = ""
        self._text: list[str] = []
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._begin
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._told

    def _refuse(self, *_: object) -> None:
        raise InputError(f"{self._name}, line {self.parser.CurrentLineNumber}: a document type is not read; the exchange's feed has none")

    def _begin(self, name: str, _: object) -> None:
        self._depth += 1
        self.root = self.root or name
        if self._depth > DEPTH_MAX:
            raise InputError(f"{self._name}, line {self.parser.CurrentLineNumber}: more than {DEPTH_MAX} elements inside each other")
        if name == "item":
            row = dict.fromkeys(_COLUMNS.values(), "")
            self.rows.append((self.parser.CurrentLineNumber, row))
            self._row = row
        elif self._row is not None:
            space, _, local = name.rpartition(" ")
            self._column = _COLUMNS.get(local, "") if space == NAMESPACE else ""
            self._text = []

    def _told(self, text: str) -> None:
        if self._column:
            self._text.append(text)

    def _end(self, name: str) -> None:
        self._depth -= 1
        if name == "item":
            self._row = None
        elif self._row is not None and self._column:
            self._row[self._column] = "".join(self._text).strip()
            self._column = ""


def rss_rows(data: bytes, name: str) -> list[tuple[int, dict[str, str]]]:
    """(line, fields by column) of every item, in the feed's order; raise InputError for what is no RSS feed."""
    items = _Items(name)
    try:
        items.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise InputError(f"{name}, line {error.lineno}: {expat.ErrorString(error.code)}") from None
    if items.root != "rss":
        raise InputError(f"{name}: the outermost element is {items.root[:40]!r}, not rss: this is no feed of halts")
    return items.rows
