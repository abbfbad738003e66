"""The collector as a process, against the simulated market as a process: bytes, restarts, faults, changes."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from l2_platform.feeds.iqfeed.simulator.control import ask
from l2_platform.feeds.iqfeed.simulator.ledger import LedgerConnection, read_ledger
from l2_platform.journal.frame import FRAME_BYTES, Frame, FrameKind, decode_segment_header, frames_from
from l2_platform.monitoring.heartbeat import HeartbeatRecord, read_heartbeat
from l2_platform.monitoring.symbols_file import (
    SymbolGroup,
    SymbolsFile,
    edit_symbols,
    with_added,
    with_removed,
    write_symbols,
)
from tests.integration.ports import free_base

pytestmark = pytest.mark.integration
WAIT_S = 60.0
SIMULATE = "import sys; from l2_platform.cli import main; sys.argv[1:] = ['simulate', '--flat']; main()"
SECRET_LOGIN, SECRET_PASSWORD = "canary-login-77", "canary-password-88"


def eventually(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    pytest.fail(f"{what}: did not happen within {WAIT_S:g} s")


def environment(home: Path, base: int, **settings: Any) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("L2_")}
    defaults = {"home": home, "ports__base": base, "simulator__symbols": 20, "disk__reserve_bytes": 1 << 20}
    return plain | {f"L2_{name.upper()}": str(value) for name, value in (defaults | settings).items()}


@dataclass
class Market:
    """A running simulated market."""

    base: int
    ledger: Path

    def do(self, cmd: str, **fields: Any) -> dict[str, Any]:
        answer = ask(self.base + 39, {"cmd": cmd, **fields})
        assert answer["ok"], answer
        return answer

    def clients(self, channel: str) -> list[dict[str, Any]]:
        return [client for client in self.do("status")["clients"] if client["channel"] == channel]

    def sent(self, service: str, since_ns: int) -> list[LedgerConnection]:
        return [c for c in read_ledger(self.ledger) if c.service == service and c.connected_ns >= since_ns]


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> Iterator[Market]:
    home, base = tmp_path_factory.mktemp("market"), free_base()
    kernels = Path(tempfile.gettempdir()) / f"l2-platform-kernels-{os.getuid()}"
    kernels.mkdir(exist_ok=True)
    (home / "cache").symlink_to(kernels)  # compiling them anew takes more than a minute
    variables = environment(
        home, base, simulator__rate=2000, simulator__ledger_bytes_max=1 << 30, simulator__symbols=20
    )
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", SIMULATE], env=variables, stdout=log, stderr=log)
        try:
            end = time.monotonic() + 240
            while True:
                assert process.poll() is None, (home / "log").read_text()
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", base + 39)) == 0:
                        break
                assert time.monotonic() < end
                time.sleep(0.05)
            yield Market(base, home / "simulator" / "ledger")
        finally:
            process.terminate()
            process.wait(30)


class Recording:
    """A collector process with a home of its own."""

    def __init__(self, market: Market, home: Path, stream: str, **settings: Any) -> None:
        self.home = home
        self.stream = stream
        self.variables = environment(home, market.base, **settings)
        self.process: subprocess.Popen[bytes] | None = None
        self.began_ns = time.time_ns()  # noqa: TID251 - the test itself is the edge

    def start(self, *arguments: str) -> "Recording":
        command = [sys.executable, "-m", "l2_platform.collectors", self.stream, *arguments]
        with (self.home / "collector.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=self.variables, stdout=log, stderr=log)
        return self

    @property
    def log(self) -> str:
        return (self.home / "collector.log").read_text()

    def beat(self) -> HeartbeatRecord | None:
        record = read_heartbeat(self.home / "run" / "heartbeats" / f"collector-{self.stream}.json")
        return record if record is not None and self.process is not None and record.pid == self.process.pid else None

    def until(self, state: str, **numbers: Any) -> HeartbeatRecord:
        def reached() -> HeartbeatRecord | None:
            assert self.process is not None
            assert self.process.poll() is None, self.log
            record = self.beat()
            fits = (
                record is not None
                and record.state == state
                and all(record.numbers.get(k) == v for k, v in numbers.items())
            )
            return record if fits else None

        found: HeartbeatRecord = eventually(reached, f"state {state} {numbers}; log: {self.log}")
        return found

    def signal(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(15)

    def frames(self) -> list[tuple[Frame, bytes]]:
        found = []
        for path in sorted((self.home / "journal" / self.stream).glob("*/*.l2j")):
            data = path.read_bytes()
            _, begin = decode_segment_header(data, path.name)
            found += [(f, data[f.start + FRAME_BYTES : f.end]) for f in frames_from(memoryview(data), begin, len(data))]
        return found

    def controls(self, event: str | None = None) -> list[dict[str, Any]]:
        told = [json.loads(payload) for frame, payload in self.frames() if frame.kind == FrameKind.CONTROL]
        return [fields for fields in told if event is None or fields["event"] == event]

    def received(self) -> dict[int, bytes]:
        """Bytes of each connection, in order of connection."""
        got: dict[int, bytes] = {}
        for frame, payload in self.frames():
            if frame.kind == FrameKind.DATA:
                got[frame.conn_id] = got.get(frame.conn_id, b"") + payload
        return dict(sorted(got.items()))

    def assert_numbered(self) -> int:
        """Every line has the next number, over all segments; the last number."""
        seq = 0
        for frame, payload in self.frames():
            if frame.kind == FrameKind.DATA:
                assert frame.seq_first == seq + 1
                assert frame.lines == (1 if frame.flags else payload.count(b"\n"))
                seq = frame.seq_last
            else:
                assert frame.seq_first == seq
        return seq


@pytest.fixture
def recording(market, tmp_path) -> Iterator[Callable[..., Recording]]:
    made: list[Recording] = []

    def make(stream: str = "iqfeed-depth-0", **settings: Any) -> Recording:
        made.append(Recording(market, tmp_path, stream, **settings))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None and one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def lines_reach(one: Recording, count: int) -> None:
    eventually(lambda: (record := one.beat()) is not None and record.numbers.get("lines", 0) >= count, f"{count} lines")


@pytest.mark.parametrize("stream", ["iqfeed-depth-0", "iqfeed-level1-0"])
def test_sigterm_drains_and_the_journal_holds_what_was_sent(recording, market, stream):
    one = recording(stream).start()
    one.until("live", watched=20)
    lines_reach(one, 2000)
    assert one.signal(signal.SIGTERM) == 0
    events = [fields["event"] for fields in one.controls()]
    assert events[:3] == ["session", "collector_start", "connect"]
    assert events[-2:] == ["disconnect", "collector_stop"]
    assert one.controls("collector_start")[0]["clean"] is True
    assert one.controls("subscribed") == [{"event": "subscribed", "symbols": 20}]
    service = {"depth": "level2", "level1": "level1"}[stream.split("-")[1]]
    (got,) = one.received().values()
    (sent,) = market.sent(service, one.began_ns)
    assert len(got) > 100_000
    assert sent.data.startswith(got)
    assert one.assert_numbered() >= 2000
    record = one.beat()
    assert record is not None
    assert record.state == "stopped"


def test_started_process_imports_nothing_heavy(recording, tmp_path):
    code = (
        "import sys, json, signal, threading\n"
        "from l2_platform.collectors.__main__ import main\n"
        "threading.Timer(2.0, lambda: signal.raise_signal(signal.SIGTERM)).start()\n"
        "code = main(['iqfeed-depth-0'])\n"
        "heavy = {'numpy', 'numba', 'pandas', 'structlog', 'rich', 'typer', 'dagster', 'pyarrow', 'exchange_calendars'}\n"
        "print(json.dumps([code, sorted(heavy & set(sys.modules))]))\n"
    )
    one = recording()
    done = subprocess.run([sys.executable, "-c", code], env=one.variables, capture_output=True, check=True, timeout=60)
    assert json.loads(done.stdout) == [0, []], done.stderr
    assert one.controls("subscribed")


def test_sigkill_continues_above_the_stored_seq_and_says_so(recording, market):
    one = recording().start()
    one.until("live")
    lines_reach(one, 1000)
    assert one.signal(signal.SIGKILL) == -signal.SIGKILL
    before = one.assert_numbered()
    one.start()
    one.until("live")
    lines_reach(one, 500)
    assert one.signal(signal.SIGTERM) == 0
    assert one.assert_numbered() > before
    first, second = one.controls("collector_start")
    assert (first["clean"], second["clean"]) == (True, False)
    assert second["last_ts"] > one.began_ns
    sent = market.sent("level2", one.began_ns)
    for got, was_sent in zip(one.received().values(), sent, strict=True):
        assert was_sent.data.startswith(got)


@pytest.mark.parametrize("how", ["fin", "rst", "mid_line"])
def test_dropped_link_comes_back_with_every_watch(recording, market, how):
    one = recording().start()
    one.until("live")
    lines_reach(one, 500)
    market.do("drop", channel="depth", how=how)
    one.until("live", disconnects=1)
    lines_reach(one, 1500)
    assert one.signal(signal.SIGTERM) == 0
    disconnect = one.controls("disconnect")[0]
    assert disconnect["reason"] == ("rst" if how == "rst" else "fin")
    assert [fields["symbols"] for fields in one.controls("subscribed")] == [20, 20]
    received, sent = list(one.received().values()), market.sent("level2", one.began_ns)
    assert len(received) == 2
    last_frame = [
        frame for frame, _ in one.frames() if frame.kind == FrameKind.DATA and frame.conn_id == min(one.received())
    ][-1]
    # a busy recorder says less: the time before it was away
    assert 0 <= last_frame.ts_recv - disconnect["last_byte_ns"] < 10**9
    if how == "rst":
        assert sent[0].data.startswith(received[0])
    else:
        assert received[0] == sent[0].data
    if how == "mid_line":
        assert last_frame.flags == 1
    one.assert_numbered()


def test_half_open_link_is_suspect_then_given_up(recording, market):
    one = recording(feed__suspect_s=1.5, feed__silence_s=3).start()
    one.until("live")
    market.do("half_open", channel="depth")
    one.until("suspect")
    one.until("live", disconnects=1)
    assert one.signal(signal.SIGTERM) == 0
    events = [fields["event"] for fields in one.controls()]
    assert events.index("suspect") < events.index("disconnect")
    assert one.controls("disconnect")[0]["reason"] == "silence"
    assert one.controls("suspect")[0]["last_byte_ns"] == one.controls("disconnect")[0]["last_byte_ns"]


def test_stalled_feed_is_suspect_then_resumed_on_the_same_link(recording, market):
    one = recording(feed__suspect_s=1.5, feed__silence_s=30).start()
    one.until("live")
    market.do("stall", channel="depth", seconds=3)
    one.until("suspect")
    one.until("live", disconnects=0)
    assert one.signal(signal.SIGTERM) == 0
    assert one.controls("resumed")[0]["last_byte_ns"] == one.controls("suspect")[0]["last_byte_ns"]


def test_refused_connections_are_tried_again(recording, market):
    one = recording(feed__reconnect_cap_s=1).start()
    one.until("live")
    market.do("refuse", channel="depth", seconds=3)
    market.do("drop", channel="depth")
    one.until("live", disconnects=1)
    assert one.signal(signal.SIGTERM) == 0
    attempts = [fields["attempt"] for fields in one.controls("connect_failed")]
    assert attempts
    assert attempts == list(range(attempts[0], attempts[0] + len(attempts)))


def test_server_disconnected_is_suspect_and_everything_is_watched_again(recording, market):
    one = recording().start()
    one.until("live")
    market.do("server_disconnected")
    one.until("suspect")
    market.do("server_connected")
    one.until("live")
    eventually(lambda: len(one.controls("subscribed")) == 2, "second subscription")
    assert one.signal(signal.SIGTERM) == 0
    assert [fields["why"] for fields in one.controls("subscribing")][-1] == "server"
    assert len(one.controls("disconnect")) == 1


def test_symbols_file_change_is_applied_to_what_changed_only(recording, tmp_path):
    path = tmp_path / "symbols.toml"
    write_symbols(path, SymbolsFile(1, (SymbolGroup("demo", ("SYM000", "SYM001", "NOPE")),)))
    one = recording().start()
    one.until("live", watched=2, not_found=1)
    edit_symbols(path, lambda file: with_removed(with_added(file, "more", ["SYM005", "SYM006"]), ["SYM001"]))
    record = one.until("live", wanted=4, watched=3)
    assert record.generation == 2
    eventually(
        lambda: any(payload.startswith(b"6,SYM005") or b"\n6,SYM005," in payload for _, payload in one.frames()),
        "its book",
    )
    path.write_text("nonsense")
    eventually(lambda: (beat := one.beat()) is not None and beat.numbers["intent_problem"], "the problem is told")
    assert one.signal(signal.SIGTERM) == 0
    assert one.controls("unwatch")[0]["symbols"] == ["SYM001"]
    assert "SYM005" in one.controls("watch")[0]["symbols"]
    assert "SYM000" not in [symbol for fields in one.controls("watch") for symbol in fields["symbols"]]


def test_symbol_limit_is_told_and_the_rest_recorded(recording, market):
    market.do("drop", channel="depth")  # a half-open client of an earlier test still holds its watches
    market.do("symbol_limit", limit=5)
    try:
        one = recording().start()
        record = one.until("live", watched=5)
        assert record.numbers["refused"] == 15
        assert record.numbers["account_symbols_max"] == 5
        # the first step of the rollout shows the limit; what comes after it is held back and not even asked for
        assert len(one.controls("limit")) == 5
        assert one.signal(signal.SIGTERM) == 0
    finally:
        market.do("symbol_limit", limit=10_000)


def test_refused_login_waits_and_tells_the_reason(recording, market):
    market.do("refuse_login", on=True)
    try:
        one = recording().start()
        record = one.until("syncing", connected=False, disconnects=1)
        assert "Unauthorized" in record.numbers["reason"]
        assert record.numbers["attempts"] == 1
        assert one.signal(signal.SIGTERM) == 0
        assert one.controls("unauthorized")
        assert one.controls("disconnect")[0]["reason"] == "refused"
    finally:
        market.do("refuse_login", on=False)
        market.do("server_connected")


def test_disabled_stream_stands_by_and_comes_back(recording, tmp_path):
    from l2_platform.monitoring.desired import DesiredState, write_desired

    path = tmp_path / "run" / "desired" / "collector-iqfeed-depth-0.json"

    def desire(generation: int, *, enabled: bool) -> None:
        state = DesiredState(
            worker="collector-iqfeed-depth-0", generation=generation, enabled=enabled, streams=("iqfeed-depth-0",),
            symbols=("SYM001", "SYM002"), sessions=(), calendar="always_open",
        )  # fmt: skip
        write_desired(path, state)

    desire(7, enabled=False)
    one = recording().start()
    assert one.until("standby").generation == 7
    desire(8, enabled=True)
    assert one.until("live", watched=2).generation == 8
    desire(9, enabled=False)
    assert one.until("standby", connected=False).generation == 9
    assert one.signal(signal.SIGTERM) == 0
    assert one.controls("disconnect")[0]["reason"] == "operator"


def test_session_end_rolls_to_a_date_that_stands_alone(recording, tmp_path):
    from l2_platform.monitoring.desired import DesiredState, write_desired

    one = recording()
    end_ns = one.began_ns + 6_000_000_000
    sessions = ((20301230, end_ns), (20301231, end_ns + 86_400_000_000_000))
    state = DesiredState("collector-iqfeed-depth-0", 1, True, (one.stream,), ("SYM000",), sessions, "always_open")
    write_desired(tmp_path / "run" / "desired" / "collector-iqfeed-depth-0.json", state)
    one.start().until("live", session_date=20301231)
    eventually(lambda: len(one.controls("subscribed")) == 2, "the new date's subscription")
    eventually(lambda: b"6,SYM000," in one.frames()[-1][1] or one.frames()[-1][0].kind == FrameKind.DATA, "data")
    assert one.signal(signal.SIGTERM) == 0
    stream = tmp_path / "journal" / one.stream
    assert sorted(path.name for path in stream.iterdir()) == ["20301230", "20301231"]
    (segment,) = (stream / "20301231").glob("*.l2j")
    data = segment.read_bytes()
    header, begin = decode_segment_header(data, segment.name)
    assert header.context["protocol"] == "6.2"
    assert header.context["watches"] == ["SYM000"]
    frames = [
        (frame, data[frame.start + FRAME_BYTES : frame.end])
        for frame in frames_from(memoryview(data), begin, len(data))
    ]
    first = json.loads(frames[0][1])
    assert first.pop("last_byte_ns") <= frames[0][0].ts_recv
    assert first == {"event": "session", "session_date": 20301231, "reset": True}
    told = [json.loads(payload) for frame, payload in frames if frame.kind == FrameKind.CONTROL]
    assert [fields["why"] for fields in told if fields["event"] == "subscribing"] == ["session"]
    received = [(frame, payload) for frame, payload in frames if frame.kind == FrameKind.DATA]
    assert received[0][0].seq_first == 1
    assert b"6,SYM000," in b"".join(payload for _, payload in received)
    assert len(one.controls("disconnect")) == 1


def test_second_collector_exits_75_and_a_managed_one_takes_over(recording):
    one = recording().start()
    one.until("live")
    other = Recording(Market(0, one.home), one.home, one.stream)
    other.variables = one.variables
    other.start()
    assert other.process is not None
    assert other.process.wait(20) == 75
    other.start("--wait")
    assert one.signal(signal.SIGTERM) == 0
    other.until("live")
    assert other.signal(signal.SIGTERM) == 0
    assert [fields["clean"] for fields in one.controls("collector_start")] == [True, True]


def test_admin_login_never_reaches_the_disk(recording, market, tmp_path):
    one = recording(
        "iqfeed-admin-0", feed__product_id="TESTPRODUCT", feed__login=SECRET_LOGIN, feed__password=SECRET_PASSWORD
    ).start()
    one.until("live")
    eventually(lambda: one.received() and next(iter(one.received().values())).count(b"S,STATS,") >= 2, "statistics")
    assert one.signal(signal.SIGTERM) == 0
    for path in tmp_path.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert SECRET_LOGIN.encode() not in data, path
            assert SECRET_PASSWORD.encode() not in data, path
    (got,), (sent,) = one.received().values(), market.sent("admin", one.began_ns)
    assert len(sent.data) >= len(got)
    assert b"S,CURRENT LOGINID," + b"*" * len(SECRET_LOGIN) in got
    different = [(a, b) for a, b in zip(got, sent.data, strict=False) if a != b]
    assert {a for a, _ in different} == {ord("*")}


def test_split_writes_and_garbage_are_kept_byte_for_byte(recording, market):
    one = recording().start()
    one.until("live")
    market.do("split", channel="depth", bytes=7)
    market.do("garbage", channel="depth", lines=3, bytes=200_000)
    market.do("duplicate", channel="depth", lines=5)
    before = one.beat()
    assert before is not None
    eventually(lambda: any(frame.flags == 2 for frame, _ in one.frames()), "oversize frames")
    market.do("drop", channel="depth")
    one.until("live", disconnects=1)
    assert one.signal(signal.SIGTERM) == 0
    one.assert_numbered()
    assert next(iter(one.received().values())) == market.sent("level2", one.began_ns)[0].data


@pytest.mark.parametrize("naming", ["accept", "ignore"])
def test_level1_fields_are_acknowledged_on_either_build(recording, market, naming):
    market.do("name_symbol", mode=naming)
    try:
        one = recording("iqfeed-level1-0", feed__name_symbol_in_selection="auto", feed__field_ack_s=1).start()
        one.until("live")
        assert one.signal(signal.SIGTERM) == 0
    finally:
        market.do("name_symbol", mode="accept")
    assert b"S,CURRENT UPDATE FIELDNAMES,Symbol,Most Recent Trade," in b"".join(one.received().values())


@pytest.mark.parametrize(
    ("naming", "answer"), [("accept", "without Symbol and with Symbol"), ("ignore", "without Symbol")]
)
def test_feed_probe_reports_either_side_of_the_dispute(recording, market, tmp_path, naming, answer):
    market.do("name_symbol", mode=naming)
    code = "import sys; from l2_platform.cli import main; sys.argv[1:] = ['feed', 'probe', '--seconds', '4', '--json']; main()"
    variables = recording(feed__field_ack_s=1).variables
    try:
        with subprocess.Popen([sys.executable, "-c", code], env=variables, stdout=subprocess.PIPE) as process:
            time.sleep(20)
            for kind, layout in (("X", "live"), ("I", "2021")):
                market.do("correction", symbol="SYM000", kind=kind, layout=layout)
            output, _ = process.communicate(timeout=90)
    finally:
        market.do("name_symbol", mode="accept")
    report = json.loads(output)
    answers = {finding["fact"]: finding["answer"] for finding in report["findings"]}
    assert answers["field selection"] == answer
    assert answers["protocol versions accepted"].startswith("6.2, 6.1")
    assert answers["shapes of depth"] == "orders"
    assert answers["symbol limit"] == "10000"
    assert answers["legacy w on Level 2"] == "orders"
    assert answers["answer to an unknown symbol"] == "n on both ports"
    assert json.loads(Path(report["file"]).read_text())["findings"]
