"""The journal: appending frames with group fsync, and sealing closed segments.

What does not belong here: the collector around the writer (path.py), reading (rebuild.py).
"""

import gzip
import os
import shutil
from collections.abc import Iterator
from itertools import count as numbers
from pathlib import Path

import numpy as np
import zstandard

from benchmarks.figure import Context, Plot, Result, Row, Series, Spread, Target, figure
from benchmarks.lines import SESSION_DATE, SHAPES, START_NS, GeneratedMarket, Lines, read_recorded
from l2_platform.journal.importing import write_finished_stream
from l2_platform.journal.layout import date_folder, raw_path
from l2_platform.journal.sealer import seal_closed
from l2_platform.journal.writer import JournalWriter
from l2_platform.settings import JournalSettings

STREAM = "iqfeed-depth-0"
IMPORTED = "iqfeed-depth-import-00000000"
FRAME_LINES = (35, 350, 3_500)
"""Lines of a frame: what 1 ms brings at 35 k, 350 k and 3.5 M lines/s (the last is about one full read of the socket, 256 KiB)."""
PACED_S = 5.0
RATIO_MAX = {"orders": 20.0, "levels": 15.0, "venues": 12.0}
"""Target of the sealed size by shape, % of raw."""
SEAL_RATE_MIN = 50.0
"""Target, MB/s."""
RECORDED = {"orders": ("order", 3), "venues": ("venue", 12), "levels": ("price", 3)}
"""Recorded hour of a shape: its file, and how often it is repeated to have enough to time (blocks are compressed one by one)."""


@figure("journal-append", title="Journal: append with fsync", unit="MB/s", baseline="bare writes and one fdatasync", order=30)
def journal_append(ctx: Context) -> Result:
    """Frames of depth lines through the real writer: CRC32C, one `pwritev` a frame, fdatasync in its thread at most 10 ms apart,
    rotation at 256 MiB; the time ends when everything is durable (`sync`). The baseline writes the same bytes in blocks of 8 MiB to
    one file and calls fdatasync once. "Held" is how long a single append holds the collector's thread at a steady 1,000 frames/s
    (35,000 lines/s), for 5 s, with the fsync thread at work.
    """
    size = ctx.pick(1 << 20, 256 << 20)
    lines = GeneratedMarket(ctx.pick(10, 1_000)).depth(ctx.pick(7_000, 350_000))
    rows: list[Row] = []
    for frame_lines in FRAME_LINES:
        frames = [frame[:2] for frame in lines.block(frame_lines=frame_lines).frames()]
        repeats = max(1, round(size / len(lines.data)))
        moved = repeats * len(lines.data)
        seconds = _append_seconds(ctx, frames, repeats)
        bare = _bare_seconds(ctx, lines.data, repeats)
        held = _held_us(ctx, frames) if frame_lines == FRAME_LINES[0] else None
        row: Row = {
            "lines a frame": frame_lines,
            "bytes a frame": len(frames[0][0]),
            "MB/s": seconds.rate(moved / 1e6),
            "M lines/s": seconds.rate(repeats * len(lines) / 1e6),
            "bare writes MB/s": bare.rate(moved / 1e6).median,
            "% of bare": 100 * bare.median / seconds.median,
        }
        if held is not None:
            row |= {f"held p{name}, µs": value for name, value in held.items()}
        rows.append(row)
    return Result(rows=rows, limit=_append_limit(rows, ctx))


def _append_seconds(ctx: Context, frames: list[tuple[bytes, int]], repeats: int) -> Spread:
    root, turn = ctx.scratch / "append", numbers(1)
    held: list[JournalWriter] = []

    def prepare() -> None:
        if held:
            held.pop().close()
        shutil.rmtree(root, ignore_errors=True)
        writer = _writer(ctx, root / str(next(turn)))
        writer.open(SESSION_DATE)
        held.append(writer)

    def work() -> None:
        append = held[0].append
        for _ in range(repeats):
            for payload, count in frames:
                append(payload, count, START_NS, 1)
        held[0].sync()

    seconds = ctx.repeat(work, prepare=prepare, passes=3)
    held.pop().close()
    shutil.rmtree(root)
    return seconds


