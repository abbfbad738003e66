import re
from pathlib import Path

import pytest

from l2_platform.errors import WarehouseError
from l2_platform.warehouse.schema import _pending, load_migrations


def test_every_statement_may_run_twice() -> None:
    for migration in load_migrations():
        for statement in migration.statements("l2"):
            assert re.search(r"IF NOT EXISTS|CREATE OR REPLACE VIEW| MODIFY SETTING | MODIFY COLUMN \w+ CODEC| COMMENT COLUMN ", statement)
            assert "{" not in statement.replace("{}", "")


def test_numbers_without_holes(tmp_path: Path) -> None:
    (tmp_path / "0002_more.sql").write_text("SELECT 1;\n")
    with pytest.raises(WarehouseError, match="without holes"):
        load_migrations(tmp_path)


def test_changed_and_newer_schemas_are_refused() -> None:
    known = load_migrations()
    applied = [(migration.version, migration.checksum) for migration in known]
    assert _pending(known, applied, "l2") == []
    with pytest.raises(WarehouseError, match="was changed"):
        _pending(known, [(1, "0" * 64)], "l2")
    with pytest.raises(WarehouseError, match="update the program"):
        _pending(known, [*applied, (len(known) + 1, "x")], "l2")
