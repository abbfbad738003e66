"""What a person sees."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from l2_platform.cli import output


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1400, "1.4 KB"), (2 << 30, "2.1 GB"), (5e15, "5000.0 TB")]
)
def test_sizes_for_people(size, text):
    assert output.text_from_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.85, "850 ms"), (12, "12 s"), (180, "3 min"), (15_120, "4.2 h"), (259_200, "3.0 d")]
)
def test_durations_for_people(seconds, text):
    assert output.text_from_seconds(seconds) == text


def test_json_writes_times_decimals_and_paths(capsys):
    output.print_json(
        {"at": datetime(2025, 1, 2, tzinfo=UTC), "day": date(2025, 1, 2), "px": Decimal("1.50"), "file": Path("a")}
    )
    assert json.loads(capsys.readouterr().out) == {
        "at": "2025-01-02T00:00:00+00:00",
        "day": "2025-01-02",
        "px": "1.50",
        "file": "a",
    }


def test_json_refuses_what_it_does_not_know():
    with pytest.raises(TypeError, match="no JSON form"):
        output.print_json(object())


def test_table_in_a_pipe_is_tab_separated(capsys):
    output.table("t", ["a", "b"], [[1, None], [["x", "y"], 2]])
    assert capsys.readouterr().out == "a\tb\n1\t\nx, y\t2\n"


def test_records_say_when_there_is_nothing(capsys):
    output.records([], as_json=False, empty="none")
    output.records([], as_json=True)
    assert capsys.readouterr().out == "none\n[]\n"
