"""What an audit found, and how it is kept: tables `findings` and `audit_runs`, append-only.

The rows of a check go in before the row that says that the check ran; both carry a token of run and check, so that an audit which is
stored a second time under its run_id adds nothing. What does not belong here: rules, running them.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Literal

from clickhouse_connect.driver.client import Client

from l2_platform.clock import Clock

Outcome = Literal["passed", "failed", "not_evaluated"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A stretch of flagged rows of one stream and symbol."""

    check: str
    stream: str
    """Empty where several are concerned."""
    symbol: str
    """Empty: the whole stream."""
    ts_from: int | None
    """First flagged row, ns UTC; None where it has no time."""
    ts_to: int | None
    severity: str
    """warn or error."""
    value: float
    """How bad, in the unit of the threshold."""
    threshold: float
    detail: Mapping[str, Any] = field(default_factory=dict)
    seq_from: int = 0
    seq_to: int = 0
    looked: int = 0
    flagged: int = 0


@dataclass(slots=True)
class CheckResult:
    """What came of one check."""

    name: str
    looked: int = 0
    """Rows that were judged."""
    flagged: int = 0
    findings: list[Finding] = field(default_factory=list)
    """The worst `quality.findings_max`."""
    outcome: Outcome = "passed"
    message: str = ""
    """Why it was not evaluated."""
    seconds: float = 0.0
    severity: str = ""
    """Worst finding; `error` also where it should have been judged and could not be; empty: nothing to act on."""
    found: int = 0
    """Findings, those too that were not kept."""


@dataclass(slots=True)
class AuditResult:
    """What came of an audit of one session date."""

    run_id: str
    session_date: date
    checks: list[CheckResult] = field(default_factory=list)
    stored: bool = True
    """It is in the tables `findings` and `audit_runs`."""
    message: str = ""
    """What went wrong apart from single checks."""

    @property
    def outcome(self) -> Outcome:
        """`failed` with a finding of severity error; `not_evaluated` when something could not be judged that should have been."""
        if any(check.outcome == "failed" and check.severity == "error" for check in self.checks):
            return "failed"
        lost = any(check.outcome == "not_evaluated" and check.severity == "error" for check in self.checks)
        judged = any(check.outcome != "not_evaluated" for check in self.checks)
        return "not_evaluated" if lost or not judged or not self.stored else "passed"

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"session_date": self.session_date.isoformat(), "outcome": self.outcome}


def store(client: Client, database: str, result: AuditResult, checks: Iterable[CheckResult], clock: Clock) -> None:
    """Append what checks found, and that they ran; raise ClickHouse errors."""
    now = text_of_time(clock.now_ns())
    day = result.session_date.isoformat()
    for check in checks:
        token = {
            "insert_deduplication_token": f"{result.run_id} {check.name}",
            "insert_deduplicate": "1",
            "async_insert": "0",
        }
        if check.findings:
            rows = [_row(result.run_id, day, finding, now) for finding in check.findings]
            _insert(client, f"{database}.findings", rows, token)
        ran = {
            "run_id": result.run_id, "session_date": day, "check": check.name, "looked": check.looked, "flagged": check.flagged,
            "findings": check.found, "severity": check.severity, "outcome": check.outcome, "message": check.message,
            "seconds": check.seconds, "ts_written": now,
        }  # fmt: skip
        _insert(client, f"{database}.audit_runs", [ran], token)


def _row(run_id: str, day: str, finding: Finding, now: str) -> dict[str, Any]:
    times = {
        name: None if ts is None else text_of_time(ts)
        for name, ts in (("ts_from", finding.ts_from), ("ts_to", finding.ts_to))
    }
    plain = {
        name: getattr(finding, name)
        for name in ("check", "stream", "symbol", "severity", "seq_from", "seq_to", "looked", "flagged")
    }
    numbers = {"value": finding.value, "threshold": finding.threshold}
    detail = json.dumps(dict(finding.detail), sort_keys=True, default=str)
    return {"run_id": run_id, "session_date": day, **plain, **times, **numbers, "detail": detail, "ts_written": now}


def _insert(client: Client, table: str, rows: list[dict[str, Any]], settings: dict[str, str]) -> None:
    body = "\n".join(json.dumps(row) for row in rows).encode()
    client.raw_insert(table, column_names=list(rows[0]), insert_block=body, fmt="JSONEachRow", settings=settings)


def text_of_time(ns: int) -> str:
    """As the warehouse reads a time, UTC with nine digits."""
    seconds, fraction = divmod(ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{fraction:09d}"
