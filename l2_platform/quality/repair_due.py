"""Which gaps of the ledger are to be repaired now; light, since it is asked every few seconds.

What does not belong here: repairing them.
"""

from datetime import UTC, datetime, timedelta

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from l2_platform.errors import WarehouseError
from l2_platform.quality.ledger import LedgerGap, load_gaps
from l2_platform.quality.repair_plan import is_due
from l2_platform.settings import Settings
from l2_platform.warehouse.client import connect
from l2_platform.warehouse.schema import migrate


def due_gaps(client: Client, settings: Settings, now_ns: int) -> list[LedgerGap]:
    """Every gap whose turn it is, of any date, the newest first: what is fresh is looked at by people."""
    # a gap may end a day after its session began; whose turn it is to the second, is_due tells
    since = datetime.fromtimestamp(now_ns // 10**9, UTC).date() - timedelta(days=settings.repair.age_days_max + 2)
    gaps = load_gaps(client, settings.clickhouse.database, unrepaired_since=since)
    return [gap for gap in reversed(gaps) if is_due(gap, settings.repair, now_ns)]


def ask_due_gaps(settings: Settings, now_ns: int) -> list[LedgerGap]:
    """The same with a connection of its own; WarehouseError when the warehouse does not answer."""
    client = connect(settings)
    try:
        migrate(client, settings.clickhouse.database)
        return due_gaps(client, settings, now_ns)
    except ClickHouseError as error:
        raise WarehouseError(f"the ledger of gaps cannot be read: {str(error)[:300]}") from None
    finally:
        client.close()
