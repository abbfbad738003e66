"""The partitioned assets against the embedded warehouse with real rows."""

import os
import socket
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from l2_platform.assets.failures import explained_failures
from l2_platform.clock import SystemClock
from l2_platform.definitions import build_definitions
from l2_platform.journal.durable import Durable, pack_durable
from l2_platform.journal.frame import FrameKind, Position, SegmentHeader, control_payload, frame_header
from l2_platform.settings import Settings
from l2_platform.warehouse.client import connect
from l2_platform.warehouse.schema import migrate
from l2_platform.warehouse.start import find_warehouse
from tests.integration.recorded_days import end_warehouse, recorded_home

pytestmark = pytest.mark.integration

DAY = date(2026, 3, 5)
KEY = DAY.isoformat()
STREAM = "iqfeed-level1-0"
START = datetime(2026, 3, 5, 15, 0, tzinfo=UTC)
COLUMNS = ["stream", "session_date", "seq", "symbol", "ts_event", "ts_recv", "source", "price", "size"]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return Settings(home=tmp_path_factory.mktemp("home"), clickhouse={"port": free_port()})


@pytest.fixture(scope="module")
def client(settings):
    environment = {**os.environ, "L2_HOME": str(settings.home), "L2_CLICKHOUSE__PORT": str(settings.clickhouse.port)}
    with subprocess.Popen([sys.executable, "-m", "l2_platform.warehouse.server"], env=environment) as server:
        clock = SystemClock()
        while find_warehouse(settings) is None:
            assert server.poll() is None, "the warehouse ended"
            clock.sleep(0.1)
        client = connect(settings)
        migrate(client, "l2")
        yield client
        client.close()
        server.terminate()


def put_trades(client, seqs, stream=STREAM):
    rows = [
        [stream, DAY, seq, f"SYM{seq % 3:03d}", at, at + timedelta(milliseconds=20), "live", 1, 100]
        for seq in seqs
        for at in [START + timedelta(seconds=seq)]
    ]
    client.insert("l2.trades", rows, column_names=COLUMNS)


def put_position(client, seq, stream=STREAM):
    names = ["stream", "session_date", "seq", "segment", "offset", "ts"]
    client.insert("l2.delivery_positions", [[stream, DAY, seq, 1, 0, START]], column_names=names)


def write_journal(settings, last_seq, *, durable_date=None):
    folder = settings.journal_dir / STREAM / "20260305"
    folder.mkdir(parents=True, exist_ok=True)
    begin = int(START.timestamp()) * 10**9
    data = SegmentHeader(STREAM, 20260305, 1, "always_open", begin).encode()
    payload = b"Q,x\r\n" * last_seq
    data += frame_header(FrameKind.DATA, payload, seq_first=1, count=last_seq, ts_recv=begin + 10**9, conn_id=1) + payload
    stop = control_payload("collector_stop", {"reason": "test"})
    data += frame_header(FrameKind.CONTROL, stop, seq_first=last_seq, count=0, ts_recv=begin + 2 * 10**9, conn_id=1) + stop
    (folder / "000001.l2j").write_bytes(data)
    (settings.run_dir / "durable").mkdir(parents=True, exist_ok=True)
    path = settings.run_dir / "durable" / STREAM
    path.unlink(missing_ok=True)
    if durable_date:
        record = Durable(
            position=Position(durable_date, 1, len(data)), seq=last_seq, ts_recv=begin + 10**9, pid=1, closed=False, clean=False,
            published_ns=begin, segment_ns=begin,
        )  # fmt: skip
        path.write_bytes(pack_durable(record))


def measure(settings, *names):
    definitions = build_definitions(settings)
    assets = [item for item in definitions.assets or [] if isinstance(item, dg.AssetsDefinition)]
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            assets, partition_key=KEY, selection=list(names), instance=instance, raise_on_error=False,
            resources=dict(definitions.resources or {}),
        )  # fmt: skip
        checks = {(item.asset_key.to_user_string(), item.check_name): item for item in result.get_asset_check_evaluations()}
        facts = {
            event.asset_key.to_user_string(): event.materialization.metadata
            for event in result.get_asset_materialization_events()
            if event.asset_key
        }
        return result, facts, checks


def empty(client):
    for table in ("trades", "delivery_positions"):
        client.command(f"TRUNCATE TABLE l2.{table}")


@pytest.fixture
def tables(client):
    empty(client)
    return client


def test_trades_measured_with_counts_rates_schema_and_passing_checks(settings, tables):
    put_trades(tables, range(1, 601))
    put_position(tables, 600)
    write_journal(settings, 600)
    files = settings.jsonl_dir / "live" / "20260305"
    files.mkdir(parents=True)
    result, facts, checks = measure(settings, "journal", "trades")
    assert result.success
    trades = facts["trades"]
    assert trades["dagster/partition_row_count"].value == 600
    assert trades["dagster/row_count"].value == 600
    assert trades["symbols"].value == 3
    assert trades["rows_per_s"].value == pytest.approx(600 / 599, abs=0.01)
    assert trades["latency_p50_ms"].value == pytest.approx(20)
    assert trades["bytes_on_disk"].value > 0
    assert trades["first_row"].value == "2026-03-05 15:00:01.020000 UTC"
    assert "data:image/png;base64," in trades["rate"].value
    assert trades["files"].value == str(files)
    assert f"| {STREAM} | live | 600 | 3 |" in trades["streams"].value
    schema = {column.name: column for column in trades["dagster/column_schema"].value.columns}
    assert schema["price"].type == "Decimal(18, 9)"
    assert "Price" in (schema["price"].description or "")
    assert schema["ts_event"].constraints.nullable
    assert all(check.passed for check in checks.values())
    journal = facts["journal"]
    assert journal["dagster/partition_row_count"].value == 600
    assert journal["segments"].value == 1
    assert f"| {STREAM} | 600 |" in journal["streams"].value
    assert "| closed |" in journal["streams"].value


