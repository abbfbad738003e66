"""Level 1 layouts: which field of a Q or P line is which column, and the fields of fundamental and correction lines.

The default layout holds until the feed acknowledges another one (`S,CURRENT UPDATE FIELDNAMES,…`). What does not belong here: how
a field's bytes become a value (`bytes_kernels`, `decode_level1`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from l2_platform.market.events import UInt8

# What a field is. The decode kernel branches on the ranges of these numbers; they are not stored anywhere.
IGNORED: Final = 0
SYMBOL: Final = 1
# prices
PRICE: Final = 2
BID_PRICE: Final = 3
ASK_PRICE: Final = 4
# times of day
TRADE_TIME: Final = 5
BID_TIME: Final = 6
ASK_TIME: Final = 7
# whole numbers
SIZE: Final = 8
BID_SIZE: Final = 9
ASK_SIZE: Final = 10
TOTAL_VOLUME: Final = 11
TRADE_COUNT: Final = 12
# whole numbers from 0 to a limit
MARKET_CENTER: Final = 13
BID_CENTER: Final = 14
ASK_CENTER: Final = 15
DELAY: Final = 16
AGGRESSOR: Final = 17
DAY_CODE: Final = 18
# others
TRADE_DATE: Final = 19
CONDITIONS: Final = 20
TICK_ID: Final = 21
CONTENTS: Final = 22
COLUMN_COUNT: Final = 23

FIELD_COLUMNS: Final[dict[str, int]] = {
    "Symbol": SYMBOL,
    "Most Recent Trade": PRICE,
    "Most Recent Trade Size": SIZE,
    "Most Recent Trade Time": TRADE_TIME,
    "Most Recent Trade TimeMS": TRADE_TIME,
    "Most Recent Trade Date": TRADE_DATE,
    "Most Recent Trade Market Center": MARKET_CENTER,
    "Most Recent Trade Conditions": CONDITIONS,
    "Most Recent Trade Aggressor": AGGRESSOR,
    "Most Recent Trade Day Code": DAY_CODE,
    "TickID": TICK_ID,
    "Total Volume": TOTAL_VOLUME,
    "Number of Trades Today": TRADE_COUNT,
    "Delay": DELAY,
    "Message Contents": CONTENTS,
    "Bid": BID_PRICE,
    "Bid Size": BID_SIZE,
    "Bid Time": BID_TIME,
    "Bid TimeMS": BID_TIME,
    "Bid Market Center": BID_CENTER,
    "Ask": ASK_PRICE,
    "Ask Size": ASK_SIZE,
    "Ask Time": ASK_TIME,
    "Ask TimeMS": ASK_TIME,
    "Ask Market Center": ASK_CENTER,
}
"""Field names of the feed that become columns; every other name is read over (its text stays in the journal)."""

DEFAULT_FIELDS: Final = (
    "Symbol", "Most Recent Trade", "Most Recent Trade Size", "Most Recent Trade Time", "Most Recent Trade Market Center",
    "Total Volume", "Bid", "Bid Size", "Ask", "Ask Size", "Open", "High", "Low", "Close", "Message Contents",
    "Most Recent Trade Conditions", "Most Recent Trade Aggressor", "Most Recent Trade Day Code",
)  # fmt: skip
"""Layout of a fresh socket, protocol 6.1 and 6.2; up to 6.0 the lines end after Most Recent Trade Conditions."""
DEFAULT_REQUIRED: Final = 15
"""A default line reaches Message Contents in every protocol version."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns of a Q or P line, counted from the field after the letter."""

    fields: tuple[str, ...]
    """Names in the order of the line."""
    columns: UInt8
    """One column number per field; a column that is named twice counts where it is named last."""
    required: int
    """A line with fewer fields than this is incomplete."""

    @property
    def is_default(self) -> bool:
        """Whether this is what a fresh socket speaks."""
        return self.fields == DEFAULT_FIELDS

    @property
    def has_trade_date(self) -> bool:
        """Whether lines carry a date themselves."""
        return bool((self.columns == TRADE_DATE).any())


def layout_from_names(names: Sequence[str]) -> Layout:
    """The layout that an acknowledgement names, in the acknowledged order; Symbol is put first where the list leaves it out."""
    fields = tuple(name for name in names if name)
    if "Symbol" not in fields:
        fields = ("Symbol", *fields)
    columns = np.array([FIELD_COLUMNS.get(name, IGNORED) for name in fields], np.uint8)
    used = np.flatnonzero(columns)
    return Layout(fields, columns, int(used[-1]) + 1)


DEFAULT_LAYOUT: Final = Layout(
    DEFAULT_FIELDS, np.array([FIELD_COLUMNS.get(name, IGNORED) for name in DEFAULT_FIELDS], np.uint8), DEFAULT_REQUIRED
)

ACKNOWLEDGED_FIELDS: Final = b"S,CURRENT UPDATE FIELDNAMES"
ACKNOWLEDGED_PROTOCOL: Final = b"S,CURRENT PROTOCOL"


