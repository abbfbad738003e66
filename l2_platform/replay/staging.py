"""Tables beside the live ones that take the rows of one stream and session date until all of them are there: then the swap.

Staging tables have the structure of the live ones (`CREATE TABLE … AS`), so that `REPLACE PARTITION` takes their parts as they are.
A swap is atomic for one table. For all of them it is made resumable: once every row is counted a table named `ready--…` is made, whose
comment is the plan. From that statement on the swap is only ever completed, by whoever comes next; before it staging is only ever
dropped. What does not belong here: where rows come from (filling), leases (rebuild).
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from l2_platform.errors import L2Error, SinkError
from l2_platform.market.dates import date_text
from l2_platform.replay.warehouse_link import WarehouseLink
from l2_platform.warehouse.content import WHERE, Comparison, Content, Query, columns_of, content
from l2_platform.warehouse.queries import TABLES

MARKET_TABLES: Final = tuple(TABLES)
"""Tables that are projections of the journal, in the order of the swap; records of their own are never replaced."""
SEPARATOR: Final = "--"
READY: Final = "ready"
UNREADABLE: Final = frozenset({27, 32, 33, 40, 107, 117, 226, 228, 233, 246, 271, 354})
"""Codes of a server that finds its own files missing or damaged."""
SETTINGS: Final = "min_parts_to_merge_at_once = 100000, parts_to_delay_insert = 100000, parts_to_throw_insert = 100000"
"""Of staging tables: no merge there (the live table merges what it gets, in its own time), and so as many parts as come."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the swap does, and what the rebuild found: all that is needed to complete it in another process."""

    replace: tuple[str, ...]
    """Tables whose partition is replaced."""
    empty: tuple[str, ...]
    """Tables whose partition goes, since the journal has no row for them."""
    facts: Mapping[str, Any]
    """The rebuild's result, JSON values."""


