"""The ClickHouse sink against a real warehouse: every row once, whatever is cut, killed or sent twice."""

import random
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from clickhouse_connect.driver.client import Client

from l2_platform.errors import SinkRejected, SinkUnavailable
from l2_platform.journal.frame import Position
from l2_platform.market.events import CONTENT_LETTERS, NULL_PRICE, NULL_TS, TableBatch
from l2_platform.settings import ClickHouseSettings, DeliverySettings, Settings, WarehouseSettings, load_settings
from l2_platform.sinks.clickhouse import ClickHouseSink
from l2_platform.sinks.native import LAYOUTS
from l2_platform.warehouse.client import connect
from l2_platform.warehouse.start import ensure_warehouse, read_record, record_path, warehouse_password

pytestmark = pytest.mark.integration
STREAM, DATE = "iqfeed-depth-0", 20250725
T0 = 1_753_450_200_123_456_789
SYMBOLS = ["AAPL", "Ünïcode", "@ES#"]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    made = load_settings(home=tmp_path_factory.mktemp("home"), warehouse=WarehouseSettings(idle_exit_s=120))
    yield made
    record = read_record(record_path(made))
    if record is not None:
        process = psutil.Process(record.pid)
        process.terminate()
        process.wait(30)


@pytest.fixture
def sink(settings: Settings) -> Iterator[ClickHouseSink]:
    made = ClickHouseSink(settings)
    made.open()
    yield made
    made.close()


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    made = connect(settings)
    yield made
    made.close()


def numbers(values: Any, kind: Any) -> Any:
    return np.array(values, kind)


def common(seqs: list[int], symbols: list[int] | None = None) -> dict[str, Any]:
    count = len(seqs)
    return {
        "seq": numbers(seqs, np.uint64), "symbol": numbers(symbols or [0] * count, np.int32),
        "ts_event": numbers([T0 + seq for seq in seqs], np.int64), "ts_recv": numbers([T0 + 1 + seq for seq in seqs], np.int64),
    }  # fmt: skip


def batch(table: str, columns: dict[str, Any], stream: str = STREAM) -> TableBatch:
    return TableBatch(table, stream, DATE, "live", SYMBOLS, columns)


def depth(first: int, count: int, stream: str = STREAM) -> TableBatch:
    seqs = list(range(first, first + count))
    fill = np.arange(count)
    columns = common(seqs, [seq % 3 for seq in seqs]) | {
        "kind": numbers([51] * count, np.uint8), "side": numbers([65, 66] * count, np.uint8)[:count],
        "price": fill * 10_000_000 + 1, "size": fill, "order_id": numbers(seqs, np.uint64),
        "mmid": numbers([int.from_bytes(b"NSDQ", "little"), 0] * count, np.uint32)[:count], "priority": fill.astype(np.uint64),
        "order_count": fill.astype(np.int32), "snapshot": np.zeros(count, np.uint8), "trust": np.ones(count, np.uint8),
    }  # fmt: skip
    return batch("depth_updates", columns, stream)


def snapshots(first: int, count: int, stream: str = STREAM) -> TableBatch:
    price = np.full((count, 3), NULL_PRICE, np.int64)
    price[:, 0] = 188_350_000_000
    price[::2, 1] = 188_340_000_000
    size = np.where(price == NULL_PRICE, 0, 100)
    orders = np.ones((count, 3), np.int32)
    none = np.full((count, 3), NULL_PRICE, np.int64)
    columns = common(list(range(first, first + count))) | {
        "trust": np.ones(count, np.uint8), "bid_px": price, "bid_sz": size, "bid_ct": orders, "ask_px": none, "ask_sz": none * 0,
        "ask_ct": orders, "total_bid_size": size.sum(axis=1), "total_ask_size": np.zeros(count, np.int64),
    }  # fmt: skip
    return batch("book_snapshots", columns, stream)


def at(seq: int) -> Position:
    return Position(DATE, 1, seq * 50)


