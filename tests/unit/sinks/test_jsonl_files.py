"""Appends to many files: every byte once and in its place, through few descriptors, interrupted or short writes, and undone as a whole."""

import ctypes
import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from l2_platform.sinks.jsonl_appends import Calls
from l2_platform.sinks.jsonl_files import AppendFiles, FilesChanged

WRITE = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
ERRNO = ctypes.CFUNCTYPE(ctypes.c_void_p)


class ScriptedWrite:
    """A `write` that takes at most three bytes, and fails as it is told."""

    def __init__(self, failures: dict[int, int]) -> None:
        """`failures`: n-th call → errno."""
        self.calls = 0
        self._failures = failures
        self._code = ctypes.c_int(0)
        self._functions = WRITE(self._write), ERRNO(lambda: ctypes.addressof(self._code))

    def _write(self, descriptor: int, data: int, count: int) -> int:
        self.calls += 1
        self._code.value = self._failures.get(self.calls, 0)
        return -1 if self._code.value else os.write(descriptor, ctypes.string_at(data, min(3, count)))

    def put_into(self, files: AppendFiles) -> None:
        """Let the files be written by this, which must be held as long: compiled code knows its address only."""
        write, code = (ctypes.cast(function, ctypes.c_void_p).value or 0 for function in self._functions)
        files._calls = Calls(write, files._calls.statx, code)


@pytest.fixture(params=["statx", "fstat"])
def files(request: pytest.FixtureRequest) -> Iterator[AppendFiles]:
    """With and without the system's way to look at files from compiled code."""
    files = AppendFiles(16)
    if request.param == "fstat":
        files._calls = files._calls._replace(statx=0)
    yield files
    files.close(None)


