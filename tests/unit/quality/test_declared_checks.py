"""The declarations of the checks: complete, known to the settings, and in the documentation as they are."""

import re
from pathlib import Path

import pytest

from l2_platform.quality.checks import CHECKS
from l2_platform.quality.checks.rule import Check
from l2_platform.quality.declared import table_of_checks
from l2_platform.quality.execution import ranges_of
from l2_platform.settings import QualitySettings

ROOT = Path(__file__).resolve().parents[3]


def test_names_are_given_once() -> None:
    names = [check.name for check in CHECKS]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in names)


@pytest.mark.parametrize("check", CHECKS, ids=[check.name for check in CHECKS])
def test_a_check_says_what_it_is(check: Check) -> None:
    assert check.meaning.endswith(".")
    assert check.provenance
    assert set(check.thresholds) <= set(QualitySettings.model_fields)
    used = {
        name
        for statement in check.statements
        for name in re.findall(r"\{(\w+):(?:Float64|UInt8|Int64|UInt64)\}", statement.sql)
    }
    limits = {
        name for statement in check.statements for name in (statement.warn, statement.error, statement.span) if name
    }
    assert (used | limits) & set(QualitySettings.model_fields) <= {*check.thresholds, "episode_s"}, (
        "every setting it uses is declared"
    )


def test_the_documentation_holds_the_declarations() -> None:
    """`python -c "from l2_platform.quality.declared import table_of_checks; print(table_of_checks())"` makes the table."""
    assert table_of_checks() in (ROOT / "docs" / "quality.md").read_text(encoding="utf-8")


def test_ranges_of_symbols_hold_so_many_rows_each() -> None:
    counts = [("A", 5), ("B", 5), ("C", 1), ("D", 30), ("E", 2)]
    assert ranges_of(counts, 10) == [("A", "B"), ("C", "C"), ("D", "D"), ("E", "E")]
    assert ranges_of(counts, 1000) == [("A", "E")]
    assert ranges_of([], 10) == []
