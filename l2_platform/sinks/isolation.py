"""Find the rows that a sink refuses by halving what it refused, so that their neighbours are delivered, in order.

A range is known to hold a refused row; its first half is sent: refused, the row is in there; taken, it is in the rest, which need
not be sent as a whole. A row is only called refused after it was sent alone. What does not belong here: how rows are sent, and what
happens to the refused ones (quarantine).
"""

from collections.abc import Callable

from l2_platform.errors import SinkRejected

Send = Callable[[int, int], SinkRejected | None]
"""Sends rows [start, stop); the refusal, or None when they are stored. Any other failure is raised."""
Middle = Callable[[int, int], int | None]
"""Where a range may be parted, about in its middle; None when its rows belong together."""
Hold = Callable[[int, int, SinkRejected], None]
"""Puts rows [start, stop) aside, durably."""


def send_isolating(start: int, stop: int, send: Send, middle: Middle, hold: Hold) -> None:
    """Send rows [start, stop) in order; what is refused alone is held, before anything behind it is sent.

    A refused row costs at most log2(rows) + 1 attempts beyond the first.
    """
    while start < stop:
        end = stop
        refusal = send(start, end)
        if refusal is None:
            return
        alone = True
        while (cut := middle(start, end)) is not None:
            answer = send(start, cut)
            if answer is None:
                start, alone = cut, False
            else:
                end, refusal, alone = cut, answer, True
        # The last half was not sent by itself yet: perhaps only the rows together were too much.
        answer = refusal if alone else send(start, end)
        if answer is not None:
            hold(start, end, answer)
        start = end
