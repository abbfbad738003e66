"""A small coverage-guided fuzzer for Python code: mutate what reached new lines, keep what reaches more.

It needs nothing but the interpreter, runs the same everywhere, and one seed gives one run. A case may take CPU time up to a limit, and
the process may grow only so far: a hang or a growth is a finding like an exception. Compiled kernels have no lines to trace; `lines`
guides by what comes out of them.
"""

import random
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

CASE_S = 5.0
"""Most CPU time of one case, s: a thousand times what the slowest one needs."""
GROWTH_BYTES_MAX = 256 << 20
"""Most that the process may grow over a run, bytes."""
CORPUS_MAX = 2000
SIZE_MAX = 1 << 16
EXTREMES = (
    b"", b"0", b"-1", b"1e999", b"NaN", b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"1" * 40,
    b"-0", b"00", b"2147483648", b"4294967295", b"99:99:99.999999", b"\x00", b"\xff", b"\n", b"\r\n", b",", b"[" * 3000, b"{}", b"null",
)  # fmt: skip

Target = Callable[[bytes], None]


class Hang(BaseException):
    """A case took too long; not an Exception, so that no handler of the code under test can swallow it."""


@dataclass(slots=True)
class Exploration:
    """What a run did."""

    cases: int = 0
    edges: set[tuple[CodeType, int, int]] = field(default_factory=set)
    kept: list[bytes] = field(default_factory=list)
    grown_bytes: int = 0


class Mutator:
    """Makes a new input from old ones: bytes, ranges, fields between separators, words of the format."""

    def __init__(self, rng: random.Random, words: Sequence[bytes] = ()) -> None:
        self._rng = rng
        self._words = (*EXTREMES, *words)

    def mutate(self, data: bytes, other: bytes) -> bytes:
        """One to four changes of `data`; `other` lends a part."""
        changed = bytearray(data)
        for _ in range(self._rng.choice((1, 1, 1, 2, 2, 3, 4))):
            self._change(changed, other)
        return bytes(changed[:SIZE_MAX])

    def _change(self, data: bytearray, other: bytes) -> None:
        rng = self._rng
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(9)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(data):
            data[at] = rng.randrange(256)
        elif kind == 2:
            data[at:at] = rng.choice(self._words)
        elif kind == 3:
            del data[at : at + 1 + rng.randrange(max(1, min(64, len(data))))]
        elif kind == 4:
            part = data[at : at + 1 + rng.randrange(64)]
            data[at:at] = part * rng.choice((1, 1, 2, 8))
        elif kind == 5 and other:
            begin = rng.randrange(len(other))
            data[at:at] = other[begin : begin + 1 + rng.randrange(128)]
        elif kind == 6:
            del data[at:]
        elif kind == 7:
            self._replace_field(data, at)
        else:
            self._swap_fields(data)

    def _replace_field(self, data: bytearray, at: int) -> None:
        begin, end = _field_around(data, at)
        data[begin:end] = self._rng.choice(self._words)

    def _swap_fields(self, data: bytearray) -> None:
        if not data:
            return
        first, second = sorted(_field_around(data, self._rng.randrange(len(data))) for _ in range(2))
        if first[1] <= second[0]:
            one, two = bytes(data[slice(*first)]), bytes(data[slice(*second)])
            data[slice(*second)] = one
            data[slice(*first)] = two


def _field_around(data: bytearray, at: int) -> tuple[int, int]:
    begin = 1 + max(data.rfind(separator, 0, at) for separator in (b",", b"\n", b":", b" "))
    ends = [end for separator in (b",", b"\n", b":", b" ") if (end := data.find(separator, at)) >= 0]
    return begin, max(begin, min(ends, default=len(data)))


class Edges:
    """Which line followed which, in the functions of some files; `new` while something new was seen."""

    def __init__(self, files: Iterable[str]) -> None:
        self._files = frozenset(files)
        self._watched: dict[CodeType, bool] = {}
        self.seen: set[tuple[CodeType, int, int]] = set()

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Look at what runs inside."""
        before = sys.gettrace()
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(before)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        watched = self._watched.get(code)
        if watched is None:
            watched = self._watched[code] = code.co_filename in self._files
        if not watched:
            return None
        last = 0
        seen = self.seen

        def line(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal last
            number = frame.f_lineno
            seen.add((code, last, number))
            last = number
            return line

        return line


def explore(
    target: Target, corpus: Sequence[bytes], files: Iterable[str], *, cases: int, seed: int, words: Sequence[bytes] = ()
) -> Exploration:
    """Run the corpus, then `cases` mutations guided by what they reach; raises what the target raises, with the input."""
    rng = random.Random(seed)
    mutator = Mutator(rng, words)
    edges = Edges(files)
    done = Exploration(edges=edges.seen)
    pool = list(corpus) or [b""]
    for data in pool:
        target(data)  # compiled kernels and lazy imports belong to no case
    grown_from = _high_water()
    with hang_is_a_finding():
        for data in pool:
            _run(target, data, edges)
            done.cases += 1
        while done.cases < cases + len(pool) - len(done.kept):
            data = mutator.mutate(rng.choice(pool), rng.choice(pool))
            known = len(edges.seen)
            _run(target, data, edges)
            done.cases += 1
            if len(edges.seen) > known and len(pool) < CORPUS_MAX:
                pool.append(data)
                done.kept.append(data)
    done.grown_bytes = _high_water() - grown_from
    return done


def _run(target: Target, data: bytes, edges: Edges) -> None:
    signal.setitimer(signal.ITIMER_VIRTUAL, CASE_S)
    try:
        with edges.tracing():
            target(data)
    except BaseException as error:
        error.add_note(f"input ({len(data)} bytes): {data[:2000]!r}")
        raise
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


@contextmanager
def hang_is_a_finding() -> Iterator[None]:
    """SIGVTALRM becomes Hang; only the main thread may use it."""

    def on_alarm(number: int, frame: FrameType | None) -> None:
        raise Hang(f"a case took {CASE_S:g} s of CPU time")

    before = signal.signal(signal.SIGVTALRM, on_alarm)
    try:
        yield
    finally:
        signal.signal(signal.SIGVTALRM, before)


def minimised(inputs: Iterable[bytes], target: Target, files: Iterable[str]) -> list[bytes]:
    """The smallest inputs first, each only when it reaches what none before it reached: for the stored corpus."""
    edges = Edges(files)
    kept = []
    with hang_is_a_finding():
        for data in sorted(set(inputs), key=lambda item: (len(item), item)):
            known = len(edges.seen)
            _run(target, data, edges)
            if len(edges.seen) > known:
                kept.append(data)
    return kept


def stored(folder: Path) -> list[bytes]:
    """The inputs kept in a folder, in the order of their names."""
    return [path.read_bytes() for path in sorted(folder.glob("*.bin"))]


def _high_water() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
