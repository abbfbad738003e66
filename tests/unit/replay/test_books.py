"""Books of stored streams: at an instant, through a roll, from checkpoints that do not fit; and what the command line says of it."""

import json
from pathlib import Path

import pytest

from l2_platform.cli import run
from l2_platform.cli.times import instant_from_text
from l2_platform.delivery.checkpoint import CheckpointStore
from l2_platform.errors import InputError
from l2_platform.journal.frame import Position
from l2_platform.journal.importing import write_finished_stream
from l2_platform.market.events import Trust
from l2_platform.replay.books import BookReader, states, stream_of
from l2_platform.settings import Settings
from tests.unit.delivery.journals import DATE, T0, LiveJournal, pipeline_for

STREAM = "iqfeed-depth-0"
IMPORT = "iqfeed-depth-import-00000000"
NEXT = 20240103


def add(symbol: str, number: int, side: str, price: float, size: int = 5) -> str:
    return f"3,{symbol},{number},,{side},{price:.4f},{size},1,4,10:00:{number % 60:02d}.000000,2024-01-02,"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("L2_HOME", str(tmp_path))
    return Settings(home=tmp_path)


@pytest.fixture
def journal(settings: Settings) -> LiveJournal:
    journal = LiveJournal(settings.home, STREAM)
    (settings.run_dir / "durable").mkdir(parents=True)
    (settings.run_dir / "durable" / STREAM).symlink_to(journal.durable)
    journal.started()
    return journal


def reader_of(settings: Settings, *, from_checkpoint: bool = True) -> BookReader:
    return BookReader(settings, STREAM, DATE, from_checkpoint=from_checkpoint, levels=10)


def test_what_the_link_did_after_the_instant_does_not_show(settings: Settings, journal: LiveJournal) -> None:
    journal.lines(add("AAA", 1, "B", 10), add("AAA", 2, "A", 11))
    at = journal.ts + 1
    journal.control("disconnect", reason="fin", last_byte_ns=journal.ts)
    journal.control("connect", host="h", port=1, attempt=1)
    journal.lines(add("AAA", 3, "B", 10.5))
    journal.close()
    reader = reader_of(settings, from_checkpoint=False)
    reader.advance_to(at)
    view = reader.view("AAA", 5)
    assert view.trust is Trust.GOOD
    assert (view.bids, view.asks, view.ts) == ([(10 * 10**9, 5, 1)], [(11 * 10**9, 5, 1)], at - 1)


def test_following_goes_on_in_the_next_session(settings: Settings, journal: LiveJournal) -> None:
    journal.lines(add("AAA", 1, "B", 10))
    journal.writer.control("clock_skew", journal.tick(), 1)
    reader = reader_of(settings)
    while not reader.follow():
        pass
    assert not reader.roll()
    journal.roll(NEXT)
    journal.lines(add("AAA", 2, "A", 12))
    journal.close()
    reader.follow()
    assert reader.roll()
    reader.follow()
    view = reader.view("AAA", 5)
    assert (view.session_date, view.bids, view.asks) == (NEXT, [], [(12 * 10**9, 5, 1)])
    assert not reader.roll()


def test_a_book_from_a_checkpoint_tells_its_time_and_a_bad_image_is_not_used(settings: Settings, journal: LiveJournal) -> None:
    journal.lines(add("AAA", 1, "B", 10))
    journal.close()
    pipeline = pipeline_for(STREAM)
    pipeline.begin_date(DATE, None)
    reader = journal.reader()
    while items := reader.read(1 << 20):
        pipeline.process(items, 0)
    store = CheckpointStore(settings.checkpoint_dir / "jsonl" / STREAM, 2)
    state = pipeline.dump()
    for books in (state["books"], b"no books"):
        store.save(reader.position, pipeline.seq, state | {"books": books})
        view_reader = reader_of(settings)
        view_reader.follow()
        view = view_reader.view("AAA", 5)
        assert (view.ts, view.bids, view.seq) == (journal.ts, [(10 * 10**9, 5, 1)], 1)


def test_a_symbol_is_found_by_its_messages_not_by_a_like_field(settings: Settings, journal: LiveJournal) -> None:
    journal.lines("6,AAA,,NSDQ,A,10.0300,5,,4,10:00:00.000003,2024-01-02,")
    journal.close()
    assert stream_of(settings, "AAA", None, None) == (STREAM, DATE)
    with pytest.raises(InputError, match="NSDQ"):
        stream_of(settings, "NSDQ", None, None)


