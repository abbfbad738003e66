"""What can go wrong on one connection, as switches that change what leaves it.

What does not belong here: who throws the switches (`control`), the socket (`network`).
"""

import random
from dataclasses import dataclass, field


def garbage_line(source: random.Random, length: int) -> bytes:
    """A line of random bytes without a line end inside."""
    return source.randbytes(length).translate(_NO_LINE_ENDS) + b"\r\n"


_NO_LINE_ENDS = bytes(value + 1 if value in {10, 13} else value for value in range(256))


@dataclass(slots=True)
class Faults:
    """The switches of a connection; all off at its start."""

    half_open: bool = False
    """Neither read nor send, keep the socket: the peer sees silence."""
    stalled_until_ns: int = 0
    """Send nothing before this monotonic time; what is due waits in the queue."""
    segment_bytes_max: int = 0
    """Send in random pieces of 1 to this many bytes; 0 = whole."""
    duplicate_lines: int = 0
    """So many of the next lines go out twice."""
    garbage_lines: int = 0
    """So many lines of random bytes go out before the next data."""
    garbage_bytes: int = 64
    """Length of a garbage line, bytes."""
    lose_lines: int = 0
    """So many of the next lines are not sent, and nobody says so."""
    cut_mid_line: bool = False
    """End the connection in the middle of the next line."""
    source: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311  (repeatable faults, no secrets)
    """Random numbers of the faults, repeatable."""

    @property
    def changes_data(self) -> bool:
        """True while `apply` would change something."""
        return bool(self.lose_lines or self.duplicate_lines or self.garbage_lines or self.cut_mid_line)

    def apply(self, data: bytes) -> bytes:
        """The bytes that leave instead of these whole lines; switches that are used up turn off, except `cut_mid_line`."""
        if self.lose_lines:
            lines = data.splitlines(keepends=True)
            left = lines[self.lose_lines :]
            self.lose_lines -= len(lines) - len(left)
            data = b"".join(left)
        if self.duplicate_lines:
            lines = data.splitlines(keepends=True)
            doubled = lines[: self.duplicate_lines]
            self.duplicate_lines -= len(doubled)
            data = b"".join(line + line for line in doubled) + b"".join(lines[len(doubled) :])
        if self.garbage_lines:
            junk = b"".join(garbage_line(self.source, self.garbage_bytes) for _ in range(self.garbage_lines))
            self.garbage_lines = 0
            data = junk + data
        if self.cut_mid_line:
            last = data.rstrip(b"\r\n").rfind(b"\n") + 1
            data = data[: last + max(1, (len(data) - last) // 2)]
        return data

    def segment(self) -> int:
        """Size of the next piece, bytes; 0 = no limit."""
        return self.source.randint(1, self.segment_bytes_max) if self.segment_bytes_max else 0
