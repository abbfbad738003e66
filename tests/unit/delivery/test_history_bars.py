"""Replies of bars in a journal become rows of `history_bars`, however the journal is cut, and of nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from l2_platform.delivery.pipeline import HISTORY_REPLY
from l2_platform.journal.appending import Piece, append_finished_segment
from l2_platform.journal.reader import JournalReader
from tests.unit.delivery.journals import DATE, T0, Rows, add_rows, pipeline_for

BARS = "iqfeed-bars-history"
MINUTE = b"H1,LH,2024-01-02 09:30:00,2.0,1.0,1.2,1.5,1000,300,0,\r\nH1,LH,2024-01-02 09:31:00,3.0,1.1,1.3,2.5,1500,400,0,\r\n"
DAILY = b"H2,LH,2024-01-02,4.0,1.0,1.2,3.5,9000,0,\r\n"
BROKEN = b"H2,LH,2024-01-02,4.0,x,1.2,3.5,9000,0,\r\n"
END = b"H1,!ENDMSG!,\r\n"
NS = 10**9
OPEN = T0 + 1800 * NS
"""09:30 in New York."""


def written(root: Path, stream: str, *replies: tuple[dict[str, Any], bytes]) -> None:
    def pieces() -> Iterator[Piece]:
        for fields, data in replies:
            yield HISTORY_REPLY, fields, T0
            yield data, data.count(b"\n"), T0 + 1

    append_finished_segment(root, stream, DATE, pieces(), context={}, calendar="always_open")


def read(root: Path, stream: str, max_bytes: int) -> Rows:
    """Rows of the date; at every cut another pipeline goes on from the state of the one before."""
    rows: Rows = {}
    pipeline = pipeline_for(stream)
    pipeline.begin_date(DATE, None)
    reader = JournalReader(root, stream, DATE, durable_path=None)
    while items := reader.read(max_bytes):
        add_rows(rows, pipeline.process(items, 0))
        state, pipeline = pipeline.dump(), pipeline_for(stream)
        pipeline.load(state)
    return rows


REPLIES = (
    ({"symbol": "AAA", "interval_s": 60}, MINUTE + END),
    ({"symbol": "BBB", "interval_s": 86_400}, DAILY + BROKEN + END),
    ({"symbol": "AAA", "interval_s": 86_400}, DAILY + END),
)


def bar(**values: Any) -> dict[str, Any]:
    prices = {name: int(values.pop(name) * 1e9) for name in ("open", "high", "low", "close")}
    return {"ts_recv": T0 + 1, "trade_count": 0} | prices | values


@pytest.mark.parametrize("max_bytes", [1 << 24, 1])
def test_rows_of_bars(tmp_path: Path, max_bytes: int) -> None:
    written(tmp_path, BARS, *REPLIES)
    rows = read(tmp_path, BARS, max_bytes)
    assert set(rows) == {"history_bars", "feed_events"}
    minute = {"symbol": "AAA", "interval_s": 60}
    daily = {"interval_s": 86_400, "ts_begin": T0 - 9 * 3600 * NS, "volume": 9000, "total_volume": -1}
    prices = {"open": 1.2, "high": 4, "low": 1, "close": 3.5}
    assert [dict(row) for row in rows["history_bars"]] == [
        bar(**minute, seq=1, ts_begin=OPEN, open=1.2, high=2, low=1, close=1.5, volume=300, total_volume=1000),
        bar(**minute, seq=2, ts_begin=OPEN + 60 * NS, open=1.3, high=3, low=1.1, close=2.5, volume=400, total_volume=1500),
        bar(**daily, **prices, seq=4, symbol="BBB"),
        bar(**daily, **prices, seq=7, symbol="AAA"),
    ]
    events = [dict(row) for row in rows["feed_events"]]
    assert [(event["seq"], event["kind"]) for event in events] == [
        (0, "history_reply"), (3, "history_reply"), (5, "quarantine"), (6, "history_reply"),
    ]  # fmt: skip


@pytest.mark.parametrize("stream", ["iqfeed-ticks-history", "iqfeed-ticks-repair-history"])
def test_bars_in_a_stream_of_ticks_stay_feed_events(tmp_path: Path, stream: str) -> None:
    written(tmp_path, stream, ({"symbol": "AAA", "interval_s": 60}, MINUTE + END))
    rows = read(tmp_path, stream, 1 << 24)
    assert set(rows) == {"feed_events"}
    assert [dict(row)["kind"] for row in rows["feed_events"]] == ["history_reply", "history_bar", "history_bar"]