def append(files: AppendFiles, numbers: list[int], texts: list[bytes]) -> list[tuple[int, OSError]]:
    text = np.frombuffer(b"".join(texts), np.uint8).copy()
    return files.append(np.array(numbers, np.int64), text, np.cumsum([len(part) for part in texts]))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """At most so many may be opened; none at all for 0."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + count, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_every_file_gets_its_bytes_whatever_is_open(tmp_path: Path, files: AppendFiles) -> None:
    numbers = [files.add(str(tmp_path / "made" / f"{number:03d}")) for number in range(100)]
    for turn in range(5):
        assert append(files, numbers[turn:], [b"%d of %d\n" % (turn, number) for number in numbers[turn:]]) == []
        assert files.commit() == sum(len(b"%d of %d\n" % (turn, number)) for number in numbers[turn:])
    for number, path in zip(numbers, sorted((tmp_path / "made").iterdir()), strict=True):
        assert path.read_bytes() == b"".join(b"%d of %d\n" % (turn, number) for turn in range(min(number, 4) + 1))
        assert files.size(number) == path.stat().st_size
    assert files.bound.high == 16


def test_short_and_interrupted_writes_go_on_where_they_were(tmp_path: Path, files: AppendFiles) -> None:
    scripted = ScriptedWrite({1: errno.EINTR, 3: errno.EINTR, 4: errno.EINTR, 7: errno.EINTR})
    scripted.put_into(files)
    numbers = [files.add(str(tmp_path / name)) for name in "abc"]
    append(files, numbers, [b"0123456789", b"", b"abc"])
    assert files.commit() == 13
    assert contents(tmp_path) == {"a": b"0123456789", "b": b"", "c": b"abc"}
    assert scripted.calls == 9


def test_a_failed_write_is_undone_with_the_files_made_for_it(tmp_path: Path, files: AppendFiles) -> None:
    (tmp_path / "b").write_bytes(b"of another\n")
    numbers = [files.add(str(tmp_path / name)) for name in "abcdefg"]
    append(files, numbers[:2], [b"first\n", b"second\n"])
    files.commit()
    before = contents(tmp_path)
    scripted = ScriptedWrite({7: errno.ENOSPC})
    scripted.put_into(files)
    with pytest.raises(OSError, match="No space left") as caught:
        append(files, numbers, [b"12345\n"] * 7)
    assert caught.value.filename == str(tmp_path / "d")
    assert files.roll_back()
    assert contents(tmp_path) == before
    append(files, numbers, [b"%d" % number for number in numbers])
    assert files.commit() == 7
    others = {name: b"%d" % number for number, name in enumerate("cdefg", 2)}
    assert contents(tmp_path) == {"a": b"first\n0", "b": b"of another\nsecond\n1", **others}
    assert scripted.calls > 7


@pytest.mark.parametrize("change", ["deleted", "replaced", "longer", "shorter"])
def test_a_file_that_somebody_changed_is_noticed_before_anything_is_added(tmp_path: Path, files: AppendFiles, change: str) -> None:
    numbers = [files.add(str(tmp_path / name)) for name in "ab"]
    append(files, numbers, [b"1\n", b"2\n"])
    files.commit()
    path = tmp_path / "b"
    if change == "longer":
        path.write_bytes(b"2\n3\n")
    elif change == "shorter":
        path.write_bytes(b"")
    else:
        path.unlink()
        if change == "replaced":
            path.write_bytes(b"2\n")
    with pytest.raises(FilesChanged):
        append(files, numbers, [b"4\n", b"5\n"])
    assert files.roll_back()
    assert (tmp_path / "a").read_bytes() == b"1\n"


def test_without_free_descriptors_files_take_turns(tmp_path: Path, files: AppendFiles) -> None:
    numbers = [files.add(str(tmp_path / f"{number}")) for number in range(30)]
    append(files, numbers[:1], [b"x"])
    with descriptors_left(5):
        for _ in range(3):
            assert append(files, numbers, [b"x"] * 30) == []
        files.close(None)
    with descriptors_left(0), pytest.raises(OSError, match="Too many open files"):
        append(files, numbers, [b"x"] * 30)
    files.roll_back()
    assert contents(tmp_path) == {}


def test_a_link_to_nowhere_is_an_error(tmp_path: Path, files: AppendFiles) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "missing" / "a")
    with pytest.raises(FileNotFoundError):
        append(files, [files.add(str(tmp_path / "a"))], [b"1"])
    assert files.roll_back()


def test_undoing_goes_on_when_a_file_cannot_be_closed(
    tmp_path: Path, files: AppendFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = [files.add(str(tmp_path / name)) for name in "abc"]
    scripted = ScriptedWrite({1: errno.ENOSPC})
    scripted.put_into(files)
    with pytest.raises(OSError, match="No space left"):
        append(files, numbers, [b"1"] * 3)
    closed: list[int] = []

    def close(descriptor: int) -> None:
        os.closerange(descriptor, descriptor + 1)
        closed.append(descriptor)
        if len(closed) == 2:
            raise OSError(errno.EIO, "disk")

    monkeypatch.setattr("l2_platform.sinks.jsonl_files.os.close", close)
    assert not files.roll_back()
    assert len(closed) == 3
    assert contents(tmp_path) == {"b": b""}
    assert scripted.calls == 1


def test_names_that_are_refused_are_told_and_the_others_written(tmp_path: Path, files: AppendFiles) -> None:
    names = ["a", "N" * 300, "b"]
    numbers = [files.add(str(tmp_path / name)) for name in names]
    [(index, refusal)] = append(files, numbers, [b"1", b"22", b"333"])
    assert (index, refusal.errno) == (1, errno.ENAMETOOLONG)
    assert files.commit() == 4
    assert contents(tmp_path) == {"a": b"1", "b": b"333"}
    assert files.size(numbers[1]) == -1


def test_numbers_of_dropped_files_are_used_again(tmp_path: Path, files: AppendFiles) -> None:
    for turn in range(3):
        numbers = [files.add(str(tmp_path / f"{turn}-{number}")) for number in range(200)]
        assert sorted(numbers) == list(range(200))
        append(files, numbers, [b"x"] * 200)
        files.commit()
        files.drop(numbers)
        assert not [path for path in Path("/proc/self/fd").iterdir() if str(tmp_path) in os.path.realpath(path)]
    assert len(contents(tmp_path)) == 600
