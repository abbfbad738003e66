"""A PostgreSQL cluster of the test's own: made in a temporary folder, run as an unprivileged user, deleted afterwards."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from tests.integration.ports import free_base

VERSIONS = Path("/usr/lib/postgresql")
USER, PASSWORD, DATABASE = "dagster", "only-in-tests", "dagster"


def programs() -> Path | None:
    """The folder of the newest installed PostgreSQL, None when there is none."""
    found = sorted(VERSIONS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class Postgres:
    """`with Postgres() as server: server.variables`; `stop` and `start` in between as often as wanted."""

    def __init__(self) -> None:
        bin_folder = programs()
        assert bin_folder is not None, "needs postgresql"
        self._bin = bin_folder
        self._folder = Path(tempfile.mkdtemp(prefix="l2-postgres-"))
        self.port = free_base()
        # the server refuses to run as root
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            shutil.chown(self._folder, self._user)

    @property
    def variables(self) -> dict[str, str]:
        """What an instance needs in its environment to keep Dagster's runs here."""
        return {
            "L2_DAGSTER__STORAGE": "postgres", "DAGSTER_PG_HOST": "127.0.0.1", "DAGSTER_PG_PORT": str(self.port),
            "DAGSTER_PG_USERNAME": USER, "DAGSTER_PG_PASSWORD": PASSWORD, "DAGSTER_PG_DB": DATABASE,
        }  # fmt: skip

    def __enter__(self) -> "Postgres":
        secret = self._folder / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._call(
            "initdb", "-D", str(self._data), "-U", USER, "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--no-sync"
        )
        self.start()
        self.sql(f"CREATE DATABASE {DATABASE}", database="postgres")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self._folder} -c fsync=off"
        self._call("pg_ctl", "-D", str(self._data), "-o", options, "-l", str(self._folder / "log"), "-w", "start")

    def stop(self) -> None:
        """End it at once, as a crash does; nothing happens when it does not run."""
        self._call("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop", check=False)

    def sql(self, query: str, database: str = DATABASE) -> str:
        """The answer of psql, without headings."""
        command = [
            str(self._bin / "psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", database, "-At", "-c", query,
        ]  # fmt: skip
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    def _call(self, name: str, *arguments: str, check: bool = True) -> None:
        user = self._user if os.geteuid() == 0 else None
        done = subprocess.run(
            [str(self._bin / name), *arguments], user=user, cwd=self._folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0 or not check, f"{name}: {done.stderr}"
