"""Findings about machine and settings."""

import os
import socket
from datetime import UTC, datetime

import pytest

from l2_platform.operations import doctor
from l2_platform.operations.doctor import Level
from l2_platform.settings import Settings


class FixedClock:
    """A clock that stands still."""

    def __init__(self, now: datetime) -> None:
        self._now_ns = int(now.timestamp()) * 1_000_000_000

    def now_ns(self) -> int:
        return self._now_ns

    def monotonic_ns(self) -> int:
        return self._now_ns

    def sleep(self, seconds: float) -> None:
        self._now_ns += int(seconds * 1e9)


@pytest.fixture
def clock():
    return FixedClock(datetime(2025, 7, 25, 14, 0, 0, tzinfo=UTC))


def test_account_limit_is_read_from_the_customer_line():
    lines = ["S,KEY,1", "S,CUST,real_time,1.2.3.4,60002,tok,6.2.0.25,,NYSE NASDAQ,,500,QT_API,,"]
    assert doctor.account_limit(lines) == 500


@pytest.mark.parametrize(
    "line", ["", "S,CUST", "S,CUST,real_time,1.2.3.4,60002,tok,6.2.0.25,,NYSE,,,QT_API", "T,20250725 10:00:00"]
)
def test_account_limit_is_unknown_without_a_number(line):
    assert doctor.account_limit([line]) is None


def test_taken_port_is_named_with_its_owner():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not doctor.port_is_free(port)
        assert f"(pid {os.getpid()})" in doctor.owner_of(port)
    assert doctor.port_is_free(port)


def two_taken_ports() -> tuple[int, list[socket.socket]]:
    """A base whose first and third port are held by the sockets given back."""
    for base in range(31_000, 60_000, 100):
        held = [socket.socket(), socket.socket()]
        try:
            for listener, port in zip(held, (base, base + 2), strict=True):
                listener.bind(("127.0.0.1", port))
                listener.listen()
        except OSError:
            for listener in held:
                listener.close()
        else:
            return base, held
    raise AssertionError("no free ports")


def test_all_taken_ports_are_one_finding(tmp_path, clock):
    base, held = two_taken_ports()
    try:
        findings = list(doctor.check_ports(Settings(home=tmp_path, ports={"base": base}), clock))
    finally:
        for listener in held:
            listener.close()
    assert [finding.level for finding in findings] == [Level.FAIL]
    assert f"{base + 2} (warehouse)" in findings[0].text
    assert f"{base} (dagster-webserver)" in findings[0].text


def test_a_home_below_a_file_fails(tmp_path):
    (tmp_path / "file").write_text("")
    assert doctor.check_home(Settings(home=tmp_path / "file")).level is Level.FAIL


def test_disk_below_the_reserve_fails_with_advice(tmp_path):
    finding = doctor.check_disk(Settings(home=tmp_path, disk={"reserve_bytes": 1 << 49}))
    assert finding.level is Level.FAIL
    assert "L2_DISK__RESERVE_BYTES" in finding.advice


@pytest.mark.parametrize(("hard", "level"), [(512, Level.FAIL), (4096, Level.WARN), (1 << 20, Level.OK)])
def test_open_files_beyond_the_hard_limit(monkeypatch, tmp_path, hard, level):
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda _: (256, hard))
    finding = doctor.check_open_files(Settings(home=tmp_path))
    assert finding.level is level
    assert level is Level.OK or "ulimit" in finding.advice


def test_feed_clock_agrees_with_the_t_line_in_summer_time(clock, tmp_path):
    finding = doctor.check_feed_clock(Settings(home=tmp_path), clock, ["T,20250725 10:00:00"])
    assert finding.level is Level.OK


def test_feed_clock_that_is_off_warns(clock, tmp_path):
    finding = doctor.check_feed_clock(Settings(home=tmp_path), clock, ["T,20250725 09:59:00"])
    assert finding.level is Level.WARN
    assert "+60.0 s" in finding.text


def test_real_feed_without_an_answer_warns(clock, tmp_path):
    finding = doctor.check_feed_clock(Settings(home=tmp_path, feed={"kind": "iqfeed"}), clock, None)
    assert finding.level is Level.WARN
    assert "IQConnect" in finding.advice


def test_missing_symbols_file_of_a_real_feed_fails(tmp_path):
    finding = doctor.check_symbols(Settings(home=tmp_path, feed={"kind": "iqfeed"}), None)
    assert finding.level is Level.FAIL


def test_symbols_beyond_the_account_fail(tmp_path):
    path = tmp_path / "symbols.toml"
    path.write_text('version = 1\n[groups.all]\nsymbols = ["A", "B", "C"]\n')
    settings = Settings(home=tmp_path, symbols={"file": path})
    cust = "S,CUST,real_time,1.2.3.4,60002,tok,6.2.0.25,,NYSE,,2,QT_API,,"
    assert doctor.check_symbols(settings, [cust]).level is Level.FAIL
    assert doctor.check_symbols(settings, [cust.replace(",2,", ",3,")]).level is Level.OK
