"""What the collector is told, from the files as they are now."""

import os

import pytest

from l2_platform.collectors.intent import Intent, IntentWatch
from l2_platform.monitoring.desired import DesiredState, write_desired
from l2_platform.monitoring.symbol_versions import versions_between
from l2_platform.monitoring.symbols_file import (
    SymbolGroup,
    SymbolsFile,
    edit_symbols,
    format_symbols,
    parse_symbols,
    with_added,
    write_symbols,
)
from l2_platform.settings import Settings

STREAM = "iqfeed-depth-0"


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Settings(home=tmp_path)


def desire(settings: Settings, generation: int, *symbols: str, enabled: bool = True) -> None:
    path = settings.run_dir / "desired" / f"collector-{STREAM}.json"
    state = DesiredState(
        f"collector-{STREAM}", generation, enabled, (STREAM,), symbols, ((20260105, 10),), "always_open"
    )
    write_desired(path, state)


def test_without_files_the_simulated_market_is_recorded_whole(settings):
    watch = IntentWatch(settings, STREAM)
    intent = watch.poll()
    assert intent is not None
    assert (intent.enabled, len(intent.symbols), intent.generation) == (True, settings.simulator.symbols, 1)
    assert watch.poll() is None


def test_without_files_a_real_feed_has_a_problem(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    watch = IntentWatch(Settings(home=tmp_path, feed={"kind": "iqfeed"}), STREAM)
    assert watch.poll() is None
    assert "does not exist" in watch.problem


def test_desired_state_counts_and_is_followed(settings):
    watch = IntentWatch(settings, STREAM)
    desire(settings, 3, "A", "B")
    assert watch.poll() == Intent(True, ("A", "B"), 3, ((20260105, 10),))
    desire(settings, 4, "A", enabled=False)
    assert watch.poll() == Intent(False, ("A",), 4, ((20260105, 10),))


def test_symbols_file_edited_after_the_desired_state_counts_at_once(settings):
    write_symbols(settings.symbols_file, SymbolsFile(1, (SymbolGroup("g", ("A",)),)))
    os.utime(settings.symbols_file, ns=(1, 1))
    watch = IntentWatch(settings, STREAM)
    desire(settings, 3, "A")
    intent = watch.poll()
    assert intent is not None
    assert intent.symbols == ("A",)
    edit_symbols(settings.symbols_file, lambda file: with_added(file, "g", ["B"]))
    assert watch.poll() == Intent(True, ("A", "B"), 3, ((20260105, 10),))


def test_a_version_that_a_person_wrote_is_kept_when_it_is_taken_over(settings):
    path = settings.symbols_file
    for name in ("A", "B", "C"):
        path.write_text(format_symbols(SymbolsFile(1, (SymbolGroup("g", (name,)),))), encoding="utf-8")
        assert IntentWatch(settings, STREAM).poll().symbols == (name,)
    kept = [parse_symbols(text, "x").symbols for _, text in versions_between(path, 0, path.stat().st_mtime_ns)]
    assert kept == [("A",), ("B",)]


def test_unusable_file_keeps_the_last_intent_and_tells_why(settings):
    write_symbols(settings.symbols_file, SymbolsFile(1, (SymbolGroup("g", ("A",)),)))
    watch = IntentWatch(settings, STREAM)
    assert watch.poll() is not None
    settings.symbols_file.write_text("[groups", encoding="utf-8")
    assert watch.poll() is None
    assert str(settings.symbols_file) in watch.problem
    write_symbols(settings.symbols_file, SymbolsFile(2, (SymbolGroup("g", ("C",)),)))
    intent = watch.poll()
    assert intent is not None
    assert (intent.symbols, watch.problem) == (("C",), "")
