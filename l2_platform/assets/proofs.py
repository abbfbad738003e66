"""Group `quality`: what proves a session date. Assets `gaps`, `reconciliation`, `completeness`, `quality_audit`, `day_report`.

Each of them ends in a stated result, also when the warehouse is away: then its check is red and says `not evaluated`, and the next one
still runs. What does not belong here: the services (quality), the health of single tables (table_checks), schedules.
"""

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import dagster as dg
from pydantic import Field

from l2_platform.assets.failures import explained_failures
from l2_platform.assets.partitions import key_date, number_of
from l2_platform.assets.plots import CELLS_MAX, bar_plot_png, heat_plot, markdown_table, time_text
from l2_platform.assets.rebuild import REBUILD_POOL
from l2_platform.assets.tables import stored_in
from l2_platform.assets.workers import OWNER
from l2_platform.quality.coverage import coverage_of
from l2_platform.resources.proofs import ProofsResource

if TYPE_CHECKING:
    from l2_platform.quality.findings import AuditResult
    from l2_platform.quality.report_facts import Course, DayFacts
    from l2_platform.quality.verdicts import DateVerdict

QUALITY: Final = "quality"
SHOWN: Final = 20
"""Rows of a table in the metadata."""
BARS_MAX: Final = 48
"""Bars of a plot over the session."""
MAPPED: Final = 30
"""Symbols of the heat map."""
AGAIN_MAX, AGAIN_S = 2, 20.0
"""A warehouse that is away is tried again so often, after so long, s: a restart takes less."""
EXPLAINED, EQUAL, COMPLETE, SOUND, PROVEN = (
    "every_gap_is_explained", "stores_are_equal", "every_symbol_is_complete", "checks_find_no_error", "date_is_proven",
)  # fmt: skip
ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


class ReconcileConfig(dg.Config):
    """What becomes of differences."""

    heal: bool = Field(default=True, description="Rebuild what differs from the journal, then compare again.")


def build_proof_assets(
    partitions: dg.DailyPartitionsDefinition, tables: Sequence[dg.AssetKey], database: str
) -> list[dg.AssetsDefinition]:
    """The assets in the order of a run; `tables` are what they judge, `database` has what they store."""
    ledger = _gaps(partitions, [*tables, dg.AssetKey("gap_repairs")], stored_in(database, "gaps"))
    compared = stored_in(database, "reconciliations")
    stores = _reconciliation(partitions, [*tables, dg.AssetKey("closed_day")], compared)
    judged = _completeness(partitions, [*ledger.keys, *stores.keys], stored_in(database, "completeness"))
    audited = _quality_audit(partitions, [*stores.keys], stored_in(database, "findings"))
    return [ledger, stores, judged, audited, _day_report(partitions, [*ledger.keys, *judged.keys, *audited.keys])]


