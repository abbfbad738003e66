"""`python -m l2_platform.collectors STREAM [--wait]`: the collector without the command line's packages, so that it starts at once."""

import argparse
import sys

from l2_platform.clock import SystemClock
from l2_platform.collectors.collector import run_collector
from l2_platform.collectors.plain_log import PlainLog
from l2_platform.errors import L2Error
from l2_platform.settings import load_settings


def main(arguments: list[str] | None = None) -> int:
    """Parse, load the settings, record; the exit code of the process."""
    parser = argparse.ArgumentParser(
        prog="python -m l2_platform.collectors", description="Record one stream into the journal."
    )
    parser.add_argument("stream", help="e.g. iqfeed-depth-0")
    parser.add_argument(
        "--wait", action="store_true", help="wait for the lease of another collector of this stream, and take over"
    )
    chosen = parser.parse_args(arguments)
    try:
        settings = load_settings()
    except L2Error as error:
        PlainLog(SystemClock()).error("settings", error=error.message)
        return error.exit_code
    return run_collector(settings, chosen.stream, managed=chosen.wait)


if __name__ == "__main__":
    sys.exit(main())