def test_every_layout_has_the_types_of_its_table(sink: ClickHouseSink, client: Client) -> None:
    for table, layout in LAYOUTS.items():
        query = "SELECT name, type FROM system.columns WHERE database = 'l2' AND table = {t:String} AND default_kind != 'ALIAS'"
        columns: dict[str, str] = dict(client.query(query, parameters={"t": table}).result_rows)
        for constant in ("stream", "session_date", "source"):
            columns.pop(constant)
        assert dict(layout.columns) == columns


def test_rows_come_back_exactly(sink: ClickHouseSink, client: Client) -> None:
    stream = "iqfeed-level1-7"
    quote = common([3, 4], [1, -1]) | {
        "bid": numbers([188_350_000_001, NULL_PRICE], np.int64), "bid_size": numbers([5, -1], np.int64),
        "bid_market_center": numbers([26, -1], np.int32), "ask": numbers([NULL_PRICE, -1], np.int64),
        "ask_size": numbers([-1, 7], np.int64), "ask_market_center": numbers([-1, 5], np.int32),
        "ts_bid": numbers([T0, NULL_TS], np.int64), "ts_ask": numbers([NULL_TS, T0], np.int64),
        "total_volume": numbers([10, -1], np.int64), "delay": numbers([0, -1], np.int32),
        "contents": numbers([0b11000, 1 << CONTENT_LETTERS.index("v")], np.uint32), "snapshot": numbers([0, 1], np.uint8),
    }  # fmt: skip
    trade = common([3]) | {
        "price": numbers([188_350_000_000], np.int64), "size": numbers([100], np.int64), "market_center": numbers([5], np.int32),
        "conditions": numbers([int.from_bytes(b"3D87", "little")], np.uint64), "tick_id": numbers([42], np.uint64),
        "aggressor": numbers([1], np.uint8), "day_code": numbers([9], np.uint8), "basis": numbers([67], np.uint8),
        "total_volume": numbers([10], np.int64), "bid": numbers([NULL_PRICE], np.int64), "ask": numbers([1], np.int64),
        "trade_date": numbers([T0], np.int64),
    }  # fmt: skip
    event = common([3, 3], [-1, 2]) | {
        "ts_event": numbers([NULL_TS, T0], np.int64), "ordinal": numbers([0, 1], np.uint32), "kind": ["quarantine", "connect"],
        "detail": ['{"a":"ü"}', "{}"], "raw": ["\xff\x00B", ""],
    }  # fmt: skip
    gap = {
        "seq": numbers([3], np.uint64), "ordinal": numbers([1], np.uint32), "gap_id": ["g1"], "symbols": [["AAPL", "@ES#"]],
        "ts_from": numbers([T0], np.int64), "ts_to": numbers([NULL_TS], np.int64), "cause": ["disconnect"], "evidence": ["{}"],
        "repair_source": [""], "rows_recovered": numbers([0], np.uint64), "residual": [""], "explanation": [""],
        "repair_state": [""], "state": ["open"],
        "seq_before": numbers([2], np.uint64), "version": numbers([1], np.uint32), "ts_written": numbers([T0], np.int64),
    }  # fmt: skip
    later = gap | {
        "seq": numbers([4], np.uint64), "version": numbers([2], np.uint32), "state": ["closed"], "ts_to": numbers([T0 + 9], np.int64)
    }  # fmt: skip
    names = ["quotes", "trades", "feed_events", "gap_events"]
    batches = [batch(name, columns, stream) for name, columns in zip(names, [quote, trade, event, gap], strict=True)]
    sink.resume(stream, DATE)
    sink.write([*batches, replace(snapshots(3, 2), stream=stream)], at(4), 4)
    sink.write([batch("gap_events", later, stream)], at(5), 5)
    # positions are written once a second at most, and at once when a batch without rows asks for it
    sink.write([batch("feed_events", {"seq": numbers([], np.uint64)}, stream)], at(5), 5)

    def rows(what: str) -> Any:
        return client.query(f"SELECT {what} AND stream = '{stream}' ORDER BY seq").result_rows

    assert rows("symbol, bid, bid_size, ask, contents, snapshot, toUnixTimestamp64Nano(ts_bid) FROM l2.quotes WHERE 1") == [
        ("Ünïcode", Decimal("188.350000001"), 5, None, "ab", 0, T0),
        ("", None, -1, Decimal("-1E-9"), "v", 1, None),
    ]
    shown = "price, conditions, toString(aggressor), toString(basis), bid, ask, toString(trade_date), event_key"
    trades = rows(f"{shown} FROM l2.trades WHERE 1")
    expected = (Decimal("188.35"), "3D87", "buy", "last", None, Decimal("1E-9"), "2025-07-25", "AAPL|2025-07-25|5|42")
    assert trades == [expected]
    assert rows("bid_px, bid_sz, bid_ct, ask_px, total_bid_size FROM l2.book_snapshots WHERE 1") == [
        ([Decimal("188.35"), Decimal("188.34")], [100, 100], [1, 1], [], 200),
        ([Decimal("188.35")], [100], [1], [], 100),
    ]
    assert rows("symbol, kind, detail, hex(raw), isNull(ts_event) FROM l2.feed_events WHERE 1") == [
        ("", "quarantine", '{"a":"ü"}', "FF0042", 1), ("@ES#", "connect", "{}", "", 0),
    ]  # fmt: skip
    assert rows("gap_id, symbols, state, version FROM l2.gaps WHERE 1") == [("g1", ["AAPL", "@ES#"], "closed", 2)]
    point = sink.resume(stream, DATE)
    assert (point.seq, point.position) == (5, at(5))
    assert point.tables == {"quotes": (4, 0), "trades": (3, 0), "feed_events": (3, 1), "gap_events": (4, 1), "book_snapshots": (4, 0)}


