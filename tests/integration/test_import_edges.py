"""Files as people have them: over days, packed twice, cut, huge lines, on a full disk, twice at once, asked for with another meaning."""

import gzip
import json
import multiprocessing
import random
import resource
import shutil
from pathlib import Path

import pytest

from l2_platform.clock import SystemClock
from l2_platform.collectors.importing import ImportRequest, ImportResult, import_file
from l2_platform.delivery.delivery import make_follower, make_sink
from l2_platform.errors import InputError, L2Error
from l2_platform.journal.reader import Block, JournalReader, list_streams
from l2_platform.replay.books import BookReader
from l2_platform.settings import Settings
from tests.integration.homes import Home

pytestmark = pytest.mark.integration

DAYS = (20240102, 20240103, 20240104)
TICK = "2021-03-{:02d} 10:00:0{}.000000,1.5200,100,1000,1.5600,1.5700,{},C,11,01,0,1,\n"


@pytest.fixture
def settings(tmp_path: Path, numba_cache: Path) -> Settings:
    return home_in(tmp_path / "home", numba_cache).settings


def home_in(path: Path, numba_cache: Path) -> Home:
    path.mkdir()
    return Home(path, numba_cache, {"L2_CLICKHOUSE__ENABLED": "false", "L2_JSONL__L2_INTERVAL_MS": "0"})


def take(file: Path, settings: Settings, channel: str = "depth", date: int | None = None, symbol: str | None = None) -> ImportResult:
    return import_file(ImportRequest(file, channel, date, symbol), settings, SystemClock(), lambda _what, _count, _total: None)


def over_days(newline: str = "\r\n", count: int = 60) -> list[bytes]:
    """Orders that rest over three days, and some that go."""
    rng = random.Random(2)
    lines = []
    for day in DAYS:
        for step in range(count):
            number = day * 1000 + step
            stamp = f"10:{step:02d}:00.000000,{str(day)[:4]}-{str(day)[4:6]}-{str(day)[6:]},"
            side = rng.choice("AB")
            price = 100 + rng.randint(1, 20) / 100 * (1 if side == "A" else -1)
            lines.append(f"3,AAA,{number},,{side},{price:.4f},{rng.randint(1, 9)},1,4,{stamp}{newline}".encode())
    return lines


def files_of(settings: Settings) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(settings.jsonl_dir.rglob("*.jsonl"))}


def journaled(settings: Settings, stream: str, dates: list[int]) -> bytes:
    data = b""
    for date in dates:
        reader = JournalReader(settings.journal_dir, stream, date, durable_path=None)
        while items := reader.read(1 << 20):
            data += b"".join(item.buffer.tobytes() for item in items if isinstance(item, Block))
    return data


