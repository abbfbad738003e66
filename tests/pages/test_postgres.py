"""Dagster's runs and events in a real PostgreSQL: it works, it goes away, it comes back; recording does not notice."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.checkers import journaled
from tests.faults.stack import COLLECTORS, DEPTH
from tests.integration.homes import Home
from tests.pages.control_room import DAGSTER_PARTS, ControlRoom, control_room
from tests.pages.postgres import Postgres, programs

pytestmark = [
    pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1200),
    pytest.mark.skipif(programs() is None, reason="needs postgresql"),
]  # fmt: skip
NO_SINKS = {"L2_CLICKHOUSE__ENABLED": "false", "L2_JSONL__ENABLED": "false"}
"""Runs and events are what is looked at here."""
RESTART = {"ops": {"control": {"config": {"workers": ["sealer"], "action": "restart"}}}}


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as found:
        yield found


@pytest.fixture(scope="module")
def room(server: Postgres, tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[ControlRoom]:
    with control_room(tmp_path_factory.mktemp("pg"), numba_cache, **server.variables, **NO_SINKS) as found:
        yield found


def test_a_run_and_its_events_are_in_postgres(room: ControlRoom, server: Postgres) -> None:
    run = room.launch("control_collector", RESTART)
    assert room.until_ended(run) == "SUCCESS"
    assert server.sql(f"SELECT status FROM runs WHERE run_id = '{run}'") == "SUCCESS"
    assert int(server.sql(f"SELECT count(*) FROM event_logs WHERE run_id = '{run}'")) > 5
    assert not list(room.home.settings.dagster_home.rglob("runs.db"))


def test_recording_goes_on_without_postgres_and_dagster_comes_back(room: ControlRoom, server: Postgres) -> None:
    before = room.pids()
    server.stop()
    seq = journaled(room.home, DEPTH).last_seq
    status = room.until("a status that says so", lambda: (found := room.status())["overall"] == "degraded" and found)
    assert any(reason.startswith("dagster-") for reason in status["reasons"]), status["reasons"]
    assert room.until("more lines in the journal", lambda: journaled(room.home, DEPTH).last_seq > seq)
    server.start()
    room.until_healthy(300)
    after = room.pids()
    assert {name: after[name] for name in COLLECTORS} == {name: before[name] for name in COLLECTORS}
    assert set(DAGSTER_PARTS) <= set(after)
    assert room.until_ended(room.launch("control_collector", RESTART)) == "SUCCESS"


def test_start_without_postgres_says_what_to_do(server: Postgres, tmp_path: Path, numba_cache: Path) -> None:
    unset = Home(tmp_path / "one", numba_cache, {"L2_DAGSTER__STORAGE": "postgres", **NO_SINKS}).run("up")
    assert unset.returncode == 2
    assert "DAGSTER_PG_HOST" in unset.stderr
    away = {**server.variables, **NO_SINKS, "DAGSTER_PG_PASSWORD": "wrong"}
    refused = Home(tmp_path / "two", numba_cache, away).run("up")
    assert refused.returncode == 2
    assert "password authentication failed" in refused.stderr
    assert "L2_DAGSTER__STORAGE=sqlite" in refused.stderr
