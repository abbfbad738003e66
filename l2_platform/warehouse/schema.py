"""The tables: versioned SQL files, applied once each, in order, and never changed afterwards.

`migrations/NNNN_name.sql` holds statements that may run twice (IF NOT EXISTS), so that a migration cut off half-way simply runs
again. `schema_migrations` remembers number and checksum; a file that was changed after it ran, or a database of a later program,
is refused. What does not belong here: rows.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from l2_platform.errors import WarehouseError

MIGRATIONS: Final = Path(__file__).with_name("migrations")
FILE_NAME: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
LEDGER: Final = """CREATE TABLE IF NOT EXISTS {database}.schema_migrations
(
    version UInt32 COMMENT 'Number of the migration',
    name String COMMENT 'Name of its file',
    checksum String COMMENT 'SHA-256 of the file when it ran, hex',
    applied DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it ran, UTC'
)
ENGINE = MergeTree
ORDER BY version
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Migrations that made the tables of this database'"""

APPLIED: Final = "SELECT DISTINCT version, checksum FROM {database}.schema_migrations ORDER BY version"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def statements(self, database: str) -> list[str]:
        """The SQL statements, with the database's name filled in."""
        text = "\n".join(line for line in self.text.splitlines() if not line.startswith("--"))
        parts = (part.strip() for part in re.split(r";\s*(?:\n|$)", text.replace("{database}", database)))
        return [part for part in parts if part]


def load_migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """Every migration in order; raise WarehouseError when the numbers are not 1, 2, 3 …"""
    found = []
    for path in sorted(folder.glob("*.sql")):
        match = FILE_NAME.fullmatch(path.name)
        if match is None:
            raise WarehouseError(f"migration {path.name}: the name must be NNNN_name.sql")
        found.append(Migration(int(match.group(1)), match.group(2), path.read_text(encoding="utf-8")))
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise WarehouseError(f"migrations in {folder} must be numbered 0001, 0002, … without holes")
    return found


def migrate(client: Client, database: str, folder: Path = MIGRATIONS) -> list[int]:
    """Bring the database to this program's schema; the versions applied now. Raise WarehouseError for a changed or newer schema."""
    migrations = load_migrations(folder)
    try:
        client.command(f"CREATE DATABASE IF NOT EXISTS {database}")
        client.command(LEDGER.format(database=database))
        applied = APPLIED.format(database=database)
        rows = client.query(applied).result_rows
        pending = _pending(migrations, [(int(version), str(checksum)) for version, checksum in rows], database)
        for migration in pending:
            for statement in migration.statements(database):
                client.command(statement)
            client.insert(
                "schema_migrations", [[migration.version, migration.name, migration.checksum]],
                column_names=["version", "name", "checksum"], database=database,
            )  # fmt: skip
    except ClickHouseError as error:
        raise WarehouseError(f"the tables of {database} could not be made: {error}", database=database) from None
    return [migration.version for migration in pending]


def _pending(migrations: list[Migration], applied: list[tuple[int, str]], database: str) -> list[Migration]:
    known = {migration.version: migration for migration in migrations}
    for version, checksum in applied:
        migration = known.get(version)
        if migration is None:
            raise WarehouseError(
                f"database {database} has schema version {version}, this program knows {len(migrations)}: update the program",
                database=database, version=version,
            )  # fmt: skip
        if migration.checksum != checksum:
            raise WarehouseError(
                f"migration {version:04d}_{migration.name}.sql was changed after it ran on {database}: restore the file, and put the"
                " change into a new migration",
                database=database, version=version,
            )  # fmt: skip
    done = {version for version, _ in applied}
    return [migration for migration in migrations if migration.version not in done]
