"""Results of comparisons as rows of the table `reconciliations`, append-only. What does not belong here: comparing."""

import json
from datetime import UTC, datetime

from l2_platform.clock import Clock
from l2_platform.errors import L2Error
from l2_platform.market.dates import date_text
from l2_platform.quality.reconciled import ReconcileResult
from l2_platform.replay.rebuild import open_link
from l2_platform.replay.staging import quoted
from l2_platform.settings import Settings


def record_result(settings: Settings, clock: Clock, result: ReconcileResult) -> bool:
    """Append a row an entry; False when the warehouse is switched off or does not take them: the result counts all the same."""
    if not settings.clickhouse.enabled or not result.entries:
        return False
    seconds, fraction = divmod(clock.now_ns(), 10**9)
    now = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{fraction:09d}"
    rows = []
    for entry in result.entries:
        found = entry.differences
        texts = (result.run_id, date_text(result.session_date), entry.stream, entry.table, entry.store, entry.state, entry.reason)
        numbers = (
            entry.rows_journal, entry.rows_store, entry.seq_first_store, entry.seq_last_store, entry.minutes, found.missing, found.extra,
            found.doubled, found.changed, entry.unreadable,
        )  # fmt: skip
        keys = json.dumps({kind: names for kind, names in found.keys.items() if names})
        values = [*map(quoted, texts), *map(str, numbers), quoted(keys), str(result.seconds), quoted(now)]
        rows.append(f"({', '.join(values)})")
    columns = (
        "run_id, session_date, stream, table, store, state, reason, rows_journal, rows_store, seq_first, seq_last, minutes, missing, extra,"
        " doubled, changed, unreadable, keys, seconds, ts_written"
    )
    try:
        with open_link(settings, clock, f"l2-reconcile-{result.session_date}-") as link:
            place = f"{settings.clickhouse.database}.reconciliations"
            token = f" SETTINGS insert_deduplication_token = {quoted(result.run_id)}"
            link.query(f"INSERT INTO {place} ({columns}){token} VALUES {', '.join(rows)}")  # noqa: S608 - names are ours
    except L2Error:
        return False
    return True
