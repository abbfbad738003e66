"""The lookup client against servers that answer well, slowly, wrongly or never."""

import socket
import time
from pathlib import Path

import pytest

from l2_platform.clock import SystemClock
from l2_platform.collectors.fetching import Fetcher
from l2_platform.errors import FeedDisconnected, FeedError, FeedProtocolError, FeedUnauthorized
from l2_platform.feeds.iqfeed.lookup import LookupConnection, Reply, check_reachable
from l2_platform.feeds.iqfeed.lookup_protocol import Outcome, history_request
from l2_platform.feeds.iqfeed.lookup_rate import SharedRate
from l2_platform.settings import Settings
from tests.integration.ports import free_base
from tests.integration.vendors import Tick, history_of, local, shake, vendor

pytestmark = pytest.mark.integration
TICK = b"LH,2026-11-18 10:00:00.000001,96.0700,100,100,96.0600,96.0800,1,C,19,01,1,18,\r\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    base = Settings(home=tmp_path, ports={"base": free_base()})
    lookup = base.lookup.model_copy(update={"silence_s": 0.6, "reply_s_max": 1.5, "reply_bytes_max": 1 << 20, "retry_s": 0.01})
    feed = base.feed.model_copy(update={"connect_timeout_s": 1.0})
    return base.model_copy(update={"lookup": lookup, "feed": feed})


def connection(settings: Settings) -> LookupConnection:
    clock = SystemClock()
    return LookupConnection(settings.feed, settings.lookup, settings.ports.lookup, SharedRate(settings.lookup.requests_per_s, clock), clock)


def fetch(link: LookupConnection, symbol: str = "AAA") -> tuple[Reply, bytes]:
    taken: list[bytes] = []
    reply = link.fetch(lambda name: history_request("HTX", name, symbol=symbol, points=10), taken.append)
    return reply, b"".join(taken)


def test_replies_in_any_cut_and_several_on_one_socket(settings: Settings) -> None:
    def answer(client: socket.socket, line: str) -> None:
        if shake(client, line):
            return
        name = line.split(",")[4].encode()
        whole = (name + b"," + TICK) * 50 + name + b",!ENDMSG!,\r\n"
        for at in range(0, len(whole), 37):
            client.sendall(whole[at : at + 37])

    with vendor(settings, answer):
        link = connection(settings)
        for _ in range(3):
            reply, data = fetch(link)
            assert (reply.outcome, reply.lines, reply.size) == (Outcome.DATA, 50, len(data))
            assert data.endswith(b",!ENDMSG!,\r\n")
        link.close()


def garbage(client: socket.socket, line: str) -> None:
    if not shake(client, line):
        client.sendall(b"<html>\r\n" * 500)


def endless_line(client: socket.socket, line: str) -> None:
    if not shake(client, line):
        client.sendall(b"x" * 300_000)


def never(client: socket.socket, line: str) -> None:
    shake(client, line)


def drip(client: socket.socket, line: str) -> None:
    if not shake(client, line):
        for byte in line.split(",")[4].encode() + b"," + TICK:
            client.sendall(bytes([byte]))
            time.sleep(0.2)


def flood(client: socket.socket, line: str) -> None:
    if not shake(client, line):
        client.sendall((line.split(",")[4].encode() + b"," + TICK) * 30_000)


def leaves(client: socket.socket, line: str) -> None:
    if not shake(client, line):
        client.sendall(line.split(",")[4].encode() + b"," + TICK)
        client.shutdown(socket.SHUT_RDWR)


def unauthorized(client: socket.socket, line: str) -> None:
    if not shake(client, line):
        name = line.split(",")[4]
        client.sendall(f"{name},E,Unauthorized user ID.,\r\n{name},!ENDMSG!,\r\n".encode())


