"""Faults of single stores: rows that ClickHouse or a JSONL file lost, has twice, or has with another value; found by reconciliation.

A small generated day is journaled and brought into both stores by the program itself; then rows of the stores are changed, and
`reconcile_date` compares them with the journal once. A fault is found when its key is named under its table, store and kind of
difference. What does not belong here: faults of the feed (the other modules).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from clickhouse_connect.driver.client import Client

from benchmarks.figure import Context
from benchmarks.lines import SESSION_DATE, GeneratedMarket, Lines
from benchmarks.recall.judging import Share
from benchmarks.recall.market import DEPTH, LEVEL1, Random
from benchmarks.store import warehouse
from l2_platform.feeds.iqfeed.layouts import layout_from_names
from l2_platform.journal.importing import write_finished_stream
from l2_platform.quality.reconcile import reconcile_date
from l2_platform.quality.reconciled import ReconcileResult
from l2_platform.settings import ReconcileSettings, Settings
from l2_platform.sinks.jsonl_names import folder_of

STREAM_OF: Final = {
    "trades": f"{LEVEL1}0", "quotes": f"{LEVEL1}0", "depth_updates": f"{DEPTH}0", "book_snapshots": f"{DEPTH}0",
}  # fmt: skip
FILES: Final = {"trades": "ticks", "quotes": "l1", "book_snapshots": "l2"}
CHANGES: Final = {
    "trades": "size = size + 1", "quotes": "bid_size = bid_size + 1", "depth_updates": "size = size + 1",
    "book_snapshots": "total_bid_size = total_bid_size + 1",
}  # fmt: skip
KINDS: Final = {
    "store_row_lost": ("missing", "a row of a table of ClickHouse is not there, the journal has it"),
    "store_row_doubled": ("doubled", "a row of a table is there twice"),
    "store_row_added": ("extra", "a table has a row that the journal does not have"),
    "store_row_altered": ("changed", "a size in a row of a table is 1 more than the journal says"),
    "file_line_lost": ("missing", "a line of a JSONL file is not there"),
    "file_line_doubled": ("doubled", "a line of a JSONL file is there twice"),
}
"""Kind → how the reconciliation calls it, and what is wrong."""
CHECK: Final = "l2 reconcile"
ADDED: Final = 1_000_000_000
"""Seqs of rows that the journal does not have."""
SYMBOLS: Final = 10
Planted = tuple[str, str, str, str]
"""Kind, table, store, key."""


def run_stores(scratch: Path, seed: int, many: int, lines: int) -> dict[str, Share]:
    """Plant `many` of each kind into a day of `lines` depth and as many Level 1 lines; what was found, by kind."""
    scratch.mkdir(parents=True)
    ctx = Context(scratch)
    with warehouse(ctx) as (found, _sink, client):
        settings = found.model_copy(update={"reconcile": ReconcileSettings(keys=1000)})
        write_day(settings, seed, lines)
        for heal in (True, False):
            filled = reconcile_date(settings, SESSION_DATE, ctx.clock, heal)
            if not filled.ok:
                raise AssertionError(f"the stores differ before anything is planted: {filled}")
        plants = list(plant(settings, client, np.random.default_rng(seed), many))
        named = names_of(reconcile_date(settings, SESSION_DATE, ctx.clock))
    return {
        name: Share(sum(one in named for one in plants if one[0] == name), sum(kind == name for kind, *_ in plants)) for name in KINDS
    }


def write_day(settings: Settings, seed: int, lines: int) -> None:
    """A finished journal of a stream of depth and one of Level 1."""
    market = GeneratedMarket(SYMBOLS, rate=2000, seed=seed)
    fields = list(layout_from_names(("Symbol", *market.layout.names)).fields)
    _write(settings, f"{DEPTH}0", market.snapshot() + market.depth(lines), {})
    _write(settings, f"{LEVEL1}0", market.level1(lines), {"fields": fields, "connection": 1})


def _write(settings: Settings, stream: str, lines: Lines, context: dict[str, object]) -> None:
    frames = [(data, count, seq, ts) for data, count, seq, ts in lines.block(frame_lines=200).frames()]
    write_finished_stream(settings.journal_dir, stream, [(SESSION_DATE, frames)], context=context, calendar="always_open")


def plant(settings: Settings, client: Client, rng: Random, many: int) -> Iterator[Planted]:
    """Each kind in rows of its own, the tables in turn."""
    for number, (table, stream) in enumerate(STREAM_OF.items()):
        where = f"session_date = '{_day()}' AND stream = '{stream}'"
        seqs = [int(seq) for (seq,) in client.query(f"SELECT DISTINCT seq FROM l2.{table} WHERE {where}").result_rows]
        per_kind = many // len(STREAM_OF) + (number < many % len(STREAM_OF))
        lost, doubled, added, altered = np.split(rng.choice(np.sort(seqs), 4 * per_kind, replace=False), 4)
        place, wait = f"l2.{table}", "SETTINGS mutations_sync = 2"
        for rows, seq in ((doubled, "seq"), (added, f"seq + {ADDED}")):
            client.command(
                f"INSERT INTO {place} SELECT * REPLACE({seq} AS seq)"
                f" FROM (SELECT * FROM {place} WHERE {where} AND seq IN ({_listed(rows)}))"
                " SETTINGS insert_deduplicate = 0"
            )
        client.command(f"ALTER TABLE {place} UPDATE {CHANGES[table]} WHERE {where} AND seq IN ({_listed(altered)}) {wait}")
        client.command(f"ALTER TABLE {place} DELETE WHERE {where} AND seq IN ({_listed(lost)}) {wait}")
        chosen = {"lost": lost, "doubled": doubled, "added": added, "altered": altered}
        for name, rows in chosen.items():
            step = ADDED if name == "added" else 0
            yield from ((f"store_row_{name}", table, "clickhouse", str(int(seq) + step)) for seq in rows)
    for number, (table, kind) in enumerate(FILES.items()):
        per_kind = many // len(FILES) + (number < many % len(FILES))
        yield from _plant_lines(settings, table, kind, rng, per_kind)


def _plant_lines(settings: Settings, table: str, kind: str, rng: Random, many: int) -> Iterator[Planted]:
    """Lost and doubled lines of one kind of file."""
    folder = folder_of(settings.jsonl_dir, STREAM_OF[table], SESSION_DATE)
    files = {path: path.read_bytes().splitlines(keepends=True) for path in sorted(folder.glob(f"*_{kind}_{SESSION_DATE}.jsonl"))}
    places = [(path, number) for path, lines in files.items() for number in range(len(lines))]
    chosen = [places[int(place)] for place in rng.choice(len(places), 2 * many, replace=False)]
    for turn, (path, number) in enumerate(chosen):
        line = files[path][number]
        seq = line.rpartition(b'"seq":')[2].partition(b"}")[0].partition(b",")[0].decode()
        files[path][number] = b"" if turn < many else line + line
        yield ("file_line_lost" if turn < many else "file_line_doubled", table, "jsonl", seq)
    for path, lines in files.items():
        path.write_bytes(b"".join(lines))


def names_of(result: ReconcileResult) -> set[Planted]:
    """What a reconciliation named, by our kinds."""
    ours = {(_store_of(name), kind): name for name, (kind, _) in KINDS.items()}
    return {
        (ours[entry.store, kind], entry.table, entry.store, key)
        for entry in result.entries for kind, keys in entry.differences.keys.items() for key in keys if (entry.store, kind) in ours
    }  # fmt: skip


def _store_of(name: str) -> str:
    return "clickhouse" if name.startswith("store") else "jsonl"


def _day() -> str:
    return f"{SESSION_DATE // 10_000}-{SESSION_DATE // 100 % 100:02d}-{SESSION_DATE % 100:02d}"


def _listed(seqs: Sequence[int] | np.ndarray) -> str:
    return ", ".join(str(int(seq)) for seq in seqs)
