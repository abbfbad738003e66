"""The fault proxy does to a connection what it says, and nothing else."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.faults.proxy import FaultProxy

REPLY = bytes(range(256)) * 64


class Server:
    """Answers each line with REPLY; keeps what it was asked."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.asked: list[bytes] = []
        self.ends: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            try:
                while data := sock.recv(4096):
                    self.asked.append(data)
                    sock.sendall(REPLY)
                self.ends.append("fin")
            except ConnectionError:
                self.ends.append("rst")


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.listener.close()


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(server.port, recording=True) as found:
        yield found


def client(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (part := sock.recv(size - len(data))):
        data += part
    return data


def test_passes_every_byte_and_records_it(proxy: FaultProxy, server: Server) -> None:
    with client(proxy) as sock:
        sock.sendall(b"hello\n")
        assert read(sock, len(REPLY)) == REPLY
    assert server.asked == [b"hello\n"]
    assert bytes(proxy.delivered[0]) == REPLY


def test_slices_keep_the_bytes(proxy: FaultProxy) -> None:
    proxy.down.slice_bytes = 1
    with client(proxy) as sock:
        sock.sendall(b"x\n")
        first = sock.recv(1 << 16)
        assert first + read(sock, len(REPLY) - len(first)) == REPLY


def test_latency_and_bandwidth_hold_back(proxy: FaultProxy) -> None:
    proxy.down.latency_s = 0.2
    proxy.down.bytes_per_s = 4 * len(REPLY)
    begun = time.monotonic()
    with client(proxy) as sock:
        sock.sendall(b"x\n")
        assert read(sock, len(REPLY)) == REPLY
    assert time.monotonic() - begun >= 0.3  # a lower bound: it is the fault that is tested


def test_stall_is_silent_and_ends(proxy: FaultProxy) -> None:
    proxy.down.stalled = True
    with client(proxy) as sock:
        sock.sendall(b"x\n")
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        proxy.down.stalled = False
        sock.settimeout(10)
        assert read(sock, len(REPLY)) == REPLY


def test_cut_after_n_bytes(proxy: FaultProxy) -> None:
    proxy.down.cut_after, proxy.down.cut_how = 1000, "fin"
    with client(proxy) as sock:
        sock.sendall(b"x\n")
        assert read(sock, len(REPLY)) == REPLY[:1000]
    assert proxy.cuts == 1


def test_cut_before_the_reply_when_the_server_has_done_it(proxy: FaultProxy, server: Server) -> None:
    proxy.cut_before_reply()
    with client(proxy) as sock:
        sock.sendall(b"do it\n")
        with pytest.raises(ConnectionResetError):
            read(sock, 1)
    assert server.asked == [b"do it\n"]
    with client(proxy) as sock:
        sock.sendall(b"again\n")
        assert read(sock, len(REPLY)) == REPLY


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_drop_reaches_both_sides(proxy: FaultProxy, server: Server, how: str) -> None:
    with client(proxy) as sock:
        sock.sendall(b"x\n")
        assert read(sock, len(REPLY)) == REPLY
        assert proxy.drop(how) == 1
        if how == "rst":
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        else:
            assert sock.recv(1) == b""
    deadline = time.monotonic() + 10
    while server.ends != [how]:
        assert time.monotonic() < deadline, server.ends
        time.sleep(0.01)


def test_refuses_and_listens_again_on_the_same_port(proxy: FaultProxy) -> None:
    port = proxy.port
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        client(proxy)
    proxy.refuse(False)
    assert proxy.port == port
    with client(proxy) as sock:
        sock.sendall(b"x\n")
        assert read(sock, 1) == REPLY[:1]


def test_mangled_bytes_are_what_is_recorded(proxy: FaultProxy) -> None:
    proxy.down.mangle = lambda data: data.replace(b"\x00", b"!")
    with client(proxy) as sock:
        sock.sendall(b"x\n")
        assert read(sock, len(REPLY)) == REPLY.replace(b"\x00", b"!") == bytes(proxy.delivered[0])
