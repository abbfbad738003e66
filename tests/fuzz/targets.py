"""What is fuzzed line by line: everything that takes bytes from outside the process and is plain Python.

Each target says which errors are its contract; anything else is a finding. Targets keep no state between cases, or put it back.
"""

# ruff: noqa: E501  lines of the feed and words of formats are given whole

import contextlib
import json
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from crc32c import crc32c

from l2_platform.delivery.checkpoint import CheckpointStore
from l2_platform.errors import ConfigError, InputError, JournalCorrupt, JournalTooNew
from l2_platform.feeds.iqfeed import messages, protocol, recognise
from l2_platform.feeds.iqfeed.simulator import admin, control, faults, level1, level2, lookup, network, streaming
from l2_platform.feeds.iqfeed.simulator.live import LiveMarket
from l2_platform.feeds.iqfeed.simulator.loop import Simulator
from l2_platform.journal import durable, frame, headers, manifest, reader, sealed, source
from l2_platform.journal.frame import FRAME, FRAME_BYTES, FRAME_MAGIC, Position
from l2_platform.journal.layout import date_folder, raw_path, sealed_path
from l2_platform.journal.reader import Block, Control, Damage, JournalReader
from l2_platform.journal.sealer import seal_closed
from l2_platform.market.sessions import load_calendar
from l2_platform.monitoring import desired, symbols_file
from l2_platform.monitoring.heartbeat import read_heartbeat
from l2_platform.settings import JournalSettings, Settings, SimulatorSettings, load_settings
from l2_platform.warehouse import encoding, statement
from l2_platform.warehouse.errors import QueryFailed
from tests.integration.ports import free_base
from tests.unit.journal.stream import DATE, NAME, NEXT, SteppingClock, Stream

READS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """One target: what it runs, where its lines are, what to begin with."""

    name: str
    run: Callable[[bytes], None]
    modules: tuple[Any, ...]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()

    @property
    def files(self) -> list[str]:
        """Source files whose lines guide the run."""
        return [str(module.__file__) for module in self.modules]


# ── journal ───────────────────────────────────────────────────────────────────


def journal_target(home: Path, *, packed: bool) -> Fuzzed:
    """The reader over one raw or sealed segment of any bytes; the first byte says whether checksums are made right again."""
    root = home / "journal"
    folder = date_folder(root, NAME, DATE)
    folder.mkdir(parents=True)
    path = sealed_path(folder, 1) if packed else raw_path(folder, 1)

    def run(data: bytes) -> None:
        body = data[1:]
        if data[:1] != b"=":
            body = with_right_sums(body, packed=packed)
        path.write_bytes(body)
        with contextlib.suppress(JournalTooNew):
            read_all(JournalReader(root, NAME, DATE, durable_path=None))
        with contextlib.suppress(JournalTooNew, JournalCorrupt):
            reader.segment_context(root, NAME, DATE)

    raw, sealed_bytes = segments()
    return Fuzzed(
        "sealed" if packed else "raw", run, (reader, frame, sealed, source, headers, durable),
        (*(b"=" + item for item in (sealed_bytes if packed else raw)), *(b"~" + item for item in (sealed_bytes if packed else raw))),
        (frame.SEGMENT_MAGIC, frame.FRAME_MAGIC_BYTES, sealed.SEALED_MAGIC, sealed.END_MAGIC, sealed.BLOCK_MAGIC, b'{"event":"x"}', b"[1]"),
    )  # fmt: skip


def segments() -> tuple[list[bytes], list[bytes]]:
    """Small valid segments: raw ones, and the same sealed."""
    with tempfile.TemporaryDirectory() as name:
        stream = Stream(Path(name))
        writer = stream.opened()
        writer.control("session", 1, 1, reset=True)
        for number in range(4):
            writer.append(b"3,A,1,,B,1.0,5,1,4,10:00:00.000001,2024-01-02,\r\n" * (number + 1), number + 1, number + 2, 1)
        writer.append(b"half a li", 1, 9, 1, 1)
        writer.control("disconnect", 10, 1, reason="fin")
        writer.roll(NEXT)
        writer.close()
        raw = [path.read_bytes() for path in sorted(stream.folder().glob("*.l2j"))]
        seal_closed(stream.root, NAME, JournalSettings(block_bytes=4096))
        return raw, [path.read_bytes() for path in sorted(stream.folder().glob("*.l2z"))]


