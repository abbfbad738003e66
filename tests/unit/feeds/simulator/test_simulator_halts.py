"""Halts of the simulated market: nothing happens in a halted symbol, the others go on as before, and what is published can be read."""

from pathlib import Path
from typing import Any

import pytest

from l2_platform.errors import InputError
from l2_platform.feeds.iqfeed.simulator.halts import NS, as_csv, as_rss
from l2_platform.feeds.iqfeed.simulator.live import LiveMarket
from l2_platform.feeds.iqfeed.simulator.source import LineBatch
from l2_platform.quality.halts import Halt, read_halts
from l2_platform.settings import SimulatorSettings

START = 1_795_185_912 * NS
"""2026-11-20 14:45:12 UTC."""


class Lines:
    """Counts the depth lines of each symbol."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def has_watchers(self) -> bool:
        return True

    def is_backed_up(self) -> bool:
        return False

    def publish(self, batch: Any) -> None:
        if isinstance(batch, LineBatch):
            for symbol in batch.symbols.tolist():
                self.counts[symbol] = self.counts.get(symbol, 0) + 1


def market(file: Path | None = None, **chosen: Any) -> LiveMarket:
    settings = SimulatorSettings(**({"symbols": 4, "rate": 4000} | chosen))
    return LiveMarket(settings, START, flat=True, halts_file=file)


def run(live: LiveMarket, until: int) -> dict[int, int]:
    lines = Lines()
    while live.advance(until, lines, lines):
        pass
    return lines.counts


def test_a_halted_symbol_says_nothing_and_the_others_go_on(tmp_path: Path) -> None:
    file = tmp_path / "simulator" / "halts.csv"
    live, free = market(file), market()
    command = live.commands()
    run(live, START + 5 * NS)
    run(free, START + 5 * NS)
    assert command["halt"]({"symbol": "sym002", "seconds": 10}) == {"halted": ["SYM002"]}
    counts, usual = run(live, START + 14 * NS), run(free, START + 14 * NS)
    assert 2 not in counts
    for symbol in (0, 1, 3):
        assert 0.9 * usual[symbol] < counts[symbol] < 1.1 * usual[symbol]
    (halt,) = read_halts(file.read_bytes(), "h")
    assert halt == Halt("SYM002", START + 5 * NS, None, "T1", "NASDAQ")
    assert run(live, START + 25 * NS)[2] > 100
    (halt,) = read_halts(file.read_bytes(), "h")
    assert halt.ts_to is not None
    assert abs(halt.ts_to - START - 15 * NS) < NS
    assert read_halts(as_rss(live.halts.rows).encode(), "h") == [halt]


def test_every_symbol_may_be_halted(tmp_path: Path) -> None:
    live = market(symbols=2)
    for name in ("SYM000", "SYM001"):
        live.commands()["halt"]({"symbol": name})
    assert run(live, START + 5 * NS) == {}
    live.commands()["resume"]({"symbol": "SYM001"})
    # nothing is made up for
    assert set(counts := run(live, START + 6 * NS)) == {1}
    assert counts[1] < 4000


def test_halts_by_seed_are_the_same_each_time(tmp_path: Path) -> None:
    files = [tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "c.csv"]
    for file, seed in zip(files, (7, 7, 8), strict=True):
        run(market(file, halts_per_hour=60, halt_s=30, seed=seed, rate=10), START + 600 * NS)
    first, second, third = (read_halts(file.read_bytes(), "h") for file in files)
    assert first == second != third
    assert 3 < len(first) < 20
    for halt in first:
        assert halt.reason == "LUDP"
        assert halt.ts_to is None or abs(halt.ts_to - halt.ts_from - 30 * NS) < 2 * NS


def test_what_an_earlier_run_published_stays_and_is_over(tmp_path: Path) -> None:
    file = tmp_path / "halts.csv"
    live = market(file, halts_max=2)
    for name in ("SYM000", "SYM001", "SYM003"):
        live.commands()["halt"]({"symbol": name})
    assert [halt.symbol for halt in read_halts(file.read_bytes(), "h")] == ["SYM001", "SYM003"]
    again = LiveMarket(SimulatorSettings(symbols=4), START + 60 * NS, halts_file=file)
    assert again.halts.names_now() == []
    assert [halt.ts_to for halt in read_halts(file.read_bytes(), "h")] == [START + 60 * NS] * 2
    file.write_text("something else\n")
    assert market(file).halts.rows == []


@pytest.mark.parametrize(
    ("name", "command", "said"),
    [
        ("halt", {"symbol": "NONE"}, "unknown symbol NONE"),
        ("halt", {"symbol": "SYM000", "seconds": 0}, "seconds must be"),
        ("halt", {"symbol": "SYM000", "reason": "a,b"}, "reason must be"),
        ("resume", {"symbol": "SYM000"}, "is not halted"),
    ],
    ids=["symbol", "seconds", "reason", "resume"],
)
def test_commands_that_make_no_sense_are_refused(name: str, command: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        market().commands()[name](command)


def test_no_halts_are_a_header_and_an_empty_feed() -> None:
    assert read_halts(as_csv([]).encode(), "h") == read_halts(as_rss([]).encode(), "h") == []
