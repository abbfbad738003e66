"""Every asset of dates that are rare: each ends in a stated result, never in an error of Python.

A half-day that is the first of all with one row a stream; a date without a folder, with an empty one; no symbol enabled; no ClickHouse.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from l2_platform.clock import SystemClock
from l2_platform.definitions import build_definitions
from l2_platform.journal.writer import JournalWriter
from l2_platform.settings import ClickHouseSettings, CloseSettings, SessionSettings, Settings
from tests.integration.recorded_days import DEPTH, LEVEL1, deliver, recorded_home, seal
from tests.integration.stored_days import ACK, TALK, quote

pytestmark = pytest.mark.integration
HALF_DAY, NOTHING, FOLDER = "2025-07-03", "2025-07-07", "2025-07-08"
AFTERNOON_NS = 1_751_573_100 * 10**9
"""2025-07-03 16:05 in New York: after the close of the half-day, before the end of after-hours trading."""
DAY_NS = 86_400 * 10**9
ORDER = b"3,AAA,1,,A,100.2500,10,1,4,16:05:00.100000,2025-07-03,\r\n"
LINES = {DEPTH: TALK + ORDER, LEVEL1: TALK + ACK + quote(1, contents="Cba")}
ALONE = ("closed_day", "archive", "book_index", "rebuilt_tables", "backfilled_day", "gap_repairs")
"""Assets that a job would skip when what comes before them fails."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[Settings]:
    chosen = {"close": CloseSettings(wait_s=0.2, poll_s=0.05), "session": SessionSettings(calendar="XNYS")}
    with recorded_home(tmp_path_factory.mktemp("home"), numba_cache, **chosen) as made:
        for stream, lines in LINES.items():
            record(made, stream, lines)
        deliver(made, ["clickhouse", "jsonl"])
        seal(made)
        for stream in LINES:
            (made.journal_dir / stream / FOLDER.replace("-", "")).mkdir()
        made.symbols_file.write_text('version = 1\n[groups.resting]\nenabled = false\nsymbols = ["AAA"]\n')
        yield made


def record(settings: Settings, stream: str, lines: bytes) -> None:
    """HALF_DAY with these lines, and a line of a later date: the recorder went on."""
    durable = settings.run_dir / "durable" / stream
    writer = JournalWriter(settings.journal_dir, stream, settings.journal, SystemClock(), calendar="XNYS", durable_path=durable)
    for date, ts in ((20250703, AFTERNOON_NS), (20250709, AFTERNOON_NS + 6 * DAY_NS)):
        (writer.roll if writer.is_open else writer.open)(date)
        writer.control("session", ts, 0, session_date=date, reset=True)
        writer.control("connect", ts, 1, host="127.0.0.1", port=1, attempt=1)
        writer.append(lines if date == 20250703 else b"T,20250709 16:05:00\r\n", lines.count(b"\n") if date == 20250703 else 1, ts, 1)
    writer.close()


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def failures(done: dg.ExecuteInProcessResult) -> list[str]:
    """What the failed steps say; a step that failed with an error of Python, which says nothing to anybody, ends the test."""
    told = []
    for event in done.get_step_failure_events():
        stated = event.step_failure_data.user_failure_data
        assert stated is not None, f"{event.step_key}: {event.step_failure_data.error}"
        told.append(stated.description or "")
    return told


def run(definitions: dg.Definitions, instance: dg.DagsterInstance, job: str, key: str | None, *assets: str) -> Any:
    """A job, or only these assets of it."""
    chosen = [dg.AssetKey(name) for name in assets] or None
    return definitions.resolve_job_def(job).execute_in_process(
        instance=instance, partition_key=key, asset_selection=chosen, raise_on_error=False,
        run_config={"execution": {"config": {"retries": {"disabled": {}}}}},
    )  # fmt: skip


@pytest.mark.parametrize("key", [HALF_DAY, FOLDER])
def test_every_asset_of_a_rare_date_ends_in_a_stated_result(settings: Settings, instance: dg.DagsterInstance, key: str) -> None:
    definitions = build_definitions(settings)
    made = {name: failures(run(definitions, instance, "__ASSET_JOB", key, name)) for name in ALONE}
    assert made["gap_repairs"] == [], "no gap is due"
    assert "180 days" in made["backfilled_day"][0]
    assert bool(made["closed_day"]) == (key != HALF_DAY), made
    done = run(definitions, instance, "measure_day", key)
    assert failures(done) == []
    recorded = next(one for one in done.get_asset_check_evaluations() if one.check_name == "is_recorded")
    assert recorded.passed == (key == HALF_DAY)


@pytest.mark.parametrize("key", [HALF_DAY, NOTHING])
def test_every_proof_of_a_rare_date_ends_in_a_stated_result(settings: Settings, instance: dg.DagsterInstance, key: str) -> None:
    done = run(build_definitions(settings), instance, "daily_proofs", key)
    assert failures(done) == []
    found = {(one.asset_key.to_user_string(), one.check_name): one for one in done.get_asset_check_evaluations()}
    assert all(one.description for one in found.values())
    # nothing is green that nobody could look at
    proven = found["day_report", "date_is_proven"]
    assert not proven.passed, proven.description
    equal = found["reconciliation", "stores_are_equal"]
    assert equal.passed == (key == HALF_DAY), equal.description


def test_what_has_no_date_ends_in_a_stated_result(settings: Settings, instance: dg.DagsterInstance) -> None:
    definitions = build_definitions(settings)
    jobs = ("daily_records", "review_week", "review_month", "judge_platform")
    done = {job: run(definitions, instance, job, None) for job in jobs}
    assert {job: failures(result) for job, result in done.items()} == {job: [] for job in jobs}
    (universe,) = done["daily_records"].asset_materializations_for_node("universe")
    assert universe.metadata["symbols"].value == 0


def test_without_clickhouse_every_asset_ends_in_a_stated_result(settings: Settings, instance: dg.DagsterInstance) -> None:
    bare = settings.model_copy(update={"clickhouse": ClickHouseSettings(enabled=False)})
    definitions = build_definitions(bare)
    for key in (HALF_DAY, FOLDER):
        assert failures(run(definitions, instance, "measure_day", key)) == []
        assert len(failures(run(definitions, instance, "__ASSET_JOB", key, "book_index"))) <= 1
    done = run(definitions, instance, "judge_platform", None)
    assert failures(done) == []
    checks = {one.check_name: one for one in done.get_asset_check_evaluations()}
    assert checks["no_gaps_today"].passed
    assert checks["dates_are_closed"].passed
