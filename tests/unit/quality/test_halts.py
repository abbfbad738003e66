"""Halts in the exchange's layout: times, what is not over, and errors that name file, line and field."""

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from l2_platform.errors import InputError
from l2_platform.quality.halts import Halt, HaltsUnreachable, load_halts, read_halts
from l2_platform.settings import FeedSettings, GapSettings, Settings

HEADER = (
    "Halt Date,Halt Time,Issue Symbol,Issue Name,Market,Reason Codes,Pause Threshold Price,Resumption Date,Resumption Quote Time,"
    "Resumption Trade Time\n"
)
LINE = '11/20/2026,09:45:12.5,SYM001,"Simulated, Inc.",NASDAQ,LUDP,12.34,11/20/2026,09:45:12,09:50:12\n'


def settings(home: Path, **gaps: Any) -> Settings:
    return Settings(home=home, gaps=GapSettings(**gaps))


def test_times_are_new_york_and_quoted_names_may_hold_commas() -> None:
    (halt,) = read_halts((HEADER + LINE).encode(), "halts.csv")
    assert (halt.symbol, halt.reason, halt.market) == ("SYM001", "LUDP", "NASDAQ")
    assert halt.ts_from == 1_795_185_912_500_000_000  # 14:45:12.5 UTC
    assert halt.ts_to == 1_795_186_212_000_000_000


