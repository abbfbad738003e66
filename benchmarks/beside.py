"""`python -m benchmarks.beside client PORT | witness`: small processes that run beside what is measured.

`client` watches the symbols of its input on a Level 2 port and reads as fast as it can until the server ends. `witness` does nothing
but sleep until each ms of the steady clock, and tells how late it woke: what no program on the machine at that time could have done
better. What does not belong here: judging the numbers.
"""

import json
import socket
import sys
import time
from typing import Final

from l2_platform.replay.pace import LateCounts

TICK_NS: Final = 1_000_000
FIRST_S: Final = 240.0


def read_all(port: int, names: list[str]) -> int:
    """Watch and read to the end; bytes read."""
    buffer = bytearray(1 << 20)
    count = 0
    with _connect(port) as client:
        watches = "".join(f"WOR,{name}\r\n" for name in names)
        client.sendall(f"S,SET PROTOCOL,6.2\r\nS,TIMESTAMPSOFF\r\n{watches}".encode())
        while got := client.recv_into(buffer):
            count += got
    return count


def _connect(port: int) -> socket.socket:
    deadline = time.monotonic() + FIRST_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def witness() -> dict[str, float]:
    """Lateness of every ms until standard input ends; ticks that were slept over count with their own."""
    import select

    import numpy as np

    late = LateCounts()
    due = time.monotonic_ns() + TICK_NS
    while not select.select([sys.stdin], [], [], max(0.0, (due - time.monotonic_ns()) / 1e9))[0]:
        now = time.monotonic_ns()
        if now < due:
            continue
        ticks = np.arange(due, now + 1, TICK_NS)
        late.add(now - ticks)
        due = int(ticks[-1]) + TICK_NS
    return late.as_record()


def main(arguments: list[str]) -> None:
    """One role; its answer as JSON."""
    if arguments[0] == "client":
        answer: object = read_all(int(arguments[1]), sys.stdin.read().split())
    else:
        answer = witness()
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
