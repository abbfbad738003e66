"""Homes for tests that run the real command line: own ports, shared kernel cache, everything ended when the test ends."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from l2_platform.settings import Settings, load_settings
from tests.integration.ports import free_base

L2 = Path(sys.executable).with_name("l2")


@dataclass
class Home:
    """One `L2_HOME` and the way to run commands in it."""

    path: Path
    numba_cache: Path
    variables: dict[str, str] = field(default_factory=dict)
    base: int = field(default_factory=free_base)

    def __post_init__(self) -> None:
        cache = self.path / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        if not (cache / "numba").exists():
            (cache / "numba").symlink_to(self.numba_cache.parent, target_is_directory=True)

    @property
    def environment(self) -> dict[str, str]:
        """The process environment of this home."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("L2_")}
        return inherited | {"L2_HOME": str(self.path), "L2_PORTS__BASE": str(self.base), **self.variables}

    @property
    def settings(self) -> Settings:
        """The settings that a process of this home has."""
        before = dict(os.environ)
        try:
            environment = self.environment
            os.environ.clear()
            os.environ.update(environment)
            return load_settings()
        finally:
            os.environ.clear()
            os.environ.update(before)

    def run(self, *arguments: str | Path, timeout: float = 240, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run `l2 …` and wait for it; the test looks at exit code and output."""
        command = [str(L2), *(str(part) for part in arguments)]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout, input=stdin, check=False,
            cwd=self.path,
        )  # fmt: skip

    def ok(self, *arguments: str | Path, timeout: float = 240) -> str:
        """Run `l2 …`, which must succeed; its standard output."""
        result = self.run(*arguments, timeout=timeout)
        assert result.returncode == 0, f"l2 {' '.join(map(str, arguments))}: exit {result.returncode}\n{result.stdout}{result.stderr}"
        return result.stdout

    def sql(self, query: str) -> list[dict[str, Any]]:
        """Rows of a query, through `l2 sql`."""
        rows: list[dict[str, Any]] = json.loads(self.ok("sql", query, "--format", "json"))
        return rows

    def start(self, *command: str, log: str) -> subprocess.Popen[bytes]:
        """A long-running process of this home; its output goes to a file."""
        with (self.path / f"{log}.out").open("ab") as file:
            return subprocess.Popen(command, env=self.environment, stdout=file, stderr=file, cwd=self.path)
