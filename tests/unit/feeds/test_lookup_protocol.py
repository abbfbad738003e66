"""History requests and replies as bytes: what is asked, what belongs to a reply, and how it ends."""

import pytest

from l2_platform.errors import FeedProtocolError, InputError
from l2_platform.feeds.iqfeed.lookup_protocol import Outcome, ReplyReader, history_request

TICK = b"LH,2018-04-17 17:51:22.123456,96.0700,1061909,0,0.0000,0.0000,4145784264,O,19,143A,2,17,\r\n"
OLD_TICK = b"2021-03-03 19:58:32.254017,1.5400,238,4813134,1.5100,1.5400,597,E,11,17,0,3,\r\n"


@pytest.mark.parametrize(
    ("word", "values", "line"),
    [
        ("HTT", {"symbol": "AAPL", "begin": "20000101 093000", "end": "20010101 160000", "points": 100000, "per_send": 500},
         "HTT,AAPL,20000101 093000,20010101 160000,100000,,,1,TEST,500"),
        ("HTX", {"symbol": "AAPL", "points": 500, "per_send": 500}, "HTX,AAPL,500,1,TEST,500"),
        ("HTD", {"symbol": "AAPL", "days": 180, "points": 2000, "from_time": "093000", "to_time": "160000", "direction": 0},
         "HTD,AAPL,180,2000,093000,160000,0,TEST,"),
        ("HIX", {"symbol": "AAPL", "interval": 5, "points": 10000, "direction": 0, "per_send": 25000, "kind": "v", "label": 0},
         "HIX,AAPL,5,10000,0,TEST,25000,v,0"),
        ("HIT", {"symbol": "A", "interval": 60, "begin": "20180101", "end": "20180102", "kind": "s", "label": 1},
         "HIT,A,60,20180101,20180102,,,,1,TEST,,s,1"),
        ("HDT", {"symbol": "AAPL", "begin": "20000101", "end": "20100101", "points": 15000, "per_send": 25000},
         "HDT,AAPL,20000101,20100101,15000,1,TEST,25000"),
    ],
)  # fmt: skip
def test_requests_have_the_parameters_in_the_order_of_the_wire(word, values, line):
    assert history_request(word, "TEST", **values) == line


@pytest.mark.parametrize(
    ("word", "values"),
    [("HZZ", {}), ("HTX", {"days": 3, "symbol": "A"}), ("HTX", {"symbol": "A,B"}), ("HTX", {"symbol": "A\r\nHTX"}), ("HTX", {"symbol": ""}),
     ("HTX", {"symbol": "A" * 31}), ("HTX", {"symbol": "Ä"})],
)  # fmt: skip
def test_what_cannot_be_sent_is_refused(word, values):
    with pytest.raises(InputError):
        history_request(word, "TEST", **values)


@pytest.mark.parametrize(("protocol", "tick"), [("6.2", TICK), ("6.1", OLD_TICK)])
def test_a_reply_is_the_lines_of_its_id_up_to_the_end(protocol, tick):
    reader = ReplyReader(protocol)
    reader.begin("R2")
    mine = b"R2," + tick
    stray = b"S,SERVER CONNECTED,\r\nR1,!ENDMSG!,\r\n"
    kept = reader.take(stray + mine * 3) + reader.take(mine * 2) + reader.take(mine + b"R2,!ENDMSG!,\r\nR9," + tick)
    assert kept == mine * 6 + b"R2,!ENDMSG!,\r\n"
    assert (reader.outcome, reader.lines) == (Outcome.DATA, 6)


def test_a_symbol_named_like_a_message_is_data():
    reader = ReplyReader("6.2")
    reader.begin("E")
    assert reader.take(b"E," + TICK) == b"E," + TICK
    assert reader.outcome is None


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        (b"E,!NO_DATA!,,", Outcome.NO_DATA), (b"E,Invalid symbol.,", Outcome.UNKNOWN_SYMBOL), (b"n,NOPE", Outcome.UNKNOWN_SYMBOL),
        (b"E,Too many simultaneous history requests.,", Outcome.TOO_MANY), (b"E,Unauthorized user ID.,", Outcome.UNAUTHORIZED),
        (b"E,!SYNTAX_ERROR!,", Outcome.REFUSED),
    ],
)  # fmt: skip
def test_error_lines_end_as_what_they_say(line, outcome):
    reader = ReplyReader("6.2")
    reader.begin("R1")
    reader.take(b"R1," + line + b"\r\n")
    assert reader.outcome is None
    reader.take(b"R1,!ENDMSG!,\r\n")
    assert reader.outcome is outcome


def test_a_peer_that_talks_of_other_things_is_left():
    reader = ReplyReader("6.2")
    reader.begin("R1")
    with pytest.raises(FeedProtocolError, match="is it an IQConnect"):
        reader.take(b"HTTP/1.1 400 Bad Request\r\n" * 200)
