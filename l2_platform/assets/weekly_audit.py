"""Asset `weekly_audit`: every check over every session date of the week, on Sunday: what arrived late or was repaired is judged again."""

from typing import Final

import dagster as dg

from l2_platform.assets.failures import TRANSIENT_RETRY, explained_failures
from l2_platform.assets.plots import markdown_table
from l2_platform.assets.proofs import QUALITY, published
from l2_platform.assets.tables import stored_in
from l2_platform.assets.workers import OWNER
from l2_platform.resources.proofs import ProofsResource

SOUND: Final = "week_is_sound"


def build_weekly_audit(database: str) -> dg.AssetsDefinition:
    """The asset; schedule `weekly_audit` makes it. `database` has what it stores."""

    @dg.asset(
        name="weekly_audit",
        description=(
            "The checks of docs/quality.md over each session date of the week that ended last: repairs and late rows are judged with the "
            "rest. When red: a date has an error or could not be judged; the table says which, `l2 audit DATE --week` shows the findings."
        ),
        group_name=QUALITY, owners=[OWNER], kinds={"clickhouse", "python"}, deps=[dg.AssetKey("quality_audit")],
        retry_policy=TRANSIENT_RETRY, metadata=stored_in(database, "findings"),
        check_specs=[dg.AssetCheckSpec(SOUND, asset="weekly_audit", description="No date of the week has an error, each was judged.")],
    )  # fmt: skip
    def weekly_audit(context: dg.AssetExecutionContext, proofs: ProofsResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # as its neighbours
        with explained_failures("weekly_audit"):
            results = proofs.audit_week(context.log.info)
        rows = [
            (
                str(one.session_date), one.outcome, sum(check.looked for check in one.checks), sum(check.flagged for check in one.checks),
                ", ".join(check.name for check in one.checks if check.outcome != "passed" and check.severity == "error"), one.message,
            )
            for one in results
        ]  # fmt: skip
        bad = [f"{one.session_date} {one.outcome.replace('_', ' ')}" for one in results if one.outcome != "passed"]
        text = (
            "; ".join(bad) or f"{len(results)} session dates, no error."
            if results
            else "not evaluated: the week has no session date"
        )
        check = dg.AssetCheckResult(check_name=SOUND, passed=bool(results) and not bad, description=text)
        last = results[-1].session_date if results else "DATE"
        header = ("date", "outcome", "rows", "flagged", "checks with errors", "why")
        return dg.MaterializeResult(
            metadata={
                "dates": dg.MetadataValue.md(markdown_table(header, rows) if rows else "none"),
                "rows": sum(int(row[2]) for row in rows), "flagged": sum(int(row[3]) for row in rows), "dates_with_errors": len(bad),
                "pages": published(context, proofs, results),
                "look": dg.MetadataValue.md(f"`l2 audit {last} --week --open` judges once more and opens the pages"),
            },
            check_results=[check],
        )  # fmt: skip

    return weekly_audit
