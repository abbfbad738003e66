"""Desired states: derived, versioned, written by many at once without losing a word."""

import json
import subprocess
import sys
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from l2_platform.errors import L2Error
from l2_platform.market.sessions import load_calendar
from l2_platform.monitoring import desired as desired_module
from l2_platform.monitoring.desired import edit_desired, read_desired
from l2_platform.monitoring.symbols_file import SymbolGroup, SymbolsFile, edit_symbols, with_added, write_symbols
from l2_platform.operations.intents import (
    SESSIONS_AHEAD,
    SESSIONS_LEFT,
    desired_path,
    forget_stops_of_services,
    is_recording_now,
    read_intents,
    refresh_intents,
    session_table,
    set_enabled,
)  # fmt: skip
from l2_platform.settings import Settings

S = 10**9
NOW = 1_790_000_000 * S
DEPTH, JSONL = "collector-iqfeed-depth-0", "deliver-jsonl"


@pytest.fixture
def settings(tmp_path):
    made = Settings(home=tmp_path)
    write_symbols(made.symbols_file, SymbolsFile(1, (SymbolGroup("demo", ("A", "B")),)))
    return made


def test_first_refresh_writes_one_for_each_collector_and_delivery(settings):
    states = refresh_intents(settings, NOW).states
    assert set(states) == {DEPTH, "collector-iqfeed-level1-0", "collector-iqfeed-admin-0", "deliver-clickhouse", JSONL}
    assert states[DEPTH].symbols == ("A", "B")
    assert states["collector-iqfeed-admin-0"].symbols == ()
    assert len(states[DEPTH].sessions) == SESSIONS_AHEAD
    assert len(states[DEPTH].recording) == 1
    assert all(state.generation == 1 and state.enabled for state in states.values())
    assert read_intents(settings).states == states


def test_refresh_without_a_change_writes_nothing_for_weeks(settings):
    first = refresh_intents(settings, NOW).states
    stamps = {name: desired_path(settings, name).stat().st_mtime_ns for name in first}
    for day in range(SESSIONS_AHEAD - SESSIONS_LEFT):
        assert refresh_intents(settings, NOW + day * 86_400 * S).states == first
    assert stamps == {name: desired_path(settings, name).stat().st_mtime_ns for name in first}
    later = refresh_intents(settings, NOW + SESSIONS_AHEAD * 86_400 * S).states
    assert later[DEPTH].generation == 2
    assert later[JSONL].generation == 1


def test_changed_symbols_raise_the_generation_a_touched_file_does_not(settings):
    refresh_intents(settings, NOW)
    edit_symbols(settings.symbols_file, lambda file: with_added(file, "demo", ["C"]))
    state = refresh_intents(settings, NOW).states[DEPTH]
    assert (state.generation, state.symbols) == (2, ("A", "B", "C"))
    settings.symbols_file.touch()
    again = refresh_intents(settings, NOW).states[DEPTH]
    assert again.generation == 2
    assert again.symbols_mtime_ns == settings.symbols_file.stat().st_mtime_ns


def test_an_operators_stop_outlives_every_refresh(settings):
    refresh_intents(settings, NOW)
    assert set_enabled(settings, DEPTH, enabled=False, now_ns=NOW).generation == 2
    edit_symbols(settings.symbols_file, lambda file: with_added(file, "demo", ["C"]))
    state = refresh_intents(settings, NOW).states[DEPTH]
    assert (state.enabled, state.generation, state.symbols) == (False, 3, ("A", "B", "C"))
    assert not is_recording_now(state, NOW)


def test_stop_of_a_service_ends_with_the_next_up_of_a_delivery_does_not(settings):
    for worker in ("sealer", JSONL):
        set_enabled(settings, worker, enabled=False, now_ns=NOW)
    forget_stops_of_services(settings)
    states = refresh_intents(settings, NOW).states
    assert "sealer" not in states
    assert not states[JSONL].enabled


def test_broken_symbols_file_keeps_what_was_and_is_told_and_a_stop_still_counts(settings):
    before = refresh_intents(settings, NOW).states
    settings.symbols_file.write_text("[groups", encoding="utf-8")
    found = refresh_intents(settings, NOW)
    assert found.states == before
    assert str(settings.symbols_file) in found.problems[DEPTH]
    assert JSONL not in found.problems
    assert set_enabled(settings, DEPTH, enabled=False, now_ns=NOW).symbols == ("A", "B")


def test_broken_desired_state_is_told_and_the_others_go_on(settings):
    refresh_intents(settings, NOW)
    desired_path(settings, DEPTH).write_text("{")
    found = refresh_intents(settings, NOW)
    assert set(found.problems) == {DEPTH}
    assert JSONL in found.states


def test_recording_follows_the_calendar_of_a_real_feed(tmp_path):
    settings = Settings(home=tmp_path, feed={"kind": "iqfeed"})
    write_symbols(settings.symbols_file, SymbolsFile(1, (SymbolGroup("demo", ("A",)),)))

    def at(text):
        return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("America/New_York")).timestamp()) * S

    state = refresh_intents(settings, at("2025-07-25T12:00")).states[DEPTH]
    assert state.calendar == "XNYS"
    for instant, recording in (("2025-07-25T03:30", True), ("2025-07-25T20:10", False), ("2025-07-26T12:00", False)):
        assert is_recording_now(state, at(instant)) is recording


def test_session_table_is_made_anew_when_the_calendar_says_something_else():
    calendar, other = load_calendar("XNYS", 900.0), load_calendar("XNYS", 600.0)
    now = 1_753_444_800 * S
    table = session_table(calendar, now)
    assert session_table(calendar, now + 86_400 * S, table) == table
    assert session_table(other, now, table) != table


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from l2_platform.monitoring.desired import DesiredState, edit_desired
path, mine = Path(sys.argv[1]), sys.argv[2]
for number in range(50):
    edit_desired(path, lambda now: replace(now, symbols=(*now.symbols, f"{mine}{number}")) if now else DesiredState("w", 1, True))
"""


def test_writers_at_the_same_time_lose_nothing(tmp_path):
    path = tmp_path / "desired" / "w.json"
    edit_desired(path, lambda _: desired_module.DesiredState("w", 1, True))
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in "ABC"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    found = read_desired(path)
    assert sorted(found.symbols) == sorted(f"{name}{number}" for name in "ABC" for number in range(50))
    assert found.generation == 151


def test_writer_that_keeps_the_lock_is_named_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(desired_module, "LOCK_TRIES", 2)
    path = tmp_path / "desired" / "w.json"

    def inner(_now):
        with pytest.raises(L2Error, match="another process holds it"):
            edit_desired(path, lambda now: now)
        return

    assert edit_desired(path, inner) is None


def test_files_of_earlier_versions_are_read(tmp_path):
    path = tmp_path / "w.json"
    old = {"worker": "w", "generation": 4, "enabled": True, "streams": [], "symbols": [], "sessions": [], "calendar": "XNYS"}
    path.write_text(json.dumps(old))
    found = read_desired(path)
    assert (found.generation, found.recording, found.symbols_mtime_ns) == (4, (), 0)
