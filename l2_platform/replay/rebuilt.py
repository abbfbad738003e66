"""What came of a rebuild, as plain values: for tables, JSON, metadata, and the plan of a swap that another process completes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class TableResult:
    """One table of one stream and date."""

    table: str
    state: str
    """equal, replaced, emptied (the journal has no row for it)."""
    rows_before: int
    """-1: could not be read."""
    rows_after: int
    hash_before: str
    """32 hex digits (warehouse/content.py), or `unreadable`."""
    hash_after: str
    diff: dict[str, Any] | None = None
    """Where both had rows and they differ: counts by kind and by column, and the first keys (`Difference.as_dict`)."""


@dataclass(frozen=True, slots=True)
class StreamResult:
    """One stream of one date."""

    stream: str
    session_date: int
    outcome: str
    """equal: nothing changed; rebuilt: tables were replaced; skipped: it has none of the symbols."""
    tables: list[TableResult] = field(default_factory=list)
    messages: int = 0
    """Lines of the journal."""
    seq_last: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of this process; the warehouse works in its own."""
    damaged: int = 0
    """Ranges of the journal that could not be read."""
    gap_events_added: int = 0
    """Gaps of a date that the warehouse knew none of (it was made anew)."""
    symbols: list[str] = field(default_factory=list)
    """Only rows of these were made anew; empty: all."""
    made_by: str = ""
    """Program and settings that the rows depend on."""
    resumed: bool = False
    """An earlier run was ended in the middle of its swap; this one completed it."""

    @property
    def rate(self) -> float:
        """Messages a second, over all of it."""
        return self.messages / self.seconds if self.seconds else 0.0

    @property
    def rows(self) -> int:
        """Rows after, over all tables."""
        return sum(table.rows_after for table in self.tables)

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "StreamResult":
        """Undo `as_dict`; KeyError or TypeError when the fields are others."""
        return cls(**{**fields, "tables": [TableResult(**table) for table in fields["tables"]]})


def difference_text(diff: Mapping[str, Any] | None) -> str:
    """`12 only before, 3 changed (price 3, size 1)`; empty without a difference."""
    if not diff:
        return ""
    kinds = {"only before": diff["only_before"], "only after": diff["only_after"], "changed": diff["changed"]}
    words = [f"{count:,} {kind}" for kind, count in kinds.items() if count]
    columns = ", ".join(f"{name} {count:,}" for name, count in diff["columns"].items())
    return ", ".join(words) + (f" ({columns})" if columns else "")


def key_lines(result: StreamResult) -> list[tuple[str, str, str]]:
    """(table, kind of difference, first keys) of every table that differs."""
    return [
        (table.table, kind.replace("_", " "), " ".join(keys))
        for table in result.tables if table.diff
        for kind, keys in table.diff["keys"].items() if keys
    ]  # fmt: skip
