"""What came of a comparison of the stores, as plain values: for tables, JSON, metadata and the table `reconciliations`."""

from dataclasses import asdict, dataclass, field
from typing import Any, Final

KINDS: Final = ("missing", "extra", "doubled", "changed")
"""Kinds of difference: rows only the journal yields, rows only the store has, rows more often there, other values of one key."""


@dataclass(slots=True)
class KeyDifferences:
    """Keys whose rows differ."""

    missing: int = 0
    extra: int = 0
    doubled: int = 0
    changed: int = 0
    keys: dict[str, list[str]] = field(default_factory=dict)
    """Kind → the first keys (`seq` or `seq.ordinal`)."""

    @property
    def count(self) -> int:
        """All of them."""
        return self.missing + self.extra + self.doubled + self.changed

    def add(self, other: "KeyDifferences", keys_max: int) -> None:
        """Take in those of another range."""
        for kind in KINDS:
            setattr(self, kind, getattr(self, kind) + getattr(other, kind))
            known = self.keys.setdefault(kind, [])
            known += other.keys.get(kind, [])[: max(keys_max - len(known), 0)]


@dataclass(slots=True)
class StoreEntry:
    """One table of one stream in one store."""

    stream: str
    table: str
    store: str
    """clickhouse, jsonl or kafka."""
    state: str = "equal"
    """equal; different; healed (was different); unknown (could not be compared); off (the store is switched off, or has no such data)."""
    reason: str = ""
    """Why it is unknown, off or not healed; else empty."""
    rows_journal: int = 0
    """Rows that the journal's decode yields for the store."""
    rows_store: int = 0
    seq_first_journal: int = 0
    seq_last_journal: int = 0
    seq_first_store: int = 0
    seq_last_store: int = 0
    held: int = 0
    """Rows of the journal that wait in the store's quarantine, and are missing with a reason."""
    minutes: int = 0
    """Minutes whose count or hash differs."""
    minutes_named: list[str] = field(default_factory=list)
    """The first of them, UTC."""
    differences: KeyDifferences = field(default_factory=KeyDifferences)
    unreadable: int = 0
    """Lines of files that are no records."""
    unreadable_named: list[str] = field(default_factory=list)
    """The first of them, `file:line`."""
    exact: bool = True
    """Every difference was counted by key; False: some only by numbers of rows."""

    @property
    def ok(self) -> bool:
        """Nothing is left to do."""
        return self.state in {"equal", "healed", "off"}

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


@dataclass(slots=True)
class ReconcileResult:
    """One session date."""

    session_date: int
    run_id: str
    entries: list[StoreEntry] = field(default_factory=list)
    messages: int = 0
    """Lines of the journal that were decoded for the comparison."""
    damaged: int = 0
    """Ranges of the journal that cannot be read."""
    recorded: bool = False
    """The result is in the table `reconciliations`."""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """At least one store was compared, and no difference is left."""
        return any(entry.state in {"equal", "healed"} for entry in self.entries) and all(entry.ok for entry in self.entries)

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"ok": self.ok}


def difference_text(entry: StoreEntry) -> str:
    """`3 missing, 1 changed, 2 unreadable`; empty without a difference."""
    counts = {kind: getattr(entry.differences, kind) for kind in KINDS} | {"unreadable": entry.unreadable}
    words = ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)
    return words if entry.exact else f"{words} (by numbers of rows)"