def read_all(journal: JournalReader) -> None:
    """Read to the end; positions never go back, blocks are what they say."""
    position = Position(0, 0, 0)
    for _ in range(READS_MAX):
        items = journal.read(1 << 16)
        if not items:
            assert journal.finished
            return
        for item in items:
            if isinstance(item, Damage):
                assert item.position_from <= item.position_to
                continue
            assert item.position >= position
            position = item.position
            if isinstance(item, Block):
                assert item.frame_start[0] == 0
                assert item.frame_start[-1] == len(item.buffer)
                assert len(item.frame_seq) == len(item.frame_count) == len(item.frame_start) - 1
            else:
                assert isinstance(item, Control)
                assert isinstance(item.event, str)
    raise AssertionError("the reader does not come to an end")


def with_right_sums(data: bytes, *, packed: bool) -> bytes:
    """The same bytes with the checksums that they would have had: so that mutations reach what is behind them."""
    body = bytearray(data)
    if packed:
        _right_sealed(body)
    else:
        _right_raw(body)
    return bytes(body)


def _right_raw(body: bytearray) -> None:
    head = 36
    if len(body) < head + 4:
        return
    struct.pack_into("<I", body, head - 4, crc32c(bytes(body[: head - 4])))
    length = struct.unpack_from("<I", body, 20)[0]
    at = head + length
    if at + 4 > len(body):
        return
    struct.pack_into("<I", body, at, crc32c(bytes(body[head:at])))
    at += 4
    while at + FRAME_BYTES <= len(body):
        struct.pack_into("<I", body, at + 4, FRAME_MAGIC)
        stop = at + FRAME_BYTES + FRAME.unpack_from(body, at)[-1]
        if stop > len(body):
            return
        struct.pack_into("<I", body, at, crc32c(bytes(body[at + 4 : stop])))
        at = stop


def _right_sealed(body: bytearray) -> None:
    if len(body) < sealed.PREFIX_BYTES + sealed.FOOTER_BYTES:
        return
    struct.pack_into("<I", body, sealed.PREFIX_BYTES - 4, crc32c(bytes(body[: sealed.PREFIX_BYTES - 4])))
    begin = len(body) - sealed.FOOTER_BYTES
    index, blocks = struct.unpack_from("<QI", body, begin)
    stop = index + blocks * 32
    if stop + 4 <= begin:
        struct.pack_into("<I", body, stop, crc32c(bytes(body[index:stop])))
    struct.pack_into("<I", body, len(body) - 12, crc32c(bytes(body[begin : len(body) - 12])))
    body[-8:] = sealed.END_MAGIC
    at = body.find(sealed.BLOCK_MAGIC)
    if 0 <= at <= len(body) - sealed.BLOCK.size:
        end = at + sealed.BLOCK.size
        struct.pack_into("<I", body, end - 4, crc32c(bytes(body[at : end - 4])))


