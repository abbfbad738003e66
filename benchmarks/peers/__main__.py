"""`python -m benchmarks.peers`: make the peers' environment in the folder for temporary files, then measure the figure `peers`.

Arguments are those of `python -m benchmarks run` (`--no-save`, `--set`, …); `--only-install` stops before measuring.
"""

import sys

from benchmarks.__main__ import main
from benchmarks.peers.environment import make_peers


def run(arguments: list[str]) -> int:
    """Install, measure; the exit code."""
    made = make_peers()
    print(f"{made.python}: {', '.join(f'{name} {version}' for name, version in made.versions.items())}")
    for name, reason in made.missing.items():
        print(f"not installed: {name}: {reason}")
    rest = [argument for argument in arguments if argument != "--only-install"]
    return 0 if len(rest) < len(arguments) else main(["run", "peers", *rest])


if __name__ == "__main__":
    raise SystemExit(run(sys.argv[1:]))