def test_a_halt_without_a_trade_time_is_not_over() -> None:
    (halt,) = read_halts((HEADER + "2026-07-20,10:00:00,ABC,,NYSE,T1,,2026-07-20,10:30:00,\n\n").encode(), "h")
    assert halt.ts_to is None
    assert halt.ts_from == 1_784_556_000_000_000_000  # summer time: 14:00 UTC


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: no column 'Halt Date'"),
        (HEADER.replace("Reason Codes", "Why"), "line 1: no column 'Reason Codes'"),
        (HEADER + LINE + LINE.replace("11/20/2026,09:45:12.5", "13/45/2026,09:45:12"), "line 3, Halt Date: '13/45/2026' is no date"),
        (HEADER + LINE.replace("09:45:12.5", "9.45"), "line 2, Halt Time: '9.45' is no time"),
        (HEADER + LINE.replace("09:50:12", "25:00:00"), "line 2, Resumption Trade Time: '25:00:00' is no time"),
        (HEADER + LINE.replace("09:50:12", "09:40:00"), "line 2, Resumption Trade Time: it lies before the halt"),
        (HEADER + LINE.replace("SYM001", "SYM 1"), "line 2, Issue Symbol: 'SYM 1' is no symbol"),
        (HEADER + "11/20/2026,09:45:12,SYM001\n", "line 2: 3 fields, the header has 10"),
        (HEADER + LINE.replace('Inc."', "Inc."), "line 2: "),
    ],
    ids=["empty", "column", "date", "time", "hour", "order", "symbol", "short", "quote"],
)
def test_errors_name_file_line_and_field(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_halts(text.encode(), "halts.csv")
    assert said in caught.value.message
    assert caught.value.message.startswith("halts.csv, ")


def test_files_are_bounded_and_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "halts.csv"
    path.write_text(HEADER + LINE * 20)
    assert len(load_halts(settings(tmp_path, halts=str(path)))) == 20
    assert len(load_halts(settings(tmp_path, halts="halts.csv"))) == 20  # beside the home folder's other files
    assert load_halts(settings(tmp_path)) == []
    with pytest.raises(InputError, match="more than 1,024 bytes"):
        load_halts(settings(tmp_path, halts=str(path), halts_bytes_max=1024))
    with pytest.raises(InputError, match="No such file"):
        load_halts(settings(tmp_path, halts=str(tmp_path / "none.csv")))
    with pytest.raises(InputError, match="byte 0 is not UTF-8"):
        read_halts(b"\xff\xfe", "h")


def test_an_address_that_does_not_answer_may_be_asked_again(tmp_path: Path) -> None:
    with pytest.raises(HaltsUnreachable, match="until it answers"):
        load_halts(settings(tmp_path, halts="http://127.0.0.1:9/halts.csv", halts_timeout_s=2))


def test_a_simulated_market_tells_its_own_halts(tmp_path: Path) -> None:
    own = settings(tmp_path)
    own.simulated_halts.parent.mkdir()
    own.simulated_halts.write_text(HEADER + LINE)
    assert [halt.symbol for halt in load_halts(own)] == ["SYM001"]
    assert load_halts(own.model_copy(update={"feed": FeedSettings(kind="iqfeed")})) == []


FEED = """<?xml version="1.0" encoding="utf-8"?>\r
<rss version="2.0" xmlns:ndaq="http://www.nasdaqtrader.com/"><channel><title>NASDAQTrader.com</title><ttl>1</ttl>\r
<ndaq:numItems>2</ndaq:numItems>\r
<item><title>SYM001</title><pubDate>Fri, 20 Nov 2026 05:00:00 GMT</pubDate><ndaq:HaltDate>11/20/2026</ndaq:HaltDate>
<ndaq:HaltTime>09:45:12.500</ndaq:HaltTime><ndaq:IssueSymbol>SYM001  </ndaq:IssueSymbol><ndaq:IssueName>A &amp; B &lt;x&gt;</ndaq:IssueName>
<ndaq:Market>NASDAQ</ndaq:Market><ndaq:ReasonCode>LUDP</ndaq:ReasonCode><ndaq:PauseThresholdPrice />
<ndaq:ResumptionDate>11/20/2026</ndaq:ResumptionDate><ndaq:ResumptionQuoteTime>09:45:12</ndaq:ResumptionQuoteTime>
<ndaq:ResumptionTradeTime>09:50:12</ndaq:ResumptionTradeTime><description><![CDATA[<table><tr><td>HaltDate</td></tr></table>]]></description></item>
<item><title>BBB</title><ndaq:HaltDate>06/16/2026</ndaq:HaltDate><ndaq:HaltTime>19:50:01</ndaq:HaltTime>
<ndaq:IssueSymbol>BBB</ndaq:IssueSymbol><ndaq:ReasonCode>T12</ndaq:ReasonCode><ndaq:ResumptionDate /></item></channel></rss>"""


def test_the_rss_feed_of_the_exchange_is_read() -> None:
    first, second = read_halts(b"\xef\xbb\xbf" + FEED.encode(), "feed")
    assert first == Halt("SYM001", 1_795_185_912_500_000_000, 1_795_186_212_000_000_000, "LUDP", "NASDAQ")
    assert (second.symbol, second.reason, second.ts_to) == ("BBB", "T12", None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<!DOCTYPE lolz [<!ENTITY a 'b'><!ENTITY c '&a;&a;'>]><rss>&c;</rss>", "line 1: a document type is not read"),
        ("<!DOCTYPE rss SYSTEM 'file:///etc/hosts'><rss/>", "line 1: a document type is not read"),
        ("<rss>&undefined;</rss>", "line 1: undefined entity"),
        ("<rss><channel>", "line 1: "),
        ("<html><body>Please come back later</body></html>", "the outermost element is 'html'"),
        ("<rss>" + "<a>" * 50, "more than 32 elements inside each other"),
        (FEED.replace("19:50:01", "soon"), "line 9, Halt Time: 'soon' is no time"),
        (FEED.replace(">BBB</ndaq", "></ndaq"), "line 9, Issue Symbol: '' is no symbol"),
    ],
    ids=["entities", "outside", "undefined", "cut", "html", "deep", "time", "symbol"],
)
def test_what_is_no_feed_of_halts_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_halts(text.encode(), "feed")
    assert said in caught.value.message