def small_files_target(home: Path) -> Fuzzed:
    """The small files of a home: durable position, manifest, checkpoint, heartbeat, desired state, symbols file."""
    path = home / "file"
    folder = home / "checkpoints"
    folder.mkdir()
    checkpoint = folder / f"{DATE}-000001-000000000000100.ckpt"
    store = CheckpointStore(folder, 3)
    manifest_folder = home / "manifest"
    manifest_folder.mkdir()

    def run(data: bytes) -> None:
        path.write_bytes(data[1:])
        durable.read_durable(path)
        read_heartbeat(path)
        with contextlib.suppress(ConfigError):
            desired.read_desired(path)
        with contextlib.suppress(ConfigError):
            symbols_file.load_symbols(path)
        checkpoint.write_bytes(data[1:])
        store.newest(Position(DATE, 9, 0))
        (manifest_folder / manifest.MANIFEST_NAME).write_bytes(data[1:])
        manifest.read_manifest(manifest_folder)

    seeds = (
        b"~" + json.dumps({"worker": "w", "pid": 1, "start": 2, "generation": 3, "state": "live", "ts": 4, "numbers": {}}).encode(),
        b"~" + json.dumps({"worker": "w", "generation": 1, "enabled": True, "streams": [], "symbols": ["A"], "sessions": [[20240102, 5]], "calendar": "XNYS"}).encode(),
        b'~version = 3\n[groups.demo]\nsymbols = ["AAPL", "MSFT"]\nenabled = true\n',
    )  # fmt: skip
    return Fuzzed("small_files", run, (durable, desired, symbols_file, manifest), seeds, (b"true", b"null", b'"A"', b"[[1,2]]", b"{"))


# ── feed ──────────────────────────────────────────────────────────────────────


def protocol_target() -> Fuzzed:
    """A conversation with a feed that says anything; the first byte chooses the channel, `~` splits reads and moves time."""
    channels = ("depth", "level1", "admin")
    options = protocol.SessionOptions(fields=("Bid", "Ask", "Last"), product_id="P", login="user", password="secret", events_max=1000)

    def run(data: bytes) -> None:
        session = protocol.open_session(channels[data[0] % 3 if data else 0], options)
        now = 0
        session.start(now)
        sent = 0
        for part in data[1:].split(b"~"):
            session.receive(part)
            now += 1_000_000_000
            session.tick(now)
            while (event := session.next_event()) is not None:
                if isinstance(event, messages.FeedClock):
                    messages.feed_clock_ns(event.text, 1_700_000_000_000_000_000)
            sent += len(session.data_to_send())
        assert sent < 2000 * (1 + data.count(b"\n") + data.count(b"~"))
        messages.mask_secrets(data, (b"user", b"secret"))

    seeds = (
        b"\x00S,CURRENT PROTOCOL,6.2,\r\nS,SERVER CONNECTED\r\nT,20240102 10:00:00\r\n",
        b"\x01S,CURRENT PROTOCOL,6.2,\r\n~S,CURRENT UPDATE FIELDNAMES,Symbol,Bid,Ask,\r\nn,XX\r\nS,SYMBOL LIMIT REACHED,AA\r\n",
        b"\x01S,CURRENT PROTOCOL,6.2,\r\nE,Bid is not a valid fieldset field.,\r\n~~~~",
        b"\x02S,STATS,,,500,0,1,0,0,0,Jan 02,Jan 02,Not Connected,6.2,user,1.0,1.0,1.0,1.0,1.0,1.0,\r\n~S,CUST,real_time,a,b,c,d,e,f,g,500,QT_API,,\r\n",
    )
    return Fuzzed("protocol", run, (protocol, messages), seeds, (b"S,", b"E,", b"T,", b"n,", b"S,STATS,", b"S,CUST,", b"~", b"CURRENT PROTOCOL"))


