"""The IQFeed conversation, byte for byte, without a socket."""

from datetime import UTC, datetime

import pytest

from l2_platform.errors import InputError
from l2_platform.feeds.iqfeed import messages
from l2_platform.feeds.iqfeed.protocol import (
    AdminSession,
    FeedSession,
    Level1Session,
    Level2Session,
    Phase,
    SessionOptions,
    open_session,
)

SECOND = 1_000_000_000
GREETING = (
    b"S,KEY,12345\r\nS,SERVER CONNECTED\r\nS,CUST,real_time,1.2.3.4,60002,tok,6.2.0.25,,NYSE NASDAQ,,500,QT_API,,\r\n"
)
ACK = b"S,CURRENT PROTOCOL,6.2\r\n"


def events(session: FeedSession) -> list[messages.Event]:
    found = []
    while (event := session.next_event()) is not None:
        found.append(event)
    return found


def said(session: FeedSession) -> list[bytes]:
    return session.data_to_send().splitlines()


def live(session: FeedSession) -> FeedSession:
    session.start(0)
    session.receive(GREETING + ACK)
    events(session)
    session.data_to_send()
    return session


def test_level2_handshake_acknowledged_goes_live():
    session = Level2Session(SessionOptions(client_name="me"))
    assert session.phase is Phase.CONNECTING
    session.start(0)
    assert said(session) == [b"S,SET PROTOCOL,6.2"]
    session.receive(GREETING)
    assert session.phase is Phase.HANDSHAKE
    session.receive(ACK)
    assert session.phase is Phase.LIVE
    assert session.protocol == "6.2"
    assert said(session) == [b"S,SET CLIENT NAME,me"]
    assert events(session) == [
        messages.CommandSent("S,SET PROTOCOL,6.2"),
        messages.SystemLine("KEY,12345"),
        messages.ServerConnected(),
        messages.CustomerInfo("real_time", 500),
        messages.ProtocolAcked("6.2"),
        messages.CommandSent("S,SET CLIENT NAME,me"),
    ]


@pytest.mark.parametrize("answer", [b"E,6.2 is not a valid protocol.,\r\n", b"S,CURRENT PROTOCOL,5.2,\r\n"])
def test_handshake_refused_protocol_fails(answer):
    session = Level2Session(SessionOptions())
    session.start(0)
    session.receive(answer)
    assert session.phase is Phase.FAILED
    assert isinstance(events(session)[-1], messages.ProtocolRefused)


def test_handshake_without_answer_fails_after_its_time():
    session = Level2Session(SessionOptions(handshake_ns=5 * SECOND))
    session.start(0)
    session.tick(5 * SECOND - 1)
    assert session.phase is Phase.HANDSHAKE
    session.tick(5 * SECOND)
    assert session.phase is Phase.FAILED


def test_receive_data_lines_are_not_events():
    session = live(Level2Session(SessionOptions()))
    session.receive(
        b"6,QQQ,,AMEX,A,408.8400,100,,4,17:52:38.059128,2022-04-01,\r\n5,TSLA,,CHXE,B,,2022-04-01,\r\nq,SNAP\r\n"
    )
    assert events(session) == []


def test_receive_system_lines_between_data_are_found_at_every_place():
    data = b"4,A,,X,B,1,1,,2,,\r\n"
    session = live(Level2Session(SessionOptions()))
    session.receive(
        b"T,20191018 12:49:55\r\n"
        + data
        + b"S,CLEAR DEPTH,@ESZ22,B,\r\n"
        + data
        + data
        + b"n,NOPE\r\nE,odd thing.,\r\n"
    )
    assert events(session) == [
        messages.FeedClock("20191018 12:49:55"),
        messages.DepthCleared("@ESZ22", "B"),
        messages.SymbolNotFound("NOPE"),
        messages.ErrorLine("odd thing."),
    ]


