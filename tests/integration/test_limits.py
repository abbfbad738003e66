"""Limits of the way from lines to files, and of the simulated market, reached: what is refused, cut or paused, and what goes on."""

import gzip
import socket
import threading
from pathlib import Path

import numpy as np
import pytest

from l2_platform.clock import SystemClock
from l2_platform.collectors.importing import ImportRequest, import_file
from l2_platform.delivery.pipeline import Pipeline
from l2_platform.errors import ConfigError, InputError
from l2_platform.feeds.iqfeed.protocol import SessionOptions, open_session
from l2_platform.feeds.iqfeed.simulator.playback import Playback
from l2_platform.feeds.iqfeed.simulator.server import build
from l2_platform.journal.frame import FRAME_BYTES
from l2_platform.journal.importing import write_finished_stream
from l2_platform.journal.reader import Block, JournalReader
from l2_platform.journal.syscalls import Syscalls
from l2_platform.journal.writer import JournalWriter
from l2_platform.monitoring.symbols_file import SymbolGroup, SymbolsFile, check_symbols
from l2_platform.operations.plan import plan_parts
from l2_platform.operations.supervisord import render_config
from l2_platform.settings import JournalSettings, SimulatorSettings, load_settings
from l2_platform.sinks.jsonl_files import AppendFiles
from tests.integration.ports import free_base

DATE = 20240102
TS = 1_704_207_600_000_000_000


def depth_line(name: str) -> bytes:
    return f"3,{name},1,,B,10.0100,5,1,4,10:00:00.000001,2024-01-02,\r\n".encode()


def journal_of(root: Path, data: bytes) -> JournalReader:
    pieces = [data[at : at + (1 << 18)] for at in range(0, len(data), 1 << 18)]
    frames, line = [], 1
    for piece in pieces:
        frames.append((piece, piece.count(b"\n"), line, TS))
        line += piece.count(b"\n")
    write_finished_stream(root, "iqfeed-depth-import-00000000", [(DATE, frames)], context={}, calendar="always_open")
    return JournalReader(root, "iqfeed-depth-import-00000000", DATE, durable_path=None)


def test_names_beyond_the_limit_are_quarantined_and_known_ones_go_on(tmp_path: Path) -> None:
    names = [f"N{number:04}" for number in range(300)]
    reader = journal_of(tmp_path, b"".join(depth_line(name) for name in [*names, *names[:50]]))
    pipeline = Pipeline("iqfeed-depth-import-00000000", levels=5, interval_ms=0, names_max=100)
    pipeline.begin_date(DATE, None)
    tables = {batch.table: batch for batch in pipeline.process(reader.read(1 << 20), 0)}
    assert len(pipeline.symbols) == 100
    assert len(tables["depth_updates"]) == 150
    events = tables["feed_events"].columns
    assert events["kind"].count("quarantine") == 200
    assert all('"reason":"symbol"' in detail for detail in events["detail"])
    restored = Pipeline("iqfeed-depth-import-00000000", levels=5, interval_ms=0, names_max=50)
    restored.load(pipeline.dump())
    assert len(restored.symbols) == 100


def test_a_read_ends_after_the_piece_that_brings_enough_lines(tmp_path: Path) -> None:
    reader = journal_of(tmp_path, b"\n" * (4 << 20))
    reads = []
    while items := reader.read(8 << 20, 100_000):
        reads.append(sum(int(item.frame_count.sum()) for item in items if isinstance(item, Block)))
    assert sum(reads) == 4 << 20
    assert max(reads) <= 100_000 + (1 << 20)
    assert len(reads) >= 4


def test_the_text_of_a_feed_event_is_cut(tmp_path: Path) -> None:
    reader = journal_of(tmp_path, b"E," + b"x" * 1000 + b"\r\n")
    pipeline = Pipeline("iqfeed-depth-import-00000000", levels=5, interval_ms=0, raw_bytes_max=256)
    pipeline.begin_date(DATE, None)
    (events,) = (batch for batch in pipeline.process(reader.read(1 << 20), 0) if batch.table == "feed_events")
    assert [len(raw) for raw in events.columns["raw"]] == [256]


