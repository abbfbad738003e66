"""The command line of the benchmarks."""

import pytest

from benchmarks.__main__ import parse

OPTIONS = ["--smoke", "--no-save", "--long", "--out", "there", "--set", "passes=1"]


@pytest.mark.parametrize("front", [0, 3, len(OPTIONS)], ids=["behind", "around", "in_front"])
def test_options_count_wherever_they_stand(front: int) -> None:
    found = parse([*OPTIONS[:front], "run", "book", *OPTIONS[front:]])
    assert (found.smoke, found.no_save, found.long, str(found.out), found.set) == (True, True, True, "there", ["passes=1"])
    assert found.names == ["book"]


def test_options_are_off_when_nobody_says_them() -> None:
    for words in ([], ["run"]):
        found = parse(words)
        assert (found.smoke, found.no_save, found.long, found.out, found.set, found.limits) == (False, False, False, None, [], {})


def test_options_of_figures_in_front_and_behind_are_all_kept() -> None:
    assert parse(["--set", "a=1", "run", "book", "--set", "b=2"]).set == ["a=1", "b=2"]
