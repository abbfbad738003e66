"""`python -m l2_platform.delivery SINK [--wait]`: one delivery process."""

import argparse
import sys

from l2_platform.errors import L2Error
from l2_platform.monitoring.runtime import prepare_numba
from l2_platform.settings import load_settings


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, and turn errors into one line and an exit code."""
    parser = argparse.ArgumentParser(prog="python -m l2_platform.delivery", description=__doc__)
    parser.add_argument("sink", choices=["clickhouse", "jsonl"], help="where the rows go")
    parser.add_argument("--wait", action="store_true", help="wait for the lease instead of exiting with 75")
    options = parser.parse_args(arguments)
    try:
        settings = load_settings()
        prepare_numba(settings.cache_dir / "numba")
        from l2_platform.delivery.delivery import run_delivery

        return run_delivery(options.sink, settings, wait=options.wait)
    except L2Error as error:
        sys.stderr.write(f"error: {error.message}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
