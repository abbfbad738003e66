"""Closed dates into Parquet: exact, verified, the same when done again, and nothing half done when something is in the way."""

import json
import os
import resource
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from clickhouse_connect.driver.client import Client

from l2_platform.archive.export import export_date, verify
from l2_platform.archive.layout import MANIFEST_NAME, list_archived, partition_folder
from l2_platform.clock import SystemClock
from l2_platform.errors import ArchiveError, DateBusy, InputError
from l2_platform.monitoring.changed_dates import changed_dates, changes_of, forget, note_change
from l2_platform.monitoring.leases import ALL_STREAMS, date_lease
from l2_platform.settings import Settings
from tests.integration.homes import Home
from tests.integration.stored import LIVE, make_home, put_trades, warehouse

pytestmark = pytest.mark.integration
DAY = date(2026, 11, 18)
BARS = ("bars_1m", "bars_1s", "bars_5s")
EMPTY_DAY = date(2026, 11, 17)
ROWS = 30_000


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Home:
    return make_home(tmp_path_factory.mktemp("home"), numba_cache)


@pytest.fixture(scope="module")
def settings(home: Home) -> Settings:
    found = home.settings
    small = found.archive.model_copy(update={"batch_rows": 4096, "part_rows_max": 10_000})
    return found.model_copy(update={"archive": small})


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[Client]:
    with warehouse(settings) as found:
        put_trades(found, LIVE, "2026-11-18", ROWS)
        put_trades(found, "iqfeed-ticks-import-0011aabb", "2026-11-18", 300)
        yield found


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_rows_come_back_exactly_and_a_second_export_changes_nothing(client: Client, settings: Settings) -> None:
    first = export_date(client, settings, SystemClock(), DAY)
    assert {(item.manifest.table, item.manifest.stream) for item in first} == {
        (table, stream) for table in ("trades", *BARS) for stream in (LIVE, "iqfeed-ticks-import-0011aabb")
    }
    folder = partition_folder(settings.archive_dir, "trades", DAY, LIVE)
    stored = pl.read_parquet(sorted(folder.glob("*.parquet")), hive_partitioning=False)
    asked = client.query(
        "SELECT symbol, seq, toString(price), toUnixTimestamp64Nano(ts_recv), toUnixTimestamp64Nano(assumeNotNull(ts_event)),"
        " toString(bid), toString(basis), trade_date FROM l2.trades WHERE stream = {s:String} ORDER BY symbol, seq", parameters={"s": LIVE},
    ).result_rows  # fmt: skip
    kept = stored.select(
        "symbol", "seq", pl.col("price").cast(pl.String), pl.col("ts_recv").cast(pl.Int64), pl.col("ts_event").cast(pl.Int64),
        pl.col("bid").cast(pl.String), "basis", "trade_date",
    ).rows()  # fmt: skip
    assert len(kept) == ROWS
    for got, wanted in zip(kept, asked, strict=True):
        trimmed = [value.rstrip("0").rstrip(".") if isinstance(value, str) and "." in value else value for value in got]
        assert tuple(trimmed) == tuple(wanted)
    files = snapshot(settings.archive_dir)
    again = export_date(client, settings, SystemClock(), DAY)
    assert not any(item.changed for item in again)
    assert snapshot(settings.archive_dir) == files
    assert len(next(item for item in first if item.manifest.rows == ROWS).manifest.parts) > 1


def test_the_hash_does_not_depend_on_how_rows_are_cut(client: Client, settings: Settings) -> None:
    before = {(item.table, item.stream): item.content_sha256 for item in list_archived(settings.archive_dir)}
    for path in settings.archive_dir.rglob(MANIFEST_NAME):
        path.unlink()
    other = settings.model_copy(update={"archive": settings.archive.model_copy(update={"batch_rows": 1500, "part_rows_max": 1_000_000})})
    again = export_date(client, other, SystemClock(), DAY)
    assert all(item.changed for item in again)
    assert {(item.manifest.table, item.manifest.stream): item.manifest.content_sha256 for item in again} == before
    for item in again:
        verify(settings, item.manifest)
        assert len(list(partition_folder(settings.archive_dir, item.manifest.table, DAY, item.manifest.stream).iterdir())) == 2


