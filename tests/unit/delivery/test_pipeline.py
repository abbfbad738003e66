"""The pipeline is a function of the journal: no cut of the reads, no checkpoint and no restart shows in the rows."""

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l2_platform.delivery.checkpoint import CheckpointStore
from l2_platform.journal.frame import FrameFlag
from l2_platform.journal.reader import Block, Control, Damage, segment_context
from tests.unit.delivery.journals import DATE, MS, T0, LiveJournal, Rows, add_rows, pipeline_for, rows_of

FAR = 1 << 24


def depth_line(rng: random.Random, number: int) -> str:
    symbol, side = rng.choice(("AAA", "BBB", "CCC")), rng.choice("AB")
    price = 100 + rng.randint(1, 9) / 100 * (1 if side == "A" else -1)
    stamp = f"10:00:{number // 10 % 60:02d}.{number % 10}00000,2024-01-02,"
    return rng.choice(
        [
            f"3,{symbol},{number},,{side},{price:.4f},{rng.randint(1, 9)},{number},4,{stamp}",
            f"6,{symbol},{number},,{side},{price:.4f},{rng.randint(1, 9)},{number},4,{stamp}",
            f"4,{symbol},{rng.randint(1, 40)},,{side},{price:.4f},{rng.randint(1, 9)},1,4,{stamp}",
            f"5,{symbol},{rng.randint(1, 40)},,{side},{stamp}",
            f"3,{symbol},x,,{side},bad,1,1,4,{stamp}",
            "T,20240102 10:00:00",
            "S,SERVER DISCONNECTED",
            "S,SERVER CONNECTED",
            "E,!SYNTAX_ERROR!,",
            "",
        ]
    )


def level1_line(rng: random.Random, number: int) -> str:
    stamp = f"10:00:{number // 10 % 60:02d}.{number % 10}00000"
    quote = f"{rng.choice(('AAA', 'BBB'))},10.0{number % 10},5,{stamp},5,{number},9.99,1,10.01,1,,,,,"
    return rng.choice(
        [
            f"Q,{quote}{rng.choice(('Cba', 'b', 'a', 'Ecb', 'O'))},01,1,2,",
            f"P,{quote}Cbacv,01,1,2,",
            "T,20240102 10:00:00",
            "S,SERVER DISCONNECTED",
            "S,SERVER CONNECTED",
            "n,ZZZ",
            "Q,AAA,broken",
        ]
    )


def admin_line(rng: random.Random, number: int) -> str:
    status = rng.choice(("Connected", "Not Connected"))
    return rng.choice(
        [
            f"S,STATS,66.112.156.222,60002,500,{number},1,0,0,0,Nov 20,Nov 20,{status},6.2.0.25,123456,1,2,3,4",
            "S,CLIENTSTATS,1,2,x", "S,REGISTER CLIENT APP COMPLETED", "S,STATS,short", "S,STATS", "one\rtwo", "",
        ]
    )  # fmt: skip


LINES = {"iqfeed-depth-0": depth_line, "iqfeed-level1-0": level1_line, "iqfeed-admin-0": admin_line}


def record(journal: LiveJournal, seed: int, steps: int) -> None:
    """Frames of a few lines with all that a link can do between them."""
    rng = random.Random(seed)
    line = LINES[journal.stream]
    journal.started()
    number = 0
    for _ in range(steps):
        choice = rng.random()
        if choice < 0.7:
            lines = [line(rng, number + place) for place in range(rng.randint(1, 6))]
            number += len(lines)
            journal.lines(*lines)
        elif choice < 0.75:
            journal.fragment(b"3,AAA,\r12", int(rng.choice((FrameFlag.FRAGMENT, FrameFlag.OVERSIZE))))
        elif choice < 0.85:
            journal.control("disconnect", reason="fin", last_byte_ns=journal.ts)
            journal.control("connect_failed", error="refused", attempt=1)
            journal.control("connect", host="h", port=1, attempt=2)
            journal.control("subscribed", symbols=3)
        elif choice < 0.9:
            journal.control("suspect", last_byte_ns=journal.ts)
            journal.control(*rng.choice([("resumed",), ("disconnect",)]), last_byte_ns=journal.ts, reason="silence")
        else:
            journal.control(rng.choice(["watch", "unwatch", "clock_skew"]), symbols=[rng.choice(("AAA", "BBB"))], skew_s=1)
    journal.close()