def no_protocol(client: socket.socket, line: str) -> None:
    if line.startswith("S,SET PROTOCOL"):
        client.sendall(b"E,6.2 is not a valid protocol.,\r\n")


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (garbage, FeedProtocolError, "is it an IQConnect"), (endless_line, FeedProtocolError, "lines without end"),
        (never, FeedDisconnected, "no byte for 0.6 s"), (drip, FeedDisconnected, "not answered within 1.5 s"),
        (flood, FeedProtocolError, "lookup.reply_bytes_max"), (leaves, FeedDisconnected, "closed the connection"),
        (unauthorized, FeedUnauthorized, "log IQConnect in"), (no_protocol, FeedProtocolError, "L2_FEED__PROTOCOL"),
        (lambda *_: None, FeedProtocolError, "did not agree to protocol 6.2"),
    ],
)  # fmt: skip
def test_bad_servers_are_left_in_time(settings: Settings, answer, kind: type[FeedError], words: str) -> None:
    with vendor(settings, answer):
        link = connection(settings)
        with pytest.raises(kind, match=words):
            fetch(link)
        link.close()


def test_a_closed_port_says_what_to_do(settings: Settings) -> None:
    with pytest.raises(FeedDisconnected, match="start IQConnect, or the simulated market"):
        check_reachable(settings.feed, settings.lookup, settings.ports.lookup, SystemClock())


SPAN = "20261118 100000", "20261118 100009"


def keep(settings: Settings, begin: str = SPAN[0], end: str = SPAN[1]) -> bytes:
    """The reply for AAA that a run finds or fetches, and leaves behind as one that is ended."""
    with Fetcher(settings.run_dir / "kept", begin, end, settings, SystemClock()) as fetcher:
        (item,) = fetcher.fetch(["AAA"])
    assert item.file is not None
    data = item.file.read_bytes()
    assert item.lines == data.count(b"\n") - 1
    return data


@pytest.mark.parametrize("other", ["begin", "end", "protocol", "port"])
def test_replies_left_behind_answer_the_same_request_only(settings: Settings, other: str) -> None:
    """A run was ended with a reply in its folder, and the settings that make the request are changed before the next run."""
    ticks = {"AAA": [Tick(local(SPAN[0]) + at * 10**9, 5, at + 1) for at in range(20)]}
    begin, end = ("20261118 100005" if other == "begin" else SPAN[0]), ("20261118 100019" if other == "end" else SPAN[1])
    changed = settings
    if other == "protocol":
        changed = settings.model_copy(update={"feed": settings.feed.model_copy(update={"protocol": "6.1"})})
    if other == "port":
        changed = settings.model_copy(update={"ports": Settings(home=settings.home, ports={"base": free_base()}).ports})
    with vendor(settings, history_of(ticks)) as asked:
        first = keep(settings)
        assert (keep(settings), len(asked)) == (first, 1)
    with vendor(changed, history_of(ticks)) as asked:
        second = keep(changed, begin, end)
        assert len(asked) == 1
    assert second.count(b"LH,") == {"begin": 5, "end": 20}.get(other, 10)


def test_halves_of_replies_go_before_anything_is_asked_for(settings: Settings) -> None:
    ticks = {"AAA": [Tick(local(SPAN[0]) + at * 10**9, 5, at + 1) for at in range(10)]}
    half = settings.run_dir / "kept" / "GONE.part"
    with vendor(settings, history_of(ticks)) as asked:
        first = keep(settings)
        half.write_bytes(b"half of a reply for a symbol that nobody asks for again")
        assert (keep(settings), len(asked), half.exists()) == (first, 1, False)


def test_half_a_reply_is_not_taken_for_a_whole_one(settings: Settings) -> None:
    ticks = {"AAA": [Tick(local(SPAN[0]) + at * 10**9, 5, at + 1) for at in range(10)]}

    def half(client: socket.socket, line: str) -> None:
        if not shake(client, line):
            name = line.split(",")[8]
            client.sendall("".join(f"{name},{tick.line()}\r\n" for tick in ticks["AAA"][:5]).encode())
            client.shutdown(socket.SHUT_RDWR)

    folder = settings.run_dir / "kept"
    with vendor(settings, half), Fetcher(folder, *SPAN, settings, SystemClock()) as fetcher:
        (item,) = fetcher.fetch(["AAA"])
    assert (item.outcome, list(folder.glob("*.reply"))) == ("failed", [])
    with vendor(settings, history_of(ticks)) as asked:
        assert (keep(settings).count(b"LH,"), len(asked)) == (10, 1)
    assert sorted(path.name for path in folder.iterdir()) == ["AAA.reply", "request"]
