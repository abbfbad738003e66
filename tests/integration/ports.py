"""Port bases for tests: below the range of outgoing connections, a part of it for each test process, never the same one twice in turn."""

import itertools
import os
import socket
from collections.abc import Iterator

OFFSETS = (0, 1, 2, 9, 10, 20, 30, 39)
FIRST, LAST, STEP, PARTS = 20_000, 32_000, 50, 4


def _bases() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % PARTS
    size = (LAST - FIRST) // PARTS
    begin = FIRST + worker * size
    # where it begins depends on the process, so that two runs on one machine rarely meet
    shift = os.getpid() % (size // STEP)
    return itertools.cycle(begin + (number + shift) * STEP % size for number in range(size // STEP))


_NEXT = _bases()


def free_base() -> int:
    """A port base with all the ports that an instance uses free at this moment."""
    for base in itertools.islice(_NEXT, (LAST - FIRST) // STEP):
        if all(is_free(base + offset) for offset in OFFSETS):
            return base
    message = "no free ports"
    raise RuntimeError(message)


def is_free(port: int) -> bool:
    """A server could listen there now."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