def _bare_seconds(ctx: Context, data: bytes, repeats: int) -> Spread:
    path = ctx.scratch / "bare"
    block = (data * (1 + (8 << 20) // len(data)))[: 8 << 20]

    def work() -> None:
        left = repeats * len(data)
        with path.open("wb", buffering=0) as file:
            while left > 0:
                left -= file.write(memoryview(block)[:left])
            os.fdatasync(file.fileno())

    seconds = ctx.repeat(work, prepare=lambda: path.unlink(missing_ok=True), passes=3, warm=0)
    path.unlink()
    return seconds


def _held_us(ctx: Context, frames: list[tuple[bytes, int]]) -> dict[str, float]:
    """Percentiles of single appends, µs, at 1,000 a second."""
    writer = _writer(ctx, ctx.scratch / "paced")
    writer.open(SESSION_DATE)
    taken = []
    started = ctx.clock.monotonic_ns()
    for number in range(ctx.pick(100, int(PACED_S * 1000))):
        due = started + number * 1_000_000
        wait = due - ctx.clock.monotonic_ns()
        if wait > 0:
            ctx.clock.sleep(wait / 1e9)
        payload, count = frames[number % len(frames)]
        begun = ctx.clock.monotonic_ns()
        writer.append(payload, count, START_NS, 1)
        taken.append((ctx.clock.monotonic_ns() - begun) / 1000)
    writer.close()
    return {name: float(np.percentile(taken, float(name))) for name in ("50", "99", "99.9", "100")}


def _append_limit(rows: list[Row], ctx: Context) -> str:
    text = "Small frames: the CPU, about 10 µs of Python and system call a frame. Large ones: the disk."
    best = max(row["MB/s"].median for row in rows if isinstance(row["MB/s"], Spread))
    if "disk_mb_s" in ctx.limits:
        share = 100 * best / ctx.limits["disk_mb_s"]
        text += f" The best is {share:.0f} % of what the same disk took sequentially at the start of the run."
    return text


@figure("journal-seal", title="Journal: sealing", unit="MB/s", baseline="zstd alone on the same blocks", order=31)
def journal_seal(ctx: Context) -> Result:
    """Closed segments of 1,000 symbols through the whole sealing step at the configured level: read, walk the frames, compress 1 MiB
    blocks, two SHA-256, CRCs, write, read every block back and compare, fsync, rename, manifest line, unlink. The baseline is
    zstd alone at the same level on the same blocks in memory. "Recorded hour" is a real stock's hour of 2012 in the three layouts
    (one symbol); raw counts frame headers too. One core.
    """
    settings = JournalSettings()
    rows: list[Row] = []
    strongest: dict[str, float] = {}
    for shape in SHAPES:
        lines = GeneratedMarket(ctx.pick(10, 1_000), shape).depth(ctx.pick(3_000, 600_000))
        rows.append(_seal_row(ctx, "generated", shape, lines, settings))
        strongest[shape] = _strongest(ctx, lines.head(ctx.pick(3_000, 50_000)))
    if ctx.market_data is not None:
        for shape, (name, times) in RECORDED.items():
            lines = recorded_hour(ctx.market_data, name, ctx.pick(1, times))
            rows.append(_seal_row(ctx, "recorded hour", shape, lines, settings))
    notes = [f"zstd level {settings.compression_level}, blocks of {settings.block_bytes >> 10} KiB."]
    if ctx.market_data is None:
        notes.append("The recorded hour was not there.")
    return Result(
        rows=rows,
        notes=notes,
        targets=_seal_targets(rows, strongest),
        limit=_seal_limit(rows),
        plots=[_levels(ctx, settings)],
    )


def recorded_hour(folder: Path, name: str, times: int = 1) -> Lines:
    """The recorded hour of one layout (`order`, `venue`, `price`), as if its lines came at 35,000/s."""
    return read_recorded(gzip.decompress((folder / f"aapl_2012-06-21_depth_by_{name}.iqfeed.txt.gz").read_bytes()) * times)


def _seal_row(ctx: Context, source: str, shape: str, lines: Lines, settings: JournalSettings) -> Row:
    root, turn = ctx.scratch / "seal", numbers(1)
    frames = lines.block().frames()
    raw_bytes = packed_bytes = 0

    def prepare() -> None:
        shutil.rmtree(root, ignore_errors=True)
        (root / str(next(turn))).mkdir(parents=True)
        write_finished_stream(_only(root), IMPORTED, [(SESSION_DATE, frames)], context={}, calendar="always_open")

    def work() -> None:
        nonlocal raw_bytes, packed_bytes
        entries = seal_closed(_only(root), IMPORTED, settings)
        raw_bytes, packed_bytes = sum(entry.raw_bytes for entry in entries), sum(entry.bytes for entry in entries)

    seconds = ctx.repeat(work, prepare=prepare, passes=3, warm=0)
    prepare()
    raw = raw_path(date_folder(_only(root), IMPORTED, SESSION_DATE), 1)
    alone = ctx.repeat(lambda: sum(_packed_sizes(raw, settings.compression_level, settings.block_bytes)), passes=3, warm=0)
    shutil.rmtree(root)
    return {
        "lines": source,
        "shape": shape,
        "raw MB": raw_bytes / 1e6,
        "raw bytes a line": raw_bytes / len(lines),
        "MB/s": seconds.rate(raw_bytes / 1e6),
        "sealed, % of raw": 100 * packed_bytes / raw_bytes,
        "sealed bytes a line": packed_bytes / len(lines),
        "zstd alone MB/s": alone.rate(raw_bytes / 1e6).median,
    }


def _only(root: Path) -> Path:
    return next(root.iterdir())


def _packed_sizes(path: Path, level: int, block_bytes: int) -> Iterator[int]:
    packer = zstandard.ZstdCompressor(level=level)
    with path.open("rb") as file:
        while block := file.read(block_bytes):
            yield len(packer.compress(block))


def _seal_targets(rows: list[Row], strongest: dict[str, float]) -> list[Target]:
    """`strongest`: what zstd's level 19 makes of the generated lines of a shape, % of raw."""
    targets = []
    for shape, most in RATIO_MAX.items():
        found = {str(row["lines"]): row["sealed, % of raw"] for row in rows if row["shape"] == shape}
        held = [value for value in found.values() if isinstance(value, float)]
        measured = ", ".join(f"{name} {value:.1f} %" for name, value in found.items())
        why = (
            f"generated lines jump between symbols, venues and prices at random, so that even level 19 leaves {strongest[shape]:.1f} %"
            " (too slow to keep up); lines of one real stock repeat themselves more"
        )
        targets.append(Target(f"sealed ≤ {most:g} % of raw, {shape}", measured, max(held) <= most, why))
    speeds = [row["MB/s"].median for row in rows if isinstance(row["MB/s"], Spread)]
    reached = min(speeds) >= SEAL_RATE_MIN
    targets.append(Target(f"≥ {SEAL_RATE_MIN:g} MB/s a core", f"{min(speeds):.0f}–{max(speeds):.0f} MB/s", reached))
    return targets


def _strongest(ctx: Context, lines: Lines) -> float:
    """% of raw after the strongest compression there is."""
    path = ctx.scratch / "strongest"
    path.write_bytes(lines.data)
    packed = sum(_packed_sizes(path, 19, 1 << 20))
    path.unlink()
    return 100 * packed / len(lines.data)


def _seal_limit(rows: list[Row]) -> str:
    shares = [100 * row["MB/s"].median / float(str(row["zstd alone MB/s"])) for row in rows if isinstance(row["MB/s"], Spread)]
    return (
        f"The CPU: the compressor. The whole step runs at {min(shares):.0f}–{max(shares):.0f} % of zstd alone; the rest is SHA-256"
        " of both files and reading every block back."
    )


def _levels(ctx: Context, settings: JournalSettings) -> Plot:
    """Size and speed of zstd levels on one block file of order lines."""
    lines = GeneratedMarket(ctx.pick(10, 1_000)).depth(ctx.pick(3_000, 150_000))
    path = ctx.scratch / "levels"
    path.write_bytes(lines.data)
    levels = ctx.pick((1, 8), (1, 3, 5, 7, 8, 9, 11, 13))
    ratios, speeds = [], []
    for level in levels:
        begun = ctx.clock.monotonic_ns()
        packed = sum(_packed_sizes(path, level, settings.block_bytes))
        seconds = (ctx.clock.monotonic_ns() - begun) / 1e9
        ratios.append(100 * packed / len(lines.data))
        speeds.append(len(lines.data) / seconds / 1e6)
    path.unlink()
    series = [Series("size, % of raw", levels, ratios), Series("speed, MB/s", levels, speeds)]
    title = f"zstd level on order lines (configured: {settings.compression_level})"
    return Plot("levels", title, "level", "% and MB/s", series, log_y=True)


def _writer(ctx: Context, root: Path) -> JournalWriter:
    root.mkdir(parents=True)
    return JournalWriter(root, STREAM, JournalSettings(), ctx.clock, calendar="always_open", durable_path=root / "run" / "durable")