def test_books_rest_over_the_days_of_a_file(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "days.txt"
    file.write_bytes(b"".join(over_days()))
    result = take(file, settings)
    assert result.session_dates == list(DAYS)
    assert journaled(settings, result.stream, result.session_dates) == file.read_bytes()
    tops = [json.loads(text) for name in files_of(settings) for text in files_of(settings)[name].splitlines()]
    assert [record["seq"] for record in tops] == sorted({record["seq"] for record in tops})
    reader = BookReader(settings, result.stream, DAYS[-1], from_checkpoint=False, levels=50)
    reader.follow()
    view = reader.view("AAA", 50)
    assert sum(count for _, _, count in view.bids + view.asks) == 180
    first = json.loads(files_of(settings)[f"AAA_l2_{DAYS[1]}.jsonl"].splitlines()[0])
    assert first["total_bid_size"] > 50, "the second day begins with the orders of the first"


@pytest.mark.parametrize("date_of_the_kill", DAYS)
def test_an_import_killed_while_it_delivers_is_finished_by_the_same_command(
    tmp_path: Path, numba_cache: Path, date_of_the_kill: int
) -> None:
    file = tmp_path / "days.txt"
    file.write_bytes(b"".join(over_days(count=59)))
    calm, cut = (home_in(tmp_path / name, numba_cache).settings for name in ("calm", "cut"))
    stream = take(file, calm).stream
    shutil.copytree(calm.journal_dir, cut.journal_dir)
    sink = make_sink("jsonl", cut)
    sink.open()
    follower = make_follower(stream, sink, cut, SystemClock())
    while follower.pipeline.session_date != date_of_the_kill:
        follower.step()
    follower.step()
    again = take(file, cut)
    assert again.already
    assert files_of(cut) == files_of(calm)


def test_a_killed_tick_import_goes_on_with_its_own_symbol(tmp_path: Path, numba_cache: Path) -> None:
    file = tmp_path / "ticks.csv"
    file.write_text("".join(TICK.format(day, second, number) for number, (day, second) in enumerate([(1, 1), (1, 2), (2, 1)])))
    calm, cut = (home_in(tmp_path / name, numba_cache).settings for name in ("calm", "cut"))
    take(file, calm, "ticks", symbol="XYZ")
    shutil.copytree(calm.journal_dir, cut.journal_dir)
    take(file, cut, "ticks", symbol="XYZ")
    assert files_of(cut) == files_of(calm)
    assert "XYZ_ticks_20210301.jsonl" in files_of(cut)


@pytest.mark.parametrize(
    ("channel", "date", "symbol", "message"),
    [("ticks", None, "ABC", "symbol XYZ"), ("ticks", 20210305, "XYZ", "on 2021-03-01, not 2021-03-05"), ("depth", None, "XYZ", "--symbol")],
)
def test_the_same_file_with_another_meaning_is_refused(
    settings: Settings, tmp_path: Path, channel: str, date: int | None, symbol: str, message: str
) -> None:
    file = tmp_path / "ticks.csv"
    file.write_text(TICK.format(1, 1, 1))
    take(file, settings, "ticks", symbol="XYZ")
    before = files_of(settings)
    with pytest.raises(InputError, match=message):
        take(file, settings, channel, date, symbol)
    assert files_of(settings) == before
    assert take(file, settings, "ticks", symbol="XYZ").already


def test_the_same_content_twice_in_one_command_is_one_import(settings: Settings, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.txt", "b.txt")]
    for file in files:
        file.write_bytes(b"".join(over_days()))
    assert [take(file, settings).already for file in files] == [False, True]


def _import_in_process(file: Path, settings: Settings) -> None:
    take(file, settings)


def test_two_imports_of_one_file_at_once_are_one(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "days.txt"
    file.write_bytes(b"".join(over_days()))
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_import_in_process, args=(file, settings)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    for name, text in files_of(settings).items():
        seqs = [json.loads(line)["seq"] for line in text.splitlines()]
        assert seqs == sorted(set(seqs)), name
    assert take(file, settings).already


@pytest.mark.parametrize("kind", ["lf", "crlf", "mixed", "no_newline", "two_members", "blank_lines"])
def test_line_ends_and_packing_do_not_change_the_rows(tmp_path: Path, numba_cache: Path, kind: str) -> None:
    lines = over_days("\n")
    data = {
        "lf": b"".join(lines),
        "crlf": b"".join(over_days("\r\n")),
        "mixed": b"".join(line if number % 2 else line.replace(b"\n", b"\r\n") for number, line in enumerate(lines)),
        "no_newline": b"".join(lines)[:-1],
        "two_members": gzip.compress(b"".join(lines[:77])) + gzip.compress(b"".join(lines[77:])),
        "blank_lines": b"".join(lines) + b"\n\n",
    }[kind]
    plain, other = (home_in(tmp_path / name, numba_cache).settings for name in ("plain", "other"))
    (tmp_path / "plain.txt").write_bytes(b"".join(lines))
    (tmp_path / "other.txt").write_bytes(data)
    first, second = take(tmp_path / "plain.txt", plain), take(tmp_path / "other.txt", other)
    assert second.session_dates == first.session_dates
    texts = {name: text.replace(second.stream, first.stream) for name, text in files_of(other).items()}
    assert texts == files_of(plain)


@pytest.mark.parametrize("size", [70_000, 9 << 20, 20 << 20])
def test_a_huge_line_is_one_line_and_its_neighbours_are_kept(settings: Settings, tmp_path: Path, size: int) -> None:
    file = tmp_path / "huge.txt"
    lines = over_days("\n")
    lines.insert(90, b"3,AAA," + b"9" * size + b"\n")
    file.write_bytes(b"".join(lines))
    result = take(file, settings)
    assert (result.lines, result.session_dates) == (181, list(DAYS))
    seqs = [json.loads(line)["seq"] for text in files_of(settings).values() for line in text.splitlines()]
    assert max(seqs) > 175
    assert 91 not in seqs


def test_resting_orders_with_old_dates_do_not_move_the_session(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "snapshot.txt"
    old = [f"6,AAA,{number},,B,9{number}.0000,5,1,4,10:00:00.000000,2023-11-0{number},\r\n".encode() for number in range(1, 6)]
    file.write_bytes(b"".join(old + over_days()[:60]))
    assert take(file, settings).session_dates == [DAYS[0]]


def test_a_full_disk_imports_nothing_and_the_next_try_works(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "big.txt.gz"
    file.write_bytes(gzip.compress(b"".join(over_days()) * 40))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (1000, 400_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            with pytest.raises(L2Error, match="not imported"):
                take(file, settings)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert list_streams(settings.journal_dir) == []
        assert list(settings.cache_dir.glob("import-*")) == []
        assert files_of(settings) == {}
    assert take(file, settings).lines == 7200


@pytest.mark.parametrize("stamp", ["1985-01-02", "2100-01-04"])
def test_a_date_outside_every_calendar_is_one_clear_line(settings: Settings, tmp_path: Path, stamp: str) -> None:
    file = tmp_path / "old.txt"
    file.write_text(f"3,AAA,1,,B,1.5,1,1,2,10:00:00.000000,{stamp},\r\n")
    with pytest.raises(InputError, match=r"old\.txt.*--date"):
        take(file, settings)
    assert list_streams(settings.journal_dir) == []


def test_what_is_no_plain_file_is_said(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="plain file"):
        take(tmp_path, settings)
    with pytest.raises(InputError, match="no such file"):
        take(tmp_path / "none.txt", settings)


def test_a_sink_that_cannot_be_opened_leaves_nothing_half_imported(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "days.txt"
    file.write_bytes(b"".join(over_days()))
    settings.jsonl_dir.write_text("in the way")
    with pytest.raises(L2Error, match="not imported, jsonl"):
        take(file, settings)
    assert list_streams(settings.journal_dir) == []
    settings.jsonl_dir.unlink()
    assert not take(file, settings).already