def test_receive_stops_at_end():
    session = live(Level2Session(SessionOptions()))
    session.receive(bytearray(b"n,ONE\r\nn,TWO\r\n"), 7)
    assert events(session) == [messages.SymbolNotFound("ONE")]


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"S,SERVER DISCONNECTED", messages.ServerDisconnected()),
        (b"S,SYMBOL LIMIT REACHED,IBM", messages.SymbolLimit("IBM")),
        (b"S,CURRENT PROTOCOL,6.2,", messages.ProtocolAcked("6.2")),
        (b"E,Unauthorized user ID.,", messages.Unauthorized("Unauthorized user ID.")),
        (b"S,SERVER RECONNECT FAILED", messages.SystemLine("SERVER RECONNECT FAILED")),
        (
            b"S,STATS,66.1.2.3,60003,500,1,8,0,0,0,Apr 01 6:48PM,Apr 01 08:49PM,Connected,6.2.0.15,497214,3.2,",
            messages.Stats(500, 1, True),
        ),
        (b'S,STATS,,,0,0,1,0,0,0,,,Not Connected,6.2.0.25,"490914",0,0.0,', messages.Stats(0, 0, False)),
        (b"S,CUST,delayed", messages.CustomerInfo("delayed", 0)),
        (b"SPY,1", None),
        (b"T", None),
    ],
)
def test_parse_system_line_known_lines(line, event):
    assert messages.parse_system_line(line) == event


def select(session: FeedSession) -> list[bytes]:
    return [line for line in said(session) if line.startswith(b"S,SELECT")]


def test_level1_fields_asked_without_symbol_then_with_it():
    session = Level1Session(SessionOptions(fields=("Bid", "Ask"), field_ack_ns=2 * SECOND))
    session.start(0)
    session.receive(ACK)
    assert session.phase is Phase.FIELDS
    assert select(session) == [b"S,SELECT UPDATE FIELDS,Bid,Ask"]
    session.tick(2 * SECOND)
    assert select(session) == [b"S,SELECT UPDATE FIELDS,Symbol,Bid,Ask"]
    session.receive(b"S,CURRENT UPDATE FIELDNAMES,Symbol,Bid,Ask,\r\n")
    assert session.phase is Phase.LIVE
    assert session.symbol_named is True
    assert messages.FieldsAcked(("Symbol", "Bid", "Ask")) in events(session)


@pytest.mark.parametrize(
    ("naming", "expected"), [("never", b"S,SELECT UPDATE FIELDS,Bid"), ("always", b"S,SELECT UPDATE FIELDS,Symbol,Bid")]
)
def test_level1_fields_one_form_only_keeps_default_layout_when_unanswered(naming, expected):
    session = Level1Session(SessionOptions(fields=("Bid",), name_symbol=naming, field_ack_ns=SECOND))
    session.start(0)
    session.receive(ACK)
    assert select(session) == [expected]
    session.tick(SECOND)
    assert session.phase is Phase.LIVE
    assert isinstance(events(session)[-1], messages.FieldsUnacknowledged)


def test_level1_fields_rejected_name_is_left_out():
    session = Level1Session(SessionOptions(fields=("Bid", "Bid TimeMS", "Ask")))
    session.start(0)
    session.receive(ACK)
    session.data_to_send()
    session.receive(b"E,Bid TimeMS is not a valid fieldset field,\r\n")
    assert select(session) == [b"S,SELECT UPDATE FIELDS,Bid,Ask"]
    assert session.phase is Phase.FIELDS


def test_level1_without_fields_is_live_at_once():
    assert live(Level1Session(SessionOptions())).phase is Phase.LIVE


def test_level1_watch_commands():
    session = live(Level1Session(SessionOptions(level1_regional=True)))
    session.watch(["AAPL"])
    session.watch(["MSFT"], refresh=True)
    session.unwatch(["AAPL"])
    assert said(session) == [b"wAAPL", b"S,REGON,AAPL", b"wMSFT", b"fMSFT", b"S,REGON,MSFT", b"rAAPL"]


@pytest.mark.parametrize(
    ("watch", "levels", "expected"),
    [
        ("WOR", 0, [b"WOR,@ESZ26", b"ROR,@ESZ26"]),
        ("WPL", 10, [b"WPL,@ESZ26,10", b"RPL,@ESZ26"]),
        ("both", 0, [b"WOR,@ESZ26", b"WPL,@ESZ26", b"ROR,@ESZ26", b"RPL,@ESZ26"]),
    ],
)
def test_level2_watch_commands(watch, levels, expected):
    session = live(Level2Session(SessionOptions(depth_watch=watch, depth_levels_max=levels)))
    session.watch(["@ESZ26"], refresh=True)
    session.unwatch(["@ESZ26"])
    assert said(session) == expected


@pytest.mark.parametrize("symbol", ["A,B", "A\r\nS,DISCONNECT", "A\n", "ÄÖ"])
def test_watch_separators_in_a_symbol_are_refused(symbol):
    session = live(Level2Session(SessionOptions()))
    with pytest.raises(InputError):
        session.watch([symbol])
    assert session.data_to_send() == b""


