"""Whole lines out of a socket, however the bytes were split, with nothing lost and nothing glued together."""

import random
import socket

import pytest

from l2_platform.clock import SystemClock
from l2_platform.errors import FeedDisconnected
from l2_platform.feeds.iqfeed.connection import FRAGMENT, OVERSIZE, WHOLE_LINES, Connection, ConnectionOptions

CAP = 1024
OPTIONS = ConnectionOptions(recv_bytes=4096, line_bytes_max=CAP, read_timeout_s=0.01, send_timeout_s=0.2)


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    ours.settimeout(OPTIONS.read_timeout_s)
    with ours, theirs:
        yield Connection(ours, OPTIONS, SystemClock()), theirs


def taken(connection: Connection) -> list[tuple[bytes, int, int]]:
    return [(bytes(piece.data), piece.lines, piece.kind) for piece in connection.read()]


def until_closed(connection: Connection) -> list[tuple[bytes, int, int]]:
    pieces = []
    reason = ""
    while not reason:
        try:
            pieces += taken(connection)
        except FeedDisconnected as gone:
            reason = gone.facts["reason"]
    assert reason == "fin"
    rest = connection.fragment()
    if rest is not None:
        pieces.append((bytes(rest.data), rest.lines, rest.kind))
    return pieces


def read_for_ever(connection: Connection) -> None:
    while True:
        connection.read()


def send_for_ever(connection: Connection) -> None:
    while True:
        connection.send(b"z" * 65_536)


def test_read_nothing_there_is_empty(ends):
    assert taken(ends[0]) == []


def test_read_cuts_at_the_last_newline_and_carries_the_rest(ends):
    connection, feed = ends
    feed.sendall(b"one\r\ntwo\r\nthr")
    assert taken(connection) == [(b"one\r\ntwo\r\n", 2, WHOLE_LINES)]
    feed.sendall(b"ee")
    assert taken(connection) == []
    feed.sendall(b"\r\n")
    assert taken(connection) == [(b"three\r\n", 1, WHOLE_LINES)]


def test_fragment_is_the_line_that_never_ended(ends):
    connection, feed = ends
    feed.sendall(b"one\npart")
    feed.close()
    assert until_closed(connection) == [(b"one\n", 1, WHOLE_LINES), (b"part", 1, FRAGMENT)]
    assert connection.fragment() is None


def test_line_of_exactly_the_cap_is_a_line(ends):
    connection, feed = ends
    line = b"x" * (CAP - 1) + b"\n"
    feed.sendall(line + line)
    feed.close()
    assert until_closed(connection) == [(line + line, 2, WHOLE_LINES)]


@pytest.mark.parametrize("length", [CAP + 1, 2 * CAP, 2 * CAP + 1, 10 * CAP + 7])
def test_line_over_the_cap_is_cut_the_same_way_however_it_arrives(length):
    data = b"a\nbb\n" + b"x" * (length - 1) + b"\nccc\n"
    parts = [min(CAP, length - at) for at in range(0, length, CAP)]
    results = set()
    for seed in range(30):
        source = random.Random(seed)
        ours, theirs = socket.socketpair()
        ours.settimeout(OPTIONS.read_timeout_s)
        connection = Connection(ours, OPTIONS, SystemClock())
        pieces, at = [], 0
        while at < len(data):
            step = source.choice([1, 3, 500, CAP, 3000, len(data)])
            theirs.sendall(data[at : at + step])
            at += step
            pieces += taken(connection)
        theirs.close()
        pieces += until_closed(connection)
        assert b"".join(piece for piece, _, _ in pieces) == data
        assert [len(piece) for piece, _, kind in pieces if kind == OVERSIZE] == parts
        assert sum(lines for _, lines, kind in pieces if kind == WHOLE_LINES) == 3
        results.add(sum(lines for _, lines, _ in pieces))
        connection.close()
    assert results == {3 + len(parts)}


def test_every_split_gives_the_same_lines():
    data = b"T,20191018 12:49:55\r\n4,SPY,,NSDQ,B,451.4400,300,,4,11:33:27.030724,2022-04-01,\r\nlast"
    for cut in range(1, len(data)):
        ours, theirs = socket.socketpair()
        ours.settimeout(OPTIONS.read_timeout_s)
        connection = Connection(ours, OPTIONS, SystemClock())
        theirs.sendall(data[:cut])
        pieces = taken(connection)
        theirs.sendall(data[cut:])
        theirs.close()
        pieces += until_closed(connection)
        assert b"".join(piece for piece, _, _ in pieces) == data
        assert sum(lines for _, lines, _ in pieces) == 3
        connection.close()


def test_endless_line_stays_in_bounded_memory(ends):
    connection, feed = ends
    got = 0
    for _ in range(200):
        feed.sendall(b"y" * 4096)
        got += sum(len(piece) for piece, _, kind in taken(connection) if kind == OVERSIZE)
    assert got >= 200 * 4096 - CAP


def test_send_takes_what_the_peer_takes_and_gives_up_on_a_deaf_one(ends):
    connection, feed = ends
    connection.send(b"hello\r\n")
    assert feed.recv(100) == b"hello\r\n"
    with pytest.raises(FeedDisconnected, match="takes no commands"):
        send_for_ever(connection)


def test_open_refused_says_so():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(FeedDisconnected) as caught:
            Connection.open("127.0.0.1", unused.getsockname()[1], OPTIONS, SystemClock())
    assert caught.value.facts["reason"] == "refused"


def test_read_after_reset_says_rst():
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = Connection.open("127.0.0.1", server.getsockname()[1], OPTIONS, SystemClock())
        peer, _ = server.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        with pytest.raises(FeedDisconnected) as caught:
            read_for_ever(connection)
        assert caught.value.facts["reason"] == "rst"
        connection.close()