@pytest.mark.parametrize("stream", sorted(LINES))
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(1, 900), min_size=1, max_size=6), stop=st.integers(0, 40))
def test_rows_do_not_depend_on_cuts_or_checkpoints(stream: str, seed: int, cuts: list[int], stop: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        journal = LiveJournal(Path(name), stream)
        record(journal, seed, 30)

        def make():
            return pipeline_for(stream, session_start=lambda _date: T0)

        whole = rows_of(make, journal, FAR)
        assert whole
        store = CheckpointStore(Path(name) / "checkpoints", 2)
        rows: Rows = {}
        pipeline = make()
        pipeline.begin_date(DATE, None)
        reader = journal.reader()
        step = 0
        while items := reader.read(cuts[step % len(cuts)]):
            add_rows(rows, pipeline.process(items, 0))
            step += 1
            if step == stop or step % 7 == 0:
                store.save(reader.position, pipeline.seq, pipeline.dump())
                saved = store.newest(reader.position)
                assert saved is not None
                pipeline = make()
                pipeline.load(saved.state)
                pipeline.begin_date(DATE, None)
                reader = journal.reader(start=saved.position)
        assert rows == whole
        for table in rows.values():
            keys = [(dict(row)["seq"], dict(row).get("ordinal", 0)) for row in table]
            assert keys == sorted(keys)
            if "ordinal" in dict(table[0]):
                assert len(set(keys)) == len(keys)


def test_the_close_of_a_gap_has_the_place_of_the_first_data_however_it_is_read(tmp_path: Path) -> None:
    journal = LiveJournal(tmp_path, "iqfeed-depth-0")
    journal.started()
    line = "3,AAA,{},,B,10.0000,5,1,4,10:00:00.000001,2024-01-02,"
    journal.lines(line.format(1))
    journal.control("disconnect", reason="fin", last_byte_ns=journal.ts)
    journal.control("connect", host="h", port=1, attempt=1)
    journal.control("subscribed", symbols=1)
    journal.lines(line.format(2))
    journal.lines(line.format(3), line.format(4))
    journal.close()
    one = rows_of(lambda: pipeline_for(journal.stream), journal, FAR)["gap_events"]
    assert one == rows_of(lambda: pipeline_for(journal.stream), journal, 1)["gap_events"]
    closed = dict(one[-1])
    assert (closed["state"], closed["seq"]) == ("closed", 2)


def test_admin_lines_keep_the_journals_numbers(tmp_path: Path) -> None:
    """Short statistics, a lone carriage return and a cut line are one line each, and none of them ends the delivery."""
    journal = LiveJournal(tmp_path, "iqfeed-admin-0")
    journal.lines("S,STATS", "S,STATS,a,b", "one\rtwo", "", "S,LAST")
    journal.fragment(b"S,CUT\r", int(FrameFlag.FRAGMENT))
    journal.fragment(b"S,LONG" + b"x" * 100_000, int(FrameFlag.OVERSIZE))
    journal.lines("S,AFTER")
    journal.close()
    events = [dict(row) for row in rows_of(lambda: pipeline_for(journal.stream), journal, FAR)["feed_events"]]
    assert {row["raw"][:6]: row["seq"] for row in events if row["raw"]} == {
        "S,STAT": 2, "one\rtw": 3, "S,LAST": 5, "S,CUT": 6, "S,LONG": 7, "S,AFTE": 8,
    }  # fmt: skip
    assert max(len(row["raw"]) for row in events) <= 65_536


@pytest.mark.parametrize("stream", sorted(LINES))
def test_a_live_date_read_after_another_equals_the_date_read_alone(tmp_path: Path, stream: str) -> None:
    """What a delivery that ran through the roll wrote is what one that starts later would write."""
    journal = LiveJournal(tmp_path, stream)
    journal.started()
    rng = random.Random(1)
    journal.lines(*(LINES[stream](rng, number) for number in range(60)))
    journal.control("disconnect", reason="fin", last_byte_ns=journal.ts)
    journal.roll(20240103)
    journal.control("connect_failed", error="refused", attempt=1)
    journal.control("connect", host="h", port=1, attempt=2)
    journal.control("subscribed", symbols=3)
    journal.lines(*(LINES[stream](rng, number) for number in range(60)))
    journal.close()
    start = T0 + 1

    def make():
        return pipeline_for(stream, session_start=lambda date: start if date == DATE else start + 10 * MS)

    context = segment_context(journal.root, stream, 20240103)
    alone, after = make(), make()
    after.begin_date(DATE, None)
    reader = journal.reader()
    while items := reader.read(FAR):
        after.process(items, 0)
    rows: dict[str, Rows] = {"alone": {}, "after": {}}
    for name, pipeline in (("alone", alone), ("after", after)):
        pipeline.begin_date(20240103, context)
        reader = journal.reader(20240103)
        while items := reader.read(FAR):
            add_rows(rows[name], pipeline.process(items, 0))
    assert rows["after"] == rows["alone"]
    if "admin" in stream:
        assert "gap_events" not in rows["alone"]
        return
    gaps = [dict(row) for row in rows["alone"]["gap_events"]]
    assert (gaps[0]["cause"], gaps[0]["ts_from"], gaps[0]["state"]) == ("disconnect", start + 10 * MS, "open")
    assert gaps[1]["state"] == "closed"


def test_a_gap_that_is_open_when_the_date_ends_is_closed_at_the_sessions_end(tmp_path: Path) -> None:
    journal = LiveJournal(tmp_path, "iqfeed-depth-0")
    journal.started()
    journal.lines("3,AAA,1,,B,10.0000,5,1,4,10:00:00.000001,2024-01-02,")
    lost = journal.ts
    journal.control("disconnect", reason="fin", last_byte_ns=lost)
    journal.close()
    end = lost + 5_000 * MS
    pipeline = pipeline_for(journal.stream, session_end=lambda _date: end)
    pipeline.begin_date(DATE, None)
    reader = journal.reader()
    rows: Rows = {}
    while items := reader.read(FAR):
        add_rows(rows, pipeline.process(items, 0))
    add_rows(rows, pipeline.end_date(0))
    opened, closed = (dict(row) for row in rows["gap_events"])
    assert (opened["state"], closed["state"], closed["ts_to"]) == ("open", "closed", end)
    assert (closed["seq"], closed["ordinal"]) > (opened["seq"], opened["ordinal"])
    assert pipeline.end_date(0) == []


def test_damage_is_a_gap_from_the_last_data_before_it_to_the_first_after_it(tmp_path: Path) -> None:
    journal = LiveJournal(tmp_path, "iqfeed-depth-0")
    journal.started()
    line = "3,AAA,{},,B,10.0000,5,1,4,10:00:00.000001,2024-01-02,"
    journal.lines(line.format(1))
    before = journal.ts
    journal.lines(line.format("7777777"))
    journal.lines(line.format(3))
    after = journal.ts
    journal.close()
    (segment,) = journal.root.rglob("*.l2j")
    segment.write_bytes(segment.read_bytes().replace(b"7777777", b"7777778"))
    items = journal.reader().read(FAR)
    assert [type(item) for item in items if not isinstance(item, Control)] == [Block, Damage, Block]
    for max_bytes in (FAR, 1):
        gaps = [dict(row) for row in rows_of(lambda: pipeline_for(journal.stream), journal, max_bytes)["gap_events"]]
        damage = [row for row in gaps if row["cause"] == "damage"]
        assert [(row["state"], row["ts_from"]) for row in damage] == [("open", before), ("closed", before)]
        assert damage[-1]["ts_to"] == after


def test_gaps_after_a_clock_that_stepped_back_do_not_depend_on_cuts(tmp_path: Path) -> None:
    journal = LiveJournal(tmp_path, "iqfeed-depth-0")
    journal.started()
    journal.lines("3,AAA,1,,A,10.0,1,1,2,09:00:01.000000,2024-01-02,")
    journal.lines("T,20240102 09:00:01")
    journal.ts -= 1000 * MS
    journal.lines("3,AAA,2,,A,10.0,1,1,2,09:00:01.000000,2024-01-02,")
    journal.control("disconnect", reason="fin", last_byte_ns=None)
    journal.control("collector_start", pid=1, clean=False, last_ts=journal.ts, lost_tail_bytes=0)
    journal.close()

    def make():
        return pipeline_for("iqfeed-depth-0")

    assert rows_of(make, journal, 1 << 20) == rows_of(make, journal, 1)
