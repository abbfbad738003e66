"""What each failure of a ClickHouse server means for the rows that were sent: the table of all its codes. Pure.

A code that is in no list says nothing against the rows: they are sent again. So a server of a later version never makes rows vanish.
"""

from enum import StrEnum
from typing import Final

from l2_platform.errors import (
    SinkBackpressure,
    SinkBlocked,
    SinkError,
    SinkMisconfigured,
    SinkRejected,
    SinkUnavailable,
)


class Verdict(StrEnum):
    """What to do about a failure."""

    PASSING = "passing"
    """Send again, with growing waits."""
    BUSY = "busy"
    """The server has too much to do: leave it some time first."""
    BLOCKED = "blocked"
    """No room, no quota, read-only: wait long; time or a person frees it."""
    MISCONFIGURED = "misconfigured"
    """Login, rights, tables or settings are wrong: wait long; only a person mends it."""
    CONTENT = "content"
    """The rows themselves are refused: find those (isolation)."""


BUSY_S: Final = 1.0
"""Least wait after a busy server, s."""

CODES: Final[dict[int, Verdict]] = {
    **dict.fromkeys(
        (
            3,  # UNEXPECTED_END_OF_FILE
            40,  # CHECKSUM_DOESNT_MATCH
            95, 96,  # CANNOT_READ_FROM_SOCKET, CANNOT_WRITE_TO_SOCKET
            159, 160,  # TIMEOUT_EXCEEDED, TOO_SLOW
            198, 203, 209, 210, 279,  # DNS_ERROR, NO_FREE_CONNECTION, SOCKET_TIMEOUT, NETWORK_ERROR, ALL_CONNECTION_TRIES_FAILED
            216, 236, 319, 373,  # same query id runs, ABORTED, UNKNOWN_STATUS_OF_INSERT, SESSION_IS_LOCKED
            225, 254, 265, 285, 286, 289,  # coordination and replicas
            271, 354, 561, 618,  # what was compressed arrived damaged
            341, 384, 394, 410, 425, 473,  # UNFINISHED, part locked, QUERY_WAS_CANCELLED, no answer, SYSTEM_ERROR, DEADLOCK_AVOIDED
            677, 733, 734, 735,  # thread cancelled, table restarts, write after cancel, cancelled by client
            999, 1000, 1001, 1002,  # KEEPER, POCO, STD, UNKNOWN exceptions
        ),
        Verdict.PASSING,
    ),
    **dict.fromkeys(
        (
            173, 241, 777, 778, 1020,  # memory
            202, 439, 700, 745, 749, 762, 776, 1019,  # queries, threads, sessions, load, connections, slots
            252, 574, 692,  # TOO_MANY_PARTS, pending bytes, mutations
            364,  # TOO_MANY_REQUESTS
        ),
        Verdict.BUSY,
    ),
    **dict.fromkeys(
        (
            74, 75, 76, 77, 88, 172, 204, 294, 586, 641,  # files of the server: most often a full or failed disk
            164, 242, 774, 495,  # READONLY, TABLE_IS_READ_ONLY, for good, access storage
            201, 243, 1016,  # QUOTA_EXCEEDED, NOT_ENOUGH_SPACE, TABLE_SIZE_LIMIT_EXCEEDED
            231,  # TOO_MANY_UNEXPECTED_DATA_PARTS
        ),
        Verdict.BLOCKED,
    ),
    **dict.fromkeys(
        (
            192, 193, 194, 195, 291, 482, 496, 497, 511, 516, 673, 702, 720, 767,  # login and rights
            60, 81, 218,  # UNKNOWN_TABLE, UNKNOWN_DATABASE, TABLE_IS_DROPPED: made again at the next attempt, when that is possible
            7, 8, 9, 10, 16, 20, 47, 50, 53, 122, 342,  # the table is not the one that this program made
            36, 43, 44, 46, 48, 62, 73, 115, 137, 392, 452, 471, 472, 620, 764, 772,  # statement, settings, format
            248, 565,  # INVALID_PARTITION_VALUE, TOO_MANY_PARTITIONS
            217, 381, 480,  # wrong port, HTTP_LENGTH_REQUIRED, UNKNOWN_PROTOCOL
        ),
        Verdict.MISCONFIGURED,
    ),
    **dict.fromkeys(
        (
            6, 25, 26, 27, 33, 38, 41, 72, 117, 130, 376, 441, 467, 632, 675, 676,  # cannot be read
            19, 69, 70, 128, 131, 158, 161, 190, 307, 321, 366, 396, 407,  # too large, too many, out of range
            246, 346, 760,  # CORRUPTED_DATA, characters
            349, 395, 469, 691,  # NULL, throwIf, VIOLATED_CONSTRAINT, UNKNOWN_ELEMENT_OF_ENUM
        ),
        Verdict.CONTENT,
    ),
}  # fmt: skip
"""Every code that has a meaning of its own; `verdict_of` for all."""

STATUSES: Final[dict[int, Verdict]] = {
    401: Verdict.MISCONFIGURED, 403: Verdict.MISCONFIGURED, 404: Verdict.MISCONFIGURED, 405: Verdict.MISCONFIGURED,
    408: Verdict.PASSING, 413: Verdict.CONTENT, 429: Verdict.BUSY, 500: Verdict.PASSING, 502: Verdict.PASSING,
    503: Verdict.BUSY, 504: Verdict.PASSING, 507: Verdict.BLOCKED,
}  # fmt: skip
"""HTTP statuses of answers without a code, as a proxy in between gives them."""
NO_CODE: Final = 1002
"""The code of an answer that has none."""


def verdict_of(code: int, status: int = 500) -> Verdict:
    """What a ClickHouse error code (and the HTTP status, where there is no code) means."""
    if code == NO_CODE:
        return STATUSES.get(status, Verdict.PASSING)
    return CODES.get(code, Verdict.PASSING)


def sink_error(message: str, code: int, status: int = 500) -> SinkError:
    """The failure as the delivery understands it."""
    verdict = verdict_of(code, status)
    if verdict is Verdict.CONTENT:
        return SinkRejected(message, code=code)
    if verdict is Verdict.MISCONFIGURED:
        return SinkMisconfigured(message, code=code)
    if verdict is Verdict.BLOCKED:
        return SinkBlocked(message, code=code)
    if verdict is Verdict.BUSY:
        return SinkBackpressure(message, retry_after_s=BUSY_S, code=code)
    return SinkUnavailable(message, code=code)
