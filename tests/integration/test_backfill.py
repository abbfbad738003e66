"""Session dates that were never recorded: from the vendor, from the archive, from a capture; again, interrupted, and with bad luck."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

import l2_platform
from l2_platform.archive.export import export_date
from l2_platform.archive.layout import list_archived, partition_folder
from l2_platform.archive.restore import restore_date
from l2_platform.clock import SystemClock
from l2_platform.collectors.backfill import STREAM, backfill_date, journaled_symbols
from l2_platform.definitions import build_definitions
from l2_platform.errors import DateBusy, InputError, L2Error
from l2_platform.monitoring.changed_dates import FOLDER, changed_dates, changes_of, forget
from l2_platform.monitoring.leases import date_lease
from l2_platform.settings import Settings
from tests.integration.homes import L2, Home
from tests.integration.stored import LIVE, put_trades, warehouse
from tests.integration.vendors import shake, simulated_vendor, vendor

pytestmark = pytest.mark.integration
TODAY = datetime.fromtimestamp(SystemClock().now_ns() // 10**9, UTC).date()


def number(day: date) -> int:
    return day.year * 10_000 + day.month * 100 + day.day


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[Home]:
    variables = {"L2_WAREHOUSE__IDLE_EXIT_S": "30", "L2_SIMULATOR__SYMBOLS": "30", "L2_SIMULATOR__RATE": "1"}
    made = Home(tmp_path_factory.mktemp("home"), numba_cache, variables)
    with simulated_vendor(made):
        yield made


@pytest.fixture(scope="module")
def settings(home: Home) -> Settings:
    return home.settings


def trades(settings: Settings, day: date) -> pl.DataFrame:
    return l2_platform.read("trades", None, day, day + timedelta(days=1), settings=settings)


def stored(settings: Settings, day: date) -> int:
    with warehouse(settings) as client:
        return int(client.query(f"SELECT count() FROM l2.trades WHERE stream = '{STREAM}' AND session_date = '{day}'").first_row[0])


def records(settings: Settings, day: date) -> int:
    folder = settings.jsonl_dir / "history" / STREAM / str(number(day))
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*.jsonl"))


def test_a_day_is_fetched_once_and_another_symbol_is_added(home: Home, settings: Settings) -> None:
    day = ago(3)
    first = json.loads(home.ok("backfill", str(day), "--symbols", "SYM000,SYM001", "--json"))
    assert [(row["symbol"], row["state"]) for row in sorted(first, key=lambda row: row["symbol"])] == [
        ("SYM000", "fetched"), ("SYM001", "fetched"),
    ]  # fmt: skip
    lines = sum(row["lines"] for row in first)
    before = trades(settings, day)
    assert len(before) == lines == records(settings, day) > 50
    assert before["source"].unique().to_list() == ["history"]
    assert before["ts_event"].min() >= datetime(day.year, day.month, day.day, tzinfo=UTC)
    assert before["ts_event"].max() < datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    assert trades(settings, day)["seq"].n_unique() == lines
    changed = changed_dates(settings.run_dir)
    assert number(day) in changed, "what was archived of the date before is old now"
    home.ok("backfill", str(day), "--symbols", "SYM000", "--json")
    assert changed_dates(settings.run_dir) == changed, "nothing was fetched: nothing changed"
    again = json.loads(home.ok("backfill", str(day), "--symbols", "SYM000,SYM001,SYM002", "--json"))
    assert {row["symbol"]: row["state"] for row in again} == {"SYM000": "already", "SYM001": "already", "SYM002": "fetched"}
    after = trades(settings, day)
    assert after.filter(pl.col("symbol") != "SYM002").sort("seq").equals(before.sort("seq"))
    assert len(after) == records(settings, day) == lines + sum(row["lines"] for row in again)
    assert "all is well" in home.ok("journal", "verify")


def journaled_only(settings: Settings, day: date, symbol: str) -> None:
    """A backfill that is ended when its replies are in the journal and no sink has them."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backfill_date(number(day), [symbol], settings, SystemClock(), end)
    assert journaled_symbols(settings, number(day)) == {symbol}
    assert stored(settings, day) == 0


