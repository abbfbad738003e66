"""`l2 gaps explain` and `l2 gaps export`: one gap in words, what explains the gaps of a date, and the ledger as a file."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from l2_platform.quality.ledger import LedgerGap

CAUSES = {
    "disconnect": "the connection ended", "silence": "nothing came, though something had to", "restart": "the collector was killed",
    "stopped": "the collector was stopped", "journal_loss": "the journal could not take bytes", "damage": "the journal is damaged",
    "server_disconnected": "the feed lost its own servers", "late_subscription": "the recording began late",
    "symbol_silence": "the symbol was silent for improbably long", "missing_prints": "the feed's counters went on without us",
}  # fmt: skip
EVIDENCE = {
    "silent_s": "silent for {} s when it was told", "typical_s": "its pauses last {} s on average", "longest_s": "the longest was {} s",
    "p": "the chance of that is {}", "volume_missing": "{} shares are missing by the day's total volume",
    "prints_missing": "{} prints are missing by the number of trades today", "tick_ids_missing": "{} TickIDs are missing",
    "told_by": "what is missing is told by gap {}", "reason": "reason: {}", "until": "it ended with: {}",
    "lost_tail_bytes": "{} bytes of the journal's end were lost",
}  # fmt: skip
COUNTERS = {
    "intact": "the counters went on without a hole: nothing was lost", "broken": "the counters show a loss",
    "reset": "the counters began anew meanwhile: they tell nothing", "none": "no counter tells whether something was lost",
}  # fmt: skip


def explain(
    gap_id: Annotated[str, typer.Argument(help="Id of a gap, as `l2 gaps` shows it; without it: a date.")] = "",
    date_text: Annotated[str | None, typer.Option("--date", help="Look what explains the gaps of this date, and record it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one object a version.")] = False,
) -> None:
    """Tell a gap in words: every version, the evidence, what was done, what remains. With --date: record what explains its gaps.

    Examples: `l2 gaps explain 3f0c5a9e11d2b7aa` · `l2 gaps explain --date 2026-11-20`
    """
    from l2_platform.cli.output import line, note, print_json
    from l2_platform.clock import SystemClock
    from l2_platform.errors import InputError
    from l2_platform.quality.ledger import load_versions
    from l2_platform.quality.silence import halted_now
    from l2_platform.settings import load_settings
    from l2_platform.warehouse.client import connect
    from l2_platform.warehouse.schema import migrate

    settings = load_settings()
    if bool(gap_id) == bool(date_text):
        raise InputError("name a gap, or a date with --date: `l2 gaps` lists the gaps")
    if date_text:
        _explain_date(date_text)
        return
    client = connect(settings)
    try:
        migrate(client, settings.clickhouse.database)
        versions = load_versions(client, settings.clickhouse.database, gap_id)
    finally:
        client.close()
    if not versions:
        raise InputError(f"there is no gap {gap_id}: `l2 gaps --all` lists them")
    if as_json:
        print_json([flat(gap) for gap in versions])
        return
    now_ns = SystemClock().now_ns()
    halted = halted_now(settings, versions[-1:], now_ns)
    for text in in_words(versions, now_ns, halted=bool(halted.gap_ids)):
        line(text)
    if halted.message:
        note(f"halts explain nothing: {halted.message}")


def export(
    file: Annotated[Path, typer.Argument(help="File to write; it is replaced.")],
    file_format: Annotated[Literal["csv", "jsonl", "parquet"], typer.Option("--format", help="csv, jsonl or parquet.")] = "csv",
    date_text: Annotated[str | None, typer.Option("--date", help="Session date, YYYY-MM-DD; without it all.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also silences in which nothing was lost.")] = False,
) -> None:
    """Write the ledger of gaps, the newest version of each, to a file; times are ns since the epoch, UTC.

    Example: `l2 gaps export --format parquet --date 2026-11-20 gaps.parquet`
    """
    from l2_platform.cli.output import line
    from l2_platform.errors import InputError
    from l2_platform.quality.ledger import load_gaps
    from l2_platform.settings import load_settings
    from l2_platform.warehouse.client import connect
    from l2_platform.warehouse.schema import migrate

    settings = load_settings()
    day = _day(date_text) if date_text else None
    client = connect(settings)
    try:
        migrate(client, settings.clickhouse.database)
        found = load_gaps(client, settings.clickhouse.database, day, withdrawn=everything)
    finally:
        client.close()
    try:
        _write(file, file_format, found)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}") from None
    line(f"{len(found):,} gaps written to {file}")


def flat(gap: "LedgerGap") -> dict[str, Any]:
    """A gap as plain values: symbols joined by spaces, evidence as JSON."""
    import json
    from dataclasses import asdict

    row = asdict(gap)
    text = json.dumps(row["evidence"], separators=(",", ":"), sort_keys=True, default=str)
    return row | {"symbols": " ".join(gap.symbols), "evidence": text, "session_date": gap.session_date.isoformat()}


def in_words(versions: Sequence["LedgerGap"], now_ns: int, *, halted: bool = False) -> list[str]:
    """A gap for people: what, when, why it is believed, how the ledger came to it, what was done, what remains.

    `halted`: a halt in force covers it, which the ledger records when it is over.
    """
    gap = versions[-1]
    whom = ", ".join(gap.symbols[:10]) + (f" and {len(gap.symbols) - 10} more" if len(gap.symbols) > 10 else "")
    until = "now (it is open)" if gap.ts_to is None else _time(gap.ts_to)
    why = gap.explanation or ("halt, which is in force" if halted else "")
    lines = [
        f"gap {gap.gap_id}: {gap.cause}, {CAUSES.get(gap.cause, 'cause unknown to this program')}",
        f"stream      {gap.stream}, session date {gap.session_date}, {whom or 'all symbols'}",
        f"from        {_time(gap.ts_from)} (last line {gap.seq_before:,})",
        f"to          {until}, {gap.seconds(now_ns):,.3f} s",
        f"state       {gap.state}" + (": nothing was lost" if gap.state == "withdrawn" else ""),
        f"explanation {why or ('none needed' if gap.state == 'withdrawn' else 'none: it counts as a loss')}",
    ]
    told = [text.format(gap.evidence[name]) for name, text in EVIDENCE.items() if name in gap.evidence]
    if "counters" in gap.evidence:
        told.append(COUNTERS.get(str(gap.evidence["counters"]), str(gap.evidence["counters"])))
    lines.append("evidence    " + ("; ".join(told) or "the journal's own records around it"))
    repair = gap.repair_state or "nothing was tried"
    lines.append(f"repair      {repair}" + (f" from {gap.repair_source}, {gap.rows_recovered:,} rows" if gap.repair_source else ""))
    lines.append(f"remains     {gap.residual or ('nothing known' if gap.repair_state else 'not looked at')}")
    lines += [f"version {each.version:<3} {_time(each.ts_written)} {_step(each)}" for each in versions]
    return lines


def _step(gap: "LedgerGap") -> str:
    parts = [gap.state, gap.explanation and f"explained: {gap.explanation}", gap.repair_state and f"repair: {gap.repair_state}"]
    return ", ".join(part for part in parts if part)


def _explain_date(text: str) -> None:
    from l2_platform.cli.output import records
    from l2_platform.clock import SystemClock
    from l2_platform.quality.silence import explain_date
    from l2_platform.settings import load_settings

    day = _day(text)
    found = explain_date(load_settings(), day.year * 10_000 + day.month * 100 + day.day, SystemClock())
    rows = [{"gap_id": gap.gap_id, "stream": gap.stream, "symbols": " ".join(gap.symbols), "explanation": gap.explanation} for gap in found]
    records(rows, as_json=False, title="explained now", empty=f"nothing new explains a gap of {day}")


def _write(file: Path, file_format: str, found: Sequence["LedgerGap"]) -> None:
    import polars as pl

    from l2_platform.quality.ledger import LedgerGap

    numbers = {"seq", "ordinal", "ts_from", "ts_to", "rows_recovered", "seq_before", "version", "ts_written"}
    schema = {name: pl.Int64 if name in numbers else pl.String for name in LedgerGap.__dataclass_fields__}
    frame = pl.DataFrame([flat(gap) for gap in found], schema=schema)
    with file.open("wb") as out:
        if file_format == "csv":
            frame.write_csv(out)
        elif file_format == "jsonl":
            frame.write_ndjson(out)
        else:
            frame.write_parquet(out)


def _day(text: str) -> date:
    from l2_platform.cli.times import session_date_from_text

    number = session_date_from_text(text, "--date")
    return date(number // 10_000, number // 100 % 100, number % 100)


def _time(ts_ns: int) -> str:
    at = datetime.fromtimestamp(ts_ns // 1_000_000_000, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}.{ts_ns % 1_000_000_000:09d} UTC"
