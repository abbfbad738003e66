"""Dagster's SQLite storage locked by another process, gone or damaged: what a run does, what people are told, and that a retry succeeds."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy.exc import OperationalError

from l2_platform.operations.dagster_storage import FILES, storage_trouble
from l2_platform.settings import DagsterSettings, Settings

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
LOCK = """
import sqlite3, sys, time
held = [sqlite3.connect(path, isolation_level=None, timeout=30) for path in sys.argv[2:]]
for connection in held:
    connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
time.sleep(float(sys.argv[1]))
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(home=tmp_path)
    made.dagster_home.mkdir(parents=True)
    (made.dagster_home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    return made


@pytest.fixture
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as found:
        assert run(found), "the storage is made"
        yield found


@contextmanager
def locked(settings: Settings, seconds: float, *names: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process holds exclusive transactions on these files, for so long at most."""
    paths = [str(settings.dagster_home / name) for name in names]
    with subprocess.Popen([sys.executable, "-c", LOCK, str(seconds), *paths], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.kill()


def run(instance: dg.DagsterInstance) -> bool:
    @dg.asset
    def something() -> None: ...

    return dg.materialize([something], instance=instance, raise_on_error=False).success


def test_a_lock_of_seconds_is_waited_for(settings: Settings, instance: dg.DagsterInstance) -> None:
    with locked(settings, 3, *FILES):
        assert run(instance)


def test_a_longer_lock_fails_the_run_names_who_holds_it_and_a_retry_succeeds(settings: Settings, instance: dg.DagsterInstance) -> None:
    runs = len(instance.get_runs())
    with locked(settings, 60, FILES[0]) as process:
        with pytest.raises(OperationalError, match="database is locked"):
            run(instance)
        told = storage_trouble(settings)
        assert f"{FILES[0]} is locked by" in told
        assert f"(pid {process.pid})" in told
        assert "recording goes on" in told
        assert len(instance.get_runs()) == runs, "reading goes on, and nothing is half-made"
    assert storage_trouble(settings) == ""
    assert run(instance)
    assert len(instance.get_runs()) == runs + 1


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_gone_or_damaged_is_named(settings: Settings, instance: dg.DagsterInstance, name: str) -> None:
    path = settings.dagster_home / name
    away = path.with_name("away")
    path.rename(away)
    assert f"{path} is gone" in storage_trouble(settings)
    assert not path.exists(), "looking makes no empty file"
    path.write_bytes(b"the disk lost it" * 1000)
    assert f"{path} is damaged" in storage_trouble(settings)
    path.unlink()
    away.rename(path)
    assert storage_trouble(settings) == ""
    assert run(instance)


def test_another_storage_answers_for_itself(tmp_path: Path) -> None:
    assert storage_trouble(Settings(home=tmp_path, dagster=DagsterSettings(storage="postgres"))) == ""