def recogniser_target() -> Fuzzed:
    """A file that somebody wants to import; the first byte chooses channel and options."""
    channels = ("depth", "level1", "ticks")
    calendar = load_calendar("XNYS", 900.0)

    def run(data: bytes) -> None:
        choice = data[0] if data else 0
        channel = channels[choice % 3]
        date = 20240102 if choice & 8 else None
        with contextlib.suppress(InputError):
            found = recognise.recognise(np.frombuffer(data[1:], np.uint8), Path("f"), channel, date, "A" if channel == "ticks" else None)
            assert len(found.utc_ns) == data[1:].count(b"\n") + (not data.endswith(b"\n"))
            assert (np.diff(found.utc_ns) >= 0).all()
            for ts in (int(found.utc_ns[0]), int(found.utc_ns[-1])):
                calendar.session_date_of(ts)

    lines = (
        b"T,20240102 10:00:00\r\n3,A,1,,B,10.0100,5,1,4,10:00:00.000001,2024-01-02,\r\n5,A,1,,B,10:00:00.000004,2024-01-02,\r\n",
        b"T,20240102 10:00:00\r\nP,A,10.0,5,10:00:00.000001,5,5,9.9,1,10.1,1,,,,,Cbacv,01,1,2,\r\nQ,A,10.0,5,10:00:00.000002,5,10,9.9,1,10.1,1,,,,,Cba,01,1,2,\r\n",
        b"2024-01-02 10:00:00.000001,10.0000,5,5,9.9900,10.0100,1,C,5,01,0,2,\r\n" * 2 + b"!ENDMSG!,\r\n",
    )
    seeds = tuple(bytes([number + extra]) + text for number, text in enumerate(lines) for extra in (0, 9))
    words = (b"0001-01-01", b"9999-12-31", b"2262-04-12", b"00010101 00:00:00", b"99991231 23:59:59", b"LH,", b"S,CURRENT PROTOCOL,6.1")
    return Fuzzed("recogniser", run, (recognise,), seeds, words)


@contextlib.contextmanager
def simulated_market() -> Iterator[Simulator]:
    """A small market with open ports, never advanced in time."""
    with tempfile.TemporaryDirectory() as name:
        small = SimulatorSettings(symbols=5, trades_max=200, command_bytes_max=4096, client_queue_bytes_max=4 << 20)
        settings: Settings = load_settings(home=name, ports={"base": free_base()}, simulator=small)
        clock = SteppingClock()
        simulator = Simulator(settings, LiveMarket(settings.simulator, clock.now_ns()), clock)
        clock.now += 2_000_000_000
        try:
            yield simulator
        finally:
            simulator.close()


def control_target(simulator: Simulator) -> Fuzzed:
    """Control commands of any text, with one client on each channel; what they changed is put back."""

    def run(data: bytes) -> None:
        ends = [_client(simulator, service) for service in (simulator.level1, simulator.level2)]
        try:
            for line in data.split(b"\n"):
                answer = simulator.control.execute(line.decode("latin-1"))
                assert isinstance(answer["ok"], bool)
                json.dumps(answer)
            for connection, _ in ends:
                connection.send(b"Q,SYM000,1,2\r\n")
        finally:
            _put_back(simulator)
            for connection, peer in ends:
                connection.close("end")
                peer.close()

    seeds = tuple(
        json.dumps({"cmd": name, "channel": "level1", "symbol": "SYM000", "seconds": 1, "bytes": 9, "limit": 3, "rate": 5, "mode": "ignore"}).encode()
        for name in simulator.control._commands
        if name != "stop"
    )  # fmt: skip
    return Fuzzed("control", run, (control, faults, network), seeds, (b'"client":', b'"depth"', b"1e400", b"NaN", b"[", b'"stop"', b'"how":"rst"'))


