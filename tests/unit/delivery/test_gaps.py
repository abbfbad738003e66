"""The gap tracker: which evidence opens, revises, closes and withdraws a gap, and with which bounds."""

from l2_platform.delivery.gap_rows import CLOSED, OPEN, WITHDRAWN
from l2_platform.delivery.gaps import GapTracker
from l2_platform.market.events import NULL_TS

S = 1_000_000_000


def tracker(session_start: int = NULL_TS) -> GapTracker:
    return GapTracker("iqfeed-depth-0", 20261120, session_start)


def started(gaps: GapTracker, ts: int = 10 * S) -> None:
    gaps.on_control("collector_start", {"clean": True, "last_ts": None}, ts, 0)
    gaps.on_control("connect", {}, ts + 1, 0)
    gaps.on_control("subscribed", {"symbols": 2}, ts + 2, 0)
    gaps.on_data(ts + 3, ts + 4, 5)


def test_first_start_without_expected_start_has_no_gap() -> None:
    gaps = tracker()
    started(gaps)
    assert gaps.take() == []


def test_first_start_after_session_start_is_a_late_subscription() -> None:
    gaps = tracker(session_start=4 * S)
    started(gaps)
    opened, closed = gaps.take()
    assert (opened.cause, opened.ts_from, opened.ts_to, opened.state) == ("late_subscription", 4 * S, NULL_TS, OPEN)
    assert (closed.gap_id, closed.ts_to, closed.state, closed.version) == (opened.gap_id, 10 * S + 3, CLOSED, 2)


def test_disconnect_runs_from_last_byte_to_first_data_after_resubscription() -> None:
    gaps = tracker()
    started(gaps)
    gaps.on_control("disconnect", {"reason": "fin", "last_byte_ns": 20 * S}, 20 * S + 50, 9)
    gaps.on_control("connect_failed", {"error": "refused"}, 21 * S, 9)
    gaps.on_control("connect", {}, 22 * S, 9)
    gaps.on_data(22 * S + 1, 22 * S + 1, 10)  # the snapshot of the first symbol: the others are not watched yet
    gaps.on_control("subscribed", {"symbols": 2}, 22 * S + 2, 12)
    gaps.on_data(22 * S + 3, 22 * S + 9, 15)
    opened, closed = gaps.take()
    assert (opened.cause, opened.ts_from, opened.seq_before) == ("disconnect", 20 * S, 9)
    assert (closed.ts_from, closed.ts_to, closed.state) == (20 * S, 22 * S + 3, CLOSED)


def test_killed_collector_is_a_restart_gap_from_the_last_journaled_data() -> None:
    gaps = tracker()
    started(gaps)
    gaps.on_control("collector_start", {"clean": False, "last_ts": 11 * S, "lost_tail_bytes": 17}, 30 * S, 5)
    gaps.on_control("subscribed", {}, 31 * S, 5)
    gaps.on_data(31 * S + 1, 31 * S + 1, 6)
    opened, closed = gaps.take()
    assert (opened.cause, opened.ts_from, opened.evidence["lost_tail_bytes"]) == ("restart", 10 * S + 4, 17)
    assert closed.ts_to == 31 * S + 1


def test_clean_stop_and_start_is_one_gap() -> None:
    gaps = tracker()
    started(gaps)
    gaps.on_control("collector_stop", {"reason": "SIGTERM"}, 12 * S, 5)
    gaps.on_control("collector_start", {"clean": True, "last_ts": 12 * S}, 50 * S, 5)
    gaps.on_control("subscribed", {}, 51 * S, 5)
    gaps.on_data(51 * S, 51 * S, 6)
    opened, closed = gaps.take()
    assert (opened.cause, closed.state, closed.ts_to) == ("stopped", CLOSED, 51 * S)


def test_silence_that_goes_on_is_withdrawn_and_one_that_ends_in_a_disconnect_is_revised() -> None:
    gaps = tracker()
    started(gaps)
    gaps.on_control("suspect", {"last_byte_ns": 15 * S}, 18 * S, 5)
    gaps.on_control("resumed", {"last_byte_ns": 15 * S}, 19 * S, 5)
    first = gaps.take()
    assert [gap.state for gap in first] == [OPEN, WITHDRAWN]
    gaps.on_control("suspect", {"last_byte_ns": 25 * S}, 28 * S, 8)
    gaps.on_control("disconnect", {"reason": "silence", "last_byte_ns": 25 * S}, 35 * S, 8)
    gaps.on_control("subscribed", {}, 36 * S, 8)
    gaps.on_data(36 * S, 36 * S, 9)
    opened, revised, closed = gaps.take()
    assert opened.gap_id == revised.gap_id == closed.gap_id
    assert (revised.version, closed.version, closed.ts_from, closed.ts_to) == (2, 3, 25 * S, 36 * S)
    assert opened.evidence == {"provisional": True}
    assert revised.evidence == {"reason": "silence"}