def test_a_new_sink_goes_on_where_the_tables_end(sink: ClickHouseSink, settings: Settings, client: Client) -> None:
    stream = "iqfeed-depth-5"
    assert sink.resume(stream, DATE).position is None
    sink.write([depth(1, 100, stream)], at(100), 100)
    other = ClickHouseSink(settings)
    other.open()
    assert other.resume(stream, DATE).tables == {"depth_updates": (100, 0)}
    other.write([depth(51, 100, stream)], at(150), 150)  # half of it is there already
    other.write([], at(160), 160)
    other.close()
    found = client.query(f"SELECT count(), uniqExact(seq), max(seq) FROM l2.depth_updates WHERE stream = '{stream}'").result_rows
    assert found == [(150, 150, 150)]


def test_refused_rows_leave_their_table_and_no_other(settings: Settings, client: Client) -> None:
    stream = "iqfeed-depth-6"
    own = ClickHouseSink(settings.model_copy(update={"delivery": DeliverySettings(quarantine_rows_max=50)}))
    own.open()
    own.resume(stream, DATE)
    good, bad = depth(1, 50, stream), snapshots(1, 50, stream)
    bad.columns["trust"] = np.full(50, 9, np.uint8)
    own.write([good, bad], at(50), 50)
    assert own.quarantine.count(stream, DATE) == 50
    bad = snapshots(51, 50, stream)
    bad.columns["trust"] = np.full(50, 9, np.uint8)
    with pytest.raises(SinkRejected, match="in quarantine already"):
        own.write([depth(51, 50, stream), bad], at(100), 100)
    assert own.resume(stream, DATE).tables == {"depth_updates": (100, 0)}
    own.write([depth(51, 50, stream), snapshots(51, 50, stream)], at(100), 100)
    own.close()
    for table, count in (("depth_updates", 100), ("book_snapshots", 50)):
        found = client.query(f"SELECT count(), uniqExact(seq) FROM l2.{table} WHERE stream = '{stream}'").result_rows
        assert found == [(count, count)]


def test_a_missing_table_is_made_again(sink: ClickHouseSink, client: Client, settings: Settings) -> None:
    stream = "iqfeed-depth-8"
    sink.resume(stream, DATE)
    client.command("DROP TABLE l2.depth_updates SYNC")
    client.command("DROP TABLE l2.schema_migrations SYNC")
    with pytest.raises(SinkUnavailable):
        sink.write([depth(1, 5, stream)], at(5), 5)
    sink.write([depth(1, 5, stream)], at(5), 5)
    assert sink.resume(stream, DATE).tables["depth_updates"] == (5, 0)


