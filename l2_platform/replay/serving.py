"""A replay as a process: prepare, open the ports, play, let the clients take the rest, account for it.

What does not belong here: lines, pace and state (`performance`, `player`), the command line.
"""

import gc
import logging
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final

from l2_platform.clock import Clock, SystemClock
from l2_platform.errors import ConfigError, InputError
from l2_platform.feeds.iqfeed.simulator.loop import Simulator
from l2_platform.replay.choice import Day, check_symbols, choose_parts, instant_of, known_names, survey, text_of
from l2_platform.replay.pace import Pacer
from l2_platform.replay.performance import Performance
from l2_platform.replay.player import DayPlayer, Wish
from l2_platform.replay.warm import warm
from l2_platform.settings import Settings

log = logging.getLogger(__name__)

SWITCH_S: Final = 0.0005
"""How long the thread that reads ahead may keep the one that plays from the interpreter, s."""
SKIP_LINES: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Order:
    """What to play, as a person says it; `choice` checks it."""

    session_date: int
    streams: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    speed: float = 1.0
    begin: str = ""
    """`10:30:00` New York time, or a whole instant; empty: the recording's beginning."""
    end: str = ""
    clients: int = 1
    """Playing begins when so many clients watch."""
    paused: bool = False
    """Or not before `resume`."""
    loop: bool = False
    """Begin again at the end, until it is stopped."""


@dataclass(slots=True)
class Outcome:
    """What a replay did."""

    complete: bool
    """Everything up to the wanted end was played."""
    why: str
    """`end`, or what stopped it."""
    record: dict[str, Any]
    digests: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Stream → sha256, lines, talk, torn."""
    damage: list[str] = field(default_factory=list)
    seconds: float = 0.0
    clients: int = 0
    """Streaming clients that were served."""
    cut: int = 0
    """Clients that were cut because they did not read."""


Report = Callable[[dict[str, Any]], None]
"""Is given the present numbers from time to time."""


def prepare(settings: Settings, order: Order, clock: Clock, report: Report | None = None) -> tuple[Performance, Day]:
    """Check an order and stand at its beginning; InputError says what is wrong with it."""
    parts = choose_parts(settings, order.session_date, order.streams)
    day = survey(settings, parts)
    names, whole = known_names(settings, parts)
    check_symbols(settings, parts, order.symbols, names, whole=whole)
    begin = instant_of(order.begin, "--from", day) if order.begin else day.first_ns
    end = instant_of(order.end, "--to", day) if order.end else day.last_ns
    if begin > end:
        raise InputError(f"--from {order.begin or text_of(begin)} is after --to {order.end or text_of(end)}")
    show = Performance(settings, parts, order.symbols, names, Pacer(order.speed, begin), begin, end, clock, day.lines)
    if order.begin:
        while show.skip(begin, SKIP_LINES):
            if report is not None:
                report({"state": "seeking", **show.record(clock.monotonic_ns())})
    return show, day


def on_stop_signals(stop: threading.Event) -> list[str]:
    """Set `stop` at SIGTERM and SIGINT; the list then says which it was. Only in the main thread."""
    said: list[str] = []

    def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  (the signature of a handler)
        said.append(signal.Signals(number).name)
        stop.set()

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_signal)
        signal.signal(signal.SIGINT, on_signal)
    return said


def serve(
    settings: Settings, order: Order, *, report: Report | None = None, stop: threading.Event | None = None, clock: Clock | None = None,
    opened: Callable[[], None] | None = None,
) -> Outcome:  # fmt: skip
    """Serve a stored day until its end, SIGTERM, SIGINT, the command `stop`, or `stop` is set. ConfigError when a port is taken.

    `opened` is called once clients may come.
    """
    clock = clock or SystemClock()
    stop = stop or threading.Event()
    signals = on_stop_signals(stop)
    show, _ = prepare(settings, order, clock, report)
    warm()
    replay = settings.replay
    wish = Wish(order.clients, int(replay.settle_s * 1e9), order.paused, order.loop)
    player = DayPlayer(show, clock, wish, replay.spin_us * 1000, int(replay.stall_s * 1e9))
    try:
        simulator = _open_ports(settings, player, clock)
        try:
            if opened is not None:
                opened()
            return _play(settings, simulator, player, stop, signals, report, clock)
        finally:
            simulator.close()
    finally:
        show.tape.close()


def _open_ports(settings: Settings, player: DayPlayer, clock: Clock) -> Simulator:
    try:
        simulator = Simulator(settings, player, clock)
    except ConfigError as error:
        advice = error.message.removeprefix("simulated market: ").split("; stop what uses it")[0]
        raise ConfigError(f"{advice}; stop what uses it, or choose others with --port-base, e.g. --port-base 21000") from None
    player.attach(simulator.level2, simulator.level1)
    return simulator


def _play(
    settings: Settings, simulator: Simulator, player: DayPlayer, stop: threading.Event, signals: list[str], report: Report | None,
    clock: Clock,
) -> Outcome:  # fmt: skip
    began = clock.monotonic_ns()
    every = int(settings.replay.report_s * 1e9) if report is not None else 1 << 62
    told = began
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()
    drained_by: int | None = None
    lines = player.show.lines
    try:
        while not stop.is_set() and not simulator.stopping:
            simulator.turn()
            now = clock.monotonic_ns()
            if report is not None and now - told >= every:
                rate = (player.show.lines - lines) * 1e9 / (now - told)
                told, lines = now, player.show.lines
                report({**player.status(), "clients": player.clients(), "rate": rate})
            if player.state == "finished":
                drained_by = drained_by or now + int(settings.replay.stall_s * 1e9)
                if _drained(simulator) or now >= drained_by:
                    break
    finally:
        gc.unfreeze()
        sys.setswitchinterval(before)
    player.cut += simulator.network.queue_bound.reached
    complete = player.state == "finished" or player.show.rounds > 0
    why = "end" if player.state == "finished" else (signals[0] if signals else "the command stop")
    return outcome_of(player.show, complete=complete, why=why, seconds=(clock.monotonic_ns() - began) / 1e9, clock=clock, player=player)


def _drained(simulator: Simulator) -> bool:
    return all(connection.queued == 0 for connection in simulator.network.connections)


def outcome_of(
    show: Performance, *, complete: bool, why: str, seconds: float, clock: Clock, player: DayPlayer | None = None
) -> Outcome:  # fmt: skip
    """The account of a performance."""
    digests = {
        part.stream: {"sha256": digest.text(), "lines": digest.lines, "talk": digest.talk, "torn": digest.torn}
        for part, digest in zip(show.parts, show.whole or show.digests, strict=True)
    }
    return Outcome(
        complete, why, show.record(clock.monotonic_ns()) | {"jumped": show.jumped}, digests, list(show.damage), seconds,
        player.served if player is not None else 0, player.cut if player is not None else 0,
    )  # fmt: skip


def progress_text(record: dict[str, Any]) -> str:
    """One line about a running replay."""
    rate = record.get("rate")
    speed = record["speed"] if record["speed"] == "max" else f"{record['speed']:g}x"
    pace = f"speed {speed}" + (f", round {record['rounds'] + 1}" if record["rounds"] else "")
    parts = [
        f"{record['state']} {text_of(record['market_ns'])}", f"{record['lines']:,} lines", f"{rate:,.0f}/s" if rate is not None else "",
        pace, f"{record['clients']} clients" if "clients" in record else "",
        f"late p99 {record['late']['p99_ms']:.2f} ms" if record["late"]["lines"] else "",
    ]  # fmt: skip
    return "  ".join(part for part in parts if part)