class SlowDisk(Syscalls):
    """A disk whose syncs wait for a word."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def fdatasync(self, fd: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            self.go_on.wait(20)
        super().fdatasync(fd)


def test_a_writer_waits_when_too_much_is_not_durable(tmp_path: Path) -> None:
    disk = SlowDisk()
    settings = JournalSettings(unsynced_bytes_max=1 << 20)
    writer = JournalWriter(
        tmp_path, "iqfeed-depth-0", settings, SystemClock(), calendar="always_open", durable_path=tmp_path / "durable", calls=disk
    )
    writer.open(DATE)
    line = b"x" * (1 << 17)
    for _ in range(7):
        writer.append(line + b"\n", 1, TS, 1)
    assert writer.unsynced.reached == 0
    threading.Timer(0.2, disk.go_on.set).start()
    writer.append(line + b"\n", 1, TS, 1)
    assert disk.go_on.is_set()
    assert writer.unsynced.reached == 1
    assert writer.unsynced.high <= (1 << 20)
    assert writer.fsyncs.count >= 1
    writer.close()
    assert writer.segment.limit == settings.segment_bytes_max
    assert 8 * (len(line) + FRAME_BYTES) > 1 << 20


def test_system_lines_that_nobody_takes_do_not_pile_up() -> None:
    session = open_session("depth", SessionOptions(events_max=1000))
    session.start(0)
    session.receive(b"S,SERVER CONNECTED\r\n" * 5000)
    taken = 0
    while session.next_event() is not None:
        taken += 1
    assert taken == 1000


def test_few_files_stay_open(tmp_path: Path) -> None:
    files = AppendFiles(16)
    numbers = [files.add(str(tmp_path / f"{number}")) for number in range(25)]
    for number in range(50):
        files.append(np.array([numbers[number % 25]]), np.frombuffer(b"x\n", np.uint8).copy(), np.array([2]))
    assert (files.bound.now, files.bound.high, files.bound.reached) == (16, 16, 1)
    assert files.commit() == 100
    files.close(None)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 100


def test_imports_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    lines = b"".join(depth_line(f"N{number}") for number in range(1500))
    plain, packed = tmp_path / "plain.txt", tmp_path / "packed.gz"
    plain.write_bytes(lines)
    packed.write_bytes(gzip.compress(lines))
    for limits, words in (({"lines_max": 1000}, "1000 lines"), ({"file_bytes_max": 50_000}, "50000 bytes")):
        settings = load_settings(home=tmp_path / "home", imports=limits, clickhouse={"enabled": False})
        for file in (plain, packed):
            with pytest.raises(InputError, match=words):
                import_file(ImportRequest(file, "depth", None, None), settings, SystemClock(), lambda *_: None)
        assert not (tmp_path / "home" / "journal").exists()
        assert not list((tmp_path / "home" / "cache").iterdir())


def test_a_recording_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"\n" * (8 << 20)))
    with pytest.raises(InputError, match="recording_bytes_max"):
        Playback(path, "depth", 1.0, 0, 1 << 20)


def test_symbols_beyond_the_limits_are_refused() -> None:
    with pytest.raises(ConfigError, match="the limit is 3"):
        check_symbols(SymbolsFile(1, (SymbolGroup("g", ("A", "B", "C", "D")),)), "f", limit=3)
    with pytest.raises(ConfigError, match="longer than 4"):
        check_symbols(SymbolsFile(1, (SymbolGroup("g", ("ABCDE",)),)), "f", name_bytes_max=4)


def test_logs_are_rotated_by_the_settings(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, log={"file_bytes_max": 70_000, "files_kept": 2})
    text = render_config(settings, plan_parts(settings), tmp_path)
    assert text.count("logfile_maxbytes=70000") == text.count("logfile_backups=2") == 1 + text.count("[program:")


def test_the_simulated_market_refuses_clients_and_cuts_endless_commands(tmp_path: Path) -> None:
    small = SimulatorSettings(symbols=3, clients_max=5, command_bytes_max=256, trades_max=10)
    settings = load_settings(home=tmp_path, ports={"base": free_base()}, simulator=small)
    simulator = build(settings)
    port = settings.ports.lookup
    clients = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(6)]
    try:
        for _ in range(50):
            simulator.turn()
        assert len(simulator.network.connections) == 5
        assert simulator.network.clients_bound.reached >= 1
        assert clients[5].recv(10) == b""
        clients[0].sendall(b"x" * 300)
        clients[1].sendall(b"y" * 300 + b"\r\n")
        clients[2].sendall(b"SST\r\n")
        for _ in range(50):
            simulator.turn()
        assert len(simulator.network.connections) == 3
        assert simulator.network.command_bound.reached == 2
        assert clients[2].recv(100).startswith(b"LS,1,EQUITY") or simulator.network.connections
        for command, words in (
            ('{"cmd":"garbage","channel":"level1","bytes":1000000000000}', "at most"),
            ('{"cmd":"duplicate","channel":"level1","lines":1e12}', "at most"),
            ('{"cmd":"symbol_limit","limit":1e300}', "from 0 to"),
            ('{"cmd":"drop","channel":"level1","client":1e999}', "client inf"),
            ("[" * 100_000, "not JSON"),
            ("1" * 5000, "not JSON"),
        ):
            answer = simulator.control.execute(command)
            assert not answer["ok"]
            assert words in answer["error"]
        history = simulator.source.history
        assert len(history._ring) == 10
    finally:
        simulator.close()
        for client in clients:
            client.close()
