"""A writer that runs until it is killed: frames whose bytes follow from their seq, one byte on stdout for each."""

import os
import random
import sys
from pathlib import Path

from l2_platform.clock import SystemClock
from l2_platform.journal.writer import JournalWriter
from l2_platform.settings import JournalSettings

DATE = 20240102
NAME = "iqfeed-depth-0"


def lines_from(first: int, count: int) -> bytes:
    """Lines first … first + count - 1."""
    return b"".join(b"%d,%s\r\n" % (seq, b"x" * (seq * 31 % 97)) for seq in range(first, first + count))


payload_of = lines_from


def main() -> None:
    """Write for ever."""
    home = Path(sys.argv[1])
    clock = SystemClock()
    writer = JournalWriter(
        home / "journal", NAME, JournalSettings(segment_bytes_max=1 << 18, fsync_interval_ms=1), clock, calendar="always_open",
        durable_path=home / "durable",
    )  # fmt: skip
    recovery = writer.open(DATE)
    writer.control("collector_start", clock.now_ns(), 0, pid=os.getpid(), clean=recovery.clean, last_ts=recovery.last_ts)
    sizes = random.Random(recovery.last_seq)
    while True:
        count = sizes.choice((1, 1, 3, 20, 200))
        writer.append(lines_from(writer.last_seq + 1, count), count, clock.now_ns(), 1)
        if sizes.randrange(10) == 0:
            writer.control("watch", clock.now_ns(), 1, symbols=["A"])
        os.write(1, b".")


if __name__ == "__main__":
    main()
