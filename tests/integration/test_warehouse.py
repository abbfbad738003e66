"""The embedded warehouse over real sockets: clients, limits, errors, and how it starts and ends."""

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError

from l2_platform.settings import Settings, WarehouseSettings, load_settings
from l2_platform.warehouse.client import connect
from l2_platform.warehouse.errors import QueryFailed
from l2_platform.warehouse.http import ConnectionLost, PlainClient
from l2_platform.warehouse.schema import load_migrations, migrate
from l2_platform.warehouse.start import ensure_warehouse, read_record, record_path, warehouse_password

pytestmark = pytest.mark.integration
SLOW = "SELECT count() FROM numbers(100000000000) WHERE NOT ignore(sipHash64(number))"


def stop(settings: Settings, how: int = signal.SIGTERM) -> None:
    record = read_record(record_path(settings))
    if record is None:
        return
    process = psutil.Process(record.pid)
    process.send_signal(how)
    process.wait(30)


def plain(settings: Settings) -> PlainClient:
    return PlainClient(*ensure_warehouse(settings), settings.clickhouse.user, warehouse_password(settings), timeout_s=30)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    limits = WarehouseSettings(idle_exit_s=120, body_bytes_max=64 << 20, queries_max=4, queue_max=4)
    made = load_settings(home=tmp_path_factory.mktemp("home"), warehouse=limits)
    yield made
    stop(made)


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    made = connect(settings)
    made.command("CREATE DATABASE IF NOT EXISTS test")
    yield made
    made.command("DROP DATABASE test SYNC")
    made.close()


