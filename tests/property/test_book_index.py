"""Books from the index are the books of reading the journal from the beginning of the date, in every field, at any instant."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from l2_platform.journal.importing import write_finished_stream
from l2_platform.journal.layout import date_folder, list_segments
from l2_platform.replay.book_index import BookHistory, rebuilt_book
from l2_platform.replay.book_index_build import build_index
from l2_platform.replay.book_views import views_at
from l2_platform.settings import Settings
from tests.property.depth_journals import DATE, MS, STREAM, SYMBOLS, T0, RandomJournal, settings_in

NEXT = 20240103
QUESTIONS = 400


def questions_between(first: int, last: int, seed: int, count: int = QUESTIONS) -> list[tuple[str, int]]:
    rng = np.random.default_rng(seed)
    instants = np.sort(rng.integers(first - MS, last + 5 * MS, count))
    # Half of them exactly on a time that frames have.
    instants[::2] = instants[::2] // MS * MS
    return [(str(symbol), int(at)) for symbol, at in zip(rng.choice([*SYMBOLS, "NOSUCH"], count), np.sort(instants), strict=True)]


def assert_equal_answers(settings: Settings, journal: RandomJournal, seed: int, *, slow: int = 0) -> None:
    questions = questions_between(T0, journal.ts, seed)
    told: list[str] = []
    with BookHistory(settings, told=told.append) as history:
        # Not in order: nothing may depend on the question before.
        order = np.random.default_rng(seed).permutation(len(questions))
        found = {int(at): history.book_at(*questions[int(at)], STREAM, DATE) for at in order}
        assert (history.slow, told[slow:]) == (0, []) if not slow else history.slow > 0
    for number, view in enumerate(views_at(settings, STREAM, DATE, questions)):
        assert found[number] == view, questions[number]


@pytest.mark.parametrize("seed", range(6))
def test_a_closed_date_raw_and_sealed(tmp_path: Path, seed: int) -> None:
    settings = settings_in(tmp_path)
    journal = RandomJournal(settings, seed)
    journal.frames(1500)
    journal.roll(NEXT)
    if seed % 2:
        journal.seal()
    built = build_index(settings, STREAM, DATE)
    assert built.complete
    assert built.groups > 3
    assert_equal_answers(settings, journal, seed)
    if seed % 2 == 0:
        assert journal.seal() > 2
        assert_equal_answers(settings, journal, seed + 1)


def test_the_rebuild_that_answers_are_compared_with_is_the_one_of_the_command(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    journal = RandomJournal(settings, 50)
    journal.frames(400)
    journal.roll(NEXT)
    questions = questions_between(T0, journal.ts, 1, 60)
    views = [rebuilt_book(settings, symbol, at, STREAM, DATE) for symbol, at in questions]
    assert views == list(views_at(settings, STREAM, DATE, questions))


@pytest.mark.parametrize("seed", range(10, 13))
def test_a_running_date_is_continued_and_answered_beyond_the_end(tmp_path: Path, seed: int) -> None:
    settings = settings_in(tmp_path)
    journal = RandomJournal(settings, seed)
    for part in range(3):
        journal.frames(400)
        journal.writer.sync()
        if part < 2:
            built = build_index(settings, STREAM, DATE)
            assert not built.complete
    assert_equal_answers(settings, journal, seed)
    journal.roll(NEXT)
    built = build_index(settings, STREAM, DATE)
    assert built.complete
    assert 0 < built.new_lines < built.lines
    assert build_index(settings, STREAM, DATE).new_lines == 0
    assert_equal_answers(settings, journal, seed + 100)


@pytest.mark.parametrize("seed", range(20, 23))
def test_damage_of_the_journal_shows_as_in_the_rebuild(tmp_path: Path, seed: int) -> None:
    settings = settings_in(tmp_path)
    journal = RandomJournal(settings, seed)
    journal.frames(1200)
    journal.roll(NEXT)
    files = list_segments(date_folder(settings.journal_dir, STREAM, DATE))
    rng = np.random.default_rng(seed)
    for file in files[:-1]:
        with file.path.open("r+b") as raw:
            raw.seek(int(rng.integers(500, file.path.stat().st_size - 200)))
            raw.write(b"\xff" * int(rng.integers(1, 150)))
    if len(files) > 3:
        files[1].path.unlink()
    build_index(settings, STREAM, DATE)
    assert_equal_answers(settings, journal, seed)


@pytest.mark.parametrize("shape", ["order", "venue", "price"])
def test_a_recorded_hour_of_a_real_stock(tmp_path: Path, market_data: Path, shape: str) -> None:
    settings = settings_in(tmp_path)
    settings.journal_dir.mkdir()
    lines = gzip.decompress((market_data / f"aapl_2012-06-21_depth_by_{shape}.iqfeed.txt.gz").read_bytes()).splitlines(keepends=True)
    frames = [(b"".join(lines[at : at + 200]), len(lines[at : at + 200]), at + 1, T0) for at in range(0, len(lines), 200)]
    stream, day = "iqfeed-depth-import-00000000", 20120621
    write_finished_stream(settings.journal_dir, stream, [(day, iter(frames))], context={}, calendar="XNYS")
    assert build_index(settings, stream, day).complete
    rng = np.random.default_rng(6)
    opening = 1_340_285_400_000_000_000  # 09:30 New York
    questions = [("AAPL", int(at)) for at in np.sort(rng.integers(opening, opening + 3_600_000_000_000, 300))]
    with BookHistory(settings) as history:
        assert [history.book_at(*question, stream, day, levels=50) for question in questions] == list(
            views_at(settings, stream, day, questions, 50)
        )
        assert not history.slow


def test_a_damaged_index_never_gives_a_wrong_answer(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    journal = RandomJournal(settings, 30)
    journal.frames(600)
    journal.roll(NEXT)
    path = build_index(settings, STREAM, DATE).path
    whole = path.read_bytes()
    questions = questions_between(T0, journal.ts, 2, 40)
    views = list(views_at(settings, STREAM, DATE, questions))
    rng = np.random.default_rng(3)
    told: list[str] = []
    slow = 0
    for turn in range(60):
        data = bytearray(whole)
        if turn % 3 == 0:
            data = data[: int(rng.integers(len(data)))]
        else:
            for at in rng.integers(0, len(data), int(rng.integers(1, 40))):
                data[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        chosen = rng.integers(0, len(questions), 4)
        with BookHistory(settings, told=told.append) as history:
            assert [history.book_at(*questions[int(at)], STREAM, DATE) for at in chosen] == [views[at] for at in chosen]
            slow += history.slow
    assert slow
    assert any("damaged" in text and "--anew" in text for text in told)
    path.unlink()
    with BookHistory(settings, told=told.append) as history:
        assert history.book_at(*questions[5], STREAM, DATE) == views[5]
    assert "has no book index" in told[-1]
    assert build_index(settings, STREAM, DATE).path.read_bytes() == whole


def test_a_journal_that_is_not_the_one_that_was_indexed_is_noticed(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    journal = RandomJournal(settings, 40)
    journal.frames(600)
    journal.roll(NEXT)
    build_index(settings, STREAM, DATE)
    file = list_segments(date_folder(settings.journal_dir, STREAM, DATE))[1]
    with file.path.open("r+b") as raw:
        raw.seek(file.path.stat().st_size // 2)
        raw.write(b"\0" * 4000)
    questions = questions_between(T0, journal.ts, 4)
    told: list[str] = []
    with BookHistory(settings, told=told.append) as history:
        for question in questions[::8]:
            history.book_at(*question, STREAM, DATE)
        assert history.slow
    assert any("is not what was indexed" in text for text in told)
