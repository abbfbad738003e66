"""Every limit of the warehouse's HTTP front, reached over real sockets: what is refused, with which answer, and what goes on."""

import json
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from l2_platform.monitoring.heartbeat import read_heartbeat
from l2_platform.settings import Settings, WarehouseSettings, load_settings
from l2_platform.warehouse.start import ensure_warehouse, warehouse_password
from tests.integration.test_warehouse import stop

pytestmark = pytest.mark.integration
MIB = 1 << 20


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    limits = WarehouseSettings(
        idle_exit_s=120, body_bytes_max=2 * MIB, body_s_max=2.0, answer_bytes_max=4 * MIB, spool_bytes_max=4 * MIB,
        sessions_max=2, connections_max=8, queries_max=2, queue_max=2,
    )  # fmt: skip
    made = load_settings(home=tmp_path_factory.mktemp("home"), warehouse=limits)
    yield made
    stop(made)


def login(settings: Settings) -> str:
    return b64encode(f"{settings.clickhouse.user}:{warehouse_password(settings)}".encode()).decode()


def ask(settings: Settings, query: str, data: bytes | None = None, headers: dict[str, str] | None = None, **url: str) -> bytes:
    host, port = ensure_warehouse(settings)
    address = f"http://{host}:{port}/?{urllib.parse.urlencode({'query': query, **url})}"
    request = urllib.request.Request(address, data, {"Authorization": f"Basic {login(settings)}", **(headers or {})})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


def refusal(
    settings: Settings, query: str, data: bytes | None = None, headers: dict[str, str] | None = None, **url: str
) -> tuple[int, str]:
    """(status, ClickHouse code)."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(settings, query, data, headers, **url)
    with caught.value as error:
        return error.code, error.headers["X-ClickHouse-Exception-Code"]


def begun(settings: Settings, head: str, stack: ExitStack) -> socket.socket:
    """A connection that sent the head of a POST and a part of its body."""
    made = stack.enter_context(socket.create_connection(ensure_warehouse(settings), timeout=20))
    made.sendall(f"POST /?query=SELECT HTTP/1.1\r\nHost: l2\r\nAuthorization: Basic {login(settings)}\r\n{head}\r\n\r\n".encode())
    return made


def test_a_body_is_refused_at_the_limit_announced_or_not_packed_or_not(settings: Settings) -> None:
    assert ask(settings, "SELECT 1", b" " * MIB) == b"1\n"
    with ExitStack() as stack:
        assert begun(settings, f"Content-Length: {3 * MIB}", stack).recv(100).startswith(b"HTTP/1.1 413 ")
    packed = zlib.compress(b" " * (64 * MIB))
    assert len(packed) < MIB
    assert refusal(settings, "SELECT 1", packed, {"Content-Encoding": "deflate"}) == (413, "307")
    with ExitStack() as stack:
        chunked = begun(settings, "Transfer-Encoding: chunked", stack)
        piece = b"80000\r\n" + b" " * 0x80000 + b"\r\n"
        for _ in range(5):
            chunked.sendall(piece)
        assert chunked.recv(100).startswith(b"HTTP/1.1 413 ")


def test_bodies_that_are_too_much_together_are_refused_and_the_first_goes_on(settings: Settings) -> None:
    with ExitStack() as stack:
        first = begun(settings, f"Content-Length: {MIB + 9}", stack)
        first.sendall(b" 1")
        for _ in range(5):
            answer = begun(settings, f"Content-Length: {MIB}", stack).recv(100)
            if answer.startswith(b"HTTP/1.1 503 "):
                break
            # the server had not looked at the first one yet: this one was waited for
            assert answer.startswith(b"HTTP/1.1 408 ")
        assert answer.startswith(b"HTTP/1.1 503 ")
        first.sendall(b" " * (MIB + 7))
        assert first.recv(100).startswith(b"HTTP/1.1 200 ")
    # its room is free a moment after its answer has arrived
    for _ in range(100):
        try:
            answer = ask(settings, "SELECT 1", b" " * MIB)
            break
        except urllib.error.HTTPError:
            time.sleep(0.05)
    assert answer == b"1\n"


def test_a_body_that_does_not_come_is_given_up(settings: Settings) -> None:
    with ExitStack() as stack:
        slow = begun(settings, "Content-Length: 1000", stack)
        slow.sendall(b"SELECT")
        assert slow.recv(100).startswith(b"HTTP/1.1 408 ")


def test_answers_that_must_be_whole_are_bounded_and_streams_are_not(settings: Settings) -> None:
    many = "SELECT number FROM numbers(2000000)"
    assert len(ask(settings, many)) > 8 * MIB
    assert refusal(settings, f"{many} FORMAT JSON")[1] == "396"
    assert refusal(settings, many, wait_end_of_query="1")[1] == "396"
    assert json.loads(ask(settings, "SELECT 1 AS one FORMAT JSON"))["rows"] == 1
    assert ask(settings, "SELECT 1", wait_end_of_query="1") == b"1\n"


def test_a_session_forgets_the_bound_of_a_whole_answer(settings: Settings) -> None:
    many = "SELECT number FROM numbers(2000000)"
    assert refusal(settings, f"{many} FORMAT JSON", session_id="first")[1] == "396"
    assert len(ask(settings, many, session_id="first")) > 8 * MIB


def test_sessions_and_connections_beyond_their_limits_are_refused(settings: Settings) -> None:
    assert ask(settings, "SELECT 1", session_id="first") == b"1\n"
    assert ask(settings, "SELECT 1", session_id="second") == b"1\n"
    assert refusal(settings, "SELECT 1", session_id="third") == (503, "202")
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(socket.create_connection(address_of(settings), timeout=20)).sendall(b"GET /ping HTTP/1.1\r\n")
        refused = stack.enter_context(socket.create_connection(address_of(settings), timeout=20))
        refused.sendall(b"GET /ping HTTP/1.1\r\nHost: l2\r\n\r\n")
        assert refused.recv(100).startswith(b"HTTP/1.1 503 ")
    assert ask(settings, "SELECT 1") == b"1\n"


def address_of(settings: Settings) -> tuple[str, int]:
    """Its address, without asking it (all its connections are taken)."""
    from l2_platform.warehouse.start import HOST, read_record, record_path

    record = read_record(record_path(settings))
    assert record is not None
    return HOST, record.port


def test_the_heartbeat_tells_how_far_it_came(settings: Settings) -> None:
    ask(settings, "SELECT sleep(2)")
    beat = read_heartbeat(settings.run_dir / "heartbeats" / "warehouse.json")
    assert beat is not None
    bounds = beat.numbers["bounds"]
    assert set(bounds) == {"body_bytes", "queue", "running", "sessions", "requests"}
    assert bounds["body_bytes"]["limit"] == 2 * MIB
    assert bounds["body_bytes"]["reached"] >= 3
    assert bounds["sessions"]["reached"] >= 1
    assert bounds["running"]["high"] >= 1
