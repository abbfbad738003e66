"""What can go wrong in a run: each fault begins, and some end; a seed chooses two to six of them, overlapping."""

import random
from collections.abc import Callable

from tests.simulation.network import CALM_MS
from tests.simulation.schedule import NS
from tests.simulation.world import World

Act = Callable[[World, random.Random], object]
Fault = tuple[Act, Act | None]
FAULTS: dict[str, Fault] = {}


def _fault(name: str, begin: Act, end: Act | None = None) -> None:
    FAULTS[name] = begin, end


def _set(part: str, name: str, value: object) -> Act:
    return lambda world, rng: setattr(getattr(world, part), name, value)


def _break(what: str) -> Act:
    return lambda world, rng: world.market.trouble(what)


for _how in ("fin", "rst", "half_open", "stall"):
    _fault(f"net_{_how}", _break(_how))


def _refuse(world: World, rng: random.Random) -> None:
    world.market.listening = False
    world.market.trouble(rng.choice(("fin", "rst")))


def _accept(world: World, rng: random.Random) -> None:
    world.market.listening = True


def _swallow(world: World, rng: random.Random) -> None:
    world.market.black_hole = True
    world.market.trouble("half_open")


_fault("net_refuse", _refuse, _accept)
_fault("net_black_hole", _swallow, _set("market", "black_hole", value=False))
_fault("feed_garbage", _set("market", "garbage", value=True), _set("market", "garbage", value=False))
_fault("feed_repeats", _set("market", "repeats", value=True), _set("market", "repeats", value=False))
_fault("feed_burst", _set("market", "pace_ms", (1, 5)), _set("market", "pace_ms", CALM_MS))
_fault("feed_upstream", lambda world, rng: world.market.set_upstream(False), lambda world, rng: world.market.set_upstream(True))


def _fail(call: str) -> Act:
    return lambda world, rng: world.disk.failing.__setitem__(call, rng.choice((1, 1, 2, 5)))


def _mend(call: str) -> Act:
    return lambda world, rng: world.disk.failing.pop(call, None)


def _full(world: World, rng: random.Random) -> None:
    world.disk.full = True
    world.disk.free = rng.choice((1 << 40, 1000))


def _room(world: World, rng: random.Random) -> None:
    world.disk.full, world.disk.free = False, 1 << 40


for _call in ("fdatasync", "fsync", "writev", "rename", "create"):
    _fault(f"disk_eio_{_call}", _fail(_call), _mend(_call))
_fault("disk_full", _full, _room)
_fault("disk_short_writes", _set("disk", "short_writes", value=True), _set("disk", "short_writes", value=False))
_fault("disk_slow", _set("disk", "sync_ns", (200_000_000, 1_500_000_000)), _set("disk", "sync_ns", (50_000, 2_000_000)))


def _kill(name: str) -> Act:
    def now_or_at_a_call(world: World, rng: random.Random) -> None:
        worker = world.workers[name]
        if worker.calls is None or rng.random() < 0.4:
            world.kill(worker)
        else:
            worker.calls.on_death = lambda: world.kill(worker)
            worker.calls.die_at = worker.calls.count + rng.randint(1, 60)

    return now_or_at_a_call


def _power(world: World, rng: random.Random) -> None:
    worker = world.workers[rng.choice(("collector", "collector", "sealer", "deliver"))]
    if worker.calls is None or rng.random() < 0.4:
        world.cut_power()
    else:
        worker.calls.on_death = world.cut_power
        worker.calls.die_at = worker.calls.count + rng.randint(1, 60)


def _pause(name: str) -> Act:
    def stop(world: World, rng: random.Random) -> None:
        world.disk.trouble()
        world.workers[name].process.paused_until = world.schedule.now + rng.randint(NS // 2, 5 * NS)

    return stop


for _name in ("collector", "deliver", "sealer"):
    _fault(f"kill_{_name}", _kill(_name))
_fault("kill_collector_again", _kill("collector"))
_fault("power", _power)
_fault("power_again", _power)
for _name in ("collector", "deliver"):
    _fault(f"pause_{_name}", _pause(_name))


def _standby(world: World, rng: random.Random) -> None:
    if "standby" not in world.workers:
        world._add("standby", world._start_collector)
    if rng.random() < 0.6:
        _kill("collector")(world, rng)


_fault("standby", _standby)


def _step(world: World, rng: random.Random) -> None:
    world.clock.stepped += rng.choice((-1, 1)) * rng.choice((1, 30, 3600, 86_400)) * NS
    world.oracle.clock_stepped = True


_fault("clock_step", _step)
_fault("sink_poison", _set("warehouse", "poison", value=True))
for _mode in ("down", "slow", "ambiguous", "refusing"):
    _fault(f"sink_{_mode}", _set("warehouse", "mode", _mode), _set("warehouse", "mode", "up"))
