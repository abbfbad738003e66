"""Session dates as numbers (YYYYMMDD, as in names of folders) and as people read them.

What does not belong here: which session date an instant has (`sessions.py`), reading what people wrote (`cli/times.py`).
"""

from datetime import date


def date_text(session_date: int) -> str:
    """20250725 → 2025-07-25, for messages and SQL."""
    return f"{session_date // 10_000:04d}-{session_date // 100 % 100:02d}-{session_date % 100:02d}"


def day_of(session_date: int) -> date:
    """20250725 → date(2025, 7, 25); ValueError when there is no such day."""
    return date(session_date // 10_000, session_date // 100 % 100, session_date % 100)