@pytest.fixture
def address() -> Iterator[str]:
    """A server whose answers are right, endless, slow from the first byte or later, or lead to a file or elsewhere again and again."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/trickle":
                self.trickle()
                return
            if self.path.startswith("/round"):
                self.lead_on(int(self.path.removeprefix("/round")))
                return
            if self.path.startswith("/cut"):
                self.cut()
                return
            place = "file:///etc/hosts" if self.path == "/away" else ""
            self.send_response(302 if place else 404 if self.path == "/none" else 200)
            if place:
                self.send_header("Location", place)
            self.end_headers()
            with contextlib.suppress(OSError):
                if self.path == "/right":
                    self.wfile.write(FEED.encode())
                elif self.path == "/endless":
                    for _ in range(4096):
                        self.wfile.write(b"x" * 4096)
                elif self.path == "/slow":
                    for _ in range(200):
                        self.wfile.write(b"x")
                        time.sleep(0.05)

        def trickle(self) -> None:
            """Status and headers a byte at a time, and nothing behind them."""
            with contextlib.suppress(OSError):
                for byte in b"HTTP/1.0 200 OK\r\nX-Long: " + b"x" * 100 + b"\r\n\r\n":
                    self.wfile.write(bytes((byte,)))
                    time.sleep(0.05)

        def cut(self) -> None:
            """An answer that ends in the middle, with its length in front or in pieces; /cut-not: the whole one."""
            text = FEED.encode()
            self.protocol_version = "HTTP/1.1"
            self.close_connection = True
            self.send_response(200)
            if self.path == "/cut-pieces":
                self.send_header("Transfer-Encoding", "chunked")
                text = f"{len(text):x}\r\n".encode() + text
            else:
                self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text if self.path == "/cut-not" else text[: -len(text) // 2])

        def lead_on(self, number: int) -> None:
            """Each step comes in time; nothing at the end of eight of them, halts behind the ninth."""
            time.sleep(0.15)
            with contextlib.suppress(OSError):
                self.send_response(302)
                self.send_header("Location", f"/round{number + 1}" if number < 8 else "/empty" if number == 8 else "/right")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_an_address_is_read_within_its_bounds(address: str, tmp_path: Path) -> None:
    def load(path: str, **chosen: Any) -> list[Halt]:
        return load_halts(settings(tmp_path, halts=address + path, **chosen))

    assert len(load("/right")) == 2
    with pytest.raises(InputError, match="more than 1,024 bytes"):
        load("/endless", halts_bytes_max=1024)
    with pytest.raises(HaltsUnreachable, match="no whole answer within"):
        load("/slow", halts_timeout_s=0.5)
    with pytest.raises(HaltsUnreachable, match=f"the answer is cut: got {len(FEED) // 2:,} of {len(FEED):,} bytes"):
        load("/cut")
    with pytest.raises(HaltsUnreachable, match=r"the answer is cut: got [0-9,]+ bytes and no end"):
        load("/cut-pieces")
    assert len(load("/cut-not")) == 2
    with pytest.raises(InputError, match="more than 1,024 bytes"):
        load("/cut-not", halts_bytes_max=1024)
    with pytest.raises(HaltsUnreachable, match="404"):
        load("/none")
    with pytest.raises(HaltsUnreachable, match="file:"):
        load("/away")


@pytest.mark.parametrize("path", ["/trickle", "/round0"])
def test_an_answer_that_comes_too_slowly_is_given_up_wherever_it_is(address: str, tmp_path: Path, path: str) -> None:
    with pytest.raises(HaltsUnreachable, match=r"no whole answer within 0\.5 s"):
        load_halts(settings(tmp_path, halts=address + path, halts_timeout_s=0.5))
    # and nothing goes on behind it
    for thread in [one for one in threading.enumerate() if one.name == "halts"]:
        thread.join(5)
        assert not thread.is_alive()


def test_answers_lead_on_within_the_time(address: str, tmp_path: Path) -> None:
    assert len(load_halts(settings(tmp_path, halts=address + "/round9"))) == 2
