"""An audit as a whole: stated results for what cannot be judged, stored once, ranges of symbols, the command, real ticks."""

import gzip
import json
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import psutil
import pytest
from clickhouse_connect.driver.client import Client

from l2_platform.clock import SystemClock
from l2_platform.errors import InputError
from l2_platform.quality.audit import audit_date, audit_week
from l2_platform.quality.checks import CHECKS
from l2_platform.quality.findings import AuditResult, CheckResult
from l2_platform.settings import QualitySettings, Settings
from l2_platform.warehouse.start import read_record, record_path
from tests.integration.audit_rows import DAY, DEPTH, SECONDS, put_symbol, second
from tests.integration.homes import Home
from tests.integration.stored import make_home, warehouse

pytestmark = pytest.mark.integration
CLOCK = SystemClock()
SPIKE = {"trades": {"price": "if(number = 1000, price * 10, price)"}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[Home]:
    found = make_home(tmp_path_factory.mktemp("audit"), numba_cache)
    with warehouse(found.settings) as client:
        for place in range(6):
            put_symbol(client, f"SYM{place}", place, SPIKE if place == 4 else {})
        yield found


def result_of(result: AuditResult, name: str) -> CheckResult:
    return next(check for check in result.checks if check.name == name)


def with_quality(settings: Settings, **values: object) -> Settings:
    return settings.model_copy(update={"quality": QualitySettings(**values)})


def test_an_audit_under_the_same_id_is_stored_once(home: Home) -> None:
    for _ in range(2):
        result = audit_date(home.settings, DAY, CLOCK, ["trade_not_spiking", "key_once"], run_id="twice")
        assert result.outcome == "failed"
    with warehouse(home.settings) as client:
        rows = "SELECT check, symbol, severity, toUnixTimestamp64Nano(assumeNotNull(ts_from)) FROM l2.findings WHERE run_id = 'twice'"
        assert client.query(rows).result_rows == [("trade_not_spiking", "SYM4", "error", second(1000) + 10_000_000)]
        ran = "SELECT check, outcome, severity, looked, flagged, findings FROM l2.audit_runs WHERE run_id = 'twice' ORDER BY check"
        assert client.query(ran).result_rows == [
            ("key_once", "passed", "", 43_200, 0, 0), ("trade_not_spiking", "failed", "error", 10_800, 1, 1),
        ]  # fmt: skip


def test_ranges_of_symbols_give_what_one_statement_gives(home: Home) -> None:
    whole = audit_date(home.settings, DAY, CLOCK)
    parts = audit_date(with_quality(home.settings, group_rows=4000, join_rows=2000), DAY, CLOCK)
    for one, other in zip(whole.checks, parts.checks, strict=True):
        assert (one.name, one.looked, one.flagged, one.findings) == (other.name, other.looked, other.flagged, other.findings)


def test_prints_that_history_brought_are_judged_with_the_stream_of_their_symbol_only(home: Home) -> None:
    day = date(2026, 3, 12)
    lost = "(number BETWEEN 100 AND 103 OR number BETWEEN 107 AND 110)"
    other, history = ("iqfeed-level1-1", DEPTH), ("iqfeed-history", DEPTH)
    with warehouse(home.settings) as client:
        for place, symbol in enumerate(("AAA", "CCC", "DDD")):
            put_symbol(client, symbol, place, only=("trades",), day=day)
        put_symbol(client, "BBB", 3, {"trades": {"where": f"NOT {lost}"}}, only=("trades",), day=day, streams=other)
        # of both symbols history has two pieces, beside each other; the live stream has what is between those of BBB
        for place, symbol in enumerate(("BBB", "CAB")):
            put_symbol(
                client, symbol, place, {"trades": {"where": lost}}, only=("trades",), day=day, streams=history, source="history",
            )  # fmt: skip
    whole, parts = (
        audit_date(with_quality(home.settings, group_rows=rows), day, CLOCK, ["counters_unbroken"]).checks[0]
        for rows in (1_000_000, 1000)
    )
    assert (whole.outcome, whole.looked, whole.findings) == ("passed", 4 * SECONDS, [])
    assert (parts.outcome, parts.looked, parts.findings) == ("passed", 4 * SECONDS, [])


def test_findings_are_bounded_and_all_are_counted(home: Home) -> None:
    settings = with_quality(home.settings, through_min=0.000001, through_spreads=0, findings_max=3, size_max=99, episode_s=60)
    found = result_of(audit_date(settings, DAY, CLOCK, ["values_in_range"]), "values_in_range")
    assert len(found.findings) == 3
    assert found.found > 100
    assert found.flagged > found.found


def test_a_date_without_a_row_is_not_passed(home: Home) -> None:
    session = audit_date(home.settings, date(2026, 3, 4), CLOCK)
    assert session.outcome == "not_evaluated"
    assert {check.outcome for check in session.checks} == {"not_evaluated"}
    assert {check.severity for check in session.checks} == {"error"}
    saturday = audit_date(home.settings, date(2026, 3, 7), CLOCK)
    assert (saturday.outcome, {check.severity for check in saturday.checks}) == ("not_evaluated", {""})


def test_a_missing_table_is_said_and_the_rest_is_judged(home: Home) -> None:
    with warehouse(home.settings) as client:
        client.command("RENAME TABLE l2.quotes TO l2.away")
        try:
            result = audit_date(home.settings, DAY, CLOCK, ["quote_not_crossed", "trade_not_spiking"])
        finally:
            client.command("RENAME TABLE l2.away TO l2.quotes")
    lost, judged = result.checks[0], result_of(result, "trade_not_spiking")
    assert (lost.outcome, lost.severity) == ("not_evaluated", "error")
    assert "quotes is missing" in lost.message
    assert judged.outcome == "failed"


def test_a_name_that_is_no_check_is_refused(home: Home) -> None:
    with pytest.raises(InputError, match="there is no check nonsense"):
        audit_date(home.settings, DAY, CLOCK, ["nonsense"])


def test_a_week_is_audited_by_its_session_dates(home: Home) -> None:
    results = audit_week(home.settings, date(2026, 3, 8), CLOCK, ["key_once"])
    assert [result.session_date.day for result in results] == [2, 3, 4, 5, 6]
    assert [result.outcome for result in results] == ["not_evaluated"] * 4 + ["passed"]


def test_the_command_ends_with_one_for_an_error(home: Home) -> None:
    failed = home.run("audit", "2026-03-06", "--check", "trade_not_spiking", "--check", "key_once")
    assert failed.returncode == 1, failed.stderr
    document = json.loads(failed.stdout)
    assert [check["outcome"] for check in document["checks"]] == ["failed", "passed"]
    assert home.run("audit", "2026-03-06", "--check", "key_once").returncode == 0


def test_a_warehouse_that_ends_in_the_middle_is_never_green(home: Home) -> None:
    ended: list[str] = []

    def end(found: CheckResult) -> None:
        if not ended:
            record = read_record(record_path(home.settings))
            assert record is not None
            process = psutil.Process(record.pid)
            process.kill()
            process.wait(30)
            # and it cannot start again
            home.settings.warehouse_dir.rename(home.settings.warehouse_dir.with_name("aside"))
            home.settings.warehouse_dir.write_text("no folder")
            ended.append(found.name)

    try:
        result = audit_date(home.settings, DAY, CLOCK, said=end)
    finally:
        home.settings.warehouse_dir.unlink()
        home.settings.warehouse_dir.with_name("aside").rename(home.settings.warehouse_dir)
    assert [check.name for check in result.checks] == [check.name for check in CHECKS]
    after = [check for check in result.checks if check.name != ended[0]]
    assert {(check.outcome, check.severity) for check in after if check.message} >= {("not_evaluated", "error")}
    assert not [check.name for check in after if check.outcome == "passed"]
    assert (result.outcome, result.stored) == ("not_evaluated", False)
    assert "could not be stored" in result.message


def vendor_rows(path: Path) -> list[list[str]]:
    with gzip.open(path, "rt") as file:
        return [line.rstrip("\r\n").split(",") for line in file if not line.startswith("!")]


def put_bars(client: Client, rows: list[list[str]], length_s: int) -> None:
    """Bars as the vendor's files have them (high, low, open, close, total volume, period volume; of a day without the total)."""
    names = "stream, session_date, seq, symbol, source, interval_s, ts_begin, ts_recv, open, high, low, close, volume, total_volume"
    values = []
    for seq, row in enumerate(rows, 1):
        begin = datetime.fromisoformat(row[0]).replace(tzinfo=ZoneInfo("America/New_York"))
        volume = row[6] if length_s == 1 else row[5]
        at = f"fromUnixTimestamp64Nano({int(begin.timestamp()) * 10**9}, 'UTC')"
        prices = ", ".join(row[place] for place in (3, 1, 2, 4))
        key = f"'iqfeed-bars-history', '{begin.date()}', {seq}, 'XYZ', 'history'"
        values.append(f"({key}, {length_s}, {at}, {at}, {prices}, {volume}, -1)")
    for day in sorted({row[0][:10] for row in rows}):
        part = [value for row, value in zip(rows, values, strict=True) if row[0][:10] == day]
        client.command(f"INSERT INTO l2.history_bars ({names}) SETTINGS async_insert = 0 VALUES {', '.join(part)}")


def test_real_ticks_have_no_error(tmp_path: Path, numba_cache: Path, market_data: Path) -> None:
    home = make_home(tmp_path / "real", numba_cache)
    home.ok("import", market_data / "iqfeed_ticks_2021-03-01_to_03.csv.gz", "--channel", "ticks", "--symbol", "XYZ")
    looked = 0
    bars = 0
    lines = len(vendor_rows(market_data / "iqfeed_ticks_2021-03-01_to_03.csv.gz"))
    with warehouse(home.settings) as client:
        put_bars(client, vendor_rows(market_data / "iqfeed_bars_1s_2021-03-01_to_03.csv.gz"), 1)
        put_bars(client, vendor_rows(market_data / "iqfeed_bars_daily_2021-02-22_to_03-26.csv.gz"), 86_400)
        for number in (1, 2, 3):
            result = audit_date(home.settings, date(2021, 3, number), CLOCK)
            assert [(check.name, check.message) for check in result.checks if check.severity] == []
            assert [found for check in result.checks for found in check.findings] == []
            looked += result_of(result, "volume_reconciled").looked
            bars += result_of(result, "bars_equal_history").looked
    assert bars == 7949 + 3, "every bar of a second and of a day of the vendor is that of the stored prints"
    assert looked == lines, "every real print was judged, and none is flagged"