def test_server_disconnected_closes_with_data_after_server_connected() -> None:
    gaps = tracker()
    started(gaps)
    gaps.on_server(False, 20 * S, 7)
    gaps.on_data(21 * S, 21 * S, 8)
    gaps.on_server(True, 25 * S, 9)
    gaps.on_data(26 * S, 26 * S, 10)
    opened, closed = gaps.take()
    assert (opened.cause, opened.ts_from, closed.ts_to) == ("server_disconnected", 20 * S, 26 * S)


def test_symbols_added_later_have_a_gap_of_their_own() -> None:
    gaps = tracker(session_start=10 * S)
    started(gaps, 9 * S)
    gaps.on_control("unwatch", {"symbols": ["B"]}, 20 * S, 6)
    gaps.on_control("watch", {"symbols": ["B", "C"]}, 30 * S, 7)
    rows = gaps.take()
    assert [(gap.symbols, gap.ts_from, gap.ts_to, gap.state) for gap in rows] == [
        (["C"], 10 * S, 30 * S, CLOSED),
        (["B"], 20 * S, 30 * S, CLOSED),
    ]
    assert [(gap.seq, gap.ordinal) for gap in rows] == [(7, 1), (7, 2)]


def test_state_in_the_middle_of_a_gap_goes_on_after_restore() -> None:
    gaps = tracker()
    started(gaps)
    gaps.on_control("disconnect", {"reason": "rst", "last_byte_ns": 20 * S}, 20 * S, 9)
    gaps.take()
    copy = tracker()
    copy.restore(gaps.state())
    for each in (gaps, copy):
        each.on_control("subscribed", {}, 22 * S, 9)
        each.on_data(22 * S, 22 * S, 10)
    assert gaps.take() == copy.take()


def test_link_that_broke_right_after_a_roll_has_a_gap_from_its_last_byte_not_from_midnight() -> None:
    gaps = tracker(session_start=10 * S)
    gaps.on_control("session", {"session_date": 20261120, "reset": True, "last_byte_ns": 10 * S + 330}, 10 * S + 400, 0)
    gaps.on_control("connect_failed", {"error": "refused"}, 11 * S, 0)
    gaps.on_control("connect", {}, 12 * S, 0)
    gaps.on_control("subscribed", {"symbols": 2}, 12 * S + 1, 2)
    gaps.on_data(12 * S + 5, 12 * S + 9, 4)
    opened, closed = gaps.take()
    assert (opened.cause, opened.ts_from) == ("disconnect", 10 * S + 330)
    assert (closed.ts_to, closed.state) == (12 * S + 5, CLOSED)


def test_last_byte_of_the_date_before_its_end_leaves_the_gap_at_the_new_dates_begin() -> None:
    gaps = tracker(session_start=10 * S)
    gaps.on_control("session", {"session_date": 20261120, "reset": True, "last_byte_ns": 9 * S}, 10 * S + 1, 0)
    gaps.on_control("connect", {}, 12 * S, 0)
    assert [gap.ts_from for gap in gaps.take()] == [10 * S]


def test_restart_in_a_new_date_is_a_gap_from_its_begin_though_the_last_note_is_younger() -> None:
    gaps = tracker(session_start=10 * S)
    gaps.on_control("session", {"session_date": 20261120, "reset": True}, 12 * S, 0)
    gaps.on_control("collector_start", {"clean": False, "last_ts": 11 * S, "lost_tail_bytes": 0}, 12 * S, 0)
    (opened,) = gaps.take()
    assert (opened.cause, opened.ts_from) == ("restart", 10 * S)


def test_two_gaps_that_begin_at_the_same_time_are_two() -> None:
    gaps = tracker()
    gaps.on_data(1000, 2000, 1)
    for seq in (5, 9):
        # the clock was set back: the newest time that was seen does not move
        gaps.on_control("collector_start", {"clean": False, "last_ts": 2000}, 1500, seq)
        gaps.on_control("subscribed", {}, 1600, seq)
        gaps.on_data(1700, 1800, seq + 1)
    rows = gaps.take()
    assert len({row.gap_id for row in rows}) == 2
    assert [row.state for row in rows] == [OPEN, CLOSED, OPEN, CLOSED]


def test_a_state_that_was_taken_does_not_follow_the_tracker() -> None:
    """It is packed by another thread while the reading goes on."""
    gaps = tracker(session_start=4 * S)
    started(gaps)
    gaps.on_control("unwatch", {"symbols": ["AAPL"]}, 50 * S, 10)
    state = gaps.state()
    gaps.on_control("watch", {"symbols": ["AAPL"]}, 60 * S, 20)
    again = tracker()
    again.restore(state)
    again.on_control("watch", {"symbols": ["AAPL"]}, 60 * S, 20)
    assert again.take()[-1].gap_id == gaps.take()[-1].gap_id
