"""The page of results: complete, and always the one that the stored results make."""

import re
import subprocess

import pytest

from benchmarks.compare import compare, judged
from benchmarks.figure import Context, Figure, Plot, Result, Series, Spread, Target
from benchmarks.recall.page import PAGE, RESULT, section
from benchmarks.recall.planting import KINDS
from benchmarks.report import PAGE_NAME, page_lines, write_page
from benchmarks.results import FOLDER, ROOT, load, load_all, save
from benchmarks.tables import cell, number

FACTS = {
    "date": "2026-01-02T03:04:05+00:00", "scale": "full", "machine": {"cpu": "some", "cores": "2"}, "limits": {},
    "busy_before": 0.1, "command": "python -m benchmarks run speed", "commit": "0123456789", "dirty": False, "seconds": 3.0,
}  # fmt: skip


def measured(ctx: Context) -> Result:
    """Never called."""
    raise AssertionError(ctx)


def stored(folder, **changes):
    figure = Figure("speed", "Speed of things", measured, "M/s", "a slow thing", False, 1, "How it was measured.")
    result = Result(
        rows=[{"shape": "round", "symbols": 1000, "M/s": Spread((3.0, 2.0, 4.0)), "share": 0.5}],
        notes=["A note."],
        plots=[Plot("curve", "A curve", "symbols", "M/s", [Series("round", [1, 10], [4.0, 3.0], [3.5, 2.5], [4.5, 3.5])], log_x=True)],
        targets=[Target("≥ 2 M/s", "3 M/s", True), Target("≥ 9 M/s", "3 M/s", False, "memory is slower")],
        more={"By column": [{"column": "price", "B": 1.5}]},
        limit="the CPU",
    )
    return save(folder, figure, result, FACTS | changes)


def test_page_tells_numbers_with_spread_origin_and_targets(tmp_path):
    stored(tmp_path / "results")
    text = write_page(tmp_path / "results").read_text()
    assert "| round | 1,000 | 3 (2–4) | 0.50 |" in text
    assert "N = 3" in text
    assert "commit 0123456789" in text
    assert "`python -m benchmarks run speed`" in text
    assert "1 of 2 are reached" in text
    assert "| ≥ 9 M/s | 3 M/s | **missed** | memory is slower | [speed](#speed-of-things) |" in text
    assert "| price | 1.50 |" in text
    assert "(results/speed-curve.svg)" in text
    assert "other work" not in text
    assert "<svg" in (tmp_path / "results" / "speed-curve.svg").read_text()


def test_page_warns_of_smoke_runs_busy_machines_and_uncommitted_changes(tmp_path):
    stored(tmp_path / "results", scale="smoke", busy_before=3.2, dirty=True)
    text = write_page(tmp_path / "results").read_text()
    assert "the numbers mean nothing" in text
    assert "other work used 3.2 cores before the run" in text
    assert "uncommitted changes" in text


def test_same_results_draw_the_same_bytes(tmp_path):
    stored(tmp_path / "results")
    drawn = []
    for _ in range(2):
        write_page(tmp_path / "results")
        drawn.append((tmp_path / "results" / "speed-curve.svg").read_bytes())
    assert drawn[0] == drawn[1]


def test_the_page_in_the_repository_is_what_the_stored_results_make():
    lines = page_lines(load_all(FOLDER), FOLDER.name)
    assert (FOLDER.parent / PAGE_NAME).read_text(encoding="utf-8") == "\n".join(lines).rstrip() + "\n"


@pytest.mark.parametrize(
    ("before", "after", "better", "verdict"),
    [
        ([10, 11, 12], [5, 6, 7], "more", "SLOWER"),
        ([10, 11, 12], [10, 11, 12], "more", ""),
        ([10, 11, 30], [5, 11, 12], "more", ""),
        ([1, 1.1, 1.2], [2, 2.1, 2.2], "less", "SLOWER"),
        ([2, 2.1, 2.2], [1, 1.1, 1.2], "less", "faster"),
    ],
)
def test_comparison_judges_by_direction_and_spread(before, after, better, verdict):
    old, new = ([Spread.of([value], better) for value in values] for values in (before, after))
    assert judged(old, new, 0.10)["verdict"] == verdict


def test_numbers_have_three_digits_that_count():
    assert [number(value) for value in (1234.5, 123.4, 12.34, 1.234, 0.1234, 0.01234, 5.0)] == [
        "1,234", "123", "12.3", "1.23", "0.12", "0.012", "5",
    ]  # fmt: skip
    assert cell(Spread((1.0, 2.0, 4.0))) == "2 (1–4)"
    assert cell(12_345) == "12,345"


def test_two_revisions_are_measured_in_turns(capfd):
    if subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, check=False).returncode:
        pytest.skip("a source archive has no revisions")
    # a shared machine may call one of them slower: only that both were measured is judged
    assert compare("HEAD", "HEAD", ["machine"], rounds=1, threshold=0.10, smoke=True) in {0, 1}
    printed = capfd.readouterr().out
    assert "round 1 of 1, before" in printed
    assert "round 1 of 1, after" in printed
    assert "memory copy" in printed


def test_the_page_of_checks_has_the_stored_run_of_recall_and_names_what_it_lacks() -> None:
    content = load(RESULT)
    text = section(content)
    assert text in PAGE.read_text(encoding="utf-8"), "write it with `python -m benchmarks.recall`"
    assert f"commit {content['commit']}" in text
    assert [kind for kind in KINDS if f"`{kind}`" in text or f"| {kind} |" in text] == list(KINDS)
    kept = [row for row in content["rows"] if row["kind"] != "book_apart"]
    assert len(kept) == len(content["rows"]) - 1
    assert re.search("added since and are in none of these numbers: [^.]*`book_apart`", section(content | {"rows": kept}))
