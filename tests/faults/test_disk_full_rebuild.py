"""The warehouse's disk full in the middle of a rebuild and of a backfill: told, nothing half replaced, and done with room again.

The warehouse is a process with a file system of its own, a real one in memory. Each case is one run at every scale.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from l2_platform.clock import SystemClock
from l2_platform.collectors.backfill import STREAM, backfill_date
from l2_platform.errors import SinkError, SinkUnavailable
from l2_platform.replay.rebuild import RebuildRequest, rebuild_date
from l2_platform.settings import ClickHouseSettings, DeliverySettings, RebuildSettings, Settings
from l2_platform.warehouse.client import connect
from l2_platform.warehouse.start import read_record, record_path
from tests.faults.kill_runs import until
from tests.faults.test_disk_full import fill
from tests.faults.zygote import unshare
from tests.integration.ports import free_base
from tests.integration.recorded_days import DATE, DEPTH, deliver, record_day
from tests.integration.test_backfill import slow_vendor
from tests.integration.test_rebuild_kill import again, hashes, spoil, staged
from tests.integration.vendors import vendor

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass
class SmallDisk:
    """The disk of a running warehouse."""

    seen: Path
    """How its folder is reached from here."""

    def fill(self) -> None:
        """Not a byte is left."""
        fill(self.seen)

    def make_room(self) -> None:
        """As before."""
        (self.seen / "filler").unlink()


@pytest.fixture
def settings(tmp_path: Path, numba_cache: Path) -> Settings:
    return Settings(
        home=tmp_path, ports={"base": free_base()}, delivery=DeliverySettings(discover_s=0.01, retry_first_s=0.05),
        rebuild=RebuildSettings(insert_rows=1000), clickhouse=ClickHouseSettings(timeout_s=5), jsonl={"enabled": False},
        lookup={"sockets": 1, "retry_s": 0.05},
    )  # fmt: skip


@contextmanager
def small_warehouse(settings: Settings) -> Iterator[SmallDisk]:
    """`l2 warehouse` with its data on a disk of 64 MiB."""
    folder = settings.warehouse_dir
    folder.mkdir(parents=True)
    script = f"mount -t tmpfs -o size=64m tmpfs '{folder}' && exec '{sys.executable}' -m l2_platform.warehouse.server"
    variables = {name: value for name, value in os.environ.items() if not name.startswith("L2_")}
    variables |= {"L2_HOME": str(settings.home), "L2_PORTS__BASE": str(settings.ports.base)}
    process = subprocess.Popen([*unshare(), "sh", "-c", script], env=variables)
    try:
        until("the warehouse works", lambda: process.poll() is not None or read_record(record_path(settings)) is not None)
        assert process.poll() is None
        yield SmallDisk(Path(f"/proc/{process.pid}/root") / folder.relative_to("/"))
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def disk(settings: Settings) -> Iterator[SmallDisk]:
    with small_warehouse(settings) as made:
        yield made


@pytest.fixture
def client(disk: SmallDisk, settings: Settings) -> Iterator[Client]:
    made = connect(settings)
    yield made
    made.close()


def test_a_rebuild_without_room_changes_nothing_and_succeeds_with_room(
    settings: Settings, disk: SmallDisk, client: Client
) -> None:
    """F18, warehouse: full while rows are staged: nothing is changed. Full in the swap: the next run completes it."""
    record_day(settings)
    deliver(settings)
    whole = hashes(client)
    spoil(client)
    wrong = hashes(client)
    with pytest.raises(SinkError, match=r"the warehouse cannot write.*Free space.*run it again; nothing was replaced"):
        rebuild_filling(settings, disk, "rebuilding")
    assert hashes(client) == wrong
    disk.make_room()
    assert hashes(client) == wrong
    with pytest.raises(SinkError, match=r"the warehouse cannot write.*Free space.*run it again; the swap of the date was begun"):
        rebuild_filling(settings, disk, "swapping depth_updates")
    disk.make_room()
    result = again(settings)
    assert (result.outcome, result.resumed) == ("rebuilt", True)
    assert hashes(client) == whole
    assert staged(client) == []
    assert again(settings).outcome == "equal"


def rebuild_filling(settings: Settings, disk: SmallDisk, point: str) -> None:
    """A rebuild whose disk is full from a point on."""

    def report(_stream: str, what: str, count: int, _total: int) -> None:
        if what == point and (count or what != "rebuilding"):
            disk.fill()

    rebuild_date(RebuildRequest(DATE, (DEPTH,)), settings, SystemClock(), report)


def test_a_backfill_without_room_keeps_what_it_fetched_and_asks_nothing_twice(
    settings: Settings, disk: SmallDisk, client: Client
) -> None:
    """F18, warehouse: full while replies come; they stay in the journal, and the same command stores each row once."""
    day = datetime.fromtimestamp(SystemClock().now_ns() // 10**9, UTC).date() - timedelta(days=7)
    number, names = int(day.strftime("%Y%m%d")), ["SYM000", "SYM001", "SYM003"]
    settings = settings.model_copy(update={"session": settings.session.model_copy(update={"calendar": "always_open"})})
    with vendor(settings, slow_vendor) as asked:
        with pytest.raises(SinkUnavailable, match=r"clickhouse does not take the rows.*the replies are in the journal"):
            backfill_date(number, names, settings, SystemClock(), lambda *_: disk.fill())
        assert len({line for line in asked if line.startswith("HTT")}) == len(names)
        asked.clear()
        disk.make_room()
        result = backfill_date(number, names, settings, SystemClock())
        assert not [line for line in asked if line.startswith("HTT")]
    assert [item.state for item in result.symbols] == ["already"] * len(names)
    sql = f"SELECT symbol, count(), uniqExact(seq) FROM l2.trades WHERE stream = '{STREAM}' GROUP BY symbol ORDER BY symbol"
    assert client.query(sql).result_rows == [(name, 3, 3) for name in names]