def test_duplicates_and_missing_delivery_are_errors(settings, tables):
    put_trades(tables, range(1, 101))
    put_trades(tables, [7, 8])
    put_position(tables, 90)
    write_journal(settings, 100)
    result, _, checks = measure(settings, "trades")
    assert result.success, "a failed check is a finding, not a failed run"
    unique, delivered = checks["trades", "seq_is_unique"], checks["trades", "journal_delivered"]
    assert not unique.passed
    assert unique.severity is dg.AssetCheckSeverity.ERROR
    assert f"{STREAM}: 2" in (unique.description or "")
    assert not delivered.passed
    assert f"{STREAM}: 10 lines" in (delivered.description or "")


def test_running_date_may_be_a_little_behind(settings, tables):
    put_trades(tables, range(1, 101))
    put_position(tables, 90)
    write_journal(settings, 100, durable_date=20260305)
    _, _, checks = measure(settings, "trades")
    assert checks["trades", "journal_delivered"].passed


def test_same_seq_in_two_streams_is_no_duplicate(settings, tables):
    put_trades(tables, range(1, 11))
    put_trades(tables, range(1, 11), stream="iqfeed-level1-import-0a1b2c3d")
    write_journal(settings, 10)
    _, facts, checks = measure(settings, "trades")
    assert checks["trades", "seq_is_unique"].passed
    assert facts["trades"]["symbols"].value == 3


def test_date_without_anything_warns_only(settings, tables):
    for name in ("000001.l2j",):
        (settings.journal_dir / STREAM / "20260305" / name).unlink(missing_ok=True)
    names = ("depth_updates", "quotes", "trades", "history_bars", "book_snapshots", "feed_events")
    result, facts, checks = measure(settings, "journal", *names)
    assert result.success
    failed = {key: check.severity for key, check in checks.items() if not check.passed}
    assert set(failed) == {("journal", "is_recorded")} | {
        # nobody asked for bars: none are missing
        (table, "has_rows") for table in names if table != "history_bars"
    }
    assert set(failed.values()) == {dg.AssetCheckSeverity.WARN}
    assert facts["feed_events"]["dagster/partition_row_count"].value == 0
    assert not any("files" in metadata for metadata in facts.values())


def test_rows_without_a_journal_date_point_to_delivery(settings, tables):
    write_journal(settings, 50)
    _, _, checks = measure(settings, "trades")
    assert "journal_delivered" in (checks["trades", "has_rows"].description or "")
    assert not checks["trades", "journal_delivered"].passed


def test_warehouse_down_is_a_clear_failure_that_is_retried(tmp_path):
    # a server that nobody runs
    settings = Settings(home=tmp_path, clickhouse={"embedded": False, "host": "127.0.0.1", "port": 9})
    definitions = build_definitions(settings, {"clock": SystemClock()})
    trades = next(
        item for item in definitions.assets or [] if isinstance(item, dg.AssetsDefinition) and item.key == dg.AssetKey("trades")
    )
    assert trades.op.retry_policy is not None
    assert trades.op.retry_policy.max_retries == 3
    with dg.DagsterInstance.ephemeral() as instance, dg.build_asset_context(partition_key=KEY, instance=instance) as context:
        resources = definitions.resources or {}
        with pytest.raises(dg.Failure, match="restart it with job control_collector") as caught:
            trades(context, warehouse=resources["warehouse"], journal=resources["journal"])
        assert caught.value.allow_retries


@pytest.mark.parametrize("size", [0, 10], ids=["empty", "cut"])
def test_a_segment_without_a_header_is_a_clear_failure(tmp_path, size):
    settings = Settings(home=tmp_path)
    folder = settings.journal_dir / STREAM / "20260305"
    folder.mkdir(parents=True)
    (folder / "000001.l2j").write_bytes(b"x" * size)
    definitions = build_definitions(settings)
    assets = [item for item in definitions.assets or [] if isinstance(item, dg.AssetsDefinition)]
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            assets, partition_key=KEY, selection=["journal"], instance=instance, raise_on_error=False,
            resources=dict(definitions.resources or {}),
        )  # fmt: skip
    (failure,) = [event.step_failure_data.user_failure_data for event in result.get_step_failure_events()]
    assert f"no segment header, {size} bytes" in failure.description


def test_a_warehouse_that_ends_while_it_is_asked_is_asked_again(tmp_path, numba_cache):
    with recorded_home(tmp_path / "home", numba_cache) as settings:
        client = connect(settings)
        end_warehouse(settings)
        with pytest.raises(dg.Failure, match=r"did not answer.*restart it with job control_collector") as caught, explained_failures("it"):
            client.query("SELECT 1")
        client.close()
    assert caught.value.allow_retries, "it is back before the last attempt"
