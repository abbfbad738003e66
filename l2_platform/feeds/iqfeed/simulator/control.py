"""The control port: one JSON object a line in, one JSON object a line out; and the small client of it.

A request of HTTP (`GET /halts.csv`, `GET /rss.aspx?feed=tradehalts`) gets the halts of trading, as an exchange publishes them.
Every command answers `{"ok": true, …}` or `{"ok": false, "error": …}`. `channel` is depth, level1, lookup or admin; `client` is a
connection number (without it, every client of the channel). What does not belong here: how a fault acts (`faults`).
"""

import json
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from l2_platform.errors import ConfigError, InputError

if TYPE_CHECKING:
    # the client of the port (`ask`) must not wait for compiled kernels
    from l2_platform.feeds.iqfeed.simulator.live import LiveMarket
    from l2_platform.feeds.iqfeed.simulator.loop import Simulator
    from l2_platform.feeds.iqfeed.simulator.network import Connection
    from l2_platform.feeds.iqfeed.simulator.streaming import StreamingService

CHANNELS: Final = {"depth": "level2", "level1": "level1", "lookup": "lookup", "admin": "admin"}
SECONDS_MAX: Final = 1_000_000
"""Longest fault, s."""
COUNT_MAX: Final = 1_000_000
"""Most lines of a fault, and most bytes of a piece."""
GARBAGE_BYTES_MAX: Final = 128 << 20
"""Most bytes of garbage at once."""


