"""Gaps repaired from history: what comes, what never comes twice, kills, and rows that are written meanwhile."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from clickhouse_connect.driver.client import Client

import l2_platform
from l2_platform.definitions import build_definitions
from l2_platform.errors import DateBusy, InputError, L2Error
from l2_platform.market.sessions import load_calendar
from l2_platform.monitoring.changed_dates import FOLDER, changed_dates, changes_of, forget
from l2_platform.monitoring.heartbeat import Heartbeat
from l2_platform.monitoring.leases import date_lease
from l2_platform.operations.close import StreamClose, close_date
from l2_platform.quality.ledger import load_versions
from l2_platform.quality.repair import STREAM, repair_date
from l2_platform.quality.repair_due import due_gaps
from l2_platform.replay.rebuild import RebuildRequest, rebuild_date
from l2_platform.resources.repairs import RepairsResource
from l2_platform.settings import CloseSettings
from tests.integration.homes import L2, Home
from tests.integration.repairs import CLOCK, NS, Market, repair_home
from tests.integration.stored import LIVE, warehouse
from tests.integration.vendors import Tick, history_of, leaves, vendor

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Home:
    return repair_home(tmp_path_factory.mktemp("home"), numba_cache)


@pytest.fixture(scope="module")
def shared(home: Home) -> Iterator[Client]:
    with warehouse(home.settings) as client:
        yield client


@pytest.fixture
def market(home: Home, shared: Client) -> Market:
    return Market(home.settings, shared)


def test_a_gap_gets_what_live_does_not_have_and_nothing_else(market: Market) -> None:
    market.put()
    with vendor(market.settings, history_of(market.ticks)) as asked:
        result = market.repair()
    assert (result.state, result.residual) == ("repaired", "quotes have no history")
    assert market.rows() == market.expected()
    assert result.rows_recovered == sum(map(len, market.lost.values())) == 240
    assert sorted(line.split(",")[1] for line in asked) == sorted(market.symbols)
    newest = market.versions()[-1]
    assert (newest.version, newest.repair_state, newest.repair_source, newest.rows_recovered) == (2, "repaired", "iqfeed-history HTT", 240)
    assert newest.evidence["reason"] == "reset"
    assert newest.evidence["repair"]["attempts"] == 1
    # the vendor's bytes are in the journal, also the lines that are no rows
    assert all(market.ticks[name][75].line().encode() in market.journal() for name in market.symbols)


def bars_of(ticks: list[Tick], length_s: int) -> list[tuple]:
    """(begin, open, high, low, close, volume, prints) by hand, from all that the vendor sent."""
    groups: dict[int, list[Tick]] = {}
    for tick in sorted(ticks, key=lambda one: one.ts):
        groups.setdefault(tick.ts // NS // length_s * length_s, []).append(tick)
    found = []
    for begin, group in sorted(groups.items()):
        prices = [Decimal(tick.price) for tick in group]
        found.append((begin, prices[0], max(prices), min(prices), prices[-1], sum(tick.size for tick in group), len(group)))
    return found


def test_bars_of_a_repaired_day_are_those_of_all_that_was_sent(market: Market) -> None:
    market.put()
    values = "toUnixTimestamp(ts_begin), open, high, low, close, volume, trade_count"
    with vendor(market.settings, history_of(market.ticks)):
        market.repair()
    assert market.date in changed_dates(market.settings.run_dir), "what was archived of the date is old now"
    for view, length_s in (("bars_1s", 1), ("bars_5s", 5), ("bars_1m", 60)):
        for name in market.symbols:
            stored = market.client.query(f"SELECT {values} FROM l2.{view} WHERE symbol = '{name}' ORDER BY 1").result_rows
            assert list(stored) == bars_of(market.ticks[name], length_s), (view, name)
            read = l2_platform.read(view, name, market.day, settings=market.settings)
            assert (len(read), read["volume"].sum()) == (len(stored), sum(tick.size for tick in market.ticks[name]))
            assert read["stream"].unique().to_list() == [LIVE]
    sql = f"SELECT open, close, volume, trade_count FROM l2.bars_daily WHERE symbol = '{market.symbols[0]}'"
    first, *_, last = ticks = market.ticks[market.symbols[0]]
    assert market.client.query(sql).result_rows == [
        (Decimal(first.price), Decimal(last.price), sum(tick.size for tick in ticks), len(ticks))
    ]  # fmt: skip


def test_repaired_twice_it_is_the_same(market: Market) -> None:
    market.put()
    with vendor(market.settings, history_of(market.ticks)):
        first = market.repair()
        again = market.repair()
    assert (first.state, again.state) == ("repaired", "repaired")
    assert first.rows_recovered == again.rows_recovered == 240
    assert market.rows() == market.expected()
    files = (market.settings.jsonl_dir / "history" / STREAM / str(market.date)).glob(f"{market.symbols[0]}_ticks*.jsonl")
    assert sum(path.read_bytes().count(b"\n") for path in files) == len(market.lost[market.symbols[0]])


def test_a_rebuild_makes_the_same_rows_from_the_journal_alone(market: Market) -> None:
    market.put()
    with vendor(market.settings, history_of(market.ticks)):
        market.repair()
    (result,) = rebuild_date(RebuildRequest(market.date, (STREAM,)), market.settings, CLOCK)
    assert result.outcome == "equal"
    assert market.rows() == market.expected()


def test_a_closed_date_that_is_repaired_further_is_closed_again_without_a_rebuild(home: Home, shared: Client) -> None:
    settings = home.settings.model_copy(update={"close": CloseSettings(wait_s=5, poll_s=0.05)})

    def closed(session_date: int) -> StreamClose:
        report = close_date(settings, CLOCK, session_date)
        assert report.closed
        return next(item for item in report.streams if item.stream == STREAM)

    lines = 0
    for market in (Market(home.settings, shared, days_ago=5), Market(home.settings, shared, days_ago=5)):
        market.put()
        with vendor(market.settings, history_of(market.ticks)):
            assert market.repair().state == "repaired"
        again = closed(market.date)
        assert (again.reason, again.lines > lines) == ("", True)
        lines = again.lines
    # what changes without a line more is found as before
    where = f"stream = '{STREAM}' AND session_date = '{market.day}'"
    shared.command(f"ALTER TABLE l2.trades UPDATE size = size + 1 WHERE {where} SETTINGS mutations_sync = 2")
    assert closed(market.date).reason == "trades changed since the date was closed"


def test_where_ids_are_others_only_what_lies_strictly_inside_comes(market: Market) -> None:
    market.put(shift=1_000_000)
    with vendor(market.settings, history_of(market.ticks)):
        result = market.repair()
    assert result.state == "partial"
    assert "TickIDs of 3 symbols do not count" in result.residual
    assert market.rows() == market.expected()
    assert market.versions()[-1].evidence["repair"]["final"] is True


def test_prints_that_history_misses_too_are_counted(market: Market) -> None:
    market.put()
    short = {name: [tick for tick in ticks if tick.ts // NS % 10 != 7] for name, ticks in market.ticks.items()}
    with vendor(market.settings, history_of(short)):
        result = market.repair()
    assert result.state == "partial"
    missing = sum(len(market.ticks[name]) - len(short[name]) for name in market.symbols)
    inside = sum(tick.ts // NS % 10 == 7 for ticks in market.lost.values() for tick in ticks)
    assert f"{inside} prints are missing by the TickIDs" in result.residual
    assert 0 < inside < missing


def test_depth_has_no_history(market: Market) -> None:
    market.put(stream="iqfeed-depth-0")
    result = market.repair()
    assert (result.state, result.rows_recovered) == ("impossible", 0)
    assert "depth has no history" in result.residual
    assert market.rows() == {name: [] for name in market.symbols}


def test_a_live_print_inside_the_gap_comes_once_although_its_ids_are_others(market: Market) -> None:
    market.put(shift=1_000_000)
    name = market.symbols[0]
    ended = market.lost[name][-1]
    # the line that ended the gap: its own time lies inside; half a millisecond from what history tells
    market.insert([(name, replace(ended, ts=ended.ts + 500_000))], shift=1_000_000, seq=9_000)
    with vendor(market.settings, history_of(market.ticks)):
        market.repair()
    assert market.rows() == {**market.expected(), name: market.expected()[name][:-1]}


def test_history_that_is_behind_is_asked_again_until_it_has_what_the_ids_tell(market: Market) -> None:
    market.put()
    with vendor(market.settings, history_of({})):
        result = market.repair()
    assert (result.state, result.rows_recovered) == ("partial", 0)
    # two ids of four prints a second at each of two centres: 80 of each symbol
    assert "240 prints are missing by the TickIDs" in result.residual
    assert market.versions()[-1].evidence["repair"]["final"] is False
    with vendor(market.settings, history_of(market.ticks)):
        again = market.repair()
    assert (again.state, again.rows_recovered, market.rows()) == ("repaired", 240, market.expected())


def test_ids_that_lay_in_a_later_gap_of_the_run_are_no_loss_of_the_first(market: Market) -> None:
    # nobody trades between the two gaps: up to its next live print the first one misses what the second one lost
    begin = market.gap[0]
    first, second = (begin, begin + 2 * NS), (begin + 18 * NS, begin + 20 * NS)
    for name, ticks in market.ticks.items():
        traded = [tick for tick in ticks if not first[1] < tick.ts < second[0]]
        market.ticks[name] = [replace(tick, tick_id=1 + place // 2) for place, tick in enumerate(traded)]
        market.lost[name] = [tick for tick in market.ticks[name] if first[0] < tick.ts < second[1]]
    named = market.gap_id
    market.gap = first
    market.put()
    market.gap_id, market.gap = f"{named}b", second
    market.put_gap()
    with vendor(market.settings, history_of(market.ticks)):
        results = repair_date(market.settings, market.date, CLOCK, gap_ids=[named, market.gap_id])
    assert [(result.gap_id, result.state) for result in results] == [(named, "repaired"), (market.gap_id, "repaired")]
    versions = load_versions(market.client, "l2", named)
    assert [gap.repair_state for gap in versions] == ["", "partial", "repaired"]
    # it is one attempt, which took as long as it took the first time
    assert [gap.evidence["repair"]["attempts"] for gap in versions[1:]] == [1, 1]
    assert versions[1].evidence["repair"]["seconds"] == versions[2].evidence["repair"]["seconds"] == results[0].seconds
    # nothing more was told of the second gap
    assert len(load_versions(market.client, "l2", market.gap_id)) == 2
    assert market.rows() == market.expected()


def test_ids_that_count_only_after_a_later_gap_was_filled_are_counted_then(market: Market) -> None:
    # the second gap is long: until it is filled most ids are missing, so that ids seem not to count prints
    name = market.symbols[0]
    market.symbols = (name,)
    ticks = [replace(tick, center=5, tick_id=1 + place) for place, tick in enumerate(market.ticks[name])]
    first, second = (market.start + 5 * NS - 1000, market.start + 6 * NS + 1000), (market.start + 12 * NS, market.start + 58 * NS)
    market.ticks = {name: ticks}
    market.lost = {name: [tick for tick in ticks if first[0] < tick.ts < first[1] or second[0] < tick.ts < second[1]]}
    market.gap = first
    market.put()
    named = market.gap_id
    market.gap_id, market.gap = f"{named}b", second
    market.put_gap()
    # history lacks a print of the first gap
    gone = next(tick for tick in market.lost[name] if tick.ts > first[0] + NS // 2)
    with vendor(market.settings, history_of({name: [tick for tick in ticks if tick != gone]})):
        results = repair_date(market.settings, market.date, CLOCK, gap_ids=[named, market.gap_id])
    assert [gap.repair_state for gap in load_versions(market.client, "l2", named)] == ["", "repaired", "partial"]
    assert [result.state for result in results] == ["partial", "repaired"]
    assert "1 prints are missing by the TickIDs" in results[0].residual


def test_a_silence_in_which_nothing_was_printed_is_believed_the_second_time(market: Market) -> None:
    for name in market.symbols:
        kept = [tick for tick in market.ticks[name] if tick not in market.lost[name]]
        market.ticks[name] = [replace(tick, tick_id=1 + number // 2) for number, tick in enumerate(kept)]
        market.lost[name] = []
    market.put()

    def due() -> list[str]:
        later = CLOCK.now_ns() + 61 * NS
        return [gap.gap_id for gap in due_gaps(market.client, market.settings, later) if gap.gap_id == market.gap_id]

    with vendor(market.settings, history_of({})):
        first = market.repair()
        assert (first.state, first.rows_recovered, due()) == ("nothing_to_repair", 0, [market.gap_id])
        second = market.repair()
    assert (second.state, second.rows_recovered, due()) == ("nothing_to_repair", 0, [])


def test_what_counters_prove_to_be_lost_is_never_nothing(market: Market) -> None:
    # no print of the symbols is stored at all: ids tell nothing
    market.put_gap(evidence='{"volume_missing":5000,"prints_missing":7}')
    with vendor(market.settings, history_of({})):
        result = market.repair()
    assert result.state == "partial"
    assert "the feed's counters prove 7 lost prints or more, history has 0" in result.residual
    with vendor(market.settings, history_of(market.ticks)):
        assert market.repair().state == "repaired"


@pytest.mark.parametrize(("rule", "missing"), [("per_symbol", 240), ("per_market_center", 0), ("none", 0)])
def test_ids_count_as_the_setting_says(market: Market, rule: str, missing: int) -> None:
    for place, name in enumerate(market.symbols):
        ticks = market.ticks[name]
        # one counter over four centres, of which each has a fourth of the ids
        changed = [replace(tick, center=5 + number % 4, tick_id=1 + number) for number, tick in enumerate(ticks)]
        assert place < 3
        market.ticks[name] = changed
        market.lost[name] = [tick for tick in changed if market.gap[0] < tick.ts < market.gap[1]]
    market.put()
    feed = market.settings.feed.model_copy(update={"tick_id_rule": rule})
    with vendor(market.settings, history_of({})):
        result = market.repair(market.settings.model_copy(update={"feed": feed}))
    assert (f"{missing} prints are missing" in result.residual) == bool(missing)
    assert result.state == ("partial" if missing else "nothing_to_repair")


def test_nothing_is_asked_for_while_rows_of_repairs_are_held(home: Home, shared: Client) -> None:
    market = Market(home.settings, shared, days_ago=2).put()
    with vendor(market.settings, history_of(market.ticks)):
        market.repair()
    before = market.journal()
    # as if the warehouse had refused some of them for what is in them
    name = market.symbols[0]
    which = f"stream = '{STREAM}' AND symbol = '{name}' AND tick_id % 2 = 0"
    market.client.command(f"ALTER TABLE l2.trades DELETE WHERE {which} SETTINGS mutations_sync = 1")
    with vendor(market.settings, history_of(market.ticks)) as asked:
        result = market.repair()
    assert result.state == "partial"
    assert "rows of repairs of the date are in the journal and not in the warehouse (`l2 quarantine`)" in result.residual
    assert (asked, market.journal()) == ([], before)


def test_one_symbol_that_fails_leaves_the_gap_partial(market: Market) -> None:
    market.put()
    good = history_of(market.ticks)

    def answer(client: socket.socket, line: str) -> None:
        if market.symbols[1] in line:
            leaves(client, line)
        else:
            good(client, line)

    with vendor(market.settings, answer):
        result = market.repair()
    assert (result.state, result.rows_recovered) == ("partial", 160)
    assert f"1 of 3 symbols got no answer ({market.symbols[1]}: " in result.residual
    with vendor(market.settings, good):
        assert market.repair().state == "repaired"
    assert market.rows() == market.expected()


# ── whose turn it is ──


def test_whose_turn_it_is(market: Market) -> None:
    def due() -> list[str]:
        return [gap.gap_id for gap in due_gaps(market.client, market.settings, CLOCK.now_ns()) if gap.gap_id.startswith(market.gap_id)]

    market.put(gap=False)
    market.put_gap(explanation="halt")
    assert due() == []
    with pytest.raises(InputError, match=r"is not to be repaired: it is explained \(halt\)"):
        market.repair()
    with pytest.raises(InputError, match="has no gap 'nope'"):
        repair_date(market.settings, market.date, CLOCK, gap_ids=["nope"])
    market.gap_id += "b"
    market.put_gap()
    assert due() == [market.gap_id]
    assert market.repair().state == "failed"
    # a failure waits, doubling, before it is its turn again
    assert due() == []
    assert due_gaps(market.client, market.settings, CLOCK.now_ns() + 61 * NS) != []
    with date_lease(market.settings.run_dir, STREAM, market.date, "rebuild"), pytest.raises(DateBusy):
        market.repair()


def test_the_job_repairs_and_its_check_judges_the_ledger(market: Market) -> None:
    # a date has a partition once something is recorded of it
    (market.settings.journal_dir / STREAM / str(market.date)).mkdir(parents=True, exist_ok=True)
    job = build_definitions(market.settings).resolve_job_def("repair_gaps")

    def run(instance: dg.DagsterInstance) -> tuple[dict[str, Any], dg.AssetCheckEvaluation]:
        config = {"ops": {"gap_repairs": {"config": {"gap_ids": [market.gap_id]}}}}
        done = job.execute_in_process(partition_key=str(market.day), run_config=config, instance=instance)
        assert done.success
        (made,) = done.asset_materializations_for_node("gap_repairs")
        (check,) = done.get_asset_check_evaluations()
        return {name: value.value for name, value in made.metadata.items()}, check

    market.put()
    with dg.DagsterInstance.ephemeral() as instance:
        told, check = run(instance)
        assert (told["gaps"], told["not_whole"], f"| {market.gap_id} |" in told["results"]) == (1, 1, True)
        assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
        assert f"{market.gap_id}: 1 of 1 symbols got no answer" in (check.description or "")
        with vendor(market.settings, history_of(market.ticks)):
            told, check = run(instance)
        assert (told["not_whole"], told["dagster/partition_row_count"]) == (0, 240)
        assert "data:image/png" in told["rows_by_gap"]
        assert market.gap_id not in (check.description or "")


def test_a_run_that_finds_every_gap_explained_has_nothing_to_do(home: Home, shared: Client) -> None:
    market = Market(home.settings, shared, days_ago=1)
    # after the last trading of its date; a date of its own
    night = load_calendar(home.settings.calendar_name).windows(market.date)[-1].end + NS
    market.gap = night, night + 20 * NS
    market.put_gap()
    (due,) = (gap for gap in due_gaps(shared, home.settings, CLOCK.now_ns()) if gap.session_date == market.day)
    assert due.gap_id == market.gap_id
    (market.settings.journal_dir / STREAM / str(market.date)).mkdir(parents=True, exist_ok=True)
    job = build_definitions(home.settings).resolve_job_def("repair_gaps")
    with dg.DagsterInstance.ephemeral() as instance:
        done = job.execute_in_process(partition_key=str(market.day), instance=instance)
        (made,) = done.asset_materializations_for_node("gap_repairs")
        (check,) = done.get_asset_check_evaluations()
    assert (made.metadata["gaps"].value, made.metadata["seconds"].value, check.passed) == (0, 0.0, True)
    assert market.versions()[-1].explanation == "closed"


def test_a_run_repairs_so_many_gaps_and_says_how_many_are_left(home: Home, shared: Client) -> None:
    market = Market(home.settings, shared, days_ago=3)
    few = home.settings.model_copy(update={"repair": home.settings.repair.model_copy(update={"gaps_max": 2})})
    names = [f"{market.gap_id}{letter}" for letter in "abc"]
    for place, name in enumerate(names):
        market.gap_id, market.gap = name, (market.start + (20 + place) * NS, market.start + 40 * NS)
        market.put_gap()
    with pytest.raises(InputError, match=r"^3 gaps of .* one run repairs 2; nothing was done.*L2_REPAIR__GAPS_MAX"):
        repair_date(few, market.date, CLOCK, gap_ids=names)
    assert len(market.versions()) == 1
    said: list[str] = []
    # nobody listens: each stays failed, and none is held up by those before it
    runs = [RepairsResource(settings=few).repair(market.date, [], True, said.append)[0] for _ in range(2)]
    assert [[result.gap_id for result in run] for run in runs] == [names[:2], [names[0], names[2]]]
    assert said == ["1 of 3 gaps are left for the next run: one repairs 2 (L2_REPAIR__GAPS_MAX)"] * 2
    said.clear()
    assert len(repair_date(few, market.date, CLOCK, gap_ids=[names[1], *names[1:]], said=said.append)) == 2
    assert said == []


def test_gaps_that_a_run_leaves_are_asked_for_at_once(home: Home, shared: Client) -> None:
    market = Market(home.settings, shared, days_ago=2)
    few = home.settings.model_copy(update={"repair": home.settings.repair.model_copy(update={"gaps_max": 2})})
    name = market.gap_id
    for place, letter in enumerate("abcd"):
        market.gap_id, market.gap = f"{name}{letter}", (market.start + (20 + place) * NS, market.start + 40 * NS)
        market.put_gap()
    # a date that was recorded, and a delivery
    (few.journal_dir / LIVE / str(market.date)).mkdir(parents=True)
    Heartbeat(few.run_dir / "heartbeats" / "deliver-clickhouse.json", "deliver-clickhouse", CLOCK).beat("live")
    definitions = build_definitions(few)
    sensor = definitions.resolve_sensor_def("repair_closed_gaps")

    def asked() -> list[str | None]:
        with dg.DagsterInstance.ephemeral() as instance:
            tick = sensor.evaluate_tick(dg.build_sensor_context(instance=instance, definitions=definitions))
        return [request.run_key for request in tick.run_requests or [] if request.partition_key == str(market.day)]

    first = asked()
    # the oldest two; the newest two stay as they are
    assert [result.gap_id for result in repair_date(few, market.date, CLOCK)] == [f"{name}a", f"{name}b"]
    second = asked()
    assert (len(first), len(second), first != second) == (1, 1, True), "Dagster drops a key that it had"


def test_the_command_says_how_many_gaps_are_left_and_refuses_too_many(home: Home, shared: Client) -> None:
    market = Market(home.settings, shared, days_ago=4)
    few = Home(home.path, home.numba_cache, {**home.variables, "L2_REPAIR__GAPS_MAX": "1"}, home.base)
    other = Market(home.settings, shared, days_ago=6)
    other.put_gap()
    names = [f"{market.gap_id}{letter}" for letter in "ab"]
    for name in names:
        market.gap_id = name
        market.put_gap()
    refused = few.run("gaps", "repair", other.gap_id, *names)
    assert (refused.returncode, "one run repairs 1; nothing was done" in refused.stderr) == (2, True)
    assert len(other.versions()) == 1, "a gap of another date, named first"
    told = [
        few.run("gaps", "repair", "--dry-run", "--json", *which) for which in ([other.gap_id, *names], ["--date", str(market.day)])
    ]  # fmt: skip
    assert [(one.returncode, len(json.loads(one.stdout)), "left" in one.stderr) for one in told] == [(0, 3, False), (0, 2, False)]
    assert len(market.versions()) == 1
    assert "1 of 2 gaps are left for the next run" in few.run("gaps", "repair", "--date", str(market.day)).stderr


def test_a_dry_run_tells_and_changes_nothing(market: Market) -> None:
    market.put()
    (told,) = repair_date(market.settings, market.date, CLOCK, gap_ids=[market.gap_id], dry_run=True)
    assert told.message.startswith("HTT of 3 symbols from ")
    assert len(market.versions()) == 1


# ── kills, and rows that arrive meanwhile ──


def slow(ticks: dict[str, list[Tick]], wait_s: float) -> Any:
    good = history_of(ticks)

    def answer(client: socket.socket, line: str) -> None:
        if not line.startswith("S,"):
            time.sleep(wait_s)
        good(client, line)

    return answer


@contextmanager
def repairing(home: Home, market: Market) -> Iterator[int]:
    process = home.start(str(L2), "gaps", "repair", market.gap_id, "--date", str(market.day), log="repair")
    try:
        yield process.pid
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("place", ["first-reply", "journaled", "any"])
def test_killed_and_made_again_it_is_the_same(home: Home, market: Market, place: str) -> None:
    market.put()
    with vendor(market.settings, slow(market.ticks, 0.4)) as asked, repairing(home, market):
        folder, deadline = market.settings.run_dir / "repair", time.monotonic() + 60
        reached = {
            "first-reply": lambda: bool(list(folder.rglob("*.reply"))),
            "journaled": lambda: market.gap_id.encode() in market.journal(),
            "any": lambda: len(asked) > 2,
        }[place]
        while not reached():
            assert time.monotonic() < deadline
            time.sleep(0.005)
    # an archive was written between the kill and the rows
    forget(changes_of(market.settings.run_dir, market.date))
    with vendor(market.settings, history_of(market.ticks)) as again:
        result = market.repair()
    assert (result.state, result.rows_recovered, market.rows()) == ("repaired", 240, market.expected())
    assert market.date in changed_dates(market.settings.run_dir), "the archive has none of the rows"
    assert len(again) < len(market.symbols) or place == "any"


def test_rows_do_not_come_before_they_are_noted(market: Market) -> None:
    def end(*_: object) -> None:
        raise KeyboardInterrupt

    # ended when a reply is in the journal and no sink has it
    with vendor(market.put().settings, history_of(market.ticks)), pytest.raises(KeyboardInterrupt):
        repair_date(market.settings, market.date, CLOCK, gap_ids=[market.gap_id], progress=end)
    assert market.gap_id.encode() in market.journal()
    folder = market.settings.run_dir / FOLDER
    aside = folder.rename(folder.with_name("aside"))
    folder.touch()
    try:
        with pytest.raises(L2Error, match="so nothing was changed"):
            market.repair()
    finally:
        folder.unlink()
        aside.rename(folder)
    assert set(map(len, market.rows().values())) == {0}


def test_live_rows_of_the_same_symbols_are_written_meanwhile(home: Home, market: Market) -> None:
    market.put()
    ended = threading.Event()
    written = [0]

    def write() -> None:
        with warehouse(market.settings) as client:
            mine = Market.__new__(Market)
            mine.client, mine.day, mine.start = client, market.day, market.start
            while not ended.is_set():
                at = market.start + 70 * NS + written[0] * 1_000_000
                rows = [(name, Tick(at, 5, 10_000 + written[0])) for name in market.symbols]
                Market.insert(mine, rows, seq=100_000 + 10 * written[0])
                written[0] += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with vendor(market.settings, slow(market.ticks, 0.1)):
            result = market.repair()
            before = written[0]
    finally:
        ended.set()
        writer.join()
    assert (result.state, market.rows()) == ("repaired", market.expected())
    assert before > 1
    live = market.rows("live")
    assert all(len(set(rows)) == len(rows) == 160 + written[0] for rows in live.values())
