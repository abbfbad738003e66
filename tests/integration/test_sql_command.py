"""`l2 sql` in a fresh home: formats, files, parameters, and one-line errors."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from l2_platform.settings import load_settings
from l2_platform.warehouse.start import read_record, record_path

pytestmark = pytest.mark.integration
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    home = tmp_path_factory.mktemp("home")
    environment = {**os.environ, "L2_HOME": str(home), "L2_WAREHOUSE__IDLE_EXIT_S": "60"}

    def command(*arguments: str, text: str = "") -> "subprocess.CompletedProcess[str]":
        line = [sys.executable, "-c", "from l2_platform.cli import main; main()", "sql", *arguments]
        return subprocess.run(line, env=environment, input=text, capture_output=True, text=True, timeout=120, check=False)

    yield command
    record = read_record(record_path(load_settings(home=home)))
    if record is not None:
        psutil.Process(record.pid).terminate()


def test_answers_are_exact_in_every_format(run: Run, tmp_path: Path) -> None:
    query = "SELECT toDecimal64('0.123456789', 9) AS d, toDateTime64('2025-07-25 13:30:00.123456789', 9, 'UTC') AS t, {n:UInt64} AS n"
    n = "9007199254740993"
    assert run(query, "-p", f"n={n}").stdout == f'"d","t","n"\n0.123456789,"2025-07-25 13:30:00.123456789",{n}\n'
    rows = json.loads(run(query, "-p", f"n={n}", "--format", "json").stdout)
    assert rows == [{"d": "0.123456789", "t": "2025-07-25 13:30:00.123456789", "n": int(n)}]
    target = tmp_path / "x.parquet"
    assert run("-", "--out", str(target), text="SELECT * FROM trades").returncode == 0
    table = pq.read_table(target)
    assert (table.num_rows, "price" in table.column_names) == (0, True)


def test_errors_are_one_line(run: Run) -> None:
    for query, words in (
        ("SELCT 1", "Syntax error: failed at position 1"), ("SELECT * FROM nope", "Tables: audit_runs, bar_prints, bars_1m, bars_1s, "),
        ("DROP TABLE trades", "--write"), ("SELECT x FROM trades", "`x`"), ("", "empty"),
    ):  # fmt: skip
        done = run(query)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