class Staging:
    """The staging tables of one stream and session date."""

    def __init__(self, link: WarehouseLink, database: str, stream: str, session_date: int) -> None:
        self.stream, self.session_date = stream, session_date
        self.date = date_text(session_date)
        self._link = link
        self._database = database
        self._staging = f"{database}_staging"
        self._columns: dict[str, dict[str, str]] = {}

    def live(self, table: str) -> str:
        """Full name of the live table."""
        return f"{self._database}.{table}"

    def name(self, table: str) -> str:
        """Full name of a staging table."""
        return f"{self._staging}.`{self._short(table)}`"

    def columns(self, table: str) -> dict[str, str]:
        """Stored columns, name → type."""
        if table not in self._columns:
            self._columns[table] = columns_of(self._link.query, self._database, table)
        return self._columns[table]

    def create(self) -> None:
        """Empty staging tables; what an earlier run left is dropped first."""
        self._link.query(f"CREATE DATABASE IF NOT EXISTS {self._staging}")
        self.drop()
        for table in MARKET_TABLES:
            self._link.query(f"CREATE TABLE IF NOT EXISTS {self.name(table)} AS {self.live(table)}")
            self._link.query(f"ALTER TABLE {self.name(table)} MODIFY SETTING {SETTINGS}")

    def count(self, table: str) -> int:
        """Rows of a staging table."""
        return int(self._link.query(f"SELECT count() FROM {self.name(table)}")[0][0])  # noqa: S608 - names are ours

    def copy_others(self, table: str, symbols: Iterable[str]) -> None:
        """Copy the live rows of all other symbols."""
        names = ", ".join(quoted(symbol) for symbol in symbols)
        sql = (
            f"INSERT INTO {self.name(table)} ({', '.join(self.columns(table))}) SELECT {', '.join(self.columns(table))}"  # noqa: S608 - names are ours
            f" FROM {self.live(table)} WHERE {WHERE} AND symbol NOT IN ({names})"
            " SETTINGS max_insert_threads = 1, insert_deduplicate = 0"
        )
        self._link.once(sql, stream=self.stream, date=self.date)

    def content(self, table: str) -> Content:
        """What a staging table holds."""
        return self._measure(self._link.query, self.name(table), table)

    def live_content(self, table: str) -> Content | None:
        """What the live table holds of the partition; None when its files are damaged."""
        try:
            return self._measure(self._link.once, self.live(table), table)
        except SinkError as error:
            if error.facts.get("code") in UNREADABLE:
                return None
        return self._measure(self._link.query, self.live(table), table)

    def _measure(self, query: Query, place: str, table: str) -> Content:
        return content(query, place, self.columns(table), TABLES[table].key, self.stream, self.date)

    def compare(self, table: str, chunk: int, keys_max: int) -> dict[str, Any]:
        """How the live rows and the staging rows differ."""
        return (
            Comparison(
                self._link.query, self.live(table), self.name(table), self.columns(table), TABLES[table].key,
                stream=self.stream, date=self.date, chunk=chunk, keys_max=keys_max,
            )
            .run()
            .as_dict()
        )  # fmt: skip

    def mark_ready(self, plan: Plan) -> None:
        """From here on the swap is only ever completed."""
        text = json.dumps({"replace": plan.replace, "empty": plan.empty, "facts": plan.facts})
        self._link.query(
            f"CREATE TABLE IF NOT EXISTS {self.name(READY)} (nothing UInt8) ENGINE = MergeTree ORDER BY tuple() COMMENT {quoted(text)}"
        )

    def read_ready(self) -> Plan | None:
        """The plan of a swap that was begun and not ended; None when there is none."""
        sql = (
            "SELECT comment FROM system.tables WHERE database = {database:String} AND name = {name:String}"
            " FORMAT TabSeparatedRaw"
        )
        rows = self._link.query(sql, database=self._staging, name=self._short(READY))
        if not rows:
            return None
        try:
            fields = json.loads("\t".join(rows[0]))
            return Plan(tuple(fields["replace"]), tuple(fields["empty"]), dict(fields["facts"]))
        except (ValueError, KeyError, TypeError):
            raise L2Error(
                f"the plan of an interrupted swap cannot be read: the comment of {self.name(READY)} was changed. Drop that table, then "
                "rebuild the date"
            ) from None

    def swap(self, plan: Plan, step: Callable[[str], None]) -> None:
        """Replace the partitions, telling each before; tables whose staging is gone were swapped by an earlier run."""
        present = {table for _, _, table in parts_of(self._link, self._staging, self.stream, self.session_date)}
        partition = f"PARTITION ({quoted(self.date)}, {quoted(self.stream)})"
        for table in plan.replace:
            if table in present:
                step(f"swapping {table}")
                self._link.query(f"ALTER TABLE {self.live(table)} REPLACE {partition} FROM {self.name(table)}")
        for table in plan.empty:
            step(f"emptying {table}")
            self._link.query(f"ALTER TABLE {self.live(table)} DROP {partition}")

    def drop(self) -> None:
        """Drop what is there, the plan last."""
        found = [table for _, _, table in parts_of(self._link, self._staging, self.stream, self.session_date)]
        for table in sorted(found, key=lambda name: name == READY):
            self._link.query(f"DROP TABLE IF EXISTS {self.name(table)} SYNC")

    def _short(self, table: str) -> str:
        return SEPARATOR.join((table, str(self.session_date), self.stream))


def parts_of(
    link: WarehouseLink, staging: str, stream: str | None = None, session_date: int | None = None
) -> Iterator[tuple[str, int, str]]:
    """(stream, session date, table) of every staging table there is, or of those of one stream and date."""
    sql = "SELECT name FROM system.tables WHERE database = {database:String} ORDER BY name"
    for (name,) in link.query(sql, database=staging):
        table, date, of_stream = [*name.split(SEPARATOR, 2), "", ""][:3]
        if date.isdigit() and stream in {None, of_stream} and session_date in {None, int(date)}:
            yield of_stream, int(date), table


def quoted(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
