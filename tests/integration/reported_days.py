"""Session dates whose tables say how they were: a clean one, and one in which much went wrong; written straight into the tables.

The market rows are those of `audit_rows`; the proofs are rows as their services write them (completeness, audit, reconcile, close).
"""

import json
from collections.abc import Mapping
from datetime import date
from typing import Any

from clickhouse_connect.driver.client import Client

from l2_platform.quality.checks import CHECKS
from tests.integration.audit_rows import DAY as CLEAN
from tests.integration.audit_rows import DEPTH, LEVEL1, put_symbol

BAD, BEFORE = date(2026, 3, 9), date(2026, 3, 5)
TABLES = {"quotes": LEVEL1, "trades": LEVEL1, "depth_updates": DEPTH, "book_snapshots": DEPTH}


def put(client: Client, table: str, *rows: Mapping[str, Any]) -> None:
    """Rows as they are."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    body = "\n".join(json.dumps(dict(row), default=str) for row in rows).encode()
    client.raw_insert(f"l2.{table}", column_names=names, insert_block=body, fmt="JSONEachRow")


def put_close(client: Client, day: date, rows: int, at: str, **changes: Any) -> None:
    """What `daily_close` records."""
    base = {
        "session_date": day, "source": "live", "rows": rows, "content_hash": "0" * 32, "seq_first": 1, "seq_last": rows,
        "ts_first": f"{day} 15:00:00", "ts_last": f"{day} 15:30:00", "table_bytes": rows * 12, "journal_lines": rows * 2,
        "journal_bytes": rows * 40, "segments": 1, "segments_sealed": 1, "rebuilt": 0, "reason": "", "program": "1", "seconds": 1.0,
        "ts_written": f"{day} {at}",
    }  # fmt: skip
    put(client, "daily_reports", *({**base, "stream": stream, "table": table, **changes} for table, stream in TABLES.items()))


def put_audit(client: Client, day: date, at: str = "22:00:00", **failed: int) -> None:
    """An audit of every check; `failed`: check → findings of severity error."""
    put(client, "audit_runs", *({
        "run_id": f"a-{day}", "session_date": day, "check": name, "looked": 7200, "flagged": failed.get(name, 0),
        "findings": failed.get(name, 0), "severity": "error" if name in failed else "",
        "outcome": "failed" if name in failed else "passed", "message": "", "seconds": 0.1,
        "ts_written": f"{day} {at}",
    } for name in (check.name for check in CHECKS)))  # fmt: skip
    for name, count in failed.items():
        put(client, "findings", {
            "run_id": f"a-{day}", "check": name, "stream": DEPTH, "session_date": day, "symbol": "<b>&EVIL", "severity": "error",
            "ts_from": f"{day} 15:10:00", "ts_to": f"{day} 15:10:02", "seq_from": 1, "seq_to": 9, "looked": 1800, "flagged": count,
            "value": 2.0, "threshold": 1.0, "detail": "{}", "ts_written": f"{day} {at}",
        })  # fmt: skip


def put_stores(client: Client, day: date, at: str = "22:10:00", **states: str) -> None:
    """A comparison of both stores; `states`: table → state in ClickHouse."""
    base = {
        "run_id": f"r-{day}", "session_date": day, "reason": "", "rows_journal": 3600, "rows_store": 3600, "seq_first": 1, "seq_last": 9,
        "minutes": 0, "missing": 0, "extra": 0, "doubled": 0, "changed": 0, "unreadable": 0, "keys": "{}", "seconds": 1.0,
        "ts_written": f"{day} {at}",
    }  # fmt: skip
    for table, stream in TABLES.items():
        state = states.get(table, "equal")
        place = {"stream": stream, "table": table}
        put(client, "reconciliations", {**base, **place, "store": "clickhouse", "state": state, "missing": 0 if state == "equal" else 7})
        put(client, "reconciliations", {**base, **place, "store": "jsonl", "state": "off" if table == "depth_updates" else "equal"})


def put_gap(client: Client, day: date, name: str, begin: str, end: str | None, cause: str = "disconnect", **changes: Any) -> None:
    """One gap of the ledger."""
    row = {
        "gap_id": f"{day}-{name}", "stream": LEVEL1, "session_date": day, "seq": 1, "ordinal": 0, "source": "live", "symbols": [],
        "ts_from": f"{day} {begin}", "ts_to": end and f"{day} {end}", "cause": cause, "evidence": "{}", "repair_source": "",
        "rows_recovered": 0, "residual": "", "explanation": "", "repair_state": "", "state": "closed" if end else "open", "seq_before": 0,
        "version": 1, "ts_written": f"{day} 20:00:00",
    }  # fmt: skip
    put(client, "gap_events", {**row, **changes})


def put_judged(client: Client, day: date, *symbols: Mapping[str, Any], at: str = "21:50:00") -> None:
    """A judgement: one row a symbol, complete where nothing else is said."""
    base = {
        "run_id": f"c-{day}", "session_date": day, "grade": "complete", "reasons": [], "expected": 1, "expected_minutes": [330, 390, 240],
        "seen_minutes": [0, 30, 0], "rows": 7200, "rows_by_hour": [0] * 24, "volume_expected": -1, "volume_bar": -1,
        "ts_written": f"{day} {at}",
    }  # fmt: skip
    put(client, "completeness", *({**base, **symbol} for symbol in symbols))


def put_clean(client: Client) -> None:
    """Everything of CLEAN is there, was looked at, and is right; a halt is explained."""
    put_close(client, BEFORE, 3500, "21:30:00")
    for place, symbol in enumerate(("AAA", "BBB")):
        put_symbol(client, symbol, place)
    put_gap(client, CLEAN, "halt", "15:05:00", "15:10:00", "symbol_silence", symbols=["AAA"], explanation="halt")
    put_close(client, CLEAN, 3600, "21:30:00")
    put_judged(client, CLEAN, {"symbol": "AAA"}, {"symbol": "BBB", "reasons": ["no date before it was judged"]})
    put_audit(client, CLEAN)
    put_stores(client, CLEAN)


def put_bad(client: Client) -> None:
    """BAD lost a symbol's half day, some minutes, and rows of a table; one gap was repaired; a check failed; one could not look."""
    for place, symbol in enumerate(("AAA", "<b>&EVIL")):
        plants = {table: {"where": "number < 900"} for table in TABLES} if place else None
        put_symbol(client, symbol, place, plants, day=BAD)
    put_gap(client, BAD, "cut", "15:10:00", "15:16:40")
    put_gap(client, BAD, "short", "15:18:00", "15:18:00.400")
    put_gap(client, BAD, "filled", "15:20:00", "15:21:30", "silence", repair_state="repaired", rows_recovered=90)
    put_gap(client, BAD, "depth", "15:10:00", "15:16:40", stream=DEPTH, repair_state="impossible", residual="depth has no history")
    put_gap(client, BAD, "half", "15:15:00", None, "symbol_silence", symbols=["<b>&EVIL"])
    put_close(client, BAD, 2700, "21:30:00", rebuilt=1, reason="rows were missing")
    lost = {"grade": "degraded", "unexplained_s": 900.0, "unexplained_rows": 450, "tick_ids_missing": 450, "book_suspect_s": 12.5}
    put_judged(
        client, BAD, {"symbol": "AAA"}, {"symbol": "<b>&EVIL", "reasons": ["450 of 900 TickIDs are missing"], **lost},
        {"symbol": "NEVER", "grade": "missing", "reasons": ["no row of it in any table"], "rows": 0},
    )  # fmt: skip
    put_audit(client, BAD, book_not_crossed=3)
    put_stores(client, BAD, trades="different", quotes="healed")
