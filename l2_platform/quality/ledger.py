"""The ledger of gaps: reading the newest version of each, and appending a version to one.

A version is never changed: whoever learns more about a gap (an explanation, a repair) appends the next one, with everything else
as it was. What does not belong here: finding gaps (delivery), repairing them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Literal

from clickhouse_connect.driver.client import Client

from l2_platform.clock import Clock
from l2_platform.errors import InputError

GapState = Literal["open", "closed", "withdrawn"]
RepairState = Literal["", "repaired", "partial", "nothing_to_repair", "impossible", "failed"]
GAPS_MAX: Final = 1_000_000
"""Gaps that are read at most at once."""
VERSIONS_MAX: Final = 1000
"""Versions of one gap that are read at most."""
_COLUMNS: Final = (
    "gap_id", "stream", "session_date", "seq", "ordinal", "source", "symbols", "ts_from", "ts_to", "cause", "evidence",
    "repair_source", "rows_recovered", "residual", "explanation", "repair_state", "state", "seq_before", "version", "ts_written",
)  # fmt: skip
_TIMES: Final = {"ts_from", "ts_to", "ts_written"}
_TYPES: Final[Mapping[str, str]] = {
    "evidence": "String", "repair_source": "String", "rows_recovered": "UInt64", "residual": "String", "explanation": "String",
    "repair_state": "String", "state": "String", "ts_to": "Int64",
}  # fmt: skip
"""What a later version may tell anew; all else says which gap it is."""


@dataclass(frozen=True, slots=True)
class LedgerGap:
    """One version of a gap. Times are ns since the epoch, UTC; the columns are described in docs/data.md."""

    gap_id: str
    stream: str
    session_date: date
    seq: int
    ordinal: int
    source: str
    symbols: tuple[str, ...]
    """Instruments that miss data; empty = all of the stream."""
    ts_from: int
    ts_to: int | None
    """None while the gap is open."""
    cause: str
    evidence: Mapping[str, Any]
    repair_source: str
    rows_recovered: int
    residual: str
    explanation: str
    """Why nothing had to come (halt, auction, closed …); empty = unexplained."""
    repair_state: str
    """repaired, partial, nothing_to_repair, impossible or failed; empty = nothing was tried."""
    state: str
    """open, closed, or withdrawn (nothing was lost)."""
    seq_before: int
    version: int
    ts_written: int

    @property
    def has_bars(self) -> bool:
        """The vendor's bars are stored in place of prints that it has no more (request HIT)."""
        return bool(self.rows_recovered) and self.repair_source.endswith(" HIT")

    def seconds(self, now_ns: int) -> float:
        """Length, s; an open gap lasts until `now_ns`."""
        return max(0.0, ((now_ns if self.ts_to is None else self.ts_to) - self.ts_from) / 1e9)


def load_gaps(
    client: Client,
    database: str,
    session_date: date | None = None,
    *,
    stream: str = "",
    symbol: str = "",
    withdrawn: bool = False,
    only_open: bool = False,
    unrepaired_since: date | None = None,
    limit: int = GAPS_MAX,
) -> list[LedgerGap]:
    """The newest version of each gap, oldest gap first; of more than `limit` the newest.

    `session_date` None: all dates; `stream`, `symbol`: only gaps that touch it; `withdrawn`: also those in which nothing was lost;
    `only_open`: only those that are not over; `unrepaired_since`: only those of this session date or a later one that are closed,
    without explanation, and whose repair is not final. It is the view `gaps`, but only partitions of the dates asked for are read.
    """
    sql = f"""
        SELECT {_selected()} FROM (
            SELECT * FROM {database}.gap_events
            WHERE ({{any_date:UInt8}} OR session_date = {{day:Date}}) AND session_date >= {{since:Date}}
            ORDER BY gap_id, version DESC, ts_written DESC LIMIT 1 BY gap_id
        ) AS gaps
        WHERE ({{stream:String}} = '' OR stream = {{stream:String}})
          AND ({{symbol:String}} = '' OR empty(symbols) OR has(symbols, {{symbol:String}}))
          AND ({{withdrawn:UInt8}} OR state != 'withdrawn') AND (NOT {{only_open:UInt8}} OR state = 'open')
          AND (NOT {{unrepaired:UInt8}}
              OR (state = 'closed' AND explanation = '' AND repair_state NOT IN ('repaired', 'impossible')
                  AND NOT JSONExtractBool(evidence, 'repair', 'final')))
        ORDER BY gaps.ts_from DESC, stream DESC, gap_id DESC LIMIT {{limit:UInt64}}"""  # noqa: S608 - names are ours
    parameters = {
        "any_date": int(session_date is None), "day": session_date or date(1970, 1, 1), "stream": stream, "symbol": symbol,
        "withdrawn": int(withdrawn), "only_open": int(only_open), "limit": limit,
        "since": unrepaired_since or date(1970, 1, 1), "unrepaired": int(unrepaired_since is not None),
    }  # fmt: skip
    return _gaps(client, sql, parameters)[::-1]


