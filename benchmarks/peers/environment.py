"""The peers' own environment: a virtual environment in the folder for temporary files, made by a command, never a dependency.

Packages are installed one by one at pinned versions, so that one that cannot be installed costs only itself; why is kept and printed.
What does not belong here: what is measured.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PACKAGES: Final = {
    "sortedcontainers": "2.4.0",
    "order-book": "0.6.1",
    "nautilus_trader": "1.221.0",
    "hftbacktest": "2.4.4",
    "lrvx": "0.11.0",
}
"""The newest versions that run on Python 3.11."""
NEWER: Final = "order-book 1.x needs Python 3.12 or 3.13 and nautilus_trader from 1.222 on Python 3.12: not compared."
INSTALL_S: Final = 900


@dataclass(frozen=True, slots=True)
class Peers:
    """What was installed."""

    python: str
    versions: dict[str, str]
    """Installed packages, numpy among them."""
    missing: dict[str, str]
    """Packages that could not be installed, and why."""


def folder() -> Path:
    """Where the environment is; another set of pins has another."""
    pins = "-".join(version.replace(".", "_") for version in PACKAGES.values())
    return (
        Path(tempfile.gettempdir())
        / f"l2-bench-peers-{os.getuid()}-{sys.version_info.major}{sys.version_info.minor}-{pins}"
    )


def find_peers() -> Peers | None:
    """The environment that was made before."""
    try:
        return Peers(**json.loads((folder() / "peers.json").read_text(encoding="utf-8")))
    except OSError:
        return None


def make_peers() -> Peers:
    """Make the environment, or take the one that is there."""
    found = find_peers()
    if found is not None:
        return found
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder())], check=True)
    python = str(folder() / "bin" / "python")
    versions, missing = {}, {}
    for name, version in {"numpy": "2.2.6", **PACKAGES}.items():
        print(f"installing {name} {version}", flush=True)
        reason = _install(python, f"{name}=={version}")
        if reason:
            missing[name] = reason
        else:
            versions[name] = version
    peers = Peers(python, versions, missing)
    text = {"python": python, "versions": versions, "missing": missing}
    (folder() / "peers.json").write_text(json.dumps(text, indent=1), encoding="utf-8")
    return peers


def _install(python: str, requirement: str) -> str:
    """Why it failed; empty when it did not."""
    command = [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        return f"not installed within {INSTALL_S} s"
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [
        f"pip ended with {done.returncode}"
    ]
    return lines[-1].removeprefix("ERROR: ")
