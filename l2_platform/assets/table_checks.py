"""What the proofs of a session date say, as checks of the table that they judge, so that the table's page shows its health.

Evaluated by job `daily_proofs` after the proofs were stored, and by their button (of the last session date that ended). What
does not belong here: the promises (quality/table_proofs.py), the proofs themselves.
"""

from collections.abc import Iterator
from datetime import date
from typing import Any, Final

import dagster as dg

from l2_platform.assets.partitions import key_date, number_of
from l2_platform.quality.checks import CHECKS
from l2_platform.quality.table_proofs import CHANNELS, TableProof, judge_table, promises_of
from l2_platform.resources.closes import PARTITION_TAG
from l2_platform.resources.proofs import ProofsResource

PROOFS: Final = ("gaps", "reconciliation", "completeness", "quality_audit")
"""Assets that store what is judged here."""


def build_table_checks() -> list[dg.AssetChecksDefinition]:
    """One definition a table that is judged."""
    return [_table_checks(table) for table in dict.fromkeys([*CHANNELS, *(check.table for check in CHECKS)])]


def _table_checks(table: str) -> dg.AssetChecksDefinition:
    declared = {check.name: check for check in CHECKS if check.table == table}
    described = promises_of(table) | {name: f"{check.meaning} ({check.provenance})" for name, check in declared.items()}
    specs = [
        dg.AssetCheckSpec(name, asset=table, description=text, additional_deps=PROOFS)
        for name, text in described.items()
    ]

    @dg.multi_asset_check(
        name=f"proofs_of_{table}", specs=specs, description=f"What the proofs of a session date say of {table}."
    )
    def proofs_of_table(context: dg.AssetCheckExecutionContext, proofs: ProofsResource) -> Iterator[Any]:
        facts = proofs.facts(
            number_of(key_date(key)) if (key := context.run.tags.get(PARTITION_TAG)) else proofs.last_ended()
        )
        for proof in judge_table(facts, table, {name: check.severity for name, check in declared.items()}):
            yield _result(proof, facts.session_date)

    return proofs_of_table


def _result(proof: TableProof, session_date: date) -> dg.AssetCheckResult:
    severity = dg.AssetCheckSeverity.ERROR if proof.serious else dg.AssetCheckSeverity.WARN
    numbers = {name: dg.MetadataValue.float(float(value)) for name, value in proof.numbers.items()}
    return dg.AssetCheckResult(
        asset_key=proof.table,
        check_name=proof.name,
        passed=proof.kept,
        severity=severity,
        description=proof.text,
        metadata={"session_date": dg.MetadataValue.text(str(session_date)), **numbers},
    )
