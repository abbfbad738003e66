"""ClickHouse's own errors as values: code, name, HTTP status. What does not belong here: what a sink makes of them (sinks)."""

import re
from typing import Final

from l2_platform.errors import WarehouseError

MESSAGE: Final = re.compile(r"Code: (\d+)\. ?(?:DB::Exception|Coordination::Exception)?:? ?(.*)", re.DOTALL)
STATUS: Final = {
    **dict.fromkeys((36, 62, 53, 43, 42, 27, 33, 26, 6, 38, 41, 72, 117, 130, 131, 70, 69, 456, 457, 107, 80, 85), 400),
    **dict.fromkeys((60, 46, 47, 50, 56, 81, 115, 87, 63, 73, 336, 78), 404),
    **dict.fromkeys((516, 192, 193, 497, 164), 403),
    194: 401,
    62_000: 413,
    159: 408,
    48: 501,
    **dict.fromkeys((202, 209, 210), 503),
    373: 500,
    216: 500,
}
"""ClickHouse error code → HTTP status; everything else is 500."""


class QueryFailed(WarehouseError):
    """The engine, or the front before it, refused a statement."""

    def __init__(self, code: int, detail: str, *, name: str = "", status: int | None = None) -> None:
        suffix = f" ({name})" if name and not detail.rstrip().endswith(")") else ""
        super().__init__(f"Code: {code}. DB::Exception: {detail}{suffix}", code=code)
        self.code = code
        self.detail = detail
        self.status = status or STATUS.get(code, 500)


def failure_of(text: str) -> QueryFailed:
    """The error in an engine's message; code 1002 (UNKNOWN_EXCEPTION) when it has none."""
    match = MESSAGE.search(text)
    if match is None:
        return QueryFailed(1002, text.strip() or "unknown error", name="UNKNOWN_EXCEPTION")
    return QueryFailed(int(match.group(1)), match.group(2).strip())