def test_what_was_journaled_and_not_delivered_is_noted_for_the_next_close(settings: Settings) -> None:
    day = ago(9)
    journaled_only(settings, day, "SYM000")
    assert number(day) in changed_dates(settings.run_dir)


def test_rows_do_not_come_before_they_are_noted(settings: Settings) -> None:
    day, folder = ago(10), settings.run_dir / FOLDER
    journaled_only(settings, day, "SYM000")
    aside = folder.rename(folder.with_name("aside"))
    folder.touch()
    try:
        with pytest.raises(L2Error, match="so nothing was changed"):
            backfill_date(number(day), ["SYM000"], settings, SystemClock())
    finally:
        folder.unlink()
        aside.rename(folder)
    assert stored(settings, day) == 0


def test_an_archive_forgets_no_rows_that_are_about_to_come(settings: Settings) -> None:
    day = ago(11)
    journaled_only(settings, day, "SYM000")
    # one archive was written after the first run was ended, another one is tried before the second run's rows come
    forget(changes_of(settings.run_dir, number(day)))
    refused: list[date] = []

    def archive(*_: object) -> None:
        put_trades(client, LIVE, str(day), 10, symbols=("SYM003",))
        with pytest.raises(DateBusy, match="backfill"):
            export_date(client, settings, SystemClock(), day)
        refused.append(day)

    with warehouse(settings) as client:
        result = backfill_date(number(day), ["SYM000"], settings, SystemClock(), archive)
    assert ([item.state for item in result.symbols], refused, stored(settings, day) > 0) == (["already"], [day], True)
    assert number(day) in changed_dates(settings.run_dir)
    forget(changes_of(settings.run_dir, number(day)))
    assert backfill_date(number(day), ["SYM000"], settings, SystemClock()).rows["clickhouse"] == 0
    assert number(day) not in changed_dates(settings.run_dir)


def test_unknown_symbols_and_live_rows_are_told_and_left_alone(settings: Settings) -> None:
    day = ago(4)
    with warehouse(settings) as client:
        put_trades(client, LIVE, str(day), 10, symbols=("SYM003",))
    result = backfill_date(number(day), ["SYM003", "SYM004", "NOPE"], settings, SystemClock())
    assert {item.symbol: item.state for item in result.symbols} == {"SYM003": "live", "SYM004": "fetched", "NOPE": "no_data"}
    found = trades(settings, day)
    assert found.filter(pl.col("symbol") == "SYM003")["source"].to_list() == ["live"] * 10
    assert journaled_symbols(settings, number(day)) == {"SYM004"}


def test_the_same_day_twice_from_the_vendor_is_the_same(settings: Settings, tmp_path: Path) -> None:
    day = ago(5)
    backfill_date(number(day), ["SYM005", "SYM006"], settings, SystemClock())
    other = settings.model_copy(update={"home": tmp_path, "clickhouse": settings.clickhouse.model_copy(update={"enabled": False})})
    backfill_date(number(day), ["SYM005", "SYM006"], other, SystemClock())

    def lines(of: Settings) -> list[str]:
        folder = of.jsonl_dir / "history" / STREAM / str(number(day))
        return sorted(
            json.dumps({name: value for name, value in json.loads(line).items() if name != "ts_recv"}, sort_keys=True)
            for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()
        )  # fmt: skip

    assert lines(settings) == lines(other) != []


