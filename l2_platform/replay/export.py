"""Writes every state of one symbol's book on one day to a Parquet or JSON Lines file; the file appears only when it is whole."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from l2_platform.errors import InputError
from l2_platform.market.events import NULL_TS, SnapshotBatch, Trust
from l2_platform.replay.books import columns_of, states
from l2_platform.settings import Settings


def export_states(
    settings: Settings,
    symbol: str,
    stream: str,
    session_date: int,
    levels: int,
    out: Path,
    *,
    changes_only: bool,
    advance: Callable[[int], None],
) -> int:
    """Write the file and return its rows; memory is bounded by one chunk. `advance` is told of rows as they are written."""
    if out.suffix not in {".parquet", ".jsonl"}:
        raise InputError(f"--out {out}: the name must end in .parquet or .jsonl")
    if not out.absolute().parent.is_dir():
        raise InputError(f"--out {out}: the folder {out.absolute().parent} does not exist")
    temporary = out.with_name(f".{out.name}.part")
    writer: pq.ParquetWriter | None = None
    rows = 0
    try:
        with temporary.open("wb") as file:
            for batch in states(settings, symbol, stream, session_date, levels, changes_only=changes_only):
                frame = _frame(batch, levels)
                if out.suffix == ".jsonl":
                    file.write(frame.write_ndjson().encode())
                else:
                    table = frame.to_arrow()
                    writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
                    writer.write_table(table)
                rows += len(frame)
                advance(len(frame))
            if writer is None and out.suffix == ".parquet":
                pq.write_table(_frame(_no_states(levels), levels).to_arrow(), file)
            if writer is not None:
                writer.close()
        temporary.replace(out)
    except OSError as error:
        raise InputError(f"--out {out}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return rows


def _no_states(levels: int) -> SnapshotBatch:
    none, empty = np.zeros(0, np.int64), np.zeros((0, levels), np.int64)
    counts = np.zeros((0, levels), np.int32)
    return SnapshotBatch(
        none.astype(np.uint64), none.astype(np.int32), none, none, none.astype(np.uint8), empty, empty, counts, empty, empty, counts
    )


def _frame(batch: SnapshotBatch, levels: int) -> pl.DataFrame:
    names = [trust.name.lower() for trust in Trust]
    frame = pl.DataFrame(columns_of(batch, levels))
    time = [
        pl.when(pl.col(name) == NULL_TS).then(None).otherwise(pl.col(name)).cast(pl.Datetime("ns", "UTC")).alias(name)
        for name in ("ts_event", "ts_recv")
    ]
    prices = [pl.col(name).fill_nan(None) for name in frame.columns if "_px_" in name]
    sizes = [
        pl.when(pl.col(name) < 0).then(None).otherwise(pl.col(name)).cast(pl.Int64).alias(name)
        for name in frame.columns
        if "_sz_" in name or "_ct_" in name
    ]
    trust = pl.col("trust").cast(pl.Int64).replace_strict(list(range(len(names))), names, return_dtype=pl.String)
    return frame.with_columns(*time, *prices, *sizes, trust)


