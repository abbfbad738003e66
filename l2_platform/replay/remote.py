"""Commands of a running replay over its control port: pause, resume, speed, seek.

What does not belong here: the port itself (`feeds.iqfeed.simulator.control`), which adds status, stop and the fault switches.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from l2_platform.errors import InputError
from l2_platform.replay.choice import Day, instant_of, speed_from_text, text_of

if TYPE_CHECKING:
    from l2_platform.replay.player import DayPlayer

Command = Callable[[dict[str, Any]], dict[str, Any]]


def commands_of(player: "DayPlayer") -> Mapping[str, Command]:
    """The commands by name; each gives what it changed."""
    show = player.show

    def answer() -> dict[str, Any]:
        now = player.steady_ns()
        record = show.record(now)
        return {"state": player.state, "speed": record["speed"], "market_time": text_of(record["market_ns"]), "lines": record["lines"]}

    def pause(_: dict[str, Any]) -> dict[str, Any]:
        player.hold()
        return answer()

    def resume(_: dict[str, Any]) -> dict[str, Any]:
        player.start()
        return answer()

    def speed(command: dict[str, Any]) -> dict[str, Any]:
        wanted = speed_from_text(str(command["speed"]))
        show.pacer.set_speed(wanted, player.steady_ns(), show.reached)
        return answer()

    def seek(command: dict[str, Any]) -> dict[str, Any]:
        day = Day(show.parts, show.begin, show.end, 0)
        wanted = instant_of(str(command["to"]), "to", day)
        if not show.begin <= wanted <= show.end:
            raise InputError(f"to: what is played goes from {text_of(show.begin)} to {text_of(show.end)} New York time")
        player.seek(wanted)
        return answer()

    return {"pause": pause, "resume": resume, "speed": speed, "seek": seek}
