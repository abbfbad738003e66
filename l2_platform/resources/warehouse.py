"""How assets reach the tables."""

import dagster as dg
from clickhouse_connect.driver.client import Client

from l2_platform.settings import Settings
from l2_platform.warehouse.client import connect


class WarehouseResource(dg.ConfigurableResource[Client]):
    """Opens a client of the warehouse, embedded or a server, when an asset asks for one.

    Not before: a warehouse that is down then fails one step, with a message, and not the start of the run.
    """

    settings: dg.ResourceDependency[Settings]

    def client(self) -> Client:
        """A plain clickhouse-connect client; close it. Raise WarehouseError."""
        return connect(self.settings)

    @property
    def database(self) -> str:
        """Database of the tables."""
        return self.settings.clickhouse.database