def load_versions(client: Client, database: str, gap_id: str) -> list[LedgerGap]:
    """Every version of one gap, the first one first; empty when the ledger does not know it."""
    sql = f"""
        SELECT {_selected()} FROM {database}.gap_events WHERE gap_id = {{gap_id:String}}
        ORDER BY version, gap_events.ts_written LIMIT {VERSIONS_MAX}"""  # noqa: S608 - names are ours
    return _gaps(client, sql, {"gap_id": gap_id})


def append_version(
    client: Client,
    database: str,
    gap_id: str,
    clock: Clock,
    *,
    state: GapState | None = None,
    ts_to: int | None = None,
    evidence: Mapping[str, Any] | None = None,
    explanation: str | None = None,
    repair_state: RepairState | None = None,
    repair_source: str | None = None,
    rows_recovered: int | None = None,
    residual: str | None = None,
) -> LedgerGap:
    """Append the next version of a gap: its newest one with what is given changed; return it.

    The newest version is looked up by the statement that appends, so that what another one told meanwhile stays. `evidence`
    replaces the old one. Raise InputError when there is no such gap.
    """
    told: dict[str, Any] = {
        "state": state, "ts_to": ts_to, "evidence": None if evidence is None else _json(evidence), "explanation": explanation,
        "repair_state": repair_state, "repair_source": repair_source, "rows_recovered": rows_recovered, "residual": residual,
    }  # fmt: skip
    changes = {name: value for name, value in told.items() if value is not None}
    chosen = ", ".join(_next(name, name in changes) for name in _COLUMNS)
    sql = f"""
        INSERT INTO {database}.gap_events ({", ".join(_COLUMNS)})
        SELECT {chosen} FROM {database}.gap_events AS old WHERE gap_id = {{gap_id:String}}
        ORDER BY old.version DESC, old.ts_written DESC LIMIT 1"""  # noqa: S608 - names are ours
    client.command(sql, parameters={**changes, "gap_id": gap_id, "now": clock.now_ns()})
    versions = load_versions(client, database, gap_id)
    if not versions:
        raise InputError(f"there is no gap {gap_id}: `l2 gaps --all` lists them", gap_id=gap_id)
    return versions[-1]


def _next(name: str, changed: bool) -> str:
    """A column of the next version."""
    if name == "version":
        return "old.version + 1"
    if name == "ts_written":
        return "fromUnixTimestamp64Nano({now:Int64}, 'UTC')"
    if not changed:
        return f"old.{name}"
    value = f"{{{name}:{_TYPES[name]}}}"
    return f"fromUnixTimestamp64Nano({value}, 'UTC')" if name in _TIMES else value


def _selected() -> str:
    """Every column; times as ns, which the client's datetimes cannot hold."""
    nullable = "if(ts_to IS NULL, NULL, toUnixTimestamp64Nano(assumeNotNull(ts_to)))"
    return ", ".join(
        nullable if name == "ts_to" else f"toUnixTimestamp64Nano({name})" if name in _TIMES else name for name in _COLUMNS
    )


def _gaps(client: Client, sql: str, parameters: dict[str, Any]) -> list[LedgerGap]:
    return [_gap(dict(zip(_COLUMNS, row, strict=True))) for row in client.query(sql, parameters=parameters).result_rows]


def _gap(row: dict[str, Any]) -> LedgerGap:
    row["symbols"] = tuple(row["symbols"])
    try:
        row["evidence"] = json.loads(row["evidence"] or "{}")
    except ValueError:
        # written by hand: told as it is rather than not at all
        row["evidence"] = {"text": row["evidence"]}
    return LedgerGap(**row)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), separators=(",", ":"), sort_keys=True, default=str)