def ask(settings: Settings, query: str, *, data: bytes | None = None, headers: dict[str, str] | None = None, **url: str) -> bytes:
    host, port = ensure_warehouse(settings)
    login = b64encode(f"{settings.clickhouse.user}:{warehouse_password(settings)}".encode()).decode()
    request = urllib.request.Request(
        f"http://{host}:{port}/?{urllib.parse.urlencode({'query': query, **url})}",
        data=data,
        headers={"Authorization": f"Basic {login}", **(headers or {})},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


def refusal(settings: Settings, query: str, **more: object) -> tuple[int, str, str]:
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(settings, query, **more)  # type: ignore[arg-type]
    with caught.value as error:
        return error.code, error.headers["X-ClickHouse-Exception-Code"], error.read().decode()


def test_clickhouse_connect_inserts_and_reads_back(client: Client) -> None:
    client.command("CREATE TABLE test.t (a UInt64, s LowCardinality(String), d Nullable(Decimal(18, 9))) ENGINE = MergeTree ORDER BY a")
    client.insert("t", [[1, "x", None], [2, "y", "0.000000001"]], column_names=["a", "s", "d"], database="test")
    table = pa.table({"a": np.arange(10, 1010, dtype=np.uint64), "s": ["z"] * 1000, "d": pa.array([None] * 1000, pa.decimal128(18, 9))})
    assert client.insert_arrow("t", table, database="test").written_rows == 1000
    assert client.raw_insert("test.t", insert_block=b"5,csv,1.5\n", fmt="CSV", compression=None).written_rows == 1
    rows = client.query("SELECT * FROM test.t WHERE a < {a:UInt64} ORDER BY a", parameters={"a": 6}).result_rows
    assert [(a, s, str(d)) for a, s, d in rows] == [(1, "x", "None"), (2, "y", "1E-9"), (5, "csv", "1.500000000")]
    assert client.query_arrow("SELECT * FROM test.t").num_rows == 1003
    assert client.query_df("SELECT count() AS n FROM test.t")["n"].tolist() == [1003]
    assert client.command("SELECT count() FROM test.t") == 1003
    assert client.query("SELECT {s:String} AS s", parameters={"s": "a'b\\c\td"}).result_rows == [("a'b\\c\td",)]


def test_an_sqlalchemy_engine_works(settings: Settings, client: Client) -> None:
    from sqlalchemy import create_engine, inspect, text

    host, port = ensure_warehouse(settings)
    client.command("CREATE TABLE test.t (a UInt64) ENGINE = MergeTree ORDER BY a")
    engine = create_engine(f"clickhousedb://{settings.clickhouse.user}:{warehouse_password(settings)}@{host}:{port}/test")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT sum(number) FROM numbers(:n)"), {"n": 5}).scalar() == 10
    assert inspect(engine).get_table_names("test") == ["t"]
    engine.dispose()


def test_http_speaks_formats_compression_and_headers(settings: Settings, client: Client) -> None:
    assert ask(settings, "SELECT 1 AS a FORMAT JSONEachRow") == b'{"a":1}\n'
    assert ask(settings, "SELECT 1", default_format="CSV") == b"1\n"
    packed = ask(settings, "SELECT 1", enable_http_compression="1", headers={"Accept-Encoding": "gzip"})
    assert gzip.decompress(packed) == b"1\n"
    client.command("CREATE TABLE test.t (a UInt64) ENGINE = MergeTree ORDER BY a")
    ask(settings, "INSERT INTO test.t FORMAT CSV", data=gzip.compress(b"1\n2\n"), headers={"Content-Encoding": "gzip"})
    ask(settings, "INSERT INTO test.t VALUES", data=b"(3),(4)")
    assert ask(settings, "SELECT sum(a) FROM test.t", database="test") == b"10\n"
    assert json.loads(ask(settings, "SELECT a FROM test.t ORDER BY a LIMIT 1 FORMAT JSON"))["data"] == [{"a": 1}]
    assert ask(settings, "SELECT {x:UInt8} + 1", param_x="4") == b"5\n"
    assert ask(settings, "SELECT getSetting('max_threads')", max_threads="1") == b"1\n"
    for path in ("/ping", "/"):
        with urllib.request.urlopen("http://{}:{}{}".format(*ensure_warehouse(settings), path), timeout=5) as answer:
            assert answer.read() == b"Ok.\n"


def test_sessions_keep_temporary_tables(settings: Settings) -> None:
    ask(settings, "CREATE TEMPORARY TABLE kept (a UInt8)", data=b"", session_id="s1")
    ask(settings, "INSERT INTO kept VALUES (7)", data=b"", session_id="s1")
    assert ask(settings, "SELECT a FROM kept", session_id="s1") == b"7\n"
    assert refusal(settings, "SELECT a FROM kept")[0] in {403, 404}


def test_errors_carry_code_and_status(settings: Settings, client: Client) -> None:
    assert refusal(settings, "SELCT 1")[:2] == (400, "62")
    assert refusal(settings, "SELECT * FROM nope", database="test")[:2] == (404, "60")
    assert refusal(settings, "SELECT 1", no_such_setting="1")[:2] == (404, "115")
    assert refusal(settings, "CREATE TABLE test.t (a Int8) ENGINE = Memory")[:2] == (403, "164"), "GET may not change anything"
    assert refusal(settings, "SELECT throwIf(number = 3) FROM numbers(10)")[:2] == (500, "395")
    assert refusal(settings, SLOW, max_execution_time="0.3")[:2] == (408, "159")
    big = refusal(settings, "INSERT INTO test.t FORMAT TSV", data=gzip.compress(bytes(65 << 20)), headers={"Content-Encoding": "gzip"})
    assert big[0] == 413
    assert "DB::Exception" in refusal(settings, "SELECT * FROM file('/etc/passwd', 'LineAsString')")[2]
    assert refusal(settings, "SELECT * FROM file('/etc/passwd', 'LineAsString')")[:2] == (403, "497")
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
        client.query("SELECT * FROM test.nope")


def test_logins_are_checked(settings: Settings) -> None:
    assert refusal(settings, "SELECT 1", headers={"Authorization": "Basic " + b64encode(b"l2:wrong").decode()})[:2] == (403, "516")
    assert refusal(settings, "SELECT 1", headers={"X-ClickHouse-User": "l2", "X-ClickHouse-Key": "wrong"})[:2] == (403, "516")
    assert refusal(settings, "SELECT 1", headers={"Authorization": ""})[:2] == (401, "194")
    right = {"X-ClickHouse-User": settings.clickhouse.user, "X-ClickHouse-Key": warehouse_password(settings), "Authorization": ""}
    assert ask(settings, "SELECT 1", headers=right) == b"1\n"
    path = settings.run_dir / "warehouse.password"
    assert path.stat().st_mode & 0o777 == 0o600


def test_streams_of_five_million_rows_use_bounded_memory(settings: Settings, client: Client) -> None:
    record = read_record(record_path(settings))
    assert record is not None
    process = psutil.Process(record.pid)
    before, most, rows = process.memory_info().rss, 0, 0
    query = "SELECT number, concat('a longer text for every row ', toString(number)) FROM numbers(5000000)"
    with client.query_arrow_stream(query) as stream:
        for number, batch in enumerate(stream):
            rows += batch.num_rows
            if number % 10 == 0:
                most = max(most, process.memory_info().rss)
    assert rows == 5_000_000
    assert most - before < 400 << 20, "the result is ~240 MB as Arrow, more as blocks"


def test_a_failure_in_the_middle_of_a_stream_reaches_the_client(settings: Settings, client: Client) -> None:
    query = "SELECT throwIf(number = 9000000), number FROM numbers(10000000)"
    with pytest.raises(StreamFailureError, match="throwIf"), client.query_row_block_stream(query) as stream:
        for _ in stream:
            pass
    with pytest.raises(DatabaseError, match="throwIf"):
        client.raw_query(query)
    assert client.command("SELECT 1") == 1


def test_a_client_that_leaves_ends_its_query(settings: Settings, client: Client) -> None:
    quitter = PlainClient(*ensure_warehouse(settings), settings.clickhouse.user, warehouse_password(settings), timeout_s=0.5)
    with pytest.raises(ConnectionLost):
        quitter.query("SELECT sum(sleepEachRow(0.1)) FROM numbers(600) SETTINGS max_block_size = 1")
    deadline = time.monotonic() + 20
    while "600" in str(client.query("SELECT query FROM system.processes WHERE query NOT LIKE '%processes%'").result_rows):
        assert time.monotonic() < deadline, "the query still runs"
        time.sleep(0.05)


def test_queries_can_be_found_and_killed_by_their_id(settings: Settings, client: Client) -> None:
    errors: list[Exception] = []

    def run() -> None:
        try:
            ask(settings, "SELECT sum(sleepEachRow(0.1)) FROM numbers(600) SETTINGS max_block_size = 1", query_id="mine")
        except urllib.error.HTTPError as error:
            with error:
                errors.append(RuntimeError(error.headers["X-ClickHouse-Exception-Code"]))

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 20
    own = plain(settings)
    while "mine" not in own.running("mine"):
        assert time.monotonic() < deadline
    own.close()
    assert refusal(settings, "SELECT 1", query_id="mine")[1] == "216"
    while thread.is_alive():
        client.command("KILL QUERY WHERE query_id = 'mine' SYNC")
        thread.join(0.1)
        assert time.monotonic() < deadline
    assert [str(error) for error in errors] == ["394"]


def test_more_requests_than_fit_are_refused_with_503(settings: Settings) -> None:
    answers: list[tuple[int, str]] = []

    def run() -> None:
        try:
            ask(settings, "SELECT sleep(1)")
            answers.append((200, ""))
        except urllib.error.HTTPError as error:
            with error:
                answers.append((error.code, error.headers["X-ClickHouse-Exception-Code"]))

    threads = [threading.Thread(target=run) for _ in range(14)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) == {(200, ""), (503, "202")}
    assert ask(settings, "SELECT 1") == b"1\n"


def test_readers_and_writers_work_side_by_side(settings: Settings, client: Client) -> None:
    client.command("CREATE TABLE test.t (w UInt8, a UInt64) ENGINE = MergeTree ORDER BY (w, a)")
    seen: list[bool] = []

    def write(writer: int) -> None:
        own = plain(settings)
        for block in range(20):
            rows = b"".join(b"%d\t%d\n" % (writer, block * 100 + row) for row in range(100))
            own.insert("INSERT INTO test.t FORMAT TSV", rows, f"w{writer}-{block}", {})
        own.close()

    def read() -> None:
        own = plain(settings)
        for _ in range(30):
            counts = own.query("SELECT w, count(), max(a) FROM test.t GROUP BY w")
            seen.append(all(int(count) % 100 == 0 and int(last) == int(count) - 1 for _, count, last in counts))
        own.close()

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(2)] + [threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 30
    assert all(seen), "a reader saw a part of an insert"
    assert client.command("SELECT count() FROM test.t") == 4000


@pytest.mark.parametrize(
    ("change", "code"),
    [("ADD CONSTRAINT small CHECK a < 5", 469), ("MODIFY SETTING parts_to_throw_insert = 1, parts_to_delay_insert = 1", 252)],
    ids=["constraint", "too-many-parts"],
)
def test_an_insert_that_fails_behind_its_parser_is_told(settings: Settings, client: Client, change: str, code: int) -> None:
    """With the data in the body, as a sink sends it."""
    client.command("CREATE DATABASE IF NOT EXISTS test")
    client.command("CREATE OR REPLACE TABLE test.limited (a UInt64) ENGINE = MergeTree ORDER BY a")
    own = plain(settings)
    for value in (1, 2):
        own.insert("INSERT INTO test.limited (a) FORMAT TabSeparated", b"%d\n" % value, f"fine-{code}-{value}", {})
    client.command(f"ALTER TABLE test.limited {change}")
    with pytest.raises(QueryFailed) as caught:
        own.insert("INSERT INTO test.limited (a) SETTINGS max_insert_threads = 1 FORMAT TabSeparated", b"7\n", f"not-{code}", {})
    assert caught.value.code == code
    assert own.query("SELECT count() FROM test.limited") == [["2"]]
    own.close()


def test_migrations_run_once_and_explain_every_column(settings: Settings, client: Client) -> None:
    assert migrate(client, "test") == [migration.version for migration in load_migrations()]
    assert migrate(client, "test") == []
    silent = "SELECT table, name FROM system.columns WHERE database = 'test' AND comment = '' AND table != 'gaps'"
    assert client.query(silent).result_rows == []


def test_idle_exit_and_new_start_keep_everything(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "home with spaces", warehouse=WarehouseSettings(idle_exit_s=0.5))
    client = connect(settings)
    client.command("CREATE DATABASE test")
    client.command("CREATE TABLE test.t (a UInt64) ENGINE = MergeTree ORDER BY a")
    client.command("INSERT INTO test.t VALUES (1)")
    client.close()
    record = read_record(record_path(settings))
    assert record is not None
    psutil.Process(record.pid).wait(20)
    assert read_record(record_path(settings)) is None
    own = plain(settings)
    assert own.query("SELECT a FROM test.t") == [["1"]]
    own.close()
    stop(settings)


def test_commands_that_start_at_once_agree_on_one_warehouse(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, warehouse=WarehouseSettings(idle_exit_s=20))
    code = (
        "from pathlib import Path; from l2_platform.settings import load_settings; from l2_platform.warehouse.start import"
        f" ensure_warehouse; print(ensure_warehouse(load_settings(home=Path({str(tmp_path)!r}))))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(4)]
    answers = {process.communicate(timeout=90)[0] for process in processes}
    assert len(answers) == 1
    assert all(process.returncode == 0 for process in processes)
    stop(settings)


def test_a_lasting_warehouse_takes_the_place_of_an_idle_one(tmp_path: Path) -> None:
    base = 20_000 + os.getpid() % 20_000
    settings = load_settings(home=tmp_path, ports={"base": base})
    ensure_warehouse(settings)
    environment = {**os.environ, "L2_HOME": str(tmp_path), "L2_PORTS__BASE": str(base)}
    command = [sys.executable, "-m", "l2_platform.warehouse.server"]
    lasting = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while (record := read_record(record_path(settings))) is None or record.pid != lasting.pid:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (record.port, record.idle) == (base + 2, False)
    by_hand = [sys.executable, "-c", "from l2_platform.cli import main; main()", "warehouse"]
    assert subprocess.run(by_hand, env=environment, stderr=subprocess.DEVNULL, timeout=60, check=False).returncode == 75
    lasting.terminate()
    assert lasting.wait(30) == 0


def test_sigterm_loses_nothing_that_was_asked(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    own = plain(settings)
    own.query("CREATE DATABASE test")
    own.query("CREATE TABLE test.t (a UInt64) ENGINE = MergeTree ORDER BY a")
    acknowledged = insert_until_gone(own, lambda: stop(settings))
    assert missing_and_partial(settings, acknowledged) == (0, 0)
    stop(settings)


@pytest.mark.slow
def test_sigkill_in_the_middle_of_inserts_loses_nothing_acknowledged(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    own = plain(settings)
    own.query("CREATE DATABASE test")
    own.query("CREATE TABLE test.t (a UInt64) ENGINE = MergeTree ORDER BY a SETTINGS fsync_after_insert = 1, fsync_part_directory = 1")
    acknowledged: list[int] = []
    for turn in range(20):
        acknowledged += insert_until_gone(plain(settings), lambda: stop(settings, signal.SIGKILL), turn)
    own.close()
    assert len(acknowledged) > 20
    assert missing_and_partial(settings, acknowledged) == (0, 0)
    stop(settings)


BLOCK_ROWS = 2000


def insert_until_gone(own: PlainClient, end: object, turn: int = 0) -> list[int]:
    """Insert blocks from two threads, numbered anew in each turn, until the warehouse is gone; the acknowledged ones."""
    acknowledged: list[int] = []
    base = 1_000_000 * (turn + 1)

    def write(lane: int) -> None:
        number = base + lane
        while True:
            rows = b"".join(b"%d\n" % (number * BLOCK_ROWS + row) for row in range(BLOCK_ROWS))
            try:
                own.insert("INSERT INTO test.t FORMAT TSV", rows, f"k{number}", {})
            except (ConnectionLost, QueryFailed):
                return
            acknowledged.append(number)
            number += 2

    threads = [threading.Thread(target=write, args=(lane,)) for lane in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.1 + os.urandom(1)[0] / 1000)
    end()  # type: ignore[operator]
    for thread in threads:
        thread.join()
    own.close()
    return acknowledged


def missing_and_partial(settings: Settings, acknowledged: list[int]) -> tuple[int, int]:
    own = plain(settings)
    blocks = own.query(f"SELECT intDiv(a, {BLOCK_ROWS}), count() FROM test.t GROUP BY 1")
    own.close()
    whole = {int(number) for number, count in blocks if int(count) == BLOCK_ROWS}
    return len(set(acknowledged) - whole), len(blocks) - len(whole)


def test_small_inserts_do_not_write_a_grown_part_anew(client: Client) -> None:
    migrate(client, "merging")
    rows = "SELECT 'a', '2026-11-20', {first} + number, 'AAPL', 100, sipHash64(number) FROM numbers({count})"
    insert = f"INSERT INTO merging.depth_updates (stream, session_date, seq, symbol, price, order_id) {rows}"
    client.command(insert.format(first=1, count=100_000))
    for number in range(60):
        client.command(insert.format(first=200_000 + 100 * number, count=100))
        time.sleep(0.02)
    found = client.query("SELECT max(level), sum(rows) FROM system.parts WHERE database = 'merging' AND table = 'depth_updates' AND active")
    level, stored = found.result_rows[0]
    assert stored == 106_000
    assert level <= 12, f"{level} merges of 61 inserts: the large part is written again and again"
