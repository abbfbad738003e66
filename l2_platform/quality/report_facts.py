"""What the daily report knows of a session date, as plain values; every part is either there or says why it is not.

What does not belong here: where it comes from (report_queries), what follows from it (report_verdict), how it looks (report_page).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Final, Generic, TypeVar

from l2_platform.market.sessions import Window
from l2_platform.quality.ledger import LedgerGap
from l2_platform.settings import GapSettings

Value = TypeVar("Value")
TOLD: Final = "not evaluated: "


@dataclass(frozen=True, slots=True)
class Part(Generic[Value]):
    """One part of a report: its value, or why there is none; a reason beside a value says what of it was not looked at."""

    value: Value | None = None
    reason: str = ""

    @property
    def known(self) -> bool:
        """It was evaluated."""
        return self.value is not None

    @property
    def text(self) -> str:
        """`not evaluated: …`; empty when it was."""
        return "" if self.known else TOLD + self.reason

    def need(self) -> Value:
        """The value of a known part; ValueError otherwise."""
        if self.value is None:
            raise ValueError(self.text)
        return self.value


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Rows of one stream and table, as they are stored now."""

    table: str
    stream: str
    source: str
    rows: int
    symbols: int
    first_ns: int
    """Time of the first row (received; of the event for imports and history), ns UTC."""
    last_ns: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """Rows of all market tables on the date."""

    rows: list[StoredRows] = field(default_factory=list)
    symbols: int = 0
    """Distinct symbols over all tables."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Table → why it could not be read."""


@dataclass(frozen=True, slots=True)
class ClosedRows:
    """What the close of the date recorded of one stream and table."""

    stream: str
    table: str
    rows: int
    table_bytes: int
    journal_lines: int
    journal_bytes: int
    rebuilt: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The newest close of the date, and what the date before was closed with."""

    rows: list[ClosedRows]
    written_ns: int
    before: date | None
    """The closed date before; None when there is none."""
    rows_before: Mapping[str, int]
    """Table → rows of that date."""

    @property
    def journal_bytes(self) -> int:
        """Of all streams, on disk."""
        return sum({row.stream: row.journal_bytes for row in self.rows}.values())

    @property
    def journal_lines(self) -> int:
        """Of all streams."""
        return sum({row.stream: row.journal_lines for row in self.rows}.values())


@dataclass(frozen=True, slots=True)
class GradedSymbol:
    """The verdict on one symbol."""

    symbol: str
    grade: str
    reasons: tuple[str, ...]
    rows: int
    unexplained_s: float
    unexplained_rows: int
    book_suspect_s: float


@dataclass(frozen=True, slots=True)
class Completeness:
    """The newest judgement of the date."""

    written_ns: int
    grades: Mapping[str, int]
    """Grade → symbols."""
    unexplained_s: float
    """Of the symbol that lost most time, s."""
    unexplained_rows: int
    """Over all symbols."""
    worst: list[GradedSymbol]
    """Worst first, bounded; only symbols that are not complete."""
    suspect_symbols: int
    """Symbols whose book was suspect for a time."""
    suspect_s: float
    """Longest time of a symbol, s."""
    missing_prints: int
    """TickIDs that nobody has, over all symbols."""


@dataclass(frozen=True, slots=True)
class AuditedCheck:
    """The newest run of one check."""

    name: str
    looked: int
    flagged: int
    findings: int
    severity: str
    """warn or error; empty: nothing to act on."""
    outcome: str
    """passed, failed or not_evaluated."""
    message: str
    written_ns: int


@dataclass(frozen=True, slots=True)
class FoundRows:
    """One finding of an audit."""

    check: str
    severity: str
    stream: str
    symbol: str
    from_ns: int | None
    to_ns: int | None
    flagged: int
    value: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Audit:
    """The newest run of each check on the date."""

    checks: list[AuditedCheck]
    worst: list[FoundRows]
    """Findings, errors first, bounded."""
    absent: tuple[str, ...] = ()
    """Declared checks that did not run on the date."""

    def of(self, *outcomes: str, severity: str = "") -> list[AuditedCheck]:
        """Checks that ended so; `severity`: only those of that severity."""
        return [check for check in self.checks if check.outcome in outcomes and severity in {"", check.severity}]


@dataclass(frozen=True, slots=True)
class ComparedStore:
    """The newest comparison of one table of a stream in one store with the journal."""

    stream: str
    table: str
    store: str
    state: str
    """equal, different, healed, unknown or off."""
    reason: str
    rows_journal: int
    rows_store: int
    differences: int
    """Keys that are missing, extra, doubled or changed, and unreadable lines."""
    written_ns: int


@dataclass(frozen=True, slots=True)
class Heat:
    """Minutes with a row, by symbol and hour."""

    begins: list[int]
    """Begin of each hour, ns UTC."""
    symbols: list[str]
    minutes: list[list[int]]
    """One list a symbol, one number an hour, 0 to 60."""
    of: int
    """Symbols of the date in all."""


@dataclass(frozen=True, slots=True)
class Course:
    """Numbers over the session, in bars of equal width."""

    start_ns: int
    step_s: int
    spread_bp: list[float | None]
    """Median spread of valid quotes, hundredths of a percent of the mid price."""
    latency_p50_ms: list[float | None]
    latency_p99_ms: list[float | None]


@dataclass(frozen=True, slots=True)
class DayFacts:
    """All parts of one session date."""

    session_date: date
    zone: str
    """Zone of the times on the page: the exchange's, or UTC for a market that never closes."""
    windows: list[Window]
    now_ns: int
    bounds: GapSettings
    recorded: Part[Recorded]
    closed: Part[Closed]
    gaps: Part[list[LedgerGap]]
    completeness: Part[Completeness]
    audit: Part[Audit]
    stores: Part[list[ComparedStore]]
    heat: Part[Heat]
    course: Part[Course]
