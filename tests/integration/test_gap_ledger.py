"""The ledger of gaps: the newest version is a gap's state, a version changes only what it tells, and old ledgers go on."""

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from l2_platform.clock import SystemClock
from l2_platform.errors import InputError
from l2_platform.quality.ledger import append_version, load_gaps, load_versions
from l2_platform.warehouse.schema import MIGRATIONS, load_migrations, migrate
from tests.integration.stored import make_home, warehouse

pytestmark = pytest.mark.integration
CLOCK = SystemClock()
DAY = date(2026, 11, 20)
FROM = 1_795_000_000_123_456_789
"""Ends in digits that no client's datetime holds."""
TO = FROM + 90_000_000_001


def put_gap(client: Client, gap_id: str, *, database: str = "l2", symbols: str = "[]", state: str = "closed", day: date = DAY) -> None:
    ends = "NULL" if state == "open" else f"fromUnixTimestamp64Nano({TO}, 'UTC')"
    client.command(f"""
        INSERT INTO {database}.gap_events (gap_id, stream, session_date, seq, ordinal, source, symbols, ts_from, ts_to, cause, evidence,
            repair_source, rows_recovered, residual, state, seq_before, version, ts_written)
        VALUES ('{gap_id}', 'iqfeed-level1-0', '{day}', 7, 1, 'live', {symbols}, fromUnixTimestamp64Nano({FROM}, 'UTC'), {ends},
            'disconnect', '{{"reason":"reset"}}', '', 0, '', '{state}', 6, 1, now64(9, 'UTC'))""")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[Client]:
    with warehouse(make_home(tmp_path_factory.mktemp("home"), numba_cache).settings) as found:
        yield found


def test_a_version_changes_what_it_tells_and_nothing_else(client: Client) -> None:
    put_gap(client, "aaaa", symbols="['SYM1', 'SYM2']")
    before = load_versions(client, "l2", "aaaa")[0]
    assert (before.ts_from, before.ts_to, before.symbols) == (FROM, TO, ("SYM1", "SYM2"))
    assert (before.explanation, before.repair_state, before.evidence) == ("", "", {"reason": "reset"})
    text = "a 'quoted' \\ line\n\tand {braces}"
    explained = append_version(client, "l2", "aaaa", CLOCK, explanation="halt")
    repaired = append_version(
        client, "l2", "aaaa", CLOCK, repair_state="repaired", repair_source="history", rows_recovered=12, evidence={"text": text}
    )
    assert [gap.version for gap in load_versions(client, "l2", "aaaa")] == [1, 2, 3]
    assert (explained.version, explained.explanation, explained.repair_state) == (2, "halt", "")
    told = ("version", "ts_written", "explanation", "repair_state", "repair_source", "rows_recovered", "evidence")
    for name in before.__dataclass_fields__:
        assert name in told or getattr(repaired, name) == getattr(before, name), name
    # the explanation of the version between is kept
    assert (repaired.explanation, repaired.rows_recovered, repaired.evidence) == ("halt", 12, {"text": text})
    assert load_gaps(client, "l2", DAY, symbol="SYM1")[-1] == repaired
    assert before.ts_written < explained.ts_written < repaired.ts_written


def test_gaps_are_chosen_by_date_stream_symbol_and_state(client: Client) -> None:
    day = date(2026, 11, 23)
    put_gap(client, "all", day=day)
    put_gap(client, "one", day=day, symbols="['SYM7']")
    put_gap(client, "none", day=day, state="withdrawn")
    put_gap(client, "still", day=day, state="open")

    def ids(**chosen: object) -> set[str]:
        return {gap.gap_id for gap in load_gaps(client, "l2", day, **chosen)}  # type: ignore[arg-type]

    assert ids() == {"all", "one", "still"}
    assert ids(withdrawn=True) == {"all", "one", "none", "still"}
    assert ids(only_open=True) == {"still"}
    assert ids(symbol="SYM8") == {"all", "still"}
    assert ids(stream="iqfeed-depth-0") == set()
    assert len(load_gaps(client, "l2", day, limit=2)) == 2
    still = next(gap for gap in load_gaps(client, "l2", day) if gap.gap_id == "still")
    assert still.ts_to is None
    assert still.seconds(FROM + 2_500_000_000) == 2.5
    closed = append_version(client, "l2", "still", CLOCK, state="closed", ts_to=TO)
    assert (closed.state, closed.ts_to) == ("closed", TO)


def test_what_may_be_repaired_is_chosen_where_the_rows_are(client: Client) -> None:
    day = date(2026, 12, 7)
    for gap_id in ("untried", "failed", "partly", "repaired", "explained"):
        put_gap(client, f"due-{gap_id}", day=day)
    put_gap(client, "due-open", day=day, state="open")
    append_version(client, "l2", "due-failed", CLOCK, repair_state="failed")
    append_version(client, "l2", "due-partly", CLOCK, repair_state="partial")
    append_version(client, "l2", "due-repaired", CLOCK, repair_state="repaired")
    append_version(client, "l2", "due-explained", CLOCK, explanation="halt")
    due = {"due-untried", "due-failed", "due-partly"}
    assert {gap.gap_id for gap in load_gaps(client, "l2", unrepaired_since=day)} == due
    assert {gap.gap_id for gap in load_gaps(client, "l2", unrepaired_since=date(2026, 11, 1))} > due
    assert load_gaps(client, "l2", unrepaired_since=date(2026, 12, 8)) == []


def test_a_gap_that_is_not_there_is_told(client: Client) -> None:
    with pytest.raises(InputError, match="there is no gap ffff"):
        append_version(client, "l2", "ffff", CLOCK, explanation="halt")


def test_a_ledger_of_an_earlier_program_goes_on(client: Client, tmp_path: Path) -> None:
    earlier = tmp_path / "migrations"
    earlier.mkdir()
    for migration in load_migrations()[:7]:
        name = f"{migration.version:04d}_{migration.name}.sql"
        shutil.copy(MIGRATIONS / name, earlier / name)
    migrate(client, "older", earlier)
    put_gap(client, "old", database="older")
    assert 8 in migrate(client, "older")
    assert load_gaps(client, "older", DAY)[0].explanation == ""
    assert append_version(client, "older", "old", CLOCK, explanation="halt").explanation == "halt"
    put_gap(client, "new", database="older")
    assert {gap.gap_id for gap in load_gaps(client, "older")} == {"old", "new"}