ADMIN = SessionOptions(product_id="P1", login="trader77", password="hunter22", login_retry_ns=30 * SECOND)
NOT_CONNECTED = b'S,STATS,,,0,0,1,0,0,0,,,Not Connected,6.2.0.25,"trader77",0,0.0,0.0,0.08,0.08,0.08,\r\n'
CONNECTED = (
    b"S,STATS,66.1.2.3,60003,500,1,8,0,0,0,Apr 01 6:48PM,Apr 01 08:49PM,Connected,6.2.0.15,trader77,3.24,0,0,0,0,0,\r\n"
)


def test_admin_logs_in_and_masks_its_own_commands():
    session = open_session("admin", ADMIN)
    session.start(0)
    session.receive(ACK)
    session.tick(SECOND)
    assert said(session)[-4:] == [
        b"S,REGISTER CLIENT APP,P1,1.0",
        b"S,SET LOGINID,trader77",
        b"S,SET PASSWORD,hunter22",
        b"S,CONNECT",
    ]
    told = [event.line for event in events(session) if isinstance(event, messages.CommandSent)]
    assert "S,SET LOGINID,********" in told
    assert "S,SET PASSWORD,********" in told
    assert not any("hunter22" in line or "trader77" in line for line in told)


def test_admin_refused_login_is_told_once_and_tried_again_after_its_time():
    session = AdminSession(ADMIN)
    session.start(0)
    session.receive(ACK)
    session.tick(0)
    session.data_to_send()
    events(session)
    for second in range(1, 8):
        session.receive(NOT_CONNECTED)
        session.tick(second * SECOND)
    assert [type(event) for event in events(session)].count(messages.Unauthorized) == 1
    assert session.data_to_send() == b""
    session.tick(30 * SECOND)
    assert b"S,CONNECT" in said(session)
    session.receive(CONNECTED)
    assert session.logged_in is True
    session.tick(90 * SECOND)
    assert session.data_to_send() == b""


def test_admin_without_protocol_answer_goes_on():
    session = AdminSession(SessionOptions(handshake_ns=SECOND))
    session.start(0)
    session.tick(SECOND)
    assert session.phase is Phase.LIVE
    assert b"S,CLIENTSTATS ON" in said(session)


def test_admin_lost_login_is_a_lost_server():
    session = live(AdminSession(SessionOptions()))
    session.receive(CONNECTED + NOT_CONNECTED)
    assert messages.ServerDisconnected() in events(session)


@pytest.mark.parametrize(
    ("line", "masked"),
    [
        (b"S,SET PASSWORD,hunter22\r\n", b"S,SET PASSWORD,********\r\n"),
        (b"S,CURRENT LOGINID,3244,\r\n", b"S,CURRENT LOGINID,****,\r\n"),
        (b"S,CURRENT PASSWORD,(3*****2),\r\n", b"S,CURRENT PASSWORD,*********,\r\n"),
        (b"S,LOGIN INFO SAVED,\r\n", b"S,LOGIN INFO SAVED,\r\n"),
        (NOT_CONNECTED, NOT_CONNECTED.replace(b'"trader77"', b'"********"')),
        (CONNECTED, CONNECTED.replace(b"trader77", b"********")),
        (b"S,STATS,1,2,3", b"S,STATS,1,2,3"),
    ],
)
def test_mask_secrets_keeps_every_length(line, masked):
    assert messages.mask_secrets(line) == masked
    assert len(masked) == len(line)


def test_mask_secrets_hides_known_secrets_anywhere_but_not_short_ones():
    assert messages.mask_secrets(b"E,bad user trader77\r\n", (b"trader77",)) == b"E,bad user ********\r\n"
    assert messages.mask_secrets(b"S,X,12,12\r\n", (b"12",)) == b"S,X,12,12\r\n"


def ns(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp()) * SECOND  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("text", "near", "expected"),
    [
        ("20191018 12:49:55", ns(2019, 10, 18), ns(2019, 10, 18, 16, 49, 55)),
        ("20260115 09:30:00", ns(2026, 1, 15), ns(2026, 1, 15, 14, 30)),
        # 01:30 happens twice on the first Sunday of November: the reading near our own clock counts
        ("20261101 01:30:00", ns(2026, 11, 1, 5, 30), ns(2026, 11, 1, 5, 30)),
        ("20261101 01:30:00", ns(2026, 11, 1, 6, 30), ns(2026, 11, 1, 6, 30)),
        ("20261101", 0, None),
        ("garbage", 0, None),
    ],
)
def test_feed_clock_ns(text, near, expected):
    assert messages.feed_clock_ns(text, near) == expected
