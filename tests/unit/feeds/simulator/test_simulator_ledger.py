"""The ledger and the faults, without sockets."""

import random
from pathlib import Path

from l2_platform.feeds.iqfeed.simulator.faults import Faults, garbage_line
from l2_platform.feeds.iqfeed.simulator.ledger import Ledger, read_ledger


def test_ledger_gives_back_bytes_and_marks(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 1000)
    record = ledger.open("level2", ledger.number(), 5, "127.0.0.1:1")
    assert record is not None
    record.sent(b"abc", 10)
    record.sent(memoryview(b"defg"), 10_000_000)
    record.close("client", 20_000_000)
    (found,) = read_ledger(tmp_path)
    assert (found.service, found.number, found.connected_ns, found.disconnected_ns) == ("level2", 1, 5, 20_000_000)
    assert found.data == b"abcdefg"
    assert found.marks[-1] == (7, 20_000_000)
    assert found.reason == "client"
    assert found.complete


def test_ledger_stops_at_its_limit_and_says_so(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 5)
    record = ledger.open("level1", ledger.number(), 0, "")
    assert record is not None
    record.sent(b"abc", 1)
    record.sent(b"def", 2)
    record.sent(b"g", 3)
    record.close("stop", 4)
    (found,) = read_ledger(tmp_path)
    assert found.data == b"abc"
    assert not found.complete


def test_ledger_numbers_continue_after_a_restart(tmp_path: Path) -> None:
    first = Ledger(tmp_path, 100)
    record = first.open("level1", first.number(), 0, "")
    assert record is not None
    record.close("stop", 1)
    assert Ledger(tmp_path, 100).number() == 2


def test_ledger_of_a_killed_market_is_readable(tmp_path: Path) -> None:
    (tmp_path / "level2-3.bin").write_bytes(b"xyz")
    (tmp_path / "level2-3.jsonl").write_text('{"event": "connect", "ts": 7}\n{"offset": 3, "t')
    (found,) = read_ledger(tmp_path)
    assert found.data == b"xyz"
    assert found.connected_ns == 7
    assert found.disconnected_ns is None


def test_no_ledger_when_the_limit_is_zero(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", 0)
    assert ledger.open("level1", 1, 0, "") is None
    assert not (tmp_path / "ledger").exists()


def test_duplicate_repeats_the_next_lines_once() -> None:
    faults = Faults(duplicate_lines=2)
    assert faults.apply(b"a\r\n") == b"a\r\na\r\n"
    assert faults.apply(b"b\r\nc\r\n") == b"b\r\nb\r\nc\r\n"
    assert not faults.changes_data


def test_garbage_is_whole_lines_before_the_data() -> None:
    faults = Faults(garbage_lines=2, garbage_bytes=40)
    lines = faults.apply(b"a\r\n").split(b"\r\n")
    assert [len(line) for line in lines] == [40, 40, 1, 0]
    assert b"\n" not in garbage_line(random.Random(1), 10_000)[:-2]


def test_cut_mid_line_ends_inside_the_last_line() -> None:
    faults = Faults(cut_mid_line=True)
    assert faults.apply(b"first\r\nsecond\r\n") == b"first\r\nseco"
