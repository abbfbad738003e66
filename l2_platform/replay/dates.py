"""Which stored dates may be changed: those that are over, recorded, and left by the live delivery. Else a message that says when, or why.

What does not belong here: changing anything.
"""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from l2_platform.clock import Clock
from l2_platform.delivery.checkpoint import CheckpointStore
from l2_platform.errors import DateBusy, InputError, LeaseHeld
from l2_platform.journal.durable import read_durable
from l2_platform.journal.layout import list_dates, list_streams, source_of
from l2_platform.market.dates import date_text
from l2_platform.market.sessions import SessionCalendar, load_calendar
from l2_platform.monitoring.heartbeat import Lease, process_start_ticks, read_heartbeat
from l2_platform.settings import Settings

NEW_YORK = ZoneInfo("America/New_York")
NEAR = 5
"""Dates named in a message."""


def calendar_of(settings: Settings) -> SessionCalendar:
    """The calendar of the live streams."""
    return load_calendar(settings.calendar_name, settings.session.roll_margin_s)


def streams_of(settings: Settings, clock: Clock, session_date: int, wanted: Sequence[str] = ()) -> list[str]:
    """Streams of the journal that have the date, of `wanted` where given; InputError when there is none, with what there is instead."""
    root = settings.journal_dir
    known = list_streams(root)
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(f"no stream {name!r} in the journal{hint} There are: {', '.join(known) or 'none'}")
    dates = {name: list_dates(root, name) for name in (wanted or known)}
    found = [name for name, days in dates.items() if session_date in days]
    missing = [name for name in wanted if name not in found]
    if found and not missing:
        return found
    raise InputError(_missing(settings, clock, session_date, sorted({day for days in dates.values() for day in days}), missing))


def _missing(settings: Settings, clock: Clock, session_date: int, dates: list[int], streams: list[str]) -> str:
    calendar = calendar_of(settings)
    now = calendar.session_date_of(clock.now_ns())
    near = sorted(sorted(dates, key=lambda day: abs(day - session_date))[:NEAR])
    there = f"recorded dates near it: {', '.join(map(date_text, near))}" if near else "nothing is recorded yet (`l2 up`, `l2 import`)"
    if session_date > now:
        return f"session date {date_text(session_date)} is in the future (now it is {date_text(now)}); {there}"
    if not calendar.is_session(session_date):
        why = f"is a closed day of calendar {settings.calendar_name}: there was no session"
        return f"{date_text(session_date)} {why} and nothing is recorded; {there}"
    where = f" of {', '.join(streams)}" if streams else ""
    return f"the journal has nothing{where} on session date {date_text(session_date)}; {there}"


def require_over(settings: Settings, clock: Clock, stream: str, session_date: int) -> None:
    """InputError while a live stream still records the date, with the time of its end."""
    if source_of(stream) != "live":
        return
    calendar = calendar_of(settings)
    now_ns = clock.now_ns()
    if session_date >= calendar.session_date_of(now_ns):
        end = f"; its session ends at {_time(calendar.end_of(session_date))}" if calendar.is_session(session_date) else ""
        raise InputError(
            f"{stream}: session date {date_text(session_date)} is still being recorded, its rows arrive live{end}. Try again after that; "
            "nothing was changed"
        )
    durable = read_durable(settings.run_dir / "durable" / stream)
    if durable is None or durable.closed or durable.position.session_date > session_date:
        return
    if process_start_ticks(durable.pid) is not None:
        raise InputError(
            f"{stream}: its collector (process {durable.pid}) has not left session date {date_text(session_date)} yet; it does so within "
            "a minute, unless its clock and the feed's differ (`l2 status`). Try again then; nothing was changed"
        )


def delivered_through(settings: Settings, sink: str, stream: str) -> int:
    """The last session date of the stream that a sink's delivery has finished; 0 when none."""
    return CheckpointStore(settings.checkpoint_dir / sink / stream, 1).done_through()


@contextmanager
def without_delivery(
    settings: Settings, stream: str, session_date: int, seq_last: int, sink: str = "clickhouse"
) -> Iterator[bool]:
    """While the block runs no delivery writes rows of the date into the sink; yields whether one had finished the date before.

    `seq_last`: the journal's last line of it. A delivery that is at work on the date is not stopped: DateBusy tells how far it is.
    """
    if source_of(stream) == "history":
        # delivered by the command that fetches it, under the lease of the date that the caller holds
        yield True
        return
    if source_of(stream) == "import":
        with _held(Lease(settings.run_dir / "leases" / f"import-{stream}"), f"{stream} is being imported"):
            yield True
        return
    if delivered_through(settings, sink, stream) >= session_date:
        # deliveries never go back to a date that they finished
        yield True
        return
    lease = Lease(settings.run_dir / "leases" / f"deliver-{sink}")
    if has_all(settings, sink, stream, session_date, seq_last):
        yield True
        return
    with _held(lease, _progress(settings, sink, stream, session_date, seq_last)):
        yield False


@contextmanager
def _held(lease: Lease, busy: str) -> Iterator[None]:
    try:
        lease.acquire()
    except LeaseHeld:
        raise DateBusy(f"{busy}; nothing was changed") from None
    try:
        yield
    finally:
        lease.release()


def stored_seq(settings: Settings, sink: str, stream: str, session_date: int) -> int | None:
    """Seq of the date that a sink's running delivery has stored; None when none runs, or it is at another date."""
    record = read_heartbeat(settings.run_dir / "heartbeats" / f"deliver-{sink}.json")
    if record is None or not record.alive():
        return None
    numbers = record.numbers.get("streams", {}).get(stream, {})
    return int(numbers["seq"]) if numbers.get("session_date") == session_date else None


def has_all(settings: Settings, sink: str, stream: str, session_date: int, seq_last: int) -> bool:
    """A running delivery that stores no further row of the date: it has all, and only waits for its recorder to begin the next one."""
    durable = read_durable(settings.run_dir / "durable" / stream)
    stored = stored_seq(settings, sink, stream, session_date)
    return durable is not None and durable.closed and stored is not None and stored >= seq_last


def _progress(settings: Settings, sink: str, stream: str, session_date: int, seq_last: int) -> str:
    stored = stored_seq(settings, sink, stream, session_date)
    left = f" ({seq_last - stored:,} lines are left)" if stored is not None else ""
    return (
        f"{stream}: deliver-{sink} has not finished session date {date_text(session_date)}{left}. Wait until it has (`l2 status`), or "
        "stop it (job control_collector, action stop)"
    )


def _time(ts_ns: int) -> str:
    moment = datetime.fromtimestamp(ts_ns // 10**9, UTC)
    return f"{moment:%Y-%m-%d %H:%M} UTC ({moment.astimezone(NEW_YORK):%Y-%m-%d %H:%M} New York)"