def client_target(simulator: Simulator) -> Fuzzed:
    """Commands of a client of the simulated market; the first byte chooses the port."""
    services = (simulator.level1, simulator.level2, simulator.lookup, simulator.admin)

    def run(data: bytes) -> None:
        service = services[data[0] % 4 if data else 0]
        connection, peer = _client(simulator, service)
        try:
            peer.sendall(data[1:8193])
            for _ in range(200):
                connection.read()
                while connection.is_open and connection.dispatch():
                    pass
                if not connection.is_open or not connection.inbox or b"\n" not in connection.inbox:
                    break
                _drain(peer)
            assert connection.queued <= simulator.network.queue_bytes_max
            simulator.admin.second("20240102 10:00:00", simulator.clock.now_ns())
        finally:
            connection.close("end")
            peer.close()
            _put_back(simulator)
        assert not simulator.level1.sessions
        assert not simulator.level2.sessions
        assert not simulator.network.connections
        assert set(simulator.upstream.watched.values()) <= {0}

    first = b"S,SET PROTOCOL,6.2\r\n"
    seeds = (
        b"\x00" + first + b"wSYM000\r\nfSYM000\r\nrSYM000\r\nT\r\nS,SELECT UPDATE FIELDS,Bid,Ask\r\nS,REGON,SYM001\r\nS,REQUEST WATCHES\r\n",
        b"\x01" + first + b"WOR,SYM000\r\nWPL,SYM001,5\r\nROR,SYM000\r\nmNSDQ\r\nwSYM002\r\nc\r\n",
        b"\x02" + first + b"HTX,SYM000,10,1,id\r\nHIT,SYM000,60,20240101 000000,20240103 000000,5,093000,160000,1,id,,s,1\r\nSBF,s,SYM,,,\r\n",
        b"\x02HTD,SYM000,1,10,,,1,x\r\nHID,SYM000,60,1,10\r\nHDX,SYM000,5\r\nHDT,SYM000,20240101,20240103,5\r\nSLM,x\r\nSST\r\n",
        b"\x03S,SET LOGINID,me\r\nS,SET PASSWORD,abcd\r\nS,CLIENTSTATS ON\r\nS,CONNECT\r\nS,DISCONNECT\r\nS,REGISTER CLIENT APP,P,1\r\n",
    )  # fmt: skip
    return Fuzzed("client", run, (level1, level2, lookup, admin, streaming, network), seeds, (b"SYM000", b"HTT,", b"HIX,", b"\r\n", b"20240102"))


def _client(simulator: Simulator, service: Any) -> tuple[network.Connection, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    connection = network.Connection(simulator.network, service, ours, "peer", simulator.network.ledger.number())
    simulator.network.connections.add(connection)
    service.opened(connection)
    return connection, theirs


def _drain(peer: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while peer.recv(1 << 20):
            pass


def _put_back(simulator: Simulator) -> None:
    up = simulator.upstream
    up.connected, up.refuse_login, up.names_symbol_silently, up.symbol_limit, up.login = True, False, False, 10_000, "simulated"
    up.failures = up.reconnections = 0
    simulator.stopping = simulator.lookup.hang = False
    market = simulator.source
    assert isinstance(market, LiveMarket)
    for number in list(market.without_depth):
        market.without_depth.discard(number)
    market.set_rate(300.0, flat=False)
    simulator.clock.now += 60_000_000_000  # credits of the lookup port
    simulator.network._refused_until = dict.fromkeys(simulator.network._refused_until, 0)
    simulator.network.poll(0)


# ── warehouse ─────────────────────────────────────────────────────────────────


def request_target() -> Fuzzed:
    """Bodies and statements of HTTP requests; the first byte chooses the encoding."""
    kinds = ("", "gzip", "deflate", "lz4", "zstd")

    def run(data: bytes) -> None:
        choice = data[0] if data else 0
        with contextlib.suppress(QueryFailed):
            statement.parse_statement(data[1:])
        with contextlib.suppress(QueryFailed):
            assert len(encoding.decode_body(data[1:], kinds[choice % 5], 1 << 20)) <= 1 << 20
        with contextlib.suppress(QueryFailed):
            assert len(encoding.decode_blocks(data[1:], 1 << 20)) <= 1 << 20

    text = b"INSERT INTO t (a, `b c`) SETTINGS x = 1 FORMAT TSV\n1\t2\n"
    packed = []
    for number, kind in enumerate(kinds[1:], 1):
        coder = encoding.make_encoder(kind)
        packed.append(bytes([number]) + coder.add(text * 4) + coder.end())
    block = b"\x00" * 16 + b"\x02" + struct.pack("<II", 9 + len(text), len(text)) + text
    seeds = (b"\x00" + text, b"\x00-- c\nSELECT 'a''b' /* x */ FORMAT JSON", b"\x00" + block, *packed)
    return Fuzzed("request", run, (statement, encoding), seeds, (b"FORMAT ", b"'", b"/*", b"--", b"VALUES", b"\x82", b"\x90"))


