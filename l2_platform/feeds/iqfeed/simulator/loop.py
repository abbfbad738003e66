"""The simulated market in one thread: sockets, source and services, turn by turn.

What does not belong here: what any of them does; starting a process (`server`).
"""

from datetime import datetime
from typing import Final

from l2_platform.clock import Clock
from l2_platform.feeds.iqfeed.simulator.admin import AdminService
from l2_platform.feeds.iqfeed.simulator.control import ControlService
from l2_platform.feeds.iqfeed.simulator.ledger import Ledger
from l2_platform.feeds.iqfeed.simulator.level1 import Level1Service
from l2_platform.feeds.iqfeed.simulator.level2 import Level2Service
from l2_platform.feeds.iqfeed.simulator.lookup import LookupService
from l2_platform.feeds.iqfeed.simulator.network import Connection, Network
from l2_platform.feeds.iqfeed.simulator.past import NEW_YORK
from l2_platform.feeds.iqfeed.simulator.source import Source
from l2_platform.feeds.iqfeed.simulator.upstream import Upstream
from l2_platform.settings import Settings

SECOND_NS: Final = 1_000_000_000


class Simulator:
    """All services of a simulated IQConnect over one source of data."""

    def __init__(self, settings: Settings, source: Source, clock: Clock) -> None:
        self.source = source
        self.clock = clock
        self.upstream = Upstream(settings.simulator.symbol_limit, started_ns=clock.now_ns())
        ledger = Ledger(settings.home / "simulator" / "ledger", settings.simulator.ledger_bytes_max)
        self.network = Network(clock, ledger, settings.simulator)
        self.level1 = Level1Service(source, self.upstream)
        self.level2 = Level2Service(source, self.upstream)
        self.lookup = LookupService(source, self.upstream, clock)
        self.admin = AdminService(
            self.upstream, (self.level1, self.level2), lambda: self.network.connections, self.link
        )
        self.control = ControlService(self)
        self.stopping = False
        self._ticked = self._second(clock.now_ns())
        self._is_late = False
        ports = settings.ports
        try:
            for service, port in (
                (self.level1, ports.level1),
                (self.lookup, ports.lookup),
                (self.level2, ports.level2),
                (self.admin, ports.admin),
                (self.control, ports.simulator_control),
            ):
                self.network.listen(service, port)
        except Exception:
            self.network.close()
            raise

    def turn(self) -> None:
        """Serve sockets, then make and send what is due."""
        self.network.poll(0.0 if self._is_late else self.source.patience_s())
        now = self.clock.now_ns()
        self._is_late = self.source.advance(now, self.level2, self.level1)
        second = self._second(now)
        if second > self._ticked:
            self._ticked = second
            text = datetime.fromtimestamp(self.source.until // SECOND_NS, NEW_YORK).strftime("%Y%m%d %H:%M:%S")
            for service in (self.level1, self.level2):
                if not self.source.tells_time or service.clock_was_silent():
                    service.second(text)
            self.admin.second(text, now)
            for connection in self.network.connections:
                if connection.records is not None:
                    connection.records.flush()

    def _second(self, now_ns: int) -> int:
        """The market's second; where the source tells the time itself, that of the wall: clients want a sign of life each second."""
        return (now_ns if self.source.tells_time else self.source.until) // SECOND_NS

    def link(self, connect: bool) -> None:
        """Connect to, or lose, the servers behind the look-alike; clients are told."""
        if connect and self.upstream.refuse_login:
            self.upstream.failures += 1
            return
        if connect == self.upstream.connected:
            return
        self.upstream.connected = connect
        for service in (self.level1, self.level2):
            if connect:
                service.reconnected()
            else:
                service.disconnected()
        if connect:
            self.upstream.reconnections += 1

    def refuse_login(self, refuse: bool) -> None:
        """Refuse every login, or accept them again (and connect)."""
        was_usable = self.upstream.usable
        self.upstream.refuse_login = refuse
        if refuse and was_usable:
            self.upstream.connected = False
            self.level1.disconnected()
            self.level2.disconnected()
        elif not refuse:
            self.link(True)

    def clients(self, channel: str) -> list[Connection]:
        """Open connections of a service, oldest first."""
        found = [connection for connection in self.network.connections if connection.service.name == channel]
        return sorted(found, key=lambda connection: connection.number)

    def close(self) -> None:
        """Close every socket and the ledger."""
        self.network.close()
