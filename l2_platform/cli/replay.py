"""`l2 replay`: a stored day over IQFeed's own protocol or to a Kafka topic, and the commands of a running replay."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from l2_platform.replay.serving import Order, Outcome, Report
    from l2_platform.settings import Settings

app = typer.Typer(
    help="Play a stored day again: over IQFeed's own protocol, or to a Kafka topic.",
    epilog="l2 replay 2026-11-20 --speed 10  ·  l2 replay 2026-11-20 --symbols SYM000,SYM001 --from 10:00:00 --to 10:30:00  ·  "
    "l2 replay pause | resume | speed 20 | seek 10:15:00 | status | stop  ·  l2 replay 2026-11-20 --to-kafka ticks",
    no_args_is_help=True,
)

PortBase = Annotated[
    int | None,
    typer.Option("--port-base", help="Level 1 on this + 9, Level 2 + 20, admin + 30, commands + 39; else as `l2 settings` says."),
]
AsJson = Annotated[bool, typer.Option("--json", help="The result as JSON.")]


class _ServeFirst(typer.core.TyperGroup):
    """`l2 replay DATE …` means `l2 replay serve DATE …`."""

    show_first = True

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["serve", *args]
        return super().parse_args(ctx, args)


def register(root: typer.Typer) -> None:
    """Add `l2 replay` to the command line."""
    root.add_typer(app, name="replay", cls=_ServeFirst)


@app.command("serve")
def serve_day(
    date: Annotated[str, typer.Argument(help="Session date, YYYY-MM-DD or YYYYMMDD.")],
    stream: Annotated[list[str] | None, typer.Option("--stream", help="Play this stream; may be given several times.")] = None,
    symbols: Annotated[str | None, typer.Option("--symbols", help="Only these, comma separated.")] = None,
    speed: Annotated[str, typer.Option("--speed", help="Times the original pace (0.01 to 100,000), or `max`.")] = "1",
    begin: Annotated[str, typer.Option("--from", help="10:30:00 New York time, or 2026-11-20T10:30:00[offset].")] = "",
    end: Annotated[str, typer.Option("--to", help="The same, for the end.")] = "",
    port_base: PortBase = None,
    clients: Annotated[int, typer.Option("--clients", min=0, max=1000, help="Begin when so many clients watch.")] = 1,
    start_paused: Annotated[bool, typer.Option("--start-paused", help="Begin at `l2 replay resume` only.")] = False,
    loop: Annotated[bool, typer.Option("--loop", help="At its end begin again, the same bytes, until it is stopped.")] = False,
    to_kafka: Annotated[str | None, typer.Option("--to-kafka", metavar="TOPIC", help="Send records to this topic instead.")] = None,
    bootstrap: Annotated[str | None, typer.Option("--bootstrap", help="Kafka brokers, host:port,… (else as `l2 settings` says).")] = None,
    as_json: AsJson = False,
) -> None:
    """Serve a stored day as IQConnect would: Level 1, Level 2 and admin ports on 127.0.0.1, several clients, each with its own symbols.

    Lines go out as they were received, paced by their receive times, until the day ends, Ctrl-C, or `l2 replay stop`. The result has the
    SHA-256 of each stream's market lines: the same as `l2 journal digest` of the stream, and of a journal that recorded the replay whole.
    Exit codes: 0 all was played · 1 damage in the journal was met, the rest was played · 2 wrong input · 130 stopped before the end.
    Example: `l2 replay 2026-11-20 --symbols SYM000,SYM001 --speed 10 --port-base 21000`
    """
    from l2_platform.cli.output import ready_kernels
    from l2_platform.cli.times import session_date_from_text
    from l2_platform.errors import InputError
    from l2_platform.settings import load_settings

    settings = _settings_at(load_settings(), port_base)
    session_date = session_date_from_text(date, "DATE")
    ready_kernels(settings.cache_dir)
    from l2_platform.replay.choice import speed_from_text
    from l2_platform.replay.serving import Order, serve

    chosen = tuple(dict.fromkeys(name.strip() for name in (symbols or "").split(",") if name.strip()))
    order = Order(
        session_date, tuple(stream or ()), chosen, speed_from_text(speed), begin, end, clients=clients, paused=start_paused, loop=loop
    )
    if loop and to_kafka is not None:
        raise InputError("--loop plays to clients only: a topic would get records of the same keys again; leave one of the two out")
    with _progress() as report:
        if to_kafka is not None:
            outcome = _to_kafka(settings, order, to_kafka, bootstrap, report)
        else:
            outcome = serve(settings, order, report=report, opened=lambda: _announce(settings))
    _tell(outcome, as_json=as_json)


@app.command("pause")
def pause(port_base: PortBase = None) -> None:
    """Let a running replay stand still; clients keep their connection and its clock. Example: `l2 replay pause`"""
    _command({"cmd": "pause"}, port_base)


@app.command("resume")
def resume(port_base: PortBase = None) -> None:
    """Go on, or begin at once. Example: `l2 replay resume --port-base 21000`"""
    _command({"cmd": "resume"}, port_base)


@app.command("speed")
def speed_of(
    speed: Annotated[str, typer.Argument(help="Times the original pace, or `max`.")], port_base: PortBase = None
) -> None:
    """Change the speed of a running replay. Example: `l2 replay speed 20`"""
    _command({"cmd": "speed", "speed": speed}, port_base)


@app.command("seek")
def seek(
    to: Annotated[str, typer.Argument(help="10:30:00 New York time, or a whole instant.")], port_base: PortBase = None
) -> None:
    """Go to another time of the day; clients get CLEAR DEPTH and the books, F and P as of then. Example: `l2 replay seek 10:30:00`"""
    _command({"cmd": "seek", "to": to}, port_base)


@app.command("status")
def status(port_base: PortBase = None) -> None:
    """Show where a running replay is, who is connected, and how late lines were, as JSON. Example: `l2 replay status`"""
    _command({"cmd": "status"}, port_base)


@app.command("stop")
def stop(port_base: PortBase = None) -> None:
    """End a running replay cleanly. Example: `l2 replay stop`"""
    _command({"cmd": "stop"}, port_base)


def _command(command: dict[str, Any], port_base: int | None) -> None:
    from l2_platform.cli.output import print_json
    from l2_platform.errors import InputError
    from l2_platform.feeds.iqfeed.simulator.control import ask
    from l2_platform.settings import load_settings

    settings = _settings_at(load_settings(), port_base)
    answer = ask(settings.ports.simulator_control, command, what="replay", start="l2 replay DATE")
    if not answer.pop("ok"):
        raise InputError(f"the process on port {settings.ports.simulator_control} refuses: {answer['error']}")
    print_json(answer)


def _settings_at(settings: "Settings", port_base: int | None) -> "Settings":
    if port_base is None:
        return settings
    from pydantic import ValidationError

    from l2_platform.errors import InputError
    from l2_platform.settings import PortSettings

    try:
        ports = PortSettings(base=port_base)
    except ValidationError as error:
        raise InputError(f"--port-base {port_base}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    return settings.model_copy(update={"ports": ports})


def _announce(settings: "Settings") -> None:
    from l2_platform.cli.output import note

    ports = settings.ports
    note(f"Level 1 on 127.0.0.1:{ports.level1}, Level 2 on {ports.level2}, admin on {ports.admin}, commands on {ports.simulator_control}")


def _to_kafka(settings: "Settings", order: "Order", topic: str, bootstrap: str | None, report: "Report") -> "Outcome":
    from l2_platform.replay.to_kafka import send_day

    if bootstrap is not None:
        settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"bootstrap": bootstrap})})
    return send_day(settings, order, topic, report=report)


@contextmanager
def _progress() -> Iterator["Report"]:
    """A bar with market time, rate and clients on a terminal; a line every `replay.report_s` elsewhere."""
    from l2_platform.cli.output import console, note
    from l2_platform.replay.serving import progress_text

    if not sys.stderr.isatty():
        yield lambda record: note(progress_text(record))
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

    columns = [SpinnerColumn(), BarColumn(bar_width=24), TaskProgressColumn(), TextColumn("{task.description}")]
    with Progress(*columns, console=console(stderr=True), transient=True, refresh_per_second=5) as bar:
        task = bar.add_task("waiting for clients", total=1.0)

        def report(record: dict[str, Any]) -> None:
            span = max(1, record["end_ns"] - record["begin_ns"])
            bar.update(task, completed=(record["market_ns"] - record["begin_ns"]) / span, description=progress_text(record))

        yield report


def _tell(outcome: "Outcome", *, as_json: bool) -> None:
    from l2_platform.cli.output import note, print_json, table
    from l2_platform.replay.choice import text_of

    record = outcome.record
    if as_json:
        print_json(
            record
            | {
                "complete": outcome.complete, "why": outcome.why, "seconds": round(outcome.seconds, 3), "clients": outcome.clients,
                "cut": outcome.cut, "streams": outcome.digests, "damage": outcome.damage,
            }
        )  # fmt: skip
    else:
        rows = [
            (name, found["lines"], found["talk"] + found["torn"], found["sha256"]) for name, found in outcome.digests.items()
        ]
        columns = ["stream", "market lines", "left out", "sha256"]
        table(f"replay of {record['session_date']}", columns, rows, numbers=columns[1:3])
        late = record["late"]
        pace = "unpaced"
        if late["lines"]:
            pace = f"late p50 {late['p50_ms']:.3f} ms, p99 {late['p99_ms']:.3f} ms, most {late['max_ms']:.3f} ms"
        rate = record["lines"] / max(outcome.seconds, 1e-9)
        note(
            f"{text_of(record['begin_ns'])} to {text_of(record['market_ns'])} New York time in {outcome.seconds:.1f} s, "
            f"{rate:,.0f} lines/s; {pace}; {outcome.clients} clients, {outcome.cut} of them cut because they did not read"
        )
        if record["rounds"]:
            note(f"the day was played {record['rounds']} times whole; the digests are of the last of them")
    for reason in outcome.damage:
        note(f"damage: {reason}")
    if not outcome.complete:
        note(f"stopped by {outcome.why} before the end ({text_of(record['end_ns'])})")
        raise typer.Exit(130)
    if record["damaged"]:
        raise typer.Exit(1)
