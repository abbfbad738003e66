"""F5: lines in pieces. A capture is split at every byte offset, and sent one byte a segment: the rows stay the same.

Scale: every offset of a capture of 4 kB, 30 kB, 100 kB, once as two reads and once as a disconnect at that byte; 100 kB in segments of
1 byte. Each variant goes the collector's way: socket, framing, journal, reader, decoder, book. Judged: equal digests of all rows;
the rest of a line at a disconnect is a fragment with exactly its bytes and is never glued to the next connection.
"""

import hashlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l2_platform.clock import SystemClock
from l2_platform.delivery.pipeline import Pipeline
from l2_platform.feeds.iqfeed.connection import Connection, ConnectionOptions
from l2_platform.journal.reader import Control, JournalReader
from l2_platform.journal.writer import JournalWriter
from l2_platform.settings import JournalSettings
from tests.faults.capture import capture
from tests.faults.conftest import Measured
from tests.faults.scale import scaled
from tests.faults.stack import DEPTH

pytestmark = pytest.mark.timeout(3600)
SIZE = scaled(4_000, 30_000, 100_000)
SEGMENT_BYTES = 100_000
PER_JOURNAL = 500
"""Variants in one journal: bounds its size."""
DATE = 20240102
TS = 1_704_205_800_000_000_000
OPTIONS = ConnectionOptions(read_timeout_s=0.01)


class Recording:
    """A journal that takes variants one after the other, and gives the rows of each."""

    def __init__(self, home: Path) -> None:
        self._root, self._durable = home / "journal", home / "durable"
        settings = JournalSettings(fsync_interval_ms=1000)
        self._writer = JournalWriter(self._root, DEPTH, settings, SystemClock(), calendar="XNYS", durable_path=self._durable)
        self._writer.open(DATE)
        self._conn = 0

    def connect(self) -> None:
        """A new connection, with empty books so that each variant stands alone."""
        self._conn += 1
        self._writer.control("session", TS, self._conn, session_date=DATE, reset=True)
        self._writer.control("connect", TS, self._conn)

    def read(self, connection: Connection) -> None:
        """Read once; every piece is a frame."""
        for piece in connection.read():
            self._writer.append(piece.data, piece.lines, TS, self._conn, piece.kind)

    def end(self, connection: Connection) -> None:
        """The connection is over: what is left is a fragment."""
        fragment = connection.fragment()
        if fragment is not None:
            self._writer.append(fragment.data, fragment.lines, TS, self._conn, fragment.kind)
        self._writer.control("disconnect", TS, self._conn, reason="fin", last_byte_ns=TS)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Per connection the columns of its tables, its seqs from 1."""
        self._writer.close()
        pipeline = Pipeline(DEPTH, levels=2, interval_ms=0)
        pipeline.begin_date(DATE, {})
        reader = JournalReader(self._root, DEPTH, DATE, durable_path=self._durable)
        part: list[Any] = []
        while items := reader.read(1 << 22):
            for item in items:
                if isinstance(item, Control) and item.event == "session" and part:
                    yield from self._tables(pipeline, part)
                    part = []
                part.append(item)
        yield from self._tables(pipeline, part)

    def _tables(self, pipeline: Pipeline, items: list[Any]) -> Iterator[dict[str, Any]]:
        before = pipeline.seq
        tables = pipeline.process(items, TS)
        if any(isinstance(item, Control) and item.event == "connect" for item in items):
            found = {table.table: dict(table.columns) for table in tables if table.table != "gap_events"}
            for columns in found.values():
                columns["seq"] = np.asarray(columns["seq"]) - np.uint64(before)
            yield found


def digest(tables: dict[str, Any], lines: int | None = None) -> str:
    """Of every column of every table; with `lines` of the first so many lines only. Controls are no lines of the feed."""
    summed = hashlib.blake2b()
    for name, columns in sorted(tables.items()):
        keep = np.ones(len(columns["seq"]), np.bool_) if lines is None else columns["seq"] <= lines
        if name == "feed_events":
            keep = keep & np.array([bool(raw) for raw in columns["raw"]], np.bool_)
        if not keep.any():
            continue
        summed.update(name.encode())
        for column, values in sorted(columns.items()):
            if name == "feed_events" and column == "ordinal":
                continue
            picked = values[keep].tobytes() if isinstance(values, np.ndarray) else repr([v for v, k in zip(values, keep, strict=True) if k])
            summed.update(column.encode() + (picked if isinstance(picked, bytes) else picked.encode()))
    return summed.hexdigest()


def through_a_socket(recording: Recording, *parts: bytes) -> None:
    """One connection that receives these parts in reads of their own, and then its end."""
    feed, ours = socket.socketpair()
    with feed:
        feed.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        connection = Connection(ours, OPTIONS, SystemClock())
        recording.connect()
        sent = 0
        for part in parts:
            feed.sendall(part)
            sent += len(part)
            while connection.bytes_read < sent:
                recording.read(connection)
        recording.end(connection)
        connection.close()


def batches(count: int) -> Iterator[tuple[int, range]]:
    """The numbers from 0 below `count`, PER_JOURNAL at a time, each batch with its number."""
    for number in range(-(-count // PER_JOURNAL)):
        yield number, range(number * PER_JOURNAL, min((number + 1) * PER_JOURNAL, count))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The rows of the capture that came in one read; of the second time, when the decoder knows the feed's clock already."""
    recording = Recording(tmp_path_factory.mktemp("whole"))
    for _ in range(2):
        through_a_socket(recording, capture(SIZE))
    return list(recording.rows())[1]


