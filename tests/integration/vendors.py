"""Servers on the lookup port that behave badly, and the simulated market that behaves well; real sockets."""

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from l2_platform.settings import Settings
from tests.integration.homes import Home


@contextmanager
def simulated_vendor(home: Home) -> Iterator[None]:
    """The simulated market as a process; it answers when the block begins."""
    process = home.start(str(Path(sys.executable).with_name("l2")), "simulate", log="simulate")
    try:
        deadline = time.monotonic() + 200
        while True:
            try:
                socket.create_connection(("127.0.0.1", home.settings.ports.lookup), 1).close()
                break
            except OSError:
                assert process.poll() is None, "the simulated market has ended"
                assert time.monotonic() < deadline, "the simulated market does not answer"
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def vendor(settings: Settings, answer: Callable[[socket.socket, str], None]) -> Iterator[list[str]]:
    """A server that gives each line of a client to `answer`; what clients asked (but for the handshake)."""
    asked: list[str] = []
    listener = socket.create_server(("127.0.0.1", settings.ports.lookup))

    def serve(client: socket.socket) -> None:
        with client, client.makefile("rb") as lines:
            try:
                for line in lines:
                    text = line.decode("latin-1").rstrip("\r\n")
                    if not text.startswith("S,"):
                        asked.append(text)
                    answer(client, text)
            except OSError:
                pass

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def shake(client: socket.socket, line: str) -> bool:
    """Answer the handshake; True when the line was part of it."""
    if line.startswith("S,SET PROTOCOL,"):
        client.sendall(f"S,CURRENT PROTOCOL,{line.split(',')[2]},\r\n".encode())
    return line.startswith("S,")


def leaves(client: socket.socket, line: str) -> None:
    """Ends the connection in the middle of a line."""
    if not shake(client, line):
        client.sendall(f"{line.split(',')[8]},LH,2026-11-18 10:00:00.000001,96.0700,100".encode())
        client.shutdown(socket.SHUT_RDWR)


NEW_YORK = ZoneInfo("America/New_York")


@dataclass(frozen=True, slots=True)
class Tick:
    """A print as a vendor has it."""

    ts: int
    """ns UTC, whole microseconds."""
    center: int
    tick_id: int
    size: int = 100

    @property
    def price(self) -> str:
        """Other than that of its neighbours, four digits behind the point."""
        return f"{96 + self.tick_id * 7 % 13 / 8:.4f}"

    def line(self) -> str:
        """A reply line of protocol 6.2 behind the request's id."""
        when = datetime.fromtimestamp(self.ts // 10**9, NEW_YORK).strftime("%Y-%m-%d %H:%M:%S")
        micros = self.ts % 10**9 // 1000
        return f"LH,{when}.{micros:06d},{self.price},{self.size},{self.tick_id}00,96.06,96.08,{self.tick_id},C,{self.center},01,1,18,"


def local(text: str) -> int:
    """CCYYMMDD HHMMSS of New York as ns."""
    return int(datetime.strptime(text, "%Y%m%d %H%M%S").replace(tzinfo=NEW_YORK).timestamp()) * 10**9


def history_of(ticks: Mapping[str, Sequence[Tick]]) -> Callable[[socket.socket, str], None]:
    """An answer that serves the ticks of each symbol from begin to end, whole seconds, both included."""

    def answer(client: socket.socket, line: str) -> None:
        if shake(client, line):
            return
        fields = line.split(",")
        name, first, last = fields[8], local(fields[2]), local(fields[3]) + 10**9
        found = [tick for tick in ticks.get(fields[1], ()) if first <= tick.ts < last]
        lines = "".join(f"{name},{tick.line()}\r\n" for tick in found) or f"{name},E,!NO_DATA!,,\r\n"
        client.sendall(f"{lines}{name},!ENDMSG!,\r\n".encode())

    return answer


def minutes_of(ticks: Mapping[str, Sequence[Tick]]) -> Callable[[socket.socket, str], None]:
    """An answer that serves the minute bars of each symbol's ticks, named by their begin."""

    def answer(client: socket.socket, line: str) -> None:
        if shake(client, line):
            return
        fields = line.split(",")
        assert (fields[0], fields[2], fields[11:]) == ("HIT", "60", ["s", "1"]), line
        name, first, last = fields[9], local(fields[3]), local(fields[4]) + 10**9
        minutes: dict[int, list[Tick]] = {}
        for tick in ticks.get(fields[1], ()):
            if first <= tick.ts < last:
                minutes.setdefault(tick.ts // 10**9 // 60 * 60, []).append(tick)
        text, total = "", 0
        for begin, group in sorted(minutes.items()):
            prices, volume = [tick.price for tick in group], sum(tick.size for tick in group)
            total += volume
            when = datetime.fromtimestamp(begin, NEW_YORK).strftime("%Y-%m-%d %H:%M:%S")
            text += f"{name},LH,{when},{max(prices)},{min(prices)},{prices[0]},{prices[-1]},{total},{volume},0,\r\n"
        text = text or f"{name},E,!NO_DATA!,,\r\n"
        client.sendall(f"{text}{name},!ENDMSG!,\r\n".encode())

    return answer