class ControlService:
    """Carries out control commands on a simulator."""

    name = "control"

    def __init__(self, simulator: "Simulator") -> None:
        self._simulator = simulator
        self._browsers: set[Connection] = set()
        """Clients that spoke HTTP: the rest of what they say are headers."""
        self._commands: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "status": self._status,
            "drop": self._drop,
            "refuse": self._refuse,
            "half_open": self._half_open,
            "stall": self._stall,
            "garbage": self._garbage,
            "split": self._split,
            "duplicate": self._duplicate,
            "lose": lambda command: self._switch(command, "lose_lines", int(command.get("lines", 1))),
            "server_disconnected": lambda _: self._link(connect=False),
            "server_connected": lambda _: self._link(connect=True),
            "symbol_limit": self._symbol_limit,
            "refuse_login": self._refuse_login,
            "silent_symbol": self._silent_symbol,
            "clear_depth": self._clear_depth,
            "no_depth": self._no_depth,
            "correction": self._correction,
            "name_symbol": self._name_symbol,
            "hang_lookup": self._hang_lookup,
            "rate": self._rate,
            "stop": self._stop,
            **simulator.source.commands(),
        }

    def opened(self, connection: "Connection") -> None:
        """Nothing is sent before a command."""

    def closed(self, connection: "Connection") -> None:
        """Forget a client."""
        self._browsers.discard(connection)

    def received(self, connection: "Connection", line: str) -> None:
        """Answer one line."""
        if connection in self._browsers:
            return
        if line.startswith("GET "):
            self._browsers.add(connection)
            connection.send(self._published(line))
            return
        connection.send(json.dumps(self.execute(line)).encode() + b"\n")

    def execute(self, line: str) -> dict[str, Any]:
        """Carry out one command, given as JSON."""
        try:
            command = json.loads(line)
        except (ValueError, RecursionError) as error:
            return {"ok": False, "error": f"not JSON: {error}"}
        name = command.get("cmd") if isinstance(command, dict) else None
        action = self._commands.get(name) if isinstance(name, str) else None
        if action is None:
            return {"ok": False, "error": f"unknown command {name!r}", "commands": sorted(self._commands)}
        try:
            return {"ok": True, **action(command)}
        except (InputError, KeyError, ValueError, TypeError, OverflowError) as error:
            reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
            return {"ok": False, "error": f"{name}: {reason}"}

    def _published(self, request: str) -> bytes:
        """The answer to a request of HTTP."""
        from l2_platform.feeds.iqfeed.simulator.halts import PAGES
        from l2_platform.feeds.iqfeed.simulator.live import LiveMarket

        source, page = self._simulator.source, PAGES.get(request.split(" ")[1])
        if page is None or not isinstance(source, LiveMarket):
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        kind, write = page
        body = write(source.halts.rows).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        return head.encode() + body

    def _targets(self, command: dict[str, Any]) -> "list[Connection]":
        channel = command.get("channel")
        if channel not in CHANNELS:
            raise InputError(f"channel must be one of {', '.join(CHANNELS)}, not {channel!r}")
        found = self._simulator.clients(CHANNELS[channel])
        wanted = command.get("client")
        if wanted is None:
            return found
        chosen = [connection for connection in found if connection.number == int(wanted)]
        if not chosen:
            raise InputError(f"no client {wanted} on {channel}; there are {[c.number for c in found]}")
        return chosen

    def _symbol(self, command: dict[str, Any]) -> int:
        name = str(command["symbol"]).upper()
        number = self._simulator.level2.numbers.get(name)
        if number is None:
            raise InputError(f"unknown symbol {name}")
        return number

    def _streaming(self, command: dict[str, Any]) -> "list[StreamingService]":
        channel = command.get("channel")
        services: dict[str, StreamingService] = {"depth": self._simulator.level2, "level1": self._simulator.level1}
        if channel is None:
            return list(services.values())
        if channel not in services:
            raise InputError(f"channel must be depth or level1, not {channel!r}")
        return [services[channel]]

    def _status(self, _: dict[str, Any]) -> dict[str, Any]:
        simulator = self._simulator
        channels = {service: channel for channel, service in CHANNELS.items()}
        clients = [
            {
                "client": c.number, "channel": channels.get(c.service.name, c.service.name), "peer": c.peer,
                "bytes_in": c.bytes_in, "bytes_out": c.bytes_out, "queued": c.queued, "half_open": c.faults.half_open,
                "watched": _watched(c),
            }
            for c in sorted(simulator.network.connections, key=lambda item: item.number)
            if c.service is not self
        ]  # fmt: skip
        up = simulator.upstream
        return {
            **simulator.source.status(), "connected": up.usable, "refuse_login": up.refuse_login,
            "symbol_limit": up.symbol_limit, "watched": up.watched, "clients": clients,
        }  # fmt: skip

    def _drop(self, command: dict[str, Any]) -> dict[str, Any]:
        how = command.get("how", "fin")
        if how not in {"fin", "rst", "mid_line"}:
            raise InputError(f"how must be fin, rst or mid_line, not {how!r}")
        targets = self._targets(command)
        for connection in targets:
            if how == "mid_line":
                connection.faults.cut_mid_line = True
            else:
                connection.close(f"dropped: {how}", reset=how == "rst")
        return {"clients": [connection.number for connection in targets]}

    def _refuse(self, command: dict[str, Any]) -> dict[str, Any]:
        channel = command.get("channel")
        if channel not in CHANNELS:
            raise InputError(f"channel must be one of {', '.join(CHANNELS)}, not {channel!r}")
        seconds = float(command["seconds"])
        if not 0 <= seconds < SECONDS_MAX:
            raise InputError(f"seconds must be from 0 to {SECONDS_MAX:,}, not {seconds:g}")
        self._simulator.network.refuse(CHANNELS[channel], seconds)
        return {"channel": channel, "seconds": seconds}

    def _half_open(self, command: dict[str, Any]) -> dict[str, Any]:
        return self._switch(command, "half_open", True)

    def _stall(self, command: dict[str, Any]) -> dict[str, Any]:
        seconds = float(command["seconds"])
        if not 0 <= seconds < SECONDS_MAX:
            raise InputError(f"seconds must be from 0 to {SECONDS_MAX:,}, not {seconds:g}")
        until = self._simulator.clock.monotonic_ns() + int(seconds * 1e9)
        return self._switch(command, "stalled_until_ns", until)

    def _split(self, command: dict[str, Any]) -> dict[str, Any]:
        return self._switch(command, "segment_bytes_max", int(command["bytes"]))

    def _duplicate(self, command: dict[str, Any]) -> dict[str, Any]:
        return self._switch(command, "duplicate_lines", int(command.get("lines", 1)))

    def _garbage(self, command: dict[str, Any]) -> dict[str, Any]:
        size, lines = int(command.get("bytes", 64)), int(command.get("lines", 1))
        if min(size, lines) >= 0 and size * lines > GARBAGE_BYTES_MAX:
            raise InputError(f"garbage must be at most {GARBAGE_BYTES_MAX:,} bytes in all")
        self._switch(command, "garbage_bytes", size)
        return self._switch(command, "garbage_lines", int(command.get("lines", 1)))

    def _switch(self, command: dict[str, Any], switch: str, value: int) -> dict[str, Any]:
        if value < 0:
            raise InputError(f"{switch} must not be negative")
        if value > COUNT_MAX and switch not in {"stalled_until_ns", "garbage_bytes"}:
            raise InputError(f"{switch} must be at most {COUNT_MAX:,}")
        targets = self._targets(command)
        for connection in targets:
            setattr(connection.faults, switch, value)
            connection.network.watch(connection)
        return {"clients": [connection.number for connection in targets]}

    def _link(self, *, connect: bool) -> dict[str, Any]:
        self._simulator.link(connect)
        return {"connected": self._simulator.upstream.usable}

    def _symbol_limit(self, command: dict[str, Any]) -> dict[str, Any]:
        limit = int(command["limit"])
        if not 0 <= limit <= COUNT_MAX:
            raise InputError(f"limit must be from 0 to {COUNT_MAX:,}")
        self._simulator.upstream.symbol_limit = limit
        return {"symbol_limit": limit}

    def _refuse_login(self, command: dict[str, Any]) -> dict[str, Any]:
        self._simulator.refuse_login(bool(command.get("on", True)))
        return {"refuse_login": self._simulator.upstream.refuse_login, "connected": self._simulator.upstream.usable}

    def _silent_symbol(self, command: dict[str, Any]) -> dict[str, Any]:
        number = self._symbol(command)
        return {"watches": sum(service.silence(number) for service in self._streaming(command))}

    def _clear_depth(self, command: dict[str, Any]) -> dict[str, Any]:
        return {"clients": self._simulator.level2.clear(self._symbol(command))}

    def _no_depth(self, command: dict[str, Any]) -> dict[str, Any]:
        number = self._symbol(command)
        without = self._market().without_depth
        has = not bool(command.get("on", True))
        (without.discard if has else without.add)(number)
        self._simulator.level2.set_depth(number, has=has)
        return {"without_depth": len(without)}

    def _correction(self, command: dict[str, Any]) -> dict[str, Any]:
        kind, layout = str(command.get("kind", "X")), str(command.get("layout", "live"))
        if kind not in {"X", "I"} or layout not in {"live", "2021"}:
            raise InputError("kind must be X or I, layout live or 2021")
        return {"clients": self._simulator.level1.correct(self._symbol(command), kind=kind, layout=layout)}

    def _name_symbol(self, command: dict[str, Any]) -> dict[str, Any]:
        mode = command.get("mode")
        if mode not in {"accept", "ignore"}:
            raise InputError("mode must be accept or ignore")
        self._simulator.upstream.names_symbol_silently = mode == "ignore"
        return {"mode": mode}

    def _hang_lookup(self, command: dict[str, Any]) -> dict[str, Any]:
        self._simulator.lookup.hang = bool(command.get("on", True))
        return {"hang": self._simulator.lookup.hang}

    def _rate(self, command: dict[str, Any]) -> dict[str, Any]:
        rate = float(command["rate"])
        if not 0 < rate <= 400_000:
            raise InputError("rate must be above 0 and at most 400,000 messages a second")
        market = self._market()
        market.set_rate(rate, flat=bool(command.get("flat", market.flat)))
        return {"rate": market.rate, "flat": market.flat}

    def _stop(self, _: dict[str, Any]) -> dict[str, Any]:
        self._simulator.stopping = True
        return {"stopping": True}

    def _market(self) -> "LiveMarket":
        from l2_platform.feeds.iqfeed.simulator.live import LiveMarket

        source = self._simulator.source
        if not isinstance(source, LiveMarket):
            raise InputError("recorded lines are played; this works on the generated market only")
        return source


def ask(
    port: int, command: dict[str, Any] | str, *, timeout_s: float = 10.0, what: str = "simulated market", start: str = "l2 simulate"
) -> dict[str, Any]:
    """Send one command to a running simulated market and return its answer; ConfigError when none listens.

    `what` should listen there and which command starts it: for the message.
    """
    text = command if isinstance(command, str) else json.dumps(command)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as sock:
            sock.sendall(text.encode() + b"\n")
            with sock.makefile("rb") as reader:
                answer = json.loads(reader.readline())
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigError(
            f"no {what} answers on port {port} ({error}); start one with `{start}`"
        ) from None
    return dict(answer)


def _watched(connection: "Connection") -> int:
    """Symbols that this client asked for so far; 0 for a client of another kind."""
    session = getattr(connection.service, "sessions", {}).get(connection)
    return len(getattr(session, "asked", ()))
