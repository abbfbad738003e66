"""The simulated IQConnect over real sockets."""

import contextlib
import gzip
import itertools
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from l2_platform.errors import ConfigError, LeaseHeld
from l2_platform.feeds.iqfeed.simulator import flow_kernels as flow
from l2_platform.feeds.iqfeed.simulator.control import ask
from l2_platform.feeds.iqfeed.simulator.ledger import read_ledger
from l2_platform.feeds.iqfeed.simulator.live import LiveMarket
from l2_platform.feeds.iqfeed.simulator.loop import Simulator
from l2_platform.feeds.iqfeed.simulator.server import Recording, build
from l2_platform.settings import PortSettings, Settings, SimulatorSettings
from tests.integration.ports import free_base

pytestmark = pytest.mark.integration

OFFSETS = (9, 10, 20, 30, 39)


class Client:
    """A plain line client."""

    def __init__(self, port: int, *commands: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.data = b""
        self.send(*commands)

    def send(self, *commands: str) -> None:
        self.socket.sendall("".join(f"{command}\r\n" for command in commands).encode())

    def read(self, seconds: float = 0.2) -> None:
        """Read for a while, or to the end of the connection."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(1 << 20)
            except TimeoutError:
                return
            if not data:
                return
            self.data += data

    def until(self, condition: Callable[[list[str]], bool], seconds: float = 15.0) -> list[str]:
        """Read until the lines fulfil a condition."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.read(0.05)
            if condition(self.lines()):
                return self.lines()
        pytest.fail(f"not seen in {seconds} s; last lines: {self.lines()[-5:]}")

    def wait_for(self, start: str) -> str:
        """Read until a line starts so; return it."""
        lines = self.until(lambda lines: any(line.startswith(start) for line in lines))
        return next(line for line in lines if line.startswith(start))

    def lines(self) -> list[str]:
        """Whole lines so far."""
        return [line.decode("latin-1").rstrip("\r") for line in self.data.split(b"\n")[:-1]]

    def close(self) -> None:
        self.socket.close()


class Running:
    """A simulator that turns in a thread."""

    def __init__(self, settings: Settings, recording: Recording | None = None) -> None:
        self.settings = settings
        self.clients: list[Client] = []
        self.simulator: Simulator = build(settings, flat=True, recording=recording)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self.simulator.stopping:
            self.simulator.turn()
        self.simulator.close()

    def client(self, channel: str, *commands: str) -> Client:
        """A client of a channel; streaming ones ask for 6.2 first."""
        ports = self.settings.ports
        port = {"depth": ports.level2, "level1": ports.level1, "lookup": ports.lookup, "admin": ports.admin}[channel]
        client = Client(port, *(("S,SET PROTOCOL,6.2",) if channel != "admin" else ()), *commands)
        self.clients.append(client)
        return client

    def ask(self, cmd: str, **fields: object) -> dict[str, object]:
        """A control command that must succeed."""
        answer = ask(self.settings.ports.simulator_control, {"cmd": cmd, **fields})
        assert answer["ok"], answer
        return answer

    def freeze(self) -> None:
        """Stop the order flow; connections stay."""
        self.ask("rate", rate=0.001, flat=True)
        time.sleep(0.1)

    def market(self) -> LiveMarket:
        assert isinstance(self.simulator.source, LiveMarket)
        return self.simulator.source

    def stop(self) -> None:
        self.simulator.stopping = True
        self._thread.join(10)
        assert not self._thread.is_alive()
        for client in self.clients:
            client.close()


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start simulators with settings of their section; all are stopped at the end."""
    running: list[Running] = []

    def begin(recording: Recording | None = None, **fields: object) -> Running:
        values: dict[str, object] = {"symbols": 20, "rate": 3000, "ledger_bytes_max": 1 << 30, **fields}
        settings = Settings(
            home=tmp_path,
            ports=PortSettings(base=free_base()),
            simulator=SimulatorSettings.model_validate(values),
        )
        running.append(Running(settings, recording))
        return running[-1]

    yield begin
    for one in running:
        one.stop()


class Book:
    """A slow book: every row of every symbol in dictionaries."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], dict[str, tuple[float, int]]] = {}

    def apply(self, line: str) -> None:
        field = line.split(",")
        kind = field[0]
        if line.startswith("S,CLEAR DEPTH"):
            self.rows.pop((field[2], field[3]), None)
        elif kind in "346":
            key = field[2] or field[3]
            self.rows.setdefault((field[1], field[4]), {})[key] = (float(field[5]), int(field[6]))
        elif kind == "5":
            del self.rows[field[1], field[4]][field[2] or field[3]]
        elif kind in "78":
            self.rows.setdefault((field[1], field[2]), {})[field[3]] = (float(field[3]), int(field[4]))
        elif kind == "9":
            del self.rows[field[1], field[2]][field[3]]

    def levels(self, symbol: str, side: str) -> dict[int, int]:
        """Size per price in cents."""
        sizes: dict[int, int] = {}
        for price, size in self.rows[symbol, side].values():
            sizes[round(price * 100)] = sizes.get(round(price * 100), 0) + size
        return sizes

    def top(self, symbol: str) -> tuple[int, int, int, int]:
        """Best bid, its size, best ask, its size."""
        bids, asks = self.levels(symbol, "B"), self.levels(symbol, "A")
        return max(bids), bids[max(bids)], min(asks), asks[min(asks)]


def true_levels(market: LiveMarket, symbol: int, side: int) -> dict[int, int]:
    state = market.market.state
    sizes: dict[int, int] = {}
    for at in range(state.symbols[symbol, flow.S_COUNT + side]):
        price = int(state.orders[symbol, side, at, flow.O_PRICE])
        sizes[price] = sizes.get(price, 0) + int(state.orders[symbol, side, at, flow.O_SIZE])
    return sizes


def rebuilt(lines: list[str]) -> Book:
    book = Book()
    for line in lines:
        book.apply(line)
    return book


def test_handshake_of_every_port(start: Start) -> None:
    run = start()
    depth = run.client("depth", "S,SET PROTOCOL,7.9", "S,SET CLIENT NAME,tester")
    depth.until(lambda lines: len(lines) >= 6)
    assert [line.split(",")[1] for line in depth.lines()[:4]] == ["KEY", "SERVER CONNECTED", "IP", "CUST"]
    assert "S,CURRENT PROTOCOL,6.2," in depth.lines()
    assert "E,7.9 is not a valid protocol.," in depth.lines()
    assert len(depth.wait_for("T,")) == len("T,20191018 12:49:55")
    admin = run.client("admin", "S,REGISTER CLIENT APP,X,1", "S,SET PASSWORD,secret", "S,CLIENTSTATS ON")
    assert admin.wait_for("S,REGISTER CLIENT APP") == "S,REGISTER CLIENT APP COMPLETED,"
    assert admin.wait_for("S,CURRENT PASSWORD") == "S,CURRENT PASSWORD,(s****t),"
    stats = admin.wait_for("S,STATS").split(",")
    assert stats[12] == "Connected"
    assert "tester" in admin.wait_for("S,CLIENTSTATS,2")
    depth.send("S,TIMESTAMPSOFF", "mNSDQ")
    assert depth.wait_for("M,") == "M,NSDQ,Nasdaq"


@pytest.mark.parametrize("shape", ["orders", "venues", "levels", "mixed"])
def test_snapshot_and_updates_rebuild_the_simulators_own_book(start: Start, shape: str) -> None:
    run = start(shape=shape)
    names = run.market().names
    depth = run.client("depth")
    for name in names:
        depth.send(f"WOR,{name}", f"WPL,{name}")
    depth.read(1.0)
    depth.send(f"WOR,{names[0]}", f"WPL,{names[0]}")  # a second burst changes nothing
    depth.read(0.5)
    run.freeze()
    depth.read(0.3)
    book = rebuilt(depth.lines())
    updates = [line for line in depth.lines() if line[0] in "34589"]
    assert len(updates) > 1000
    quote = run.market().market.state.symbols
    for number, name in enumerate(names):
        columns = quote[number, [flow.L_BID, flow.L_BID_SIZE, flow.L_ASK, flow.L_ASK_SIZE]]
        assert book.top(name) == tuple(columns.tolist())
        if run.market().market.state.symbols[number, flow.S_SHAPE] != flow.SHAPE_VENUES:
            assert book.levels(name, "B") == true_levels(run.market(), number, flow.BID_SIDE)
            assert book.levels(name, "A") == true_levels(run.market(), number, flow.ASK_SIDE)


def test_level1_ends_where_the_top_of_level2_ends(start: Start) -> None:
    run = start(symbols=5)
    watches = [f"SYM00{number}" for number in range(5)]
    level1 = run.client("level1", "S,SELECT UPDATE FIELDS,Bid,Bid Size,Ask,Ask Size,Message Contents")
    level1.wait_for("S,CURRENT UPDATE FIELDNAMES,Symbol,Bid,Bid Size,Ask,Ask Size,Message Contents")
    level1.send(*[f"w{name}" for name in watches])
    depth = run.client("depth", *[f"WOR,{name}" for name in watches])
    depth.read(0.5)
    level1.read(0.5)
    run.freeze()
    depth.read(0.2)
    level1.read(0.2)
    book = rebuilt(depth.lines())
    for name in watches:
        last = [line for line in level1.lines() if line.startswith((f"Q,{name},", f"P,{name},"))][-1].split(",")
        top = (round(float(last[2]) * 100), int(last[3]), round(float(last[4]) * 100), int(last[5]))
        assert top == book.top(name)


def test_level1_watches_fields_and_refusals(start: Start) -> None:
    run = start()
    level1 = run.client("level1", "wSYM000", "tSYM001", "wNOPE", "S,REQUEST WATCHES", "S,REGON,SYM002")
    level1.wait_for("n,NOPE")
    assert level1.wait_for("S,WATCHES") == "S,WATCHES,SYM000,SYM001,"
    level1.wait_for("R,SYM002,")
    level1.until(lambda lines: sum(line.startswith("Q,SYM001,") for line in lines) > 5)
    kinds = [line[0] for line in level1.lines() if line.split(",")[1:2] == ["SYM000"]]
    assert kinds[:2] == ["F", "P"]
    assert len(level1.wait_for("F,SYM000").split(",")) == 1 + 57 + 1
    for line in level1.lines():
        if line.startswith("Q,SYM001,"):
            assert set(line.split(",")[15]) & set("CEO")
    level1.send("S,SELECT UPDATE FIELDS,Nonsense")
    assert level1.wait_for("E,") == "E,Nonsense is not a valid fieldset field,"
    run.ask("name_symbol", mode="ignore")
    level1.send("S,SELECT UPDATE FIELDS,Symbol,Bid", "S,SELECT UPDATE FIELDS,Ask")
    assert level1.wait_for("S,CURRENT UPDATE FIELDNAMES") == "S,CURRENT UPDATE FIELDNAMES,Symbol,Ask,"
    level1.send("S,UNWATCH ALL")
    level1.read(0.3)
    before = len(level1.lines())
    level1.read(0.3)
    assert all(line[0] in "TR" for line in level1.lines()[before:])


def test_clients_have_their_own_watches(start: Start) -> None:
    run = start()
    one, two = run.client("depth", "WOR,SYM003"), run.client("depth", "wSYM004")
    one.read(0.5)
    two.read(0.5)
    for client, name in ((one, "SYM003"), (two, "SYM004")):
        symbols = {line.split(",")[1] for line in client.lines() if line[0] in "3456"}
        assert symbols == {name}
    one.send("ROR,SYM003")
    one.read(0.3)
    before = len(one.data)
    one.read(0.3)
    assert all(line[0] == "T" for line in one.data[before:].decode().splitlines())


def test_wrong_kind_of_watch_and_no_depth_answer_q(start: Start) -> None:
    run = start()
    depth = run.client("depth", "WPL,SYM005")
    assert depth.wait_for("q,") == "q,SYM005"
    run.ask("no_depth", symbol="SYM006")
    depth.send("WOR,SYM006")
    depth.wait_for("q,SYM006")
    run.ask("no_depth", symbol="SYM006", on=False)
    depth.wait_for("6,SYM006,")


def test_symbol_limit_counts_a_symbol_once(start: Start) -> None:
    run = start(symbol_limit=2)
    first = run.client("depth", "WOR,SYM000", "WOR,SYM001", "WOR,SYM002")
    assert first.wait_for("S,SYMBOL LIMIT") == "S,SYMBOL LIMIT REACHED,SYM002"
    second = run.client("depth", "WOR,SYM001")
    second.wait_for("6,SYM001,")
    first.send("ROR,SYM000", "WOR,SYM002")
    first.wait_for("6,SYM002,")
    run.ask("symbol_limit", limit=3)
    second.send("WOR,SYM009")
    second.wait_for("6,SYM009,")


def test_ledger_equals_received_bytes(start: Start, tmp_path: Path) -> None:
    run = start()
    clients = [run.client("depth", "WOR,SYM000", "WOR,SYM001"), run.client("level1", "wSYM000"), run.client("admin")]
    run.ask("split", channel="depth", bytes=7)
    for _ in range(5):
        for client in clients:
            client.read(0.1)
    run.ask("stop")
    for client in clients:
        client.read(2)
    run.stop()
    found = {connection.service: connection for connection in read_ledger(tmp_path / "simulator" / "ledger")}
    for service, client in zip(("level2", "level1", "admin"), clients, strict=True):
        assert found[service].data == client.data
        assert found[service].reason == "stop"
        assert found[service].marks[-1][0] == len(client.data)
        assert found[service].marks == sorted(found[service].marks)


@pytest.mark.parametrize(("how", "error"), [("fin", False), ("rst", True)])
def test_drop_ends_the_link(start: Start, how: str, error: bool) -> None:
    run = start()
    depth, level1 = run.client("depth", "WOR,SYM000"), run.client("level1", "wSYM000")
    depth.wait_for("6,")
    level1.wait_for("P,")
    run.ask("drop", channel="depth", how=how)
    with pytest.raises(ConnectionResetError) if error else contextlib.nullcontext():
        depth.socket.settimeout(5)
        while depth.socket.recv(1 << 16):
            pass
    level1.until(lambda lines: lines[-1].startswith("Q,"))


def test_mid_line_drop_leaves_a_fragment(start: Start) -> None:
    run = start()
    depth = run.client("depth", "WOR,SYM000")
    depth.wait_for("6,")
    run.ask("drop", channel="depth", how="mid_line")
    depth.read(5)
    assert not depth.data.endswith(b"\n")


def test_refuse_closes_the_port_for_a_while(start: Start) -> None:
    run = start()
    run.ask("refuse", channel="depth", seconds=0.5)
    with pytest.raises(ConnectionRefusedError):
        run.client("depth")
    time.sleep(0.7)
    run.client("depth").wait_for("S,KEY")


def test_half_open_goes_silent_and_stall_catches_up(start: Start) -> None:
    run = start()
    half, stalled = run.client("depth", "WOR,SYM000"), run.client("depth", "WOR,SYM000")
    half.wait_for("6,")
    stalled.wait_for("6,")
    numbers = [int(item["client"]) for item in json.loads(json.dumps(run.ask("status")["clients"]))]
    run.ask("half_open", channel="depth", client=numbers[0])
    run.ask("stall", channel="depth", client=numbers[1], seconds=3.0)
    half.read(0.1)
    stalled.read(0.1)
    before = (len(half.data), len(stalled.data))
    half.read(0.1)
    stalled.read(0.1)
    assert (len(half.data), len(stalled.data)) == before
    stalled.until(lambda _: len(stalled.data) > before[1])
    half.read(0.3)
    assert len(half.data) == before[0]
    run.freeze()
    stalled.read(0.3)
    assert rebuilt(stalled.lines()).levels("SYM000", "B") == true_levels(run.market(), 0, flow.BID_SIDE)


def test_garbage_and_duplicates_come_between_good_lines(start: Start) -> None:
    run = start()
    depth = run.client("depth", "WOR,SYM000")
    depth.wait_for("6,")
    run.ask("garbage", channel="depth", lines=3, bytes=50)
    run.ask("duplicate", channel="depth", lines=4)
    depth.read(1.0)
    good = [line for line in depth.lines() if line[:2] in {f"{kind}," for kind in "STE3456"}]
    assert len(depth.lines()) - len(good) == 3
    updates = [line for line in good if line[0] in "345T"]
    assert sum(one == two for one, two in itertools.pairwise(updates)) >= 4


def test_server_disconnect_and_reconnect_clear_and_refresh(start: Start) -> None:
    run = start(symbols=3)
    depth, level1 = run.client("depth", "WOR,SYM000"), run.client("level1", "wSYM000")
    admin = run.client("admin")
    depth.wait_for("6,")
    level1.wait_for("P,")
    assert run.ask("server_disconnected")["connected"] is False
    depth.wait_for("S,SERVER DISCONNECTED")
    admin.until(lambda lines: any("Not Connected" in line for line in lines))
    depth.read(0.3)
    assert all(line[0] in "ST" for line in depth.lines()[depth.lines().index("S,SERVER DISCONNECTED") :])
    run.ask("server_connected")
    depth.until(lambda lines: lines.count("S,SERVER CONNECTED") == 2)
    depth.wait_for("S,CLEAR DEPTH,SYM000,B,")
    level1.until(lambda lines: sum(line.startswith("P,") for line in lines) == 2)
    depth.read(0.3)
    run.freeze()
    depth.read(0.3)
    assert rebuilt(depth.lines()).levels("SYM000", "A") == true_levels(run.market(), 0, flow.ASK_SIDE)


def test_refused_login_keeps_the_link_down(start: Start) -> None:
    run = start()
    run.ask("refuse_login", on=True)
    depth = run.client("depth", "WOR,SYM000")
    depth.wait_for("S,SERVER DISCONNECTED")
    assert depth.wait_for("E,") == "E,Unauthorized user ID.,"
    admin = run.client("admin", "S,SET LOGINID,me", "S,CONNECT")
    assert admin.wait_for("S,STATS").split(",")[12] == "Not Connected"
    run.ask("refuse_login", on=False)
    depth.send("WOR,SYM000")
    depth.wait_for("6,SYM000,")


def test_silent_symbol_lives_again_after_a_new_watch(start: Start) -> None:
    run = start(symbols=2)
    depth = run.client("depth", "WOR,SYM000", "WOR,SYM001")
    depth.wait_for("6,SYM001")
    assert run.ask("silent_symbol", symbol="SYM000", channel="depth")["watches"] == 1
    depth.read(0.2)
    before = len(depth.lines())
    depth.until(lambda lines: len(lines) > before + 100)
    assert {line.split(",")[1] for line in depth.lines()[before:] if line[0] in "345"} == {"SYM001"}
    depth.send("WOR,SYM000")
    depth.until(lambda lines: any(line.startswith("6,SYM000") for line in lines[before:]))


def test_clear_depth_sends_both_sides_and_a_burst(start: Start) -> None:
    run = start()
    depth = run.client("depth", "WOR,SYM000")
    depth.wait_for("6,")
    assert run.ask("clear_depth", symbol="SYM000")["clients"] == 1
    depth.wait_for("S,CLEAR DEPTH,SYM000,A,")
    depth.read(0.3)
    run.freeze()
    depth.read(0.3)
    assert rebuilt(depth.lines()).levels("SYM000", "B") == true_levels(run.market(), 0, flow.BID_SIDE)


@pytest.mark.parametrize(("layout", "kind", "columns"), [("live", "X", 12), ("live", "I", 12), ("2021", "I", 10)])
def test_corrections_come_in_both_layouts(start: Start, layout: str, kind: str, columns: int) -> None:
    run = start(symbols=1)
    level1 = run.client("level1", "wSYM000")
    level1.until(lambda lines: any(line.startswith("Q,") and set(line.split(",")[15]) & set("CEO") for line in lines))
    assert run.ask("correction", symbol="SYM000", layout=layout, kind=kind)["clients"] == 1
    line = level1.wait_for("C,SYM000,")
    assert line.split(",")[2] == kind
    assert len(line.split(",")) == columns


def test_slow_client_is_cut_and_the_others_go_on(start: Start, tmp_path: Path) -> None:
    run = start(symbols=50, rate=60_000, client_queue_bytes_max=1_000_000)
    slow = run.client("depth", *[f"WOR,{name}" for name in run.market().names])
    good = run.client("depth", "WOR,SYM000")
    good.wait_for("6,")
    end = time.monotonic() + 60
    while time.monotonic() < end and len(run.simulator.level2.sessions) > 1:
        good.read(0.2)
    good.until(lambda lines: lines[-1][0] in "345T")
    assert len(run.simulator.level2.sessions) == 1
    slow.read(1)
    run.stop()
    reasons = {connection.number: connection.reason for connection in read_ledger(tmp_path / "simulator" / "ledger")}
    assert reasons == {1: "slow", 2: "stop"}


def test_history_of_the_trades_just_printed(start: Start) -> None:
    run = start(symbols=2)
    level1 = run.client(
        "level1", "S,SELECT UPDATE FIELDS,Most Recent Trade,Most Recent Trade Size,TickID,Message Contents"
    )
    level1.send("tSYM000")
    level1.read(1.0)
    run.freeze()
    level1.read(0.2)
    prints = [line.split(",")[2:5] for line in level1.lines() if line.startswith("Q,")]
    lookup = run.client(
        "lookup", "HTX,SYM000,100000,1,A1,", "HIX,SYM000,60,10,0,B", "HTX,NOPE,5,1,C", "WRONG", "HTX,,1"
    )
    lookup.until(lambda lines: sum("!ENDMSG!" in line for line in lines) == 5)
    ticks = [line.split(",") for line in lookup.lines() if line.startswith("A1,LH,")]
    assert [[tick[3], tick[4], tick[8]] for tick in ticks][-len(prints) :] == prints
    total = [int(tick[5]) for tick in ticks]
    assert total == [sum(int(tick[4]) for tick in ticks[: at + 1]) for at in range(len(ticks))]
    assert lookup.wait_for("B,LH,").split(",")[2].endswith(":00")
    assert "C,E,!NO_DATA!,," in lookup.lines()
    assert "E,!SYNTAX_ERROR!,," in lookup.lines()
    assert "E,Invalid number of parameters.," in lookup.lines()


def test_history_requests_over_the_rate_are_refused(start: Start) -> None:
    run = start()
    lookup = run.client("lookup", *[f"SLM,R{number}" for number in range(120)])
    lookup.until(lambda lines: sum("!ENDMSG!" in line for line in lines) == 120)
    assert any("E,Too many simultaneous history requests.," in line for line in lookup.lines())
    assert "R0,LS,5,NASDAQ,Nasdaq,5,NASDAQ," in lookup.lines()


def test_ten_thousand_symbols_are_watched_and_flow(start: Start) -> None:
    run = start(symbols=10_000, rate=20_000, ledger_bytes_max=0)
    names = run.market().names
    level1 = run.client("level1", "S,SELECT UPDATE FIELDS,Bid,Ask")
    sender = threading.Thread(target=lambda: level1.send(*[f"w{name}" for name in names]))
    sender.start()
    level1.until(lambda _: level1.data.count(b"\nP,") == 10_000, 60)
    sender.join()
    assert run.ask("status")["watched"] == {"level1": 10_000, "level2": 0}
    depth = run.client("depth", *[f"WOR,{name}" for name in names[::100]])
    depth.until(lambda lines: len({line.split(",")[1] for line in lines if line[0] == "6"}) == 100, 60)


def test_playback_of_a_recording_sends_its_bytes(start: Start, tmp_path: Path) -> None:
    lines = [
        f"3,AAA,{number},,B,{10 + number / 100:.4f},100,{number},4,09:30:00.{number:06d},2012-06-21,\r\n"
        for number in range(1, 5000)
    ]
    path = tmp_path / "depth.txt.gz"
    path.write_bytes(gzip.compress("".join(lines).encode()))
    run = start(Recording(path, "depth", 0))
    depth = run.client("depth", "S,TIMESTAMPSOFF", "WOR,AAA", "WOR,BBB")
    depth.until(lambda seen: seen[-1] + "\r\n" == lines[-1])
    assert "n,BBB" in depth.lines()
    assert [line for line in depth.data.decode().splitlines(keepends=True) if line[0] == "3"] == lines
    assert run.ask("status")["played"] == len(lines)


def test_control_refuses_what_it_does_not_know(start: Start) -> None:
    run = start()
    port = run.settings.ports.simulator_control
    for command, reason in (
        ("rubbish", "not JSON"),
        ({"cmd": "fly"}, "unknown command"),
        ({"cmd": "drop", "channel": "moon"}, "channel must be"),
        ({"cmd": "drop", "channel": "depth", "client": 99}, "no client 99"),
        ({"cmd": "clear_depth"}, "symbol is missing"),
        ({"cmd": "clear_depth", "symbol": "NOPE"}, "unknown symbol NOPE"),
        ({"cmd": "rate", "rate": 0}, "rate must be"),
    ):
        answer = ask(port, command)  # type: ignore[arg-type]
        assert answer["ok"] is False
        assert reason in answer["error"]


def test_taken_port_is_one_clear_line(start: Start) -> None:
    run = start()
    with pytest.raises(ConfigError, match="cannot be opened"):
        build(run.settings, flat=True)


def test_no_simulator_to_command_is_one_clear_line() -> None:
    with pytest.raises(ConfigError, match="no simulated market answers"):
        ask(free_base() + 39, {"cmd": "status"})


def test_process_starts_beats_and_ends_on_sigterm(tmp_path: Path, numba_cache: Path) -> None:
    (tmp_path / "cache").symlink_to(
        numba_cache.parent.parent
    )  # kernels of this test run: compiling takes longer than the test
    base = free_base()
    code = (
        "from l2_platform.feeds.iqfeed.simulator.server import run\n"
        "from l2_platform.settings import PortSettings, Settings\n"
        f"raise SystemExit(run(Settings(home={str(tmp_path)!r}, ports=PortSettings(base={base}))))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        beat = tmp_path / "run" / "heartbeats" / "simulator.json"
        end = time.monotonic() + 120
        while time.monotonic() < end and not (beat.exists() and json.loads(beat.read_text())["state"] == "live"):
            time.sleep(0.1)
        assert json.loads(beat.read_text())["numbers"]["symbols"] == 50
        client = Client(base + 20, "S,SET PROTOCOL,6.2", "WOR,SYM000")
        client.wait_for("6,SYM000,")
        from l2_platform.feeds.iqfeed.simulator.server import run

        with pytest.raises(LeaseHeld):
            run(Settings(home=tmp_path, ports=PortSettings(base=free_base())), stop=threading.Event())
        process.terminate()
        assert process.wait(20) == 0
        client.close()
        assert json.loads(beat.read_text())["state"] == "stopped"
    finally:
        process.kill()
        process.wait()
