"""A `clickhouse-connect` client of the warehouse: of the embedded one (started when nothing runs) or of a real server.

What does not belong here: which queries are asked (schema, sinks, quality).
"""

from typing import Any

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from l2_platform.errors import WarehouseError
from l2_platform.settings import Settings
from l2_platform.warehouse.start import ensure_warehouse, warehouse_password


def connect(settings: Settings, *, database: str | None = None, **options: Any) -> Client:
    """A client with a connection pool of its own; close it. `options` go to `clickhouse_connect.get_client`.

    No database is selected unless `database` is given: tables are named in full, and the database may not exist yet. Raise
    WarehouseError when the warehouse cannot be started or reached.
    """
    section = settings.clickhouse
    host, port = ensure_warehouse(settings) if section.embedded else (section.host, section.port or settings.ports.warehouse)
    arguments: dict[str, Any] = {
        "host": host, "port": port, "username": section.user, "password": warehouse_password(settings),
        "database": database, "secure": section.secure and not section.embedded, "autogenerate_session_id": False,
        "send_receive_timeout": section.timeout_s, "connect_timeout": min(10, section.timeout_s), "query_retries": 0,
        "dedicated_pool": True,
    }  # fmt: skip
    try:
        return clickhouse_connect.get_client(**{**arguments, **options})
    except ClickHouseError as error:
        raise WarehouseError(f"the warehouse at {host}:{port} does not answer as it should: {error}", host=host, port=port) from None
