"""Imports point down, and what must stay small stays small."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_import_contracts_hold():
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_collector_process_loads_no_heavy_module():
    heavy = {
        "numpy",
        "numba",
        "pandas",
        "polars",
        "pyarrow",
        "structlog",
        "rich",
        "typer",
        "dagster",
        "clickhouse_connect",
    }
    code = f"import sys, l2_platform.collectors.__main__; print(sorted({heavy!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_of_the_command_line_loads_no_heavy_module():
    heavy = {"numpy", "numba", "pandas", "polars", "pyarrow", "dagster", "clickhouse_connect", "chdb", "structlog"}
    code = f"import sys, l2_platform.cli; print(sorted({heavy!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_definitions_load_without_great_expectations():
    code = "import sys, l2_platform.definitions; print('great_expectations' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