def layout_from_line(line: bytes) -> Layout | None:
    """The layout of a `S,CURRENT UPDATE FIELDNAMES,…` line; None for any other line, and for one that names nothing."""
    if not line.startswith(ACKNOWLEDGED_FIELDS + b","):
        return None
    names = [name.strip() for name in line.decode("latin-1").split(",")[2:]]
    return layout_from_names(names) if any(names) else None


def protocol_from_line(line: bytes) -> str | None:
    """The version of a `S,CURRENT PROTOCOL,6.2` line (with or without a trailing comma); None for any other line."""
    if not line.startswith(ACKNOWLEDGED_PROTOCOL + b","):
        return None
    return line.decode("latin-1").split(",")[2].strip() or None


FUNDAMENTAL_FIELDS: Final = (
    "Symbol", "Exchange ID", "PE", "Average Volume", "52 Week High", "52 Week Low", "Calendar Year High", "Calendar Year Low",
    "Dividend Yield", "Dividend Amount", "Dividend Rate", "Pay Date", "Ex-dividend Date", "Current Year EPS", "Next Year EPS",
    "Five-year Growth Percentage", "Fiscal Year End", "Company Name", "Root Option Symbol", "Percent Held By Institutions",
    "Beta", "Leaps", "Current Assets", "Current Liabilities", "Balance Sheet Date", "Long Term Debt",
    "Common Shares Outstanding", "Split Factor 1", "Split Factor 2", "Format Code", "Precision", "SIC",
    "Historical Volatility", "Security Type", "Listed Market", "52 Week High Date", "52 Week Low Date",
    "Calendar Year High Date", "Calendar Year Low Date", "Year End Close", "Maturity Date", "Coupon Rate", "Expiration Date",
    "Strike Price", "NAICS", "Exchange Root", "Option Premium Multiplier", "Option Multiple Deliverable",
    "Session Open Time", "Session Close Time", "Base Currency", "Contract Size", "Contract Months", "Minimum Tick Size",
    "First Delivery Date", "FIGI", "Security SubType",
)  # fmt: skip
"""Fields of an F line from protocol 6.1 on."""
COMPANY_NAME: Final = FUNDAMENTAL_FIELDS.index("Company Name")
OLD_RESERVED: Final = (13, 14, 15, 16, 17, 22, 33, 36, 37)
"""Places that an F line up to protocol 6.0 keeps empty (16 was the short interest), in its own counting."""
OLD_COMPANY_NAME: Final = 23
CORRECTION_TYPES: Final = {"I": "insert", "X": "delete"}


def parse_fundamental(line: bytes) -> dict[str, str]:
    """Fields of an `F,…` line by name, texts as sent, empty ones left out; both the 6.1 layout and the older one with reserved blanks."""
    fields = line.decode("latin-1").rstrip("\r\n").split(",")[1:]
    if _has_reserved_blanks(fields):
        fields = [field for place, field in enumerate(fields) if place not in OLD_RESERVED]
    extra = len(fields) - len(FUNDAMENTAL_FIELDS) - 1
    if extra > 0:
        # Only the company name is free text: commas beyond the known fields are its own.
        fields[COMPANY_NAME : COMPANY_NAME + extra + 1] = [",".join(fields[COMPANY_NAME : COMPANY_NAME + extra + 1])]
    return {name: field for name, field in zip(FUNDAMENTAL_FIELDS, fields, strict=False) if field}


def _has_reserved_blanks(fields: list[str]) -> bool:
    if len(fields) <= OLD_COMPANY_NAME or any(fields[place] for place in (13, 14, 15, 17, 22)):
        return False
    name = fields[OLD_COMPANY_NAME]
    return bool(name) and not name.replace(".", "", 1).replace("-", "", 1).isdigit()


def parse_correction(line: bytes) -> dict[str, str]:
    """Fields of a trade correction `C,…` by name, texts as sent: action (insert or delete), trade_type, date, time, price, size, tick_id, …

    Two layouts exist: with a trade type column (seen live in 2025) and without (2021); see `correction_has_type`.
    """
    fields = line.decode("latin-1").rstrip("\r\n").split(",")
    fields += [""] * (11 - len(fields))
    typed = correction_has_type(fields[3], fields[5])
    kind = ["trade_type"] if typed else []
    names = ["symbol", "action", *kind, "date", "time", "price", "size", "tick_id", "conditions", "market_center"]
    record = dict(zip(names, fields[1:], strict=False))
    record.setdefault("trade_type", "")
    record["action"] = CORRECTION_TYPES.get(record["action"], record["action"])
    return record


def correction_has_type(third: str, fifth: str) -> bool:
    """Whether a correction has the trade type column: field 3 is empty or a type, and field 5 a time or empty (else it is the price)."""
    return third in {"", "C", "E", "O", "S"} and (not fifth or ":" in fifth)