def imported(settings: Settings) -> None:
    days = [(DATE, "2024-01-02"), (NEXT, "2024-01-03")]
    dates = []
    for seq, (date, day) in enumerate(days, 1):
        lines = [f"3,AAA,{seq},,B,1{seq}.0,5,1,4,10:00:00.000000,{day},", f"3,BBB,{seq},,A,20.0,5,1,4,10:00:01.000000,{day},"]
        dates.append((date, [("\r\n".join(lines).encode() + b"\r\n", 2, 2 * seq - 1, T0)]))
    write_finished_stream(settings.journal_dir, IMPORT, dates, context={"symbols": ["AAA", "BBB"]}, calendar="XNYS")


def test_an_imports_book_has_the_feeds_time_and_the_orders_of_the_day_before(settings: Settings) -> None:
    imported(settings)
    reader = BookReader(settings, IMPORT, NEXT, from_checkpoint=True, levels=10)
    reader.follow()
    view = reader.view("AAA", 5)
    assert view.ts == instant_from_text("2024-01-03T10:00:01", "--at")
    assert [price for price, _, _ in view.bids] == [12 * 10**9, 11 * 10**9]
    assert [len(batch) for batch in states(settings, "AAA", IMPORT, NEXT, 50, changes_only=False)] == [2]
    assert [len(batch) for batch in states(settings, "AAA", IMPORT, NEXT, 50, changes_only=True)] == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["AAA", "--at", "2024-01-02T23:00:00", "--date", "20240102"], "outside the session"),
        (["AAA", "--at", "9999-12-31T23:59:59"], "9999"),
        (["AAA", "--at", "0001-01-01T00:00:00"], "year"),
        (["AAA", "--watch"], "--watch"),
        (["NOSUCH"], "NOSUCH"),
        (["--levels", "5", "NOSUCH"], "NOSUCH"),
        (["AAA", "--stream", "iqfeed-depth-7"], "iqfeed-depth-7"),
    ],
)
def test_what_cannot_be_shown_is_one_line(
    settings: Settings, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    imported(settings)
    assert run(["book", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_options_may_stand_before_the_symbol(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    imported(settings)
    assert run(["book", "--levels", "1", "--json", "AAA", "--at", "2024-01-03T10:00:00"]) == 0
    view = json.loads(capsys.readouterr().out)
    assert (view["seq"], view["trust"], len(view["bids"])) == (3, "good", 1)


def test_an_index_makes_the_same_answer_and_its_absence_is_told(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    imported(settings)
    question = ["book", "AAA", "--at", "2024-01-03T10:00:00", "--json"]
    assert run(question) == 0
    slow = capsys.readouterr()
    assert "l2 book index 2024-01-03" in slow.err
    assert run(["book", "index", "2024-01-03", "--json"]) == 0
    (built,) = json.loads(capsys.readouterr().out)
    assert (built["stream"], built["lines"], built["complete"]) == (IMPORT, 4, True)
    assert run(question) == 0
    assert capsys.readouterr() == (slow.out, "")
    assert run(["book", "index", "2024-01-05"]) == 2
    assert "2024-01-03" in capsys.readouterr().err


def test_an_instant_of_a_live_stream_must_be_of_its_date(
    settings: Settings, journal: LiveJournal, capsys: pytest.CaptureFixture[str]
) -> None:
    journal.lines(add("AAA", 1, "B", 10))
    journal.close()
    assert run(["book", "AAA", "--date", str(DATE), "--at", "2024-01-05T10:00:00"]) == 2
    assert "outside the session" in capsys.readouterr().err


def test_positions_of_checkpoints_bound_the_search(settings: Settings, journal: LiveJournal) -> None:
    """The symbol lies behind the newest checkpoint: only what follows is read through."""
    journal.lines(add("AAA", 1, "B", 10))
    pipeline = pipeline_for(STREAM)
    pipeline.begin_date(DATE, None)
    store = CheckpointStore(settings.checkpoint_dir / "jsonl" / STREAM, 2)
    store.save(Position(DATE, 1, journal.writer.written.offset), 1, pipeline.dump())
    journal.lines(add("BBB", 2, "B", 10))
    journal.close()
    assert stream_of(settings, "BBB", None, None) == (STREAM, DATE)
