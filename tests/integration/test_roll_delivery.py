"""A session roll with the link down, into the real tables: each gap opens and closes once, however often the delivery starts anew."""

from pathlib import Path

import pytest

from l2_platform.clock import SystemClock
from l2_platform.delivery.checkpoint import CheckpointStore
from l2_platform.delivery.follower import Follower, JournalSource
from l2_platform.sinks.clickhouse import ClickHouseSink
from tests.integration.homes import Home
from tests.unit.delivery.journals import DATE, MS, T0, LiveJournal, pipeline_for

pytestmark = pytest.mark.integration

NEXT = 20240103


def test_gaps_over_a_roll_close_once(tmp_path: Path, numba_cache: Path) -> None:
    home = Home(tmp_path, numba_cache)
    settings = home.settings
    journal = LiveJournal(home.path, "iqfeed-depth-0")
    line = "3,AAA,{},,B,10.0000,5,1,4,10:00:00.000001,2024-01-02,"
    journal.started()
    journal.lines(line.format(1))
    lost = journal.ts
    journal.control("disconnect", reason="fin", last_byte_ns=lost)
    end = lost + 1000 * MS
    journal.ts = end + 1000 * MS
    journal.roll(NEXT)
    journal.control("connect_failed", error="refused", attempt=1)
    journal.control("connect", host="h", port=1, attempt=2)
    journal.control("subscribed", symbols=1)
    journal.lines(line.format(2), line.format(3))
    whole = journal.ts
    journal.close()

    def start() -> tuple[Follower, ClickHouseSink]:
        sink = ClickHouseSink(settings)
        sink.open()
        quick = settings.delivery.model_copy(update={"read_bytes_max": 1, "discover_s": 0.001, "checkpoint_s": 60})
        follower = Follower(
            journal.stream, sink, JournalSource(journal.root, journal.durable), CheckpointStore(home.path / "checkpoints", 2),
            lambda: pipeline_for(
                journal.stream, session_start=lambda date: T0 if date == DATE else end + 500 * MS, session_end=lambda _date: end
            ),
            settings=quick, clock=SystemClock(),
        )  # fmt: skip
        return follower, sink

    for steps in (3, 9, 12, 14, 60):
        follower, sink = start()
        for _ in range(steps):
            if not follower.step():
                SystemClock().sleep(0.003)
        sink.close()
    rows = home.sql(
        "SELECT session_date, cause, state, toUnixTimestamp64Nano(ts_from) AS since, "
        "toUnixTimestamp64Nano(assumeNotNull(ts_to)) AS until FROM gap_events ORDER BY session_date, seq, ordinal"
    )
    found = [(row["session_date"], row["cause"], row["state"], int(row["since"]), int(row["until"])) for row in rows]
    first = [row for row in found if row[1] == "disconnect" and row[0] == "2024-01-02"]
    assert [(row[2], row[3]) for row in first] == [("open", lost), ("closed", lost)]
    assert first[1][4] == end
    second = [row for row in found if row[0] == "2024-01-03"]
    assert [(row[1], row[2], row[3]) for row in second] == [("disconnect", state, end + 500 * MS) for state in ("open", "closed")]
    assert second[1][4] == whole
    (counted,) = home.sql("SELECT count() AS rows, uniqExact(session_date, seq, ordinal) AS keys FROM feed_events")
    assert counted["rows"] == counted["keys"]