def test_a_killed_warehouse_is_a_passing_failure(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    sink = ClickHouseSink(settings)
    sink.open()
    sink.resume(STREAM, DATE)
    sink.write([depth(1, 10)], at(10), 10)
    record = read_record(record_path(settings))
    assert record is not None
    psutil.Process(record.pid).send_signal(signal.SIGKILL)
    with pytest.raises(SinkUnavailable):
        sink.write([depth(11, 10)], at(20), 20)
    sink.write([depth(11, 10)], at(20), 20)
    assert sink.resume(STREAM, DATE).tables == {"depth_updates": (20, 0)}
    sink.close()
    record = read_record(record_path(settings))
    assert record is not None
    psutil.Process(record.pid).terminate()


class CuttingProxy:
    """Forwards TCP; on demand cuts a connection after the server has answered an insert, before the client sees it, or half-way in."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.mode = ""
        self.cuts = 0
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(near,))
            thread.start()
            self._threads.append(thread)

    def _serve(self, near: socket.socket) -> None:
        with near, socket.create_connection(self._target) as far:
            back = threading.Thread(target=self._back, args=(far, near))
            back.start()
            try:
                while data := near.recv(1 << 16):
                    if self.mode == "request" and b"INSERT" in data:
                        self.mode = ""
                        self.cuts += 1
                        far.sendall(data[: len(data) // 2])
                        break
                    far.sendall(data)
            except OSError:
                pass
            finally:
                for end in (near, far):
                    with suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
                back.join()

    def _back(self, far: socket.socket, near: socket.socket) -> None:
        try:
            while data := far.recv(1 << 16):
                if self.mode == "answer" and b"written_rows" in data and b'"written_rows":"0"' not in data:
                    self.mode = ""
                    self.cuts += 1
                    break
                near.sendall(data)
        except OSError:
            pass
        with suppress(OSError):
            near.shutdown(socket.SHUT_RDWR)


def test_cut_connections_neither_lose_nor_double_a_row(settings: Settings, client: Client, sink: ClickHouseSink) -> None:
    """60 inserts whose answer is lost after the commit, or whose request is cut; each retried in other batches."""
    stream = "iqfeed-depth-9"
    target = ensure_warehouse(settings)
    proxy = CuttingProxy(target)
    section = ClickHouseSettings(
        embedded=False, host="127.0.0.1", port=proxy.port, password=warehouse_password(settings), timeout_s=20  # type: ignore[arg-type]
    )
    own = ClickHouseSink(settings.model_copy(update={"clickhouse": section}))
    own.open()
    own.resume(stream, DATE)
    dice = random.Random(7)
    seq = failures = 0
    for number in range(60):
        count = dice.randrange(1, 400)
        batches = [depth(seq + 1, count, stream), snapshots(seq + 1, count, stream)]
        proxy.mode = ("answer", "request")[number % 4 == 3]
        for _ in range(5):
            try:
                own.write(batches, at(seq + count), seq + count)
                break
            except SinkUnavailable:
                failures += 1
                if dice.random() < 0.3:
                    # a new process, and other batch borders
                    own.close()
                    own.open()
                    own.resume(stream, DATE)
                    count += dice.randrange(0, 50)
                    batches = [depth(seq + 1, count, stream), snapshots(seq + 1, count, stream)]
        seq += count
    own.close()
    proxy.mode = ""
    proxy.close()
    assert proxy.cuts >= 50
    assert failures >= 50
    for table in ("depth_updates", "book_snapshots"):
        found = client.query(f"SELECT count(), uniqExact(seq), min(seq), max(seq) FROM l2.{table} WHERE stream = '{stream}'").result_rows
        assert found == [(seq, seq, 1, seq)], f"{table}: missing or doubled rows"
