"""Servers on the lookup port that behave badly, and the simulated market that behaves well; real sockets."""

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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
