"""A Level 2 feed of numbered lines on a socket: it says what it sent, and when, and nothing it does depends on chance."""

import socket
import threading
import time

LINES_A_CHUNK = 60
SYMBOLS = 4


def feed_line(number: int) -> bytes:
    """Line `number`, an order of the book."""
    side = "AB"[number % 2]
    price = 50 + number % 40 * (1 if side == "A" else -1) / 100
    stamp = f"10:{number // 60000 % 60:02d}:{number // 1000 % 60:02d}.{number % 1000:03d}000,2024-01-02,"
    return f"3,SYM{number % SYMBOLS:03d},{number},,{side},{price:.4f},{number % 500 + 1},{number},4,{stamp}\r\n".encode()


class ScriptedFeed:
    """Listens on a port; each client that watches gets the next lines, chunk by chunk, until it goes. A context manager."""

    def __init__(self, port: int, *, pause_s: float = 0.002) -> None:
        self._pause_s = pause_s
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.settimeout(0.1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.sent = 0
        """Lines 1 … sent were given to the kernel, in this order (the last chunk perhaps in part)."""
        self.connections = 0
        self.paused = threading.Event()
        """While set nothing is sent."""

    def __enter__(self) -> "ScriptedFeed":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            try:
                self._talk(client)
            except OSError:
                continue  # the client died, as it should
            finally:
                client.close()

    def _talk(self, client: socket.socket) -> None:
        client.settimeout(5)
        said = b""
        while b"WOR," not in said:
            data = client.recv(4096)
            if not data:
                return
            said += data
            if b"SET PROTOCOL" in data:
                client.sendall(b"S,CURRENT PROTOCOL,6.2\r\nS,SERVER CONNECTED\r\n")
        client.settimeout(0.5)
        while not self._ended.is_set():
            if not self.paused.is_set():
                first = self.sent + 1
                self.sent += LINES_A_CHUNK
                chunk = b"".join(feed_line(number) for number in range(first, first + LINES_A_CHUNK))
                self._send(client, chunk)
            time.sleep(self._pause_s)

    def _send(self, client: socket.socket, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view and not self._ended.is_set():
            try:
                view = view[client.send(view) :]
            except TimeoutError:
                continue  # the client does not read at the moment