@pytest.mark.parametrize(
    ("days", "message"),
    [(0, "still running"), (-30, "lies in the future"), (300, "ticks of 180 days.*--source capture")],
)
def test_dates_that_cannot_be_filled(settings: Settings, days: int, message: str) -> None:
    # midnight may lie between the import of this file and its run
    day = datetime.fromtimestamp(SystemClock().now_ns() // 10**9, UTC).date() - timedelta(days=days)
    with pytest.raises(InputError, match=message):
        backfill_date(number(day), ["SYM000"], settings, SystemClock())


def test_closed_days_and_wrong_symbols(settings: Settings) -> None:
    exchange = settings.model_copy(update={"session": settings.session.model_copy(update={"calendar": "XNYS"})})
    saturday = ago(3) - timedelta(days=(ago(3).weekday() - 5) % 7)
    with pytest.raises(InputError, match="is a closed day of calendar XNYS; the session before it is"):
        backfill_date(number(saturday), ["SYM000"], exchange, SystemClock())
    for name, words in (("A,B", "comma"), ("sym000", "upper case, 'SYM000'"), ("X" * 40, "1 to 30 letters")):
        with pytest.raises(InputError, match=words):
            backfill_date(number(ago(3)), [name], settings, SystemClock())
    with date_lease(settings.run_dir, STREAM, number(ago(3)), "rebuild"), pytest.raises(DateBusy):
        backfill_date(number(ago(3)), ["SYM000"], settings, SystemClock())


def test_a_date_goes_into_the_archive_and_back(settings: Settings) -> None:
    day = ago(6)
    backfill_date(number(day), ["SYM007", "SYM008"], settings, SystemClock())
    before = trades(settings, day)
    with warehouse(settings) as client:
        export_date(client, settings, SystemClock(), day)
        assert {item.state for item in restore_date(client, settings, day)} == {"present"}
        for table in ("trades", "feed_events"):
            client.command(f"ALTER TABLE l2.{table} DROP PARTITION ('{day}', '{STREAM}')")
        assert [item.state for item in restore_date(client, settings, day)] == ["restored", "restored"]
        assert trades(settings, day).equals(before)
        client.command(f"ALTER TABLE l2.trades DROP PARTITION ('{day}', '{STREAM}')")
        (manifest,) = list_archived(settings.archive_dir, "trades", day, day)
        part = partition_folder(settings.archive_dir, "trades", day, STREAM) / manifest.parts[0].file
        whole = part.read_bytes()
        part.write_bytes(whole[:-200])
        assert {item.manifest.table: item.state for item in restore_date(client, settings, day)} == {
            "trades": "failed", "feed_events": "present",
        }  # fmt: skip
        part.write_bytes(whole)
        assert {item.state for item in restore_date(client, settings, day)} == {"present", "restored"}
    with pytest.raises(InputError, match="nothing of session date"), warehouse(settings) as client:
        restore_date(client, settings, ago(100))


def test_the_job_fills_a_date_and_names_what_failed(settings: Settings) -> None:
    job = build_definitions(settings).resolve_job_def("backfill_day")
    day = ago(8)
    config = {"ops": {"backfilled_day": {"config": {"source": "vendor", "symbols": ["SYM009", "NOPE"]}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        done = job.execute_in_process(partition_key=str(day), run_config=config, instance=instance)
        assert done.success
        (made,) = done.asset_materializations_for_node("backfilled_day")
        assert made.metadata["failed"].value == 0
        assert "| NOPE | no_data |" in made.metadata["results"].value
        assert "FROM l2.trades WHERE" in made.metadata["look"].value
        assert made.metadata["dagster/partition_row_count"].value == len(trades(settings, day)) > 0
        wrong = {"ops": {"backfilled_day": {"config": {"source": "archive"}}}}
        failed = job.execute_in_process(partition_key=str(day), run_config=wrong, instance=instance, raise_on_error=False)
        assert not failed.success
        assert "is archived in" in failed.get_step_failure_events()[0].event_specific_data.error.message


def slow_vendor(client: socket.socket, line: str) -> None:
    """Three ticks a symbol, half a second each; SYM002 is refused."""
    if shake(client, line):
        return
    fields = line.split(",")
    name = fields[8]
    time.sleep(0.5)
    if fields[1] == "SYM002":
        client.sendall(f"{name},E,!SYNTAX_ERROR!,\r\n{name},!ENDMSG!,\r\n".encode())
        return
    day = f"{fields[3][:4]}-{fields[3][4:6]}-{fields[3][6:8]}"
    ticks = "".join(f"{name},LH,{day} 10:00:0{at}.000001,96.0700,100,{at}00,96.06,96.08,{at},C,19,01,1,18,\r\n" for at in (1, 2, 3))
    client.sendall(f"{ticks}{name},!ENDMSG!,\r\n".encode())


@pytest.fixture
def other(tmp_path: Path, numba_cache: Path) -> Home:
    """A home without a market of its own, for servers that behave badly."""
    variables = {
        "L2_WAREHOUSE__IDLE_EXIT_S": "30", "L2_LOOKUP__SOCKETS": "1", "L2_LOOKUP__RETRY_S": "0.05", "L2_LOOKUP__SILENCE_S": "2",
        "L2_CLICKHOUSE__ENABLED": "false",
    }  # fmt: skip
    return Home(tmp_path, numba_cache, variables)


@pytest.mark.parametrize("number_of_signal", [signal.SIGKILL, signal.SIGINT])
def test_ended_in_the_middle_it_goes_on_and_doubles_nothing(other: Home, number_of_signal: int) -> None:
    settings, day = other.settings, ago(7)
    names = [f"SYM{place:03d}" for place in range(8)]
    with vendor(settings, slow_vendor) as asked:
        process = other.start(str(L2), "backfill", str(day), "--symbols", ",".join(names), log="backfill")
        folder = settings.run_dir / "backfill" / str(number(day))
        while process.poll() is None and len(list(folder.glob("*.reply"))) < 3:
            time.sleep(0.02)
        os.kill(process.pid, number_of_signal)
        assert process.wait(60) == (130 if number_of_signal == signal.SIGINT else -signal.SIGKILL)
        assert len(asked) < len(names)
        before = {line.split(",")[1] for line in asked[:-1]} - {"SYM002"}
        asked.clear()
        result = other.run("backfill", str(day), "--symbols", ",".join(names), "--json")
        states = {row["symbol"]: row["state"] for row in json.loads(result.stdout)}
        assert result.returncode == 1
        # interrupted, it puts what it has into the journal before it ends
        done = {name for name, state in states.items() if state == "already"}
        assert done <= (before if number_of_signal == signal.SIGINT else set())
        assert states == {name: "failed" if name == "SYM002" else "already" if name in done else "fetched" for name in names}
        assert not before & {line.split(",")[1] for line in asked}
    assert records(settings, day) == 3 * 7
    assert len(list((settings.jsonl_dir / "history" / STREAM / str(number(day))).glob("*.jsonl"))) == 7


def test_a_vendor_that_is_away_or_talks_nonsense(other: Home) -> None:
    settings, day = other.settings, ago(7)
    closed = other.run("backfill", str(day), "--symbols", "SYM000")
    assert (closed.returncode, "start IQConnect, or the simulated market" in closed.stderr) == (1, True)
    with vendor(settings, lambda client, _: client.sendall(b"<html>\r\n" * 5)):
        nonsense = other.run("backfill", str(day), "--symbols", "SYM000")
        assert nonsense.returncode == 1
        assert "Is it an IQConnect?" in nonsense.stderr
    assert not (settings.journal_dir / STREAM).exists()


def test_a_capture_is_imported(home: Home, market_data: Path) -> None:
    file = market_data / "iqfeed_ticks_2021-03-01_to_03.csv.gz"
    capture = ("--source", "capture", "--file", file, "--channel", "ticks", "-s", "XYZ")
    (row,) = json.loads(home.ok("backfill", "2021-03-01", *capture, "--json"))
    assert row["session_dates"] == [20210301, 20210302, 20210303]
    refused = home.run("backfill", "2021-03-01", "--source", "capture")
    assert (refused.returncode, "--file FILE go together" in refused.stderr) == (2, True)
