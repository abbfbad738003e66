"""A stored day over real sockets: who gets which lines, when, and what a late, slow or demanding client sees."""

import json
import time
from pathlib import Path

import pytest

from l2_platform.cli import run
from l2_platform.clock import SystemClock
from l2_platform.feeds.iqfeed.simulator.control import ask
from l2_platform.feeds.iqfeed.simulator.loop import Simulator
from l2_platform.replay.digest import digest_of
from l2_platform.replay.lines import Part
from l2_platform.replay.pace import AS_FAST_AS_POSSIBLE
from l2_platform.replay.player import DayPlayer, Wish
from l2_platform.replay.serving import Order, prepare
from tests.integration.stored_days import (
    ACK,
    DATE,
    DEPTH,
    FIELDS,
    LEVEL1,
    TALK,
    Serving,
    depth_day,
    level1_day,
    lines_of,
    order,
    settings_in,
    write_stream,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

BOOKS = b"3456"


@pytest.fixture
def day(tmp_path: Path, numba_cache):
    settings = settings_in(tmp_path)
    write_stream(settings, DEPTH, depth_day())
    write_stream(settings, LEVEL1, level1_day())
    return settings


def select() -> str:
    return "S,SELECT UPDATE FIELDS," + ",".join(FIELDS)


def test_each_client_gets_its_own_symbols_and_the_digest_is_the_stored_one(day):
    depth, level1 = depth_day(), level1_day()
    with Serving(day, Order(DATE, speed=20.0, clients=4)) as serving:
        every = serving.client("depth", "WOR,AAA", "WOR,BBB")
        one = serving.client("depth", "WOR,BBB", "WOR,NOPE")
        quotes = serving.client("level1", select(), "wAAA", "wBBB")
        trades = serving.client("level1", select(), "tBBB")
        outcome = serving.end()
        for client in (every, one, quotes, trades):
            client.finish()
    assert (outcome.complete, outcome.why, outcome.cut, outcome.clients) == (True, "end", 0, 4)
    assert every.of(BOOKS) == lines_of(depth, b"3")
    assert one.of(BOOKS) == lines_of(depth, b"3,BBB")
    assert b"n,NOPE\r\n" in one.lines()
    assert quotes.of(b"QF") == [*lines_of(level1, b"F"), *lines_of(level1, b"Q")]
    assert trades.of(b"Q") == [line for line in lines_of(level1, b"Q,BBB") if b"Cba" in line]
    # the recorded link's own talk is not said again: these are the server's
    for client in (every, quotes):
        assert [line for line in client.lines() if line.startswith(b"S,KEY")] == [b"S,KEY,12345\r\n"]
        assert sum(line.startswith(b"S,CURRENT PROTOCOL") for line in client.lines()) == 1
    assert [line for line in every.of(b"T") if line in lines_of(depth, b"T")] == lines_of(depth, b"T")
    for stream, steps in ((DEPTH, depth), (LEVEL1, level1)):
        found, damage = digest_of(day, Part(stream, DATE))
        told = outcome.digests[stream]
        assert (told["sha256"], told["lines"], damage) == (found.text(), found.lines, [])
        assert told["lines"] == len(lines_of(steps, b"3") + lines_of(steps, b"Q") + lines_of(steps, b"F"))


def test_fields_that_a_client_did_not_record_come_empty(day):
    with Serving(day, Order(DATE, (LEVEL1,), speed=AS_FAST_AS_POSSIBLE)) as serving:
        client = serving.client("level1", "S,SELECT UPDATE FIELDS,Ask,VWAP,Bid", "wAAA")
        serving.end()
        lines = client.finish().of(b"Q")
    assert b"S,CURRENT UPDATE FIELDNAMES,Symbol,Ask,VWAP,Bid,\r\n" in client.lines()
    first = lines_of(level1_day(), b"Q,AAA")[0].split(b",")
    assert lines[0] == b"Q,AAA," + first[4] + b",," + first[3] + b",\r\n"
    assert len(lines) == 100


def test_late_client_gets_what_is_known_then_what_follows(day):
    with Serving(day, Order(DATE, paused=True)) as serving:
        early = serving.client("depth", "WOR,AAA")
        serving.ask("resume")
        early.until("half of the day", lambda: len(early.of(b"3")) > 60)
        late = serving.client("depth", "WOR,AAA")
        quotes = serving.client("level1", select(), "wBBB")
        serving.end()
        late.finish()
        quotes.finish()
    known, after = late.of(b"6"), late.of(b"3")
    stored = lines_of(depth_day(), b"3,AAA")
    assert len(known) > 50
    assert sorted([b"3" + line[1:] for line in known] + after) == sorted(stored)
    assert after == stored[-len(after) :]
    # F and P of what is known, then only newer lines
    assert quotes.of(b"FP")[0] == b"F,BBB,fundamental,\r\n"
    summary = quotes.of(b"P")[0]
    following = quotes.of(b"Q")
    everything = lines_of(level1_day(), b"Q,BBB")
    assert b"Q" + summary[1:] == everything[-len(following) - 1]
    assert following == everything[-len(following) :]


def test_pause_speed_seek_and_stop_over_the_control_port(day):
    with Serving(day, Order(DATE, (DEPTH,), paused=True)) as serving:
        client = serving.client("depth", "WOR,AAA", "WOR,BBB")
        client.until("the watches", lambda: serving.ask("status")["watched"]["level2"] == 2)
        assert serving.ask("status")["state"] == "waiting"
        time.sleep(1.2)
        # a sign of life while nothing is played, and no line
        assert client.of(b"T")
        assert client.of(BOOKS) == []
        assert serving.ask("seek", to="10:00:02")["state"] == "seeking"
        client.until("the books of that time", lambda: client.of(b"6"))
        assert serving.ask("resume")["state"] == "playing"
        client.until("more", lambda: len(client.of(b"3")) > 10)
        assert serving.ask("pause")["state"] == "paused"
        held = len(client.data)
        stands = serving.ask("status")["market_ns"]
        time.sleep(0.3)
        assert serving.ask("status")["market_ns"] == stands
        assert len(client.of(b"3")) * 40 <= len(client.data)
        serving.ask("seek", to="10:00:01.000")
        client.until("the books of the time before", lambda: len(client.data) > held and serving.ask("status")["state"] == "paused")
        assert serving.ask("speed", speed="max")["speed"] == "max"
        for wrong, words in (
            ({"cmd": "speed", "speed": "-1"}, "`max` or a number"), ({"cmd": "seek", "to": "23:00:00"}, "nothing is recorded then"),
            ({"cmd": "seek"}, "to is missing"), ({"cmd": "rate", "rate": 5}, "recorded lines are played"),
        ):  # fmt: skip
            answer = ask(day.ports.simulator_control, wrong)
            assert not answer["ok"]
            assert words in answer["error"]
        serving.ask("resume")
        outcome = serving.end()
        client.finish()
    assert outcome.complete
    assert outcome.record["jumped"]
    # the last word on each order is the day's: from CLEAR DEPTH of the last seek on, bursts and lines make the whole book
    lines = client.lines()
    cleared = max(i for i, line in enumerate(lines) if line == b"S,CLEAR DEPTH,AAA,B,\r\n")
    tail = [line for line in lines[cleared:] if line[:2] in {b"3,", b"6,"}]
    assert sorted(b"3" + line[1:] for line in tail) == sorted(lines_of(depth_day(), b"3"))


def test_loop_sends_the_same_bytes_again_until_it_is_stopped(day):
    stored = lines_of(depth_day(), b"3")
    with Serving(day, Order(DATE, (DEPTH,), speed=100.0, loop=True)) as serving:
        client = serving.client("depth", "WOR,AAA", "WOR,BBB")
        client.until("a third round", lambda: len(client.of(b"3")) > 2 * len(stored))
        assert serving.ask("status")["rounds"] >= 2
        assert serving.ask("status")["state"] == "playing"
        serving.ask("stop")
        outcome = serving.end()
        client.finish()
    assert (outcome.complete, outcome.why, outcome.record["jumped"]) == (True, "the command stop", False)
    lines = client.lines()
    begins = [at for at, line in enumerate(lines) if line == b"S,CLEAR DEPTH,AAA,B,\r\n"]
    # `stop` comes at any time: in the middle of a round, or when one was counted and the next had not begun
    played = outcome.record["rounds"]
    assert len(begins) in {played, played - 1}
    assert len(begins) >= 1
    sent = [[line for line in lines[begin:end] if line.startswith(b"3")] for begin, end in zip([0, *begins], [*begins, None], strict=True)]
    assert sent[:played] == [stored] * played
    assert sent[played:] in ([], [stored[: len(sent[-1])]])
    assert not client.of(b"6")
    found, _ = digest_of(day, Part(DEPTH, DATE))
    assert (outcome.digests[DEPTH]["sha256"], outcome.digests[DEPTH]["lines"]) == (found.text(), len(stored))
    assert outcome.record["lines"] >= outcome.record["rounds"] * len(stored)


def test_a_loop_that_begins_again_plays_and_a_wanted_seek_is_one(day):
    clock = SystemClock()
    show, _ = prepare(day, Order(DATE, (DEPTH,), speed=AS_FAST_AS_POSSIBLE), clock)
    player = DayPlayer(show, clock, Wish(clients=0, settle_ns=0, loop=True), spin_ns=0, stall_ns=10**9)
    simulator = Simulator(day, player, clock)
    player.attach(simulator.level2, simulator.level1)
    try:
        while not show.rounds:
            player.advance(0, simulator.level2, simulator.level1)
        # between two rounds it goes back to the beginning, as a seek does
        assert player.skipping_to == show.begin
        assert (player.state, show.jumped) == ("playing", False)
        player.seek(show.begin)
        assert (player.state, show.jumped) == ("seeking", True)
        while player.skipping_to is not None:
            player.advance(0, simulator.level2, simulator.level1)
        assert player.state == "playing"
    finally:
        simulator.close()
        show.tape.close()


def test_client_that_does_not_read_is_cut_and_the_others_get_everything(tmp_path, numba_cache):
    settings = settings_in(tmp_path, simulator={"client_queue_bytes_max": 1 << 20})
    steps = [(0, {"event": "connect"})] + [
        (number, b"".join(order(number * 1000 + k) for k in range(1000))) for number in range(150)
    ]
    write_stream(settings, DEPTH, steps)
    with Serving(settings, Order(DATE, speed=AS_FAST_AS_POSSIBLE, clients=2)) as serving:
        reader = serving.client("depth", "WOR,AAA")
        serving.client("depth", "WOR,AAA", reads=False)
        outcome = serving.end()
        got = reader.finish().of(b"3")
    assert got == lines_of(steps, b"3")
    assert (outcome.complete, outcome.cut) == (True, 1)


def test_part_of_the_day_begins_with_the_books_of_that_time(day):
    wish = Order(DATE, (DEPTH,), ("BBB",), AS_FAST_AS_POSSIBLE, "10:00:01", "10:00:02")
    with Serving(day, wish) as serving:
        client = serving.client("depth", "WOR,BBB", "WOR,AAA")
        outcome = serving.end()
        client.finish()
    lines = [(at, step) for at, step in depth_day() if isinstance(step, bytes) and step.startswith(b"3,BBB")]
    stored = [step for at, step in lines if 1000 <= at <= 2000]
    assert client.of(b"3") == stored
    before = [step for at, step in lines if at < 1000]
    assert sorted(b"3" + line[1:] for line in client.of(b"6")) == sorted(before)
    assert b"n,AAA\r\n" in client.lines()
    assert outcome.digests[DEPTH]["lines"] == len(stored)
    assert outcome.complete


def test_lost_link_and_torn_lines_of_the_recording(tmp_path, numba_cache):
    settings = settings_in(tmp_path)
    steps = [
        (0, {"event": "connect"}), (0, TALK), (10, order(1)), (20, {"event": "disconnect", "reason": "fin"}),
        (30, {"event": "connect"}), (30, TALK), (40, order(7, letter="6")), (50, order(8)),
    ]  # fmt: skip
    write_stream(settings, DEPTH, steps)
    with Serving(settings, Order(DATE, speed=0.1)) as serving:
        client = serving.client("depth", "WOR,AAA")
        outcome = serving.end()
        lines = client.finish().lines()
    first = lines.index(order(1))
    link = [line for line in lines[first:] if line.startswith((b"S,SERVER", b"3", b"6"))]
    assert link == [order(1), b"S,SERVER DISCONNECTED\r\n", b"S,SERVER CONNECTED\r\n", order(7, letter="6"), order(8)]
    assert outcome.digests[DEPTH]["lines"] == 3
    assert outcome.digests[DEPTH]["talk"] > 4


def test_damage_is_told_and_the_rest_is_played(day):
    segment = next((day.journal_dir / DEPTH / str(DATE)).glob("*.l2j"))
    data = bytearray(segment.read_bytes())
    data[data.index(order(100, "AAA")[:20]) + 4] ^= 0xFF
    segment.write_bytes(data)
    with Serving(day, Order(DATE, (DEPTH,), speed=AS_FAST_AS_POSSIBLE)) as serving:
        client = serving.client("depth", "WOR,AAA", "WOR,BBB")
        outcome = serving.end()
        client.finish()
    assert outcome.complete
    assert outcome.record["damaged"] == 1
    assert "are missing" in outcome.damage[0]
    stored = lines_of(depth_day(), b"3")
    assert client.of(b"3") == [line for line in stored if line.split(b",")[2] != b"100"]


@pytest.fixture
def said(day, monkeypatch, capfd):
    monkeypatch.setenv("L2_HOME", str(day.home))
    monkeypatch.setenv("L2_PORTS__BASE", str(day.ports.base))
    (day.cache_dir).mkdir(exist_ok=True)

    def command(*arguments: str) -> tuple[int, str, str]:
        code = run(list(arguments))
        return code, *capfd.readouterr()

    return command


def test_wrong_wishes_are_refused_with_what_to_do(said):
    date = str(DATE)
    for options, words in (
        (["20250720"], "the newest recorded dates are 2025-07-25"),
        (["tomorrow"], "is no date"),
        ([date, "--stream", "iqfeed-depth-9"], "did you mean iqfeed-depth-0"),
        ([date, "--symbols", "AAAA"], "there are e.g. AAA"),
        ([date, "--speed", "0"], "`max` or a number"),
        ([date, "--speed", "1e9"], "`max` or a number"),
        ([date, "--from", "25:00:00"], "is no time of day"),
        ([date, "--from", "soon"], "is no time"),
        ([date, "--from", "2001-01-01T10:00:00"], "nothing is recorded then"),
        ([date, "--from", "10:00:03", "--to", "10:00:01"], "is after --to"),
        ([date, "--port-base", "80"], "1024 to 65000"),
        ([date, "--loop", "--to-kafka", "ticks"], "--loop plays to clients only"),
        (["pause"], "no replay answers"),
    ):
        code, out, error = said("replay", *options)
        assert (code, words in error, out) == (2, True, ""), (options, error)


def test_examples_of_the_document_are_understood(said):
    text = (Path(__file__).resolve().parents[2] / "docs" / "replay.md").read_text(encoding="utf-8")
    examples = [line.split("#")[0].split()[1:] for line in text.splitlines() if line.startswith("l2 replay 2026-11-20")]
    assert len(examples) == 6
    for arguments in examples:
        code, _, error = said(*arguments)
        assert (code, "nothing is recorded on session date 2026-11-20" in error) == (2, "--stream" not in arguments), (arguments, error)


def test_closed_day_of_an_exchange_is_called_so(said, monkeypatch):
    monkeypatch.setenv("L2_SESSION__CALENDAR", "XNYS")
    code, _, error = said("replay", "2025-07-26")
    assert code == 2
    assert "2025-07-26 is no session of XNYS" in error


def test_date_without_lines_is_told(tmp_path, monkeypatch, capfd):
    settings = settings_in(tmp_path)
    monkeypatch.setenv("L2_HOME", str(tmp_path))
    assert run(["replay", str(DATE)]) == 2
    assert "start recording" in capfd.readouterr().err
    write_stream(settings, DEPTH, [])
    assert run(["replay", str(DATE)]) == 2
    assert "there is nothing to play" in capfd.readouterr().err


def test_digest_of_a_stored_stream(said):
    code, out, _ = said("journal", "digest", LEVEL1, "--json")
    row = json.loads(out)[0]
    assert (code, row["lines"], row["left_out"]) == (0, 202, TALK.count(b"\n") + ACK.count(b"\n"))
    only = json.loads(said("journal", "digest", LEVEL1, "--symbols", "AAA", "--json")[1])[0]
    assert only["lines"] == 101
    assert only["sha256"] != row["sha256"]
