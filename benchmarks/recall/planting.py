"""What a plant is: one fault of one kind in a day's rows, and which checks must name it; and the tools that plants are made with.

A kind is a function that changes a day and tells when the fault was. It knows nothing of how a check works: magnitudes come from
ranges in which a fault costs a user of the data something, drawn with equal weight on a log scale. A fault that a symbol cannot have
(no print in the seconds that are lost) is not planted. What does not belong here: the kinds themselves, judging what was found.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import polars as pl

from benchmarks.recall.market import SECOND, SEQ_STEP, Day, Random

Span = tuple[int, int]
"""From when to when, ns."""
Scope = Literal["symbol", "stream", "date"]
EVENT: Final = "ts_event"
RECV: Final = "ts_recv"
MARGIN: Final = 60 * SECOND
"""Faults begin a minute after the open or later, and end a minute before the close: the auctions are judged by nobody."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault."""

    name: str
    what: str
    """What is wrong, and in which range."""
    checks: tuple[str, ...]
    """A finding of one of these, with the symbol (or stream) and a time that overlaps, is what counts as found."""
    plant: Callable[[Day, str, Random], Span | None]
    scope: Scope = "symbol"
    needs: str = ""
    """Name that the finding has instead of the symbol's: `-` for none."""

    @property
    def group(self) -> str:
        """Where its function stands."""
        return self.plant.__module__.rsplit(".", 1)[-1]


@dataclass(frozen=True, slots=True)
class Plant:
    """A fault that was planted."""

    kind: Kind
    target: str
    """Symbol, or number of the streams."""
    span: Span


KINDS: Final[dict[str, Kind]] = {}


def kind(
    name: str, what: str, *checks: str, scope: Scope = "symbol", needs: str = ""
) -> Callable[[Callable[[Day, str, Random], Span | None]], Callable[[Day, str, Random], Span | None]]:
    """Register a function as a kind."""

    def register(plant: Callable[[Day, str, Random], Span | None]) -> Callable[[Day, str, Random], Span | None]:
        KINDS[name] = Kind(name, what, checks, plant, scope, needs)
        return plant

    return register


def drawn(rng: Random, low: float, high: float) -> float:
    """A number of this range, with equal weight on a log scale."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def whole(rng: Random, low: int, high: int) -> int:
    """The same as a whole number, both ends included."""
    return min(high, int(drawn(rng, low, high + 1)))


def stretch(day: Day, rng: Random, low_s: float, high_s: float) -> Span:
    """A part of regular trading, so many seconds long; of a half-day at most nine tenths."""
    length = min(int(drawn(rng, low_s, high_s) * SECOND), (day.hours.close - day.hours.open - 2 * MARGIN) * 9 // 10)
    begin = int(rng.integers(day.hours.open + MARGIN, day.hours.close - MARGIN - length))
    return begin, begin + length


def of(symbol: str) -> pl.Expr:
    """Rows of a symbol."""
    return pl.col("symbol") == symbol


def within(span: Span) -> pl.Expr:
    """Rows received in a span, its end included."""
    return (pl.col(RECV) >= span[0]) & (pl.col(RECV) <= span[1])


def regular(day: Day) -> pl.Expr:
    """Rows of regular trading but for a minute at its ends."""
    return within((day.hours.open + MARGIN, day.hours.close - MARGIN))


def chosen(
    day: Day, table: str, symbol: str, rng: Random, low: int, high: int, only: pl.Expr | None = None
) -> pl.DataFrame | None:
    """So many rows one after the other, of regular trading; None when there are not as many."""
    rows = day.tables[table].filter(of(symbol) & regular(day) & (pl.lit(value=True) if only is None else only)).sort("seq")
    count = whole(rng, low, high)
    if len(rows) < count + 2:
        return None
    return rows.slice(int(rng.integers(1, len(rows) - count)), count)


def these(rows: pl.DataFrame) -> pl.Expr:
    """Rows with these keys."""
    return pl.col("stream").eq(rows["stream"][0]) & pl.col("seq").is_in(rows["seq"].to_list())


def change(day: Day, table: str, where: pl.Expr, **columns: pl.Expr | Any) -> None:
    """Other values in some rows."""
    frame = day.tables[table]
    made = {
        name: pl.when(where).then(value if isinstance(value, pl.Expr) else pl.lit(value)).otherwise(pl.col(name)).cast(frame.schema[name])
        for name, value in columns.items()
    }
    day.tables[table] = frame.with_columns(**made)


def drop(day: Day, table: str, where: pl.Expr) -> None:
    """Without some rows."""
    day.tables[table] = day.tables[table].filter(~where)


def add(day: Day, table: str, rows: pl.DataFrame) -> None:
    """With further rows, in the columns of the table."""
    frame = day.tables[table]
    day.tables[table] = pl.concat([frame, rows.select(frame.columns).cast(frame.schema)])


def seq_at(day: Day, table: str, stream: str, ts: int) -> int:
    """The last seq of a stream in a table that was received by then."""
    found = day.tables[table].filter((pl.col("stream") == stream) & (pl.col(RECV) <= ts))["seq"].max()
    assert isinstance(found, int)
    return found // SEQ_STEP * SEQ_STEP


def span_of(rows: pl.DataFrame) -> Span:
    """From the first to the last receipt."""
    low, high = rows[RECV].min(), rows[RECV].max()
    assert isinstance(low, int)
    assert isinstance(high, int)
    return low, high


def any_table(rng: Random, *tables: str) -> str:
    """One of them."""
    return str(rng.choice(tables or ("trades", "quotes", "depth_updates", "book_snapshots")))