def test_split_at_every_byte_gives_the_same_rows(tmp_path: Path, reference: dict[str, Any], measured: Measured) -> None:
    data, wanted = capture(SIZE), digest(reference)
    assert len(reference["depth_updates"]["seq"]) > len(data) / 100
    for number, offsets in batches(len(data) + 1):
        recording = Recording(tmp_path / str(number))
        through_a_socket(recording, data)
        for offset in offsets:
            through_a_socket(recording, data[:offset], data[offset:])
        found = [digest(tables) for tables in recording.rows()][1:]
        wrong = [offset for offset, one in zip(offsets, found, strict=True) if one != wanted]
        assert not wrong, f"split at {wrong[:5]}"
    measured(bytes=len(data), splits=len(data) + 1)


def test_disconnect_at_every_byte_keeps_a_fragment_apart(
    tmp_path: Path, reference: dict[str, Any], measured: Measured
) -> None:
    data, wanted = capture(SIZE), digest(reference)
    fragments = 0
    for number, offsets in batches(len(data)):
        recording = Recording(tmp_path / str(number))
        through_a_socket(recording, data)
        for offset in offsets:
            through_a_socket(recording, data[:offset])
            through_a_socket(recording, data)
        found = list(recording.rows())[1:]
        for offset, cut, whole in zip(offsets, found[::2], found[1::2], strict=True):
            lines, rest = data.count(b"\n", 0, offset), data[data.rfind(b"\n", 0, offset) + 1 : offset]
            assert digest(cut, lines) == digest(reference, lines), f"rows before the cut at {offset}"
            assert digest(whole) == wanted, f"the connection after the cut at {offset}"
            events = cut["feed_events"]
            kept = [raw for seq, raw in zip(events["seq"], events["raw"], strict=True) if seq > lines and raw]
            text = rest.decode("latin-1").removesuffix("\r")  # an event tells a line without its end; the journal has both
            assert kept == ([text] if text else []), f"fragment at {offset}"
            assert all(max(columns["seq"]) <= lines + bool(rest) for columns in cut.values())
            fragments += bool(rest)
    measured(bytes=len(data), disconnects=len(data), fragments=fragments)


def test_one_byte_a_segment_gives_the_same_rows(tmp_path: Path, measured: Measured) -> None:
    data = capture(SEGMENT_BYTES)
    whole = Recording(tmp_path / "whole")
    through_a_socket(whole, data)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def feed() -> None:
            sock, _ = server.accept()
            with sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for at in range(len(data)):
                    sock.sendall(data[at : at + 1])

        thread = threading.Thread(target=feed)
        thread.start()
        byte_by_byte = ConnectionOptions(recv_bytes=1)
        connection = Connection.open("127.0.0.1", server.getsockname()[1], byte_by_byte, SystemClock())
        pieces = Recording(tmp_path / "pieces")
        pieces.connect()
        while connection.bytes_read < len(data):
            pieces.read(connection)
        pieces.end(connection)
        connection.close()
        thread.join()
    assert connection.bytes_read == len(data)
    assert digest(next(pieces.rows())) == digest(next(whole.rows()))
    measured(segments=len(data))
