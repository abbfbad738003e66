"""F8: the feed refuses the login: few attempts, the reason in the status, no secret anywhere.

Scale: 6 s, 40 s, 130 s of a refused login, on the depth, Level 1 and admin ports at once. Judged: attempts by the market's own record of
connections and commands, the reason in each heartbeat, every file of the home searched for the login and the password.
"""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.faults.checkers import journaled, ledger_of, tells_the_truth
from tests.faults.conftest import Measured
from tests.faults.scale import scaled
from tests.faults.stack import DEPTH, DEPTH_COLLECTOR, LEVEL1, LEVEL1_COLLECTOR, Stack, simulated, stack_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
SECONDS = scaled(6, 40, 130)
RETRY_S = 30.0
LOGIN, PASSWORD = "canary-login-51", "canary-password-52"
ADMIN, ADMIN_COLLECTOR = "iqfeed-admin-0", "collector-iqfeed-admin-0"


@pytest.fixture
def stack(market: Stack, tmp_path: Path, numba_cache: Path) -> Iterator[Stack]:
    secrets = {"feed__product_id": "PRODUCT", "feed__login": LOGIN, "feed__password": PASSWORD}
    with stack_of(tmp_path, numba_cache, market, feed__unauthorized_retry_s=RETRY_S, **secrets) as found:
        found.commands[ADMIN_COLLECTOR] = [*found.commands[DEPTH_COLLECTOR][:-2], ADMIN, "--wait"]
        found.symbols(simulated(20))
        yield found


def test_refused_login_is_tried_seldom_and_told(stack: Stack, measured: Measured) -> None:
    names = (DEPTH_COLLECTOR, LEVEL1_COLLECTOR, ADMIN_COLLECTOR)
    stack.market("refuse_login", on=True)
    try:
        begun = time.monotonic()
        stack.start(*names)
        for name in names:
            stack.until(f"{name} says why", partial(stack.number, name, "reason"), 60)
        told_s = time.monotonic() - begun
        assert "Unauthorized" in stack.number(DEPTH_COLLECTOR, "reason")
        time.sleep(max(0.0, SECONDS - told_s))
        for name in names:
            beat = stack.beat(name)
            assert beat is not None
            assert beat.numbers["reason"]
            assert name == ADMIN_COLLECTOR or beat.state != "live"
        lasted = time.monotonic() - begun
        stack.market("refuse_login", on=False)
        stack.market("server_connected")
        tells_the_truth(stack, ADMIN_COLLECTOR, connected=True, reason="")
        for name in names:
            stack.stop(name)
    finally:
        stack.market("refuse_login", on=False)
        stack.market("server_connected")
    stack.close_links()
    allowed = 1 + int(lasted // RETRY_S)
    for stream in (DEPTH, LEVEL1):
        attempts = len(ledger_of(stack, stream))
        assert 1 <= attempts <= allowed, f"{stream}: {attempts} attempts in {lasted:.0f} s"
        assert len(journaled(stack.home, stream).events("unauthorized")) == attempts
        measured(**{f"{stream}_attempts": attempts})
    logins = sum("REGISTER CLIENT APP" in one.fields["line"] for one in journaled(stack.home, ADMIN).events("command"))
    assert 1 <= logins <= allowed
    searched = [path for path in stack.home.path.rglob("*") if path.is_file() and "cache" not in path.parts]
    for path in searched:
        data = path.read_bytes()
        assert LOGIN.encode() not in data, path
        assert PASSWORD.encode() not in data, path
    measured(seconds=lasted, logins=logins, told_after_s=told_s, files_searched=len(searched))
