"""The daily report from the tables of a real warehouse: never green where something was not looked at, bounded, and safe to open."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from l2_platform.clock import SystemClock
from l2_platform.errors import InputError
from l2_platform.quality.checks import CHECKS
from l2_platform.quality.report import DayReport, report_path, write_report
from l2_platform.settings import Settings
from l2_platform.warehouse.start import read_record, record_path
from tests.integration.homes import Home
from tests.integration.recorded_days import end_warehouse
from tests.integration.reported_days import BAD, CLEAN, put_bad, put_clean
from tests.integration.stored import make_home, warehouse

pytestmark = pytest.mark.integration
EMPTY = 20260304


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[Home]:
    made = make_home(tmp_path_factory.mktemp("home"), numba_cache)
    made.variables["L2_WAREHOUSE__IDLE_EXIT_S"] = "900"
    yield made
    end_warehouse(made.settings)


@pytest.fixture(scope="module")
def settings(home: Home) -> Settings:
    return home.settings


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[Client]:
    with warehouse(settings) as made:
        put_clean(made)
        put_bad(made)
        yield made


def report(settings: Settings, number: int) -> tuple[DayReport, str]:
    made = write_report(settings, number, SystemClock())
    return made, made.path.read_text()


def number_of(day: object) -> int:
    return int(str(day).replace("-", ""))


def test_a_clean_day_says_so_with_its_numbers(settings: Settings, client: Client) -> None:
    made, page = report(settings, number_of(CLEAN))
    assert made.verdict.todo == []
    assert (made.verdict.word, made.verdict.sentence) == ("complete", "complete: unexplained loss 0 s, 0 rows")
    assert made.path == settings.home / "reports" / f"{CLEAN}.html"
    rows = {row["table"]: (row["rows"], row["before"], row["symbols"], row["bounds"][0]) for row in made.as_dict()["tables"]}
    assert rows["trades"] == (3600, 3500, 2, "10:00:00")
    assert made.facts.gaps.need()[0].explanation == "halt"
    for text in ("complete", "1 explained", "0 unexplained", "<svg", "halt", "Nothing.", f"{len(CHECKS)} passed"):
        assert text in page
    assert "not evaluated" not in page


def test_a_bad_day_names_what_is_lost_why_and_what_to_do(settings: Settings, client: Client) -> None:
    made, page = report(settings, number_of(BAD))
    assert (made.verdict.word, made.verdict.ok) == ("missing", False)
    # an open gap lasts to the end of trading: 11:15 to 20:00 in New York
    assert (made.verdict.lost_s, made.verdict.lost_rows) == (8.75 * 3600, 450)
    told = [item.what for item in made.verdict.todo]
    assert "1 gap did not end" in told
    assert "2 gaps without explanation or repair, 1 of depth or quotes, of which there is no history" in told
    assert any("1 missing, 1 degraded of 3 symbols (worst: NEVER, no row of it in any table)" in text for text in told)
    assert "stores differ from the journal: clickhouse trades of iqfeed-level1-0" in told
    assert "1 check found errors: book_not_crossed (3)" in told
    assert all(item.command.startswith("l2 ") for item in made.verdict.todo)
    counts = made.as_dict()["gaps"]
    assert (counts["all"], counts["short"], counts["long"], counts["repaired"], counts["rows_recovered"]) == (5, 4, 3, 1, 90)
    repaired = made.as_dict()["repaired"]
    assert "1 gap from history, 90 rows recovered" in repaired
    assert "quotes of 90.0 s stay lost: history has the prints of 1 gap, and no quotes" in repaired
    assert any("was rebuilt from the journal at the close: rows were missing" in text for text in repaired)
    assert any("clickhouse quotes" in text and "equal to the journal now" in text for text in repaired)
    assert "<b>&EVIL" not in page, "names of the feed are text and never markup"
    assert "&lt;b&gt;&amp;EVIL" in page


def test_the_command_tells_verdict_path_and_exit_code(home: Home, client: Client) -> None:
    clean = home.run("report", str(CLEAN))
    assert (clean.returncode, clean.stdout.splitlines()) == (
        0, [f"{CLEAN}: complete: unexplained loss 0 s, 0 rows", str(home.settings.home / "reports" / f"{CLEAN}.html")],
    )  # fmt: skip
    bad = home.run("report", str(BAD), "--json")
    told = json.loads(bad.stdout)
    assert (bad.returncode, told["verdict"], told["ok"], told["unexplained_rows"]) == (1, "missing", False, 450)
    assert home.run("report", "2026-03-07").returncode == 2


def test_a_date_without_any_row_is_missing(settings: Settings, client: Client) -> None:
    made, page = report(settings, EMPTY)
    assert (made.verdict.word, made.verdict.lost_rows) == ("missing", None)
    assert "No market table has a row of this date." in page
    assert page.count("not evaluated") > 4
    with pytest.raises(InputError, match="closed day"):
        write_report(settings, 20260307, SystemClock())


@pytest.mark.parametrize("table", ["daily_reports", "gap_events", "completeness", "audit_runs", "findings", "reconciliations", "trades"])
def test_a_table_that_is_missing_is_told_and_never_green(settings: Settings, client: Client, table: str) -> None:
    client.command(f"RENAME TABLE l2.{table} TO l2.away")
    try:
        made, page = report(settings, number_of(CLEAN))
    finally:
        client.command(f"RENAME TABLE l2.away TO l2.{table}")
    assert (made.verdict.word, made.verdict.ok) == ("not evaluated", False)
    assert any("is missing in the warehouse" in item.what for item in made.verdict.todo)
    assert "not evaluated: a table is missing" in page
    assert 'class="verdict not-evaluated"' in page


def test_proofs_from_before_the_newest_close_do_not_count(settings: Settings, client: Client) -> None:
    client.command(f"""INSERT INTO l2.daily_reports SELECT * REPLACE (ts_written + toIntervalHour(5) AS ts_written)
        FROM l2.daily_reports WHERE session_date = '{CLEAN}' AND table = 'trades'""")
    try:
        made, _ = report(settings, number_of(CLEAN))
        assert made.verdict.word == "not evaluated"
        assert sum("older than the newest close" in item.what for item in made.verdict.todo) == 3
    finally:
        client.command(f"ALTER TABLE l2.daily_reports DELETE WHERE session_date = '{CLEAN}' AND ts_written > '{CLEAN} 23:59:59'"
                       " SETTINGS mutations_sync = 2")  # fmt: skip
    assert report(settings, number_of(CLEAN))[0].verdict.ok


def test_an_audit_of_some_checks_is_no_audit(settings: Settings, client: Client) -> None:
    where = f"session_date = '{CLEAN}' AND check = 'key_once'"
    client.command(f"CREATE TABLE l2.kept ENGINE = Memory AS SELECT * FROM l2.audit_runs WHERE {where}")
    client.command(f"ALTER TABLE l2.audit_runs DELETE WHERE {where} SETTINGS mutations_sync = 2")
    try:
        made, page = report(settings, number_of(CLEAN))
    finally:
        client.command("INSERT INTO l2.audit_runs SELECT * FROM l2.kept")
    assert made.verdict.word == "not evaluated"
    assert "1 check did not run (key_once)" in page


def test_a_page_of_thousands_of_symbols_and_gaps_stays_small(settings: Settings, client: Client) -> None:
    day = "2026-03-10"
    client.command(f"""INSERT INTO l2.trades (stream, session_date, seq, symbol, ts_event, ts_recv, source, price, size)
        SELECT 'iqfeed-level1-0', '{day}', number + 1, concat('S', toString(number % 5000)), NULL,
            toDateTime64('{day} 15:00:00', 9, 'UTC') + toIntervalMillisecond(number * 10), 'live', 1, 1 FROM numbers(50000)""")
    columns = "gap_id, stream, session_date, seq, ordinal, source, symbols, ts_from, ts_to, cause, evidence, state, version, ts_written"
    begin = f"toDateTime64('{day} 15:00:00', 9, 'UTC') + toIntervalSecond(number)"
    client.command(f"""INSERT INTO l2.gap_events ({columns}) SELECT concat('g', toString(number)), 'iqfeed-level1-0', '{day}', 1, 0, 'live',
        ['S1'], {begin}, {begin} + toIntervalSecond(3), 'silence', '{{}}', 'closed', 1, now() FROM numbers(3000)""")
    made, page = report(settings, number_of(day))
    assert made.facts.heat.need().of == 5000
    assert len(made.facts.heat.need().symbols) == settings.report.symbols
    assert made.as_dict()["gaps"]["unexplained"] == 3000
    assert len(page) < 400_000
    assert "and 2,990 more" in page
    few = settings.model_copy(update={"report": settings.report.model_copy(update={"gaps_max": 1000})})
    cut, _ = report(few, number_of(day))
    assert cut.as_dict()["gaps"]["all"] == 1000
    assert any("only the newest 1,000 gaps were looked at" in item.what for item in cut.verdict.todo)


def test_a_warehouse_that_ends_in_the_middle_or_is_away_is_a_stated_result(
    settings: Settings, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = read_record(record_path(settings))
    assert record is not None
    from l2_platform.quality import report_queries

    load = report_queries.gaps_now

    def killed(*arguments: object, **options: object) -> object:
        os.kill(record.pid, signal.SIGKILL)
        return load(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(report_queries, "gaps_now", killed)
    made, page = report(settings, number_of(CLEAN))
    assert made.verdict.word == "not evaluated"
    assert not made.facts.gaps.known
    assert not made.facts.stores.known
    assert made.facts.completeness.known, "what was read before stays told"
    assert "not evaluated" in page
    away = settings.model_copy(update={"clickhouse": settings.clickhouse.model_copy(update={"embedded": False, "port": 9})})
    made, page = report(away, number_of(CLEAN))
    assert (made.verdict.word, made.verdict.loss) == ("not evaluated", "unexplained loss time not evaluated, rows not evaluated")
    assert "the warehouse is away" in page
    assert report_path(settings, number_of(CLEAN)) == made.path