def _gaps(
    partitions: dg.DailyPartitionsDefinition, deps: list[dg.AssetKey], stored: dict[str, str]
) -> dg.AssetsDefinition:
    @dg.asset(
        name="gaps",
        description=(
            "The ledger of gaps of a session date: what the deliveries found missing while it ran, what explains it (halt, auction, "
            "closed …), and what repairs made of it. When red: a gap of more than gaps.error_s has neither; `l2 gaps --date DATE` "
            "lists them, `l2 gaps repair --date DATE` tries again."
        ),
        group_name=QUALITY, owners=[OWNER], kinds={"clickhouse", "table"}, partitions_def=partitions, deps=deps,
        metadata=stored,
        check_specs=[dg.AssetCheckSpec(EXPLAINED, asset="gaps", description="No gap is without explanation or repair.")],
    )  # fmt: skip
    def gaps(context: dg.AssetExecutionContext, proofs: ProofsResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # as its neighbours
        from l2_platform.quality.report_page import gap_counts, gap_state
        from l2_platform.quality.report_verdict import is_lost, lost_s

        _again_when_away(context, proofs)
        explained = proofs.explain(number_of(key_date(context.partition_key)))
        facts = proofs.facts(number_of(key_date(context.partition_key)))
        found = facts.gaps.value or []
        lost = [gap for gap in found if is_lost(gap, facts)]
        text = facts.gaps.text or f"{len(found)} gaps, {len(lost)} of them without explanation or repair."
        long = not facts.gaps.known or any(lost_s(gap, facts) > facts.bounds.error_s for gap in lost)
        rows = [
            (time_text(gap.ts_from), gap.seconds(facts.now_ns), gap.stream, ", ".join(gap.symbols[:3]) or "all", gap.cause, gap.state,
             gap.explanation or gap_state(gap), gap.repair_state, gap.residual)
            for gap in sorted(found, key=lambda gap: -lost_s(gap, facts))[:SHOWN]
        ]  # fmt: skip
        header = ("from", "seconds", "stream", "symbols", "cause", "state", "explanation", "repair", "stays missing")
        numbers = {name: dg.MetadataValue.float(float(count)) for name, count in gap_counts(facts).items()}
        return dg.MaterializeResult(
            metadata={
                **numbers, "explanations": explained, "gaps": dg.MetadataValue.md(markdown_table(header, rows) if rows else text),
                "timeline": dg.MetadataValue.md(_plot(_lost_by_hour(facts), "one bar = one hour of the session, unexplained seconds")),
                "look": dg.MetadataValue.md(f"`l2 gaps --date {context.partition_key}`"),
            },
            check_results=[_result(EXPLAINED, facts.gaps.known and not lost, text, ERROR if long else WARN)],
        )  # fmt: skip

    return gaps


def _reconciliation(
    partitions: dg.DailyPartitionsDefinition, deps: list[dg.AssetKey], stored: dict[str, str]
) -> dg.AssetsDefinition:
    @dg.asset(
        name="reconciliation",
        description=(
            "Tables and files of a session date beside what its journal yields: by count, key range and a hash of every minute; what "
            "differs is rebuilt and compared again. When red: a store is not equal, or could not be compared; the table says which, and "
            "`l2 reconcile DATE` names the keys."
        ),
        group_name=QUALITY, owners=[OWNER], kinds={"clickhouse", "file", "python"}, partitions_def=partitions, deps=deps, pool=REBUILD_POOL,
        metadata=stored,
        check_specs=[dg.AssetCheckSpec(EQUAL, asset="reconciliation", description="Every store holds what the journal yields.")],
    )  # fmt: skip
    def reconciliation(
        context: dg.AssetExecutionContext, config: ReconcileConfig, proofs: ProofsResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # as its neighbours
        _again_when_away(context, proofs)
        result = proofs.reconcile(number_of(key_date(context.partition_key)), context.log.info, heal=config.heal)
        look = dg.MetadataValue.md(f"`l2 reconcile {context.partition_key}`")
        if isinstance(result, str):
            text = f"not evaluated: {result}"
            return dg.MaterializeResult(
                metadata={"look": look, "result": text}, check_results=[_result(EQUAL, False, text, ERROR)]
            )
        rows = [
            (item.stream, item.table, item.store, item.state, item.rows_journal, item.rows_store, item.differences.count, item.minutes,
             item.reason)
            for item in result.entries
        ]  # fmt: skip
        bad = [f"{item.store} {item.table} of {item.stream} is {item.state}" for item in result.entries if not item.ok]
        healed = sum(item.state == "healed" for item in result.entries)
        text = (
            "; ".join(bad[:5])
            if bad
            else f"{sum(item.state == 'equal' for item in result.entries)} equal, {healed} healed."
        )
        header = ("stream", "table", "store", "state", "journal", "store has", "keys that differ", "minutes", "why")
        return dg.MaterializeResult(
            metadata={
                "stores": dg.MetadataValue.md(markdown_table(header, rows)), "different": len(bad), "healed": healed, "look": look,
                "messages": result.messages, "seconds": result.seconds, "recorded": result.recorded,
            },
            check_results=[_result(EQUAL, result.ok, text if result.ok or bad else f"not evaluated: {text}", ERROR)],
        )  # fmt: skip

    return reconciliation


def _completeness(
    partitions: dg.DailyPartitionsDefinition, deps: list[dg.AssetKey], stored: dict[str, str]
) -> dg.AssetsDefinition:
    @dg.asset(
        name="completeness",
        description=(
            "Expected beside seen for each symbol of a session date: minutes, TickIDs, volume, usual rows, books, latency, quarantine; a "
            "grade (complete, repaired, degraded, missing) with reasons, in table completeness. When red: the table names symbols and "
            "reasons; `l2 complete DATE` shows all, `l2 gaps repair` and `l2 backfill` may bring back what is missing."
        ),
        group_name=QUALITY, owners=[OWNER], kinds={"clickhouse", "python"}, partitions_def=partitions, deps=deps,
        metadata=stored,
        check_specs=[dg.AssetCheckSpec(COMPLETE, asset="completeness", description="Every symbol is complete or repaired.")],
    )  # fmt: skip
    def completeness(context: dg.AssetExecutionContext, proofs: ProofsResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # as its neighbours
        _again_when_away(context, proofs)
        with explained_failures(f"completeness {context.partition_key}"):
            verdict = proofs.judge(number_of(key_date(context.partition_key)))
        grades = [one.grade for one in verdict.symbols]
        bad = [one for one in verdict.symbols if one.grade in {"degraded", "missing"}]
        bad.sort(key=lambda one: (one.grade != "missing", -one.unexplained_s, -one.unexplained_rows, one.symbol))
        known = verdict.outcome == "judged"
        told = ", ".join(
            f"{grades.count(grade)} {grade}"
            for grade in ("missing", "degraded", "repaired", "complete")
            if grade in grades
        )
        text = f"{told or 'no symbol'}; unexplained {verdict.unexplained_s:,.1f} s, {verdict.unexplained_rows:,} rows. {verdict.message}"
        rows = [
            (one.symbol, one.grade, one.unexplained_s, one.unexplained_rows, "; ".join(one.reasons))
            for one in bad[:SHOWN]
        ]
        hours = [sum(one.facts.rows_by_hour[hour] for one in verdict.symbols) for hour in range(24)]
        return dg.MaterializeResult(
            metadata={
                "symbols": len(grades), "complete": grades.count("complete"), "repaired": grades.count("repaired"),
                "degraded": grades.count("degraded"), "missing": grades.count("missing"), "unexplained_s": verdict.unexplained_s,
                "unexplained_rows": verdict.unexplained_rows, "seconds": verdict.seconds,
                "worst": dg.MetadataValue.md(markdown_table(("symbol", "grade", "lost s", "lost rows", "why"), rows) if rows else "none"),
                "coverage": dg.MetadataValue.md(_plot(hours, "one bar = one hour of the day in New York, rows")),
                **_coverage(verdict, proofs.hours(verdict.session_date)),
                "look": dg.MetadataValue.md(f"`l2 complete {context.partition_key}`"),
            },
            check_results=[_result(COMPLETE, verdict.ok, text if known else f"not evaluated: {verdict.message}", ERROR)],
        )  # fmt: skip

    return completeness


def _quality_audit(
    partitions: dg.DailyPartitionsDefinition, deps: list[dg.AssetKey], stored: dict[str, str]
) -> dg.AssetsDefinition:
    @dg.asset(
        name="quality_audit",
        description=(
            "Every declared check (docs/quality.md) over the rows of a session date; findings and how much was looked at are in tables "
            "findings and audit_runs, and on the page of each table. When red: a check found an error or could not judge what it should; "
            "`l2 audit DATE` shows the worst."
        ),
        group_name=QUALITY, owners=[OWNER], kinds={"clickhouse", "python"}, partitions_def=partitions, deps=deps,
        metadata=stored,
        check_specs=[dg.AssetCheckSpec(SOUND, asset="quality_audit", description="No check found an error, and each could judge.")],
    )  # fmt: skip
    def quality_audit(context: dg.AssetExecutionContext, proofs: ProofsResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # as its neighbours
        _again_when_away(context, proofs)
        result = proofs.audit(number_of(key_date(context.partition_key)), context.run.run_id, context.log.info)
        rows = [
            (one.name, one.outcome, one.severity, one.looked, one.flagged, one.found, one.seconds, one.message)
            for one in result.checks
        ]
        header = ("check", "outcome", "severity", "rows", "flagged", "findings", "seconds", "why")
        bad = [
            f"{one.name} {one.outcome.replace('_', ' ')}"
            for one in result.checks
            if one.outcome != "passed" and one.severity == "error"
        ]
        text = result.message or "; ".join(bad[:8]) or f"{len(result.checks)} checks, no error."
        return dg.MaterializeResult(
            metadata={
                "checks": dg.MetadataValue.md(markdown_table(header, rows)), "rows": sum(one.looked for one in result.checks),
                "flagged": sum(one.flagged for one in result.checks), "findings": sum(one.found for one in result.checks),
                "seconds": round(sum(one.seconds for one in result.checks), 3),
                "pages": published(context, proofs, [result]),
                "look": dg.MetadataValue.md(f"`l2 audit {context.partition_key} --open` judges once more and opens the pages"),
            },
            check_results=[_result(SOUND, result.outcome == "passed", text, ERROR)],
        )  # fmt: skip

    return quality_audit


def _day_report(partitions: dg.DailyPartitionsDefinition, deps: list[dg.AssetKey]) -> dg.AssetsDefinition:
    @dg.asset(
        name="day_report",
        description=(
            "The page of a session date, readable in a minute: verdict, what was recorded, what is missing and why, what was repaired, "
            "what needs a person. Made from the tables alone, also when something could not be evaluated. When red: the check and the "
            "page's first list say what to do; `l2 report DATE --open` makes it anew."
        ),
        group_name=QUALITY, owners=[OWNER], kinds={"clickhouse", "file"}, partitions_def=partitions, deps=deps,
        check_specs=[dg.AssetCheckSpec(PROVEN, asset="day_report", description="The date was evaluated, and is complete or repaired.")],
    )  # fmt: skip
    def day_report(context: dg.AssetExecutionContext, proofs: ProofsResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # as its neighbours
        from l2_platform.quality.report_page import table_rows

        with explained_failures(f"day_report {context.partition_key}"):
            made = proofs.report(number_of(key_date(context.partition_key)))
        verdict, course = made.verdict, made.facts.course
        rows = [
            (row["table"], row["rows"], row["before"], row["symbols"], row["bytes"]) for row in table_rows(made.facts)
        ]
        todo = [(item.what, f"`{item.command}`" if item.command else "") for item in verdict.todo[:SHOWN]]
        metadata: dict[str, dg.MetadataValue] = {
            "verdict": dg.MetadataValue.text(verdict.sentence),
            "page": dg.MetadataValue.path(str(made.path)),
            "needs_a_person": dg.MetadataValue.md(markdown_table(("what", "do"), todo) if todo else "nothing"),
            "recorded": dg.MetadataValue.md(
                markdown_table(("table", "rows", "date before", "symbols", "bytes"), rows) if rows else "nothing"
            ),
            "spread": dg.MetadataValue.md(_course_plot(course.value, "spread") or course.text),
            "latency": dg.MetadataValue.md(_course_plot(course.value, "latency") or course.text),
            "look": dg.MetadataValue.md(f"`l2 report {context.partition_key} --open`"),
        }
        if verdict.lost_s is not None:
            metadata["unexplained_s"] = dg.MetadataValue.float(verdict.lost_s)
        if verdict.lost_rows is not None:
            metadata["unexplained_rows"] = dg.MetadataValue.int(verdict.lost_rows)
        text = f"{verdict.sentence}. {'; '.join(verdict.because[:5])}".strip()
        return dg.MaterializeResult(metadata=metadata, check_results=[_result(PROVEN, verdict.ok, text, ERROR)])

    return day_report


def published(context: dg.AssetExecutionContext, proofs: ProofsResource, results: "Sequence[AuditResult]") -> dg.MetadataValue:
    """The pages of Great Expectations of audits: where they begin, or why there are none, which changes nothing of what was found."""
    index = proofs.publish(results)
    if isinstance(index, str):
        context.log.warning("the pages of the audit were not written: %s", index)
        return dg.MetadataValue.text(f"not written: {index}")
    return dg.MetadataValue.path(str(index))


def _again_when_away(context: dg.AssetExecutionContext, proofs: ProofsResource) -> None:
    """Wait for a warehouse that restarts; when it stays away, what follows says so."""
    if context.retry_number < AGAIN_MAX and proofs.is_away():
        raise dg.RetryRequested(max_retries=AGAIN_MAX, seconds_to_wait=AGAIN_S)


def _result(name: str, passed: bool, text: str, severity: dg.AssetCheckSeverity) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(check_name=name, passed=passed, severity=severity, description=text)


def _coverage(verdict: "DateVerdict", hours: Sequence[int]) -> dict[str, dg.MetadataValue]:
    """Heat map of the worst symbols, and their names from the top: both at once would be more than the UI shows."""
    found = coverage_of(verdict.symbols, hours, min(MAPPED, CELLS_MAX // len(hours)))
    axes = f"one row = one symbol (coverage_rows), one column = one hour, {hours[0]:02d}:00 to {(hours[-1] + 1) % 24:02d}:00 New York"
    return {
        "coverage_map": dg.MetadataValue.md(heat_plot(found.shares, axes)),
        "coverage_rows": dg.MetadataValue.text(", ".join(found.symbols) or "none"),
    }


def _lost_by_hour(facts: "DayFacts") -> list[int]:
    """Seconds without explanation in each hour of the session."""
    from l2_platform.quality.report_verdict import is_lost

    hour_ns, start, end = 3600 * 10**9, facts.windows[0].start, facts.windows[-1].end
    lost = [
        (gap.ts_from, facts.now_ns if gap.ts_to is None else gap.ts_to)
        for gap in facts.gaps.value or []
        if is_lost(gap, facts)
    ]
    return [
        round(sum(max(0, min(to, begin + hour_ns) - max(ts, begin)) for ts, to in lost) / 1e9) for begin in range(start, end, hour_ns)
    ]  # fmt: skip


def _course_plot(course: "Course | None", what: str) -> str:
    if course is None:
        return ""
    values = course.spread_bp if what == "spread" else course.latency_p99_ms
    unit = "median spread, hundredths of a basis point" if what == "spread" else "latency p99, µs"
    scale = 100 if what == "spread" else 1000
    # a picture of more bars no longer fits into what the UI shows at once
    step = -(-len(values) // BARS_MAX)
    numbers = [max(0, round((value or 0) * scale)) for value in values]
    bars = [max(numbers[place : place + step]) for place in range(0, len(numbers), step)]
    return _plot(bars, f"one bar = highest of {step * course.step_s // 60} min of the session, {unit}")


def _plot(values: Sequence[int], axes: str) -> str:
    if not any(values):
        return f"{axes}: nothing"
    image = base64.b64encode(bar_plot_png(values)).decode("ascii")
    return f"{axes}; highest bar = {max(values):,}\n\n![{axes}](data:image/png;base64,{image})"
