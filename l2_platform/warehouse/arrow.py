"""Tables as Arrow with exact types: decimals as decimals, times with zone and nanoseconds, dates as dates, names as text.

ClickHouse's own Arrow output would give enumerations and dates as numbers. What does not belong here: which rows are asked for.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from clickhouse_connect.driver.client import Client

ARROW_SETTINGS: Final[dict[str, Any]] = {
    # The selected columns carry the names of the table's own columns; conditions and order mean the latter.
    "prefer_column_name_to_alias": 1,
    "output_format_arrow_low_cardinality_as_dictionary": 0,
    "output_format_arrow_string_as_string": 1,
}


@dataclass(frozen=True, slots=True)
class ArrowColumn:
    """One column of a table or view."""

    name: str
    kind: str
    """ClickHouse type."""
    computed: bool
    """Made from others when it is read; not part of `SELECT *`."""
    comment: str

    @property
    def expression(self) -> str:
        """What to select, so that the Arrow type is exact."""
        inner = re.sub(r"^(Nullable|LowCardinality)\((.*)\)$", r"\2", self.kind)
        if inner.startswith("Enum"):
            return f"CAST({self.name}, 'String') AS {self.name}"
        if inner in {"Date", "Date32"}:
            return f"toDate32({self.name}) AS {self.name}"
        if inner == "DateTime" or inner.startswith("DateTime("):
            return f"toDateTime64({self.name}, 9, 'UTC') AS {self.name}"
        return self.name


def arrow_columns(client: Client, database: str, table: str) -> list[ArrowColumn]:
    """Every column in order, the computed ones at their place; [] when there is no such table. ClickHouse errors as they are."""
    sql = """
        SELECT name, type, default_kind, comment FROM system.columns
        WHERE database = {database:String} AND table = {table:String} ORDER BY position"""
    rows = client.query(sql, parameters={"database": database, "table": table}).result_rows
    return [ArrowColumn(str(name), str(kind), str(default) == "ALIAS", str(comment)) for name, kind, default, comment in rows]


def selection(columns: list[ArrowColumn]) -> str:
    """The list behind SELECT."""
    return ", ".join(column.expression for column in columns)