def test_changed_rows_replace_the_archive_and_damage_is_found(client: Client, settings: Settings) -> None:
    put_trades(client, LIVE, "2026-11-16", 500)
    (written, *_bars) = sorted(export_date(client, settings, SystemClock(), date(2026, 11, 16)), key=lambda item: item.manifest.table)[::-1]
    put_trades(client, LIVE, "2026-11-16", 1, symbols=("NEW",), hour=20)
    (fresh,) = export_date(client, settings, SystemClock(), date(2026, 11, 16), table="trades")
    assert fresh.changed
    assert fresh.manifest.rows == 501
    folder = partition_folder(settings.archive_dir, "trades", date(2026, 11, 16), LIVE)
    assert sorted(path.name for path in folder.iterdir()) == sorted([MANIFEST_NAME, *(part.file for part in fresh.manifest.parts)])
    part = folder / fresh.manifest.parts[0].file
    whole = part.read_bytes()
    part.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArchiveError, match="archive the date again"):
        verify(settings, fresh.manifest)
    (mended,) = export_date(client, settings, SystemClock(), date(2026, 11, 16), table="trades")
    verify(settings, mended.manifest)
    assert mended.manifest.content_sha256 == fresh.manifest.content_sha256
    assert written.manifest.content_sha256 != fresh.manifest.content_sha256


def test_questions_that_name_nothing_say_what_there_is(client: Client, settings: Settings) -> None:
    with pytest.raises(InputError, match="no rows of session date 2026-11-17"):
        export_date(client, settings, SystemClock(), EMPTY_DAY)
    with pytest.raises(InputError, match="lies in the future"):
        export_date(client, settings, SystemClock(), date(2039, 1, 3))
    with pytest.raises(InputError, match="there are bars_1m, bars_1s, bars_5s, trades of iqfeed-level1-0"):
        export_date(client, settings, SystemClock(), DAY, stream="iqfeed-level1-9")
    with date_lease(settings.run_dir, ALL_STREAMS, 20261118, "rebuild"), pytest.raises(DateBusy, match="rebuild"):
        export_date(client, settings, SystemClock(), DAY)


def test_a_change_that_is_under_way_is_not_forgotten_before_its_rows_come(client: Client, settings: Settings) -> None:
    forget(changes_of(settings.run_dir, 20261118))
    note_change(settings.run_dir, 20261118, 1)
    # its stream has no rows yet: nothing of it would be archived
    with date_lease(settings.run_dir, "iqfeed-ticks-history", 20261118, "backfill"):
        with pytest.raises(DateBusy, match="backfill"):
            export_date(client, settings, SystemClock(), DAY)
        assert export_date(client, settings, SystemClock(), DAY, stream=LIVE), "a stream that nobody writes"
        # noted anew, for whatever is under way may come to nothing: then too the date is archived later
        first, later = changes_of(settings.run_dir, 20261118)
        assert (first.name.split(".")[1], changed_dates(settings.run_dir)[20261118] > 1) == ("1", True), later
    export_date(client, settings, SystemClock(), DAY)
    assert 20261118 not in changed_dates(settings.run_dir)


def test_a_disk_that_refuses_changes_nothing(client: Client, settings: Settings) -> None:
    export_date(client, settings, SystemClock(), DAY)
    files = snapshot(settings.archive_dir)
    put_trades(client, LIVE, "2026-11-18", 1, symbols=("NEW",), hour=22)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    pid = os.fork()
    if pid == 0:  # a limit on file sizes is a full disk for one process
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        with warehouse(settings) as own:
            try:
                export_date(own, settings, SystemClock(), DAY, table="trades", stream=LIVE)
            except ArchiveError as error:
                os._exit(0 if "was not archived" in error.message else 3)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert snapshot(settings.archive_dir) == files
    (after,) = export_date(client, settings, SystemClock(), DAY, table="trades", stream=LIVE)
    assert after.manifest.rows == ROWS + 1


def test_the_command(home: Home, client: Client) -> None:
    put_trades(client, LIVE, "2026-11-13", 40)
    written = json.loads(home.ok("archive", "2026-11-13", "--to", "2026-11-14", "--json"))
    assert {row["table"]: row["rows"] for row in written} == {"bars_1m": 4, "bars_1s": 40, "bars_5s": 25, "trades": 40}
    assert {row["state"] for row in written} == {"written"}
    verified = json.loads(home.ok("archive", "2026-11-13", "--verify", "--json"))
    assert {row["state"] for row in verified} == {"verified"}
    assert "2026-11-13" in home.ok("archive")
    refused = home.run("archive", "2026-11-15", "--to", "2026-11-14")
    assert refused.returncode == 2
    assert "is before" in refused.stderr
