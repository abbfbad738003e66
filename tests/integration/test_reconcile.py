"""`l2 reconcile` against the embedded warehouse and real files: every planted difference is named by its key, and healed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from l2_platform.clock import SystemClock
from l2_platform.errors import InputError
from l2_platform.monitoring.leases import date_lease
from l2_platform.quality.reconcile import reconcile_date
from l2_platform.quality.reconciled import KINDS, ReconcileResult, StoreEntry
from l2_platform.settings import ReconcileSettings, Settings, load_settings
from l2_platform.sinks.jsonl_names import folder_of
from l2_platform.warehouse.client import connect
from tests.integration.homes import Home
from tests.integration.ports import free_base
from tests.integration.recorded_days import DATE, DEPTH, LEVEL1, deliver, record_day, recorded_home, seal

pytestmark = pytest.mark.integration
WHERE = "session_date = '2025-07-25' AND stream = '{stream}'"
FILES = {"book_snapshots": (DEPTH, "l2"), "quotes": (LEVEL1, "l1"), "trades": (LEVEL1, "ticks")}
STREAMS = {"depth_updates": DEPTH, "book_snapshots": DEPTH, "quotes": LEVEL1, "trades": LEVEL1, "feed_events": DEPTH}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[Settings]:
    reconcile = ReconcileSettings(chunk_seqs=1000, keys=5, read_bytes=20_000)
    with recorded_home(tmp_path_factory.mktemp("home"), numba_cache, reconcile=reconcile) as made:
        record_day(made, lines=4000)
        deliver(made, ("clickhouse", "jsonl"))
        yield made


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[Client]:
    made = connect(settings)
    yield made
    made.close()


def different(result: ReconcileResult) -> dict[tuple[str, str], StoreEntry]:
    assert all(entry.state in {"equal", "off", "different", "healed"} for entry in result.entries), result.entries
    return {(entry.table, entry.store): entry for entry in result.entries if entry.state in {"different", "healed"}}


def only(result: ReconcileResult, table: str, store: str) -> StoreEntry:
    found = different(result)
    assert list(found) == [(table, store)], found
    return found[table, store]


def counts(entry: StoreEntry) -> tuple[int, ...]:
    return tuple(getattr(entry.differences, kind) for kind in KINDS)


def healed(settings: Settings, table: str, store: str) -> None:
    entry = only(reconcile_date(settings, DATE, SystemClock(), heal=True), table, store)
    assert (entry.state, entry.reason) == ("healed", "")
    assert reconcile_date(settings, DATE, SystemClock()).ok


def test_a_clean_date_has_no_difference(settings: Settings, client: Client) -> None:
    result = reconcile_date(settings, DATE, SystemClock())
    assert result.ok
    assert result.recorded
    assert not different(result)
    assert result.messages > 8000
    for entry in result.entries:
        if entry.state == "off":
            assert (entry.store, bool(entry.reason)) == ("kafka", True)
            continue
        assert entry.rows_journal == entry.rows_store
        assert (entry.seq_first_journal, entry.seq_last_journal) == (entry.seq_first_store, entry.seq_last_store)
        if entry.store == "clickhouse":
            sql = f"SELECT count() FROM l2.{entry.table} WHERE {WHERE.format(stream=entry.stream)}"
            assert entry.rows_store == client.query(sql).result_rows[0][0]
    compared = {(entry.stream, entry.table, entry.store) for entry in result.entries if entry.rows_store}
    assert {(stream, table) for stream, table, store in compared if store == "clickhouse"} >= {
        (stream, table) for table, stream in STREAMS.items()
    }
    assert {(stream, table) for stream, table, store in compared if store == "jsonl"} == {
        (stream, table) for table, (stream, _) in FILES.items()
    }


@pytest.mark.parametrize("table", list(STREAMS))
def test_differences_of_a_table_are_named_and_healed(settings: Settings, client: Client, table: str) -> None:
    where, place = WHERE.format(stream=STREAMS[table]), f"l2.{table}"
    rows = client.query(f"SELECT DISTINCT seq FROM {place} WHERE {where} ORDER BY seq").result_rows
    seqs = [int(row[0]) for row in rows]
    gone, twice, other, extra = seqs[0], seqs[len(seqs) // 2], seqs[-1], 3_000_000
    change = {"depth_updates": "size = size + 1", "quotes": "bid = NULL", "trades": "tick_id = tick_id + 1",
              "book_snapshots": "bid_px = arrayPushBack(bid_px, 1)", "feed_events": "detail = '{}x'"}[table]  # fmt: skip
    again = f"(SELECT * FROM {place} WHERE {where} AND seq = {twice})"
    client.command(f"INSERT INTO {place} SELECT * FROM {again} SETTINGS insert_deduplicate = 0")
    client.command(f"INSERT INTO {place} SELECT * REPLACE({extra} AS seq) FROM {again}")
    client.command(f"ALTER TABLE {place} UPDATE {change} WHERE {where} AND seq = {other} SETTINGS mutations_sync = 2")
    client.command(f"ALTER TABLE {place} DELETE WHERE {where} AND seq = {gone} SETTINGS mutations_sync = 2")
    entry = only(reconcile_date(settings, DATE, SystemClock()), table, "clickhouse")
    assert (entry.seq_last_store, entry.exact, entry.minutes) == (extra, True, len(entry.minutes_named))
    named = {kind: {int(key.split(".")[0]) for key in keys} for kind, keys in entry.differences.keys.items()}
    assert named == {"missing": {gone}, "extra": {extra}, "doubled": {twice}, "changed": {other}}
    if table != "feed_events":  # there, a seq may have several rows
        assert counts(entry) == (1, 1, 1, 1)
    healed(settings, table, "clickhouse")


@pytest.mark.parametrize("table", FILES)
def test_differences_of_files_are_named_and_healed(settings: Settings, table: str) -> None:
    stream, kind = FILES[table]
    path = max(folder_of(settings.jsonl_dir, stream, DATE).glob(f"*_{kind}_{DATE}.jsonl"), key=lambda found: found.stat().st_size)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    seq = [str(json.loads(line)["seq"]) for line in lines]
    number = {"l2": b'"total_bid_size":', "l1": b'"total_volume":', "ticks": b'"tick_id":'}[kind]
    changed = lines[5].replace(number, number + b"1")
    extra = lines[-1][: lines[-1].rindex(b":") + 1] + b"3000000}\n"
    path.write_bytes(b"".join([lines[0], *lines[2:4], lines[3], b"what is this?\n", lines[4], changed, *lines[6:], extra]))
    entry = only(reconcile_date(settings, DATE, SystemClock()), table, "jsonl")
    assert entry.differences.keys == {"missing": [seq[1]], "extra": ["3000000"], "doubled": [seq[3]], "changed": [seq[5]]}
    assert (counts(entry), entry.exact) == ((1, 1, 1, 1), True)
    assert (entry.unreadable, entry.unreadable_named) == (1, [f"{path.name}:5"])
    healed(settings, table, "jsonl")
    assert path.read_bytes() == whole
    path.write_bytes(whole[: -len(lines[-1]) - 7])
    entry = only(reconcile_date(settings, DATE, SystemClock()), table, "jsonl")
    assert entry.differences.keys["missing"] == [seq[-2], seq[-1]]
    assert (counts(entry), entry.unreadable_named) == ((2, 0, 0, 0), [f"{path.name}:{len(lines) - 1}"])
    healed(settings, table, "jsonl")
    assert path.read_bytes() == whole


def test_files_that_are_gone_or_of_nobody_are_told_and_healed(settings: Settings) -> None:
    folder = folder_of(settings.jsonl_dir, LEVEL1, DATE)
    path = min(folder.glob(f"*_l1_{DATE}.jsonl"))
    whole = path.read_bytes()
    position = settings.jsonl_dir / ".positions" / f"{LEVEL1}-{DATE}.json"
    place = json.loads(position.read_bytes())
    strange = folder / f"NOBODY_l1_{DATE}.jsonl"
    strange.write_bytes(whole.splitlines(keepends=True)[0])
    path.unlink()
    entry = only(reconcile_date(settings, DATE, SystemClock()), "quotes", "jsonl")
    assert (entry.differences.missing, entry.unreadable) == (whole.count(b"\n"), 1)
    healed(settings, "quotes", "jsonl")
    assert (path.read_bytes(), strange.exists()) == (whole, False)
    assert json.loads(position.read_bytes()) == place


def test_many_differences_are_counted_without_naming_all(settings: Settings, client: Client) -> None:
    where = WHERE.format(stream=DEPTH)
    client.command(f"ALTER TABLE l2.depth_updates UPDATE size = size + 1 WHERE {where} AND seq % 2 = 0 SETTINGS mutations_sync = 2")
    wanted = client.query(f"SELECT uniqExact(seq) FROM l2.depth_updates WHERE {where} AND seq % 2 = 0").result_rows[0][0]
    entry = only(reconcile_date(settings, DATE, SystemClock()), "depth_updates", "clickhouse")
    assert (counts(entry), len(entry.differences.keys["changed"])) == ((0, 0, 0, wanted), 5)
    client.command(f"ALTER TABLE l2.depth_updates DELETE WHERE {where} SETTINGS mutations_sync = 2")
    entry = only(reconcile_date(settings, DATE, SystemClock()), "depth_updates", "clickhouse")
    assert (entry.rows_store, entry.differences.missing) == (0, entry.rows_journal)
    healed(settings, "depth_updates", "clickhouse")
    few = settings.model_copy(update={"reconcile": ReconcileSettings(chunk_seqs=1000, rows_max=1000)})
    folder = folder_of(settings.jsonl_dir, LEVEL1, DATE)
    wanted = 0
    for path in folder.glob(f"*_l1_{DATE}.jsonl"):
        wanted += path.read_bytes().count(b"\n")
        path.unlink()
    entry = only(reconcile_date(few, DATE, SystemClock()), "quotes", "jsonl")
    assert (entry.differences.missing, entry.exact) == (wanted, False)
    healed(settings, "quotes", "jsonl")


def test_streams_that_the_journal_does_not_have_are_told(settings: Settings, client: Client) -> None:
    rows = f"(SELECT * FROM l2.trades WHERE {WHERE.format(stream=LEVEL1)})"
    client.command(f"INSERT INTO l2.trades SELECT * REPLACE('iqfeed-level1-9' AS stream) FROM {rows}")
    result = reconcile_date(settings, DATE, SystemClock(), heal=True)
    entry = only(result, "trades", "clickhouse")
    assert (entry.stream, entry.state, entry.reason) == ("iqfeed-level1-9", "different", "the journal has no such stream on this date")
    assert not result.ok
    client.command("ALTER TABLE l2.trades DROP PARTITION ('2025-07-25', 'iqfeed-level1-9')")


def test_what_cannot_be_compared_is_never_green(settings: Settings, client: Client, tmp_path: Path) -> None:
    client.command("RENAME TABLE l2.quotes TO l2.quotes_away")
    result = reconcile_date(settings, DATE, SystemClock(), heal=True)
    states = {(entry.stream, entry.table): entry for entry in result.entries if entry.store == "clickhouse"}
    assert not result.ok
    assert states[LEVEL1, "quotes"].state == "unknown"
    assert "quotes cannot be read" in states[LEVEL1, "quotes"].reason
    assert states[LEVEL1, "trades"].state == "equal"
    client.command("RENAME TABLE l2.quotes_away TO l2.quotes")
    away = load_settings(
        home=settings.home, clickhouse={"embedded": False, "host": "127.0.0.1", "port": free_base()}, rebuild={"retry_s": 0.2},
        ports={"base": free_base()},
    )  # fmt: skip
    result = reconcile_date(away, DATE, SystemClock(), heal=True)
    assert (result.ok, result.recorded) == (False, False)
    assert {entry.state for entry in result.entries if entry.store == "clickhouse"} == {"unknown"}
    assert {entry.state for entry in result.entries if entry.store == "jsonl"} == {"equal"}
    off = settings.model_copy(update={"clickhouse": settings.clickhouse.model_copy(update={"enabled": False})})
    result = reconcile_date(off, DATE, SystemClock())
    assert {entry.state for entry in result.entries if entry.store == "clickhouse"} == {"off"}
    assert result.ok
    with date_lease(settings.run_dir, DEPTH, DATE, "rebuild"), pytest.raises(Exception, match="being changed by rebuild"):
        reconcile_date(settings, DATE, SystemClock())
    with pytest.raises(InputError, match="nothing on session date"):
        reconcile_date(settings, 20250720, SystemClock())


def test_the_command_says_it_with_its_exit_code(settings: Settings, numba_cache: Path) -> None:
    seal(settings)
    home = Home(settings.home, numba_cache, base=settings.ports.base)
    path = min(folder_of(settings.jsonl_dir, DEPTH, DATE).glob(f"*_l2_{DATE}.jsonl"))
    path.write_bytes(path.read_bytes().split(b"\n", 1)[1])
    told = home.run("reconcile", "2025-07-25", "--json", "--stream", DEPTH)
    assert told.returncode == 1
    found = [entry for entry in json.loads(told.stdout)["entries"] if entry["state"] == "different"]
    assert [(entry["table"], entry["store"], entry["differences"]["missing"]) for entry in found] == [("book_snapshots", "jsonl", 1)]
    run = json.loads(told.stdout)["run_id"]
    stored = home.sql(f"SELECT table, state, missing, keys FROM reconciliations WHERE run_id = '{run}' AND state = 'different'")
    seq = found[0]["differences"]["keys"]["missing"]
    assert [(row["table"], int(row["missing"]), json.loads(row["keys"])) for row in stored] == [("book_snapshots", 1, {"missing": seq})]
    said = home.ok("reconcile", "2025-07-25", "--heal")
    assert "1 missing" in said
    assert "all stores are equal" in said
    assert home.run("reconcile", "2025-07-20").returncode == 2
