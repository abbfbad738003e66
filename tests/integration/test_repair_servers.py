"""History servers that behave badly: each ends in a stated result within its time, and a good one afterwards makes the gap whole."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from l2_platform.delivery.warm import warm_kernels
from l2_platform.errors import WarehouseError
from l2_platform.quality.repair import repair_date
from l2_platform.warehouse.start import read_record, record_path
from tests.integration.homes import Home
from tests.integration.repairs import CLOCK, NS, Market, repair_home
from tests.integration.stored import warehouse
from tests.integration.vendors import history_of, leaves, shake, vendor

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Home:
    return repair_home(tmp_path_factory.mktemp("home"), numba_cache)


@pytest.fixture(scope="module")
def shared(home: Home) -> Iterator[Client]:
    with warehouse(home.settings) as client:
        yield client


@pytest.fixture
def market(home: Home, shared: Client) -> Market:
    return Market(home.settings, shared, symbols=("AAA", "BBB"))


def garbage(client: socket.socket, line: str) -> None:
    if not shake(client, line):
        name = line.split(",")[8]
        client.sendall(f"{name},LH,{'x' * 40},\r\n".encode() * 20 + f"{name},!ENDMSG!,\r\n".encode())


def html(client: socket.socket, line: str) -> None:
    if not shake(client, line):
        client.sendall(b"<html>\r\n" * 500)


def never(client: socket.socket, line: str) -> None:
    shake(client, line)


def drip(client: socket.socket, line: str) -> None:
    if not shake(client, line):
        for byte in line.encode() * 20:
            client.sendall(bytes([byte]))
            time.sleep(0.3)


def wrong_id(client: socket.socket, line: str) -> None:
    if not shake(client, line):
        client.sendall(b"H99999999,LH,2026-11-18 10:00:00.000001,96.07,100,1,96.06,96.08,1,C,5,01,1,18,\r\nH99999999,!ENDMSG!,\r\n")


def too_many(client: socket.socket, line: str) -> None:
    if not shake(client, line):
        name = line.split(",")[8]
        client.sendall(f"{name},E,Too many simultaneous history requests.,\r\n{name},!ENDMSG!,\r\n".encode())


def refuses_login(client: socket.socket, line: str) -> None:
    if not shake(client, line):
        name = line.split(",")[8]
        client.sendall(f"{name},E,Unauthorized user ID.,\r\n{name},!ENDMSG!,\r\n".encode())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (garbage, "40 lines of the replies could not be read"), (html, "IQConnect"), (never, "no byte for 0.5 s"),
        (drip, "not answered within 1 s"), (leaves, "closed the connection"), (wrong_id, "no byte for 0.5 s"),
        (too_many, "Too many simultaneous"), (refuses_login, "log IQConnect in"), (lambda *_: None, "did not agree to protocol"),
    ],
    ids=["garbage", "html", "never", "byte-by-byte", "leaves", "wrong-id", "too-many", "no-login", "no-handshake"],
)  # fmt: skip
def test_bad_servers_end_in_a_stated_failure(market: Market, answer: Any, words: str) -> None:
    market.put()
    with vendor(market.settings, answer):
        result = market.repair()
    assert result.state == "failed"
    assert words in result.residual
    assert market.rows() == {name: [] for name in market.symbols}
    newest = market.versions()[-1]
    assert (newest.repair_state, newest.rows_recovered, words in newest.residual) == ("failed", 0, True)
    # a good server afterwards makes it whole
    with vendor(market.settings, history_of(market.ticks)):
        healed = market.repair()
    assert (healed.state, market.rows()) == ("repaired", market.expected())
    assert market.versions()[-1].evidence["repair"]["attempts"] == 2


def test_what_a_failed_gap_brought_is_stored_before_the_next_one_asks(market: Market) -> None:
    """The login is lost after the first symbol of a gap and back for the next gap, which overlaps."""
    begin, end = market.gap
    first, second = market.gap_id, f"{market.gap_id}b"
    market.gap = begin, market.start + 30 * NS
    market.put()
    market.gap_id, market.gap = second, (begin + 1000, end)
    market.put_gap()
    whole, asked = history_of(market.ticks), list[str]()

    def answer(client: socket.socket, line: str) -> None:
        if not line.startswith("S,"):
            asked.append(line)
        if len(asked) == 2:
            refuses_login(client, line)
        else:
            whole(client, line)

    one = market.settings.model_copy(update={"lookup": market.settings.lookup.model_copy(update={"sockets": 1})})
    with vendor(market.settings, answer):
        results = repair_date(one, market.date, CLOCK, gap_ids=[first, second])
    assert [(result.gap_id, result.state) for result in results] == [(first, "partial"), (second, "repaired")]
    assert "log IQConnect in" in results[0].residual
    # ten seconds of one symbol and what lies around them came with the first gap, and not again with the second
    assert (len(asked), results[0].rows_recovered >= 40) == (4, True)
    assert sum(result.rows_recovered for result in results) == 160
    assert market.rows() == market.expected()


def test_nobody_listens(market: Market) -> None:
    market.put()
    result = market.repair()
    assert result.state == "failed"
    assert "start IQConnect, or the simulated market" in result.residual


def test_a_warehouse_that_ends_in_the_middle_is_told_and_the_next_repair_goes_on(market: Market) -> None:
    """The last of this file: the others' warehouse is gone."""
    # compiled first: nothing else waits for a compiler while the warehouse is away
    warm_kernels(("ticks",))
    market.put()
    record, whole = read_record(record_path(market.settings)), history_of(market.ticks)
    assert record is not None

    def answer(client: socket.socket, line: str) -> None:
        if not line.startswith("S,"):
            with suppress(ProcessLookupError):
                os.kill(record.pid, signal.SIGKILL)
        whole(client, line)

    with vendor(market.settings, answer), pytest.raises(WarehouseError, match="the next repair goes on from there"):
        market.repair()
    with warehouse(market.settings) as client, vendor(market.settings, whole):
        market.client = client
        assert (market.versions()[-1].repair_state, market.rows()) == ("", {name: [] for name in market.symbols})
        assert (market.repair().state, market.rows()) == ("repaired", market.expected())
