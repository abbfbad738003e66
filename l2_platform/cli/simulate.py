"""`l2 simulate`: the simulated market in the foreground, and `l2 simulate ctl` to command a running one."""

from pathlib import Path
from typing import Annotated, Any

import typer


def register(root: typer.Typer) -> None:
    """Add `l2 simulate` to the command line."""
    group = typer.Typer(invoke_without_command=True, help=simulate.__doc__)
    group.callback()(simulate)
    group.command("ctl")(control)
    root.add_typer(group, name="simulate")


def simulate(
    context: typer.Context,
    symbols: Annotated[int | None, typer.Option(help="Instruments, 1 to 10,000.")] = None,
    rate: Annotated[float | None, typer.Option(help="Messages a second on average, 1 to 400,000.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same market.")] = None,
    shape: Annotated[str | None, typer.Option(help="Depth: orders, venues, levels or mixed.")] = None,
    flat: Annotated[bool, typer.Option("--flat", help="The same rate all day, without the daily shape.")] = False,
    ledger_bytes: Annotated[int | None, typer.Option(help="Keep everything sent on disk up to this size.")] = None,
    play: Annotated[Path | None, typer.Option(help="Play this recorded wire file (gz ok) instead.")] = None,
    channel: Annotated[str, typer.Option(help="What --play holds: depth or level1.")] = "depth",
    speed: Annotated[float, typer.Option(help="Times the recording's own pace; 0 = as fast as clients read.")] = 1.0,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the lease when another copy runs, instead of exit 75.")
    ] = False,
) -> None:
    """Run an IQConnect look-alike on the usual ports until SIGTERM or Ctrl-C.

    Without options it takes symbols, rate, seed and shape from the settings. Example: `l2 simulate --symbols 200 --rate 5000`
    """
    if context.invoked_subcommand is not None:
        return
    import logging

    from l2_platform.feeds.iqfeed.simulator.server import Recording, run
    from l2_platform.settings import SimulatorSettings, load_settings

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = load_settings()
    given: dict[str, Any] = {
        "symbols": symbols, "rate": rate, "seed": seed, "shape": shape, "ledger_bytes_max": ledger_bytes,
    }  # fmt: skip
    chosen = {name: value for name, value in given.items() if value is not None}
    if chosen:
        section = _checked(SimulatorSettings, {**settings.simulator.model_dump(), **chosen})
        settings = settings.model_copy(update={"simulator": section})
    recording = Recording(play, channel, speed) if play is not None else None
    raise typer.Exit(run(settings, flat=flat, recording=recording, wait=wait))


def control(command: Annotated[str, typer.Argument(help="A JSON object with `cmd`; see docs/simulator.md.")]) -> None:
    """Send one command to the running simulated market and print its answer.

    Example: `l2 simulate ctl '{"cmd": "drop", "channel": "depth"}'`
    """
    import json

    from l2_platform.feeds.iqfeed.simulator.control import ask
    from l2_platform.settings import load_settings

    answer = ask(load_settings().ports.simulator_control, command)
    typer.echo(json.dumps(answer, indent=2))
    raise typer.Exit(0 if answer.get("ok") else 1)


def _checked(model: Any, values: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from l2_platform.errors import ConfigError

    try:
        return model(**values)
    except ValidationError as error:
        reasons = [f"--{str(item['loc'][-1]).replace('_', '-')}: {item['msg']}" for item in error.errors()]
        raise ConfigError("; ".join(reasons)) from None
