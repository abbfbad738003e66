"""`l2 up | down | status | logs | doctor | settings`: run an instance and look at it."""

import json
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l2_platform.cli import output

if TYPE_CHECKING:
    from pathlib import Path

    from l2_platform.operations.health import Vitals
    from l2_platform.operations.status import PartStatus, Status
    from l2_platform.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
DEMO_COST = "50 symbols, 300 messages/s on average (at most 540), 0.5 GB of disk an hour on average (at most 0.9 GB)"
"""In proportion to what was measured over 11 min at 600 messages/s: JSONL 0.71, journal 0.23, tables 0.07 GB/h; the market's rate
follows the day, 1.8 times its average at 00:00 UTC."""
LOG_POLL_S = 0.2
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
"""Terminal colours and cursor moves."""


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("up")(up)
    app.command("down")(down)
    app.command("run")(run)
    app.command("status")(status)
    app.command("logs")(logs)
    app.command("doctor")(doctor)
    app.command("settings")(settings_)


def up(as_json: AsJson = False) -> None:
    """Start everything, wait until each part is healthy, and say what runs where. A second call changes nothing.

    Example: `l2 up`; two instances side by side: `L2_HOME=/data/two L2_PORTS__BASE=20000 l2 up`
    """
    from l2_platform.clock import SystemClock
    from l2_platform.operations.plan import addresses
    from l2_platform.operations.up import up as bring_up
    from l2_platform.settings import load_settings

    settings = load_settings()
    with _Progress() as progress:
        result = bring_up(settings, SystemClock(), progress)
    if as_json:
        parts = [{"name": item.name, "state": item.state, "pid": item.pid} for item in result.vitals]
        output.print_json({"started": result.started, "parts": parts, "addresses": addresses(settings)})
        return
    names = ", ".join(f"{item.name} ({item.pid})" for item in result.vitals)
    output.line(f"{'everything is up' if result.started else 'already up, nothing to do'}: {names}")
    _say_addresses(settings)
    if settings.feed.kind == "simulated":
        output.line(f"  cost       {_cost(settings)}")
    if result.other_settings:
        output.line("note: it was started with other settings; `l2 down && l2 up` applies the present ones")
    output.line(
        'next: l2 book SYM000 --watch · l2 sql "SELECT symbol, count() FROM depth_updates GROUP BY symbol" · l2 status · l2 down'
    )


def down(as_json: AsJson = False) -> None:
    """Stop everything cleanly: collectors drain into the journal, deliveries drain the journal, the warehouse goes last.

    Example: `l2 down`
    """
    from l2_platform.clock import SystemClock
    from l2_platform.operations.down import down as take_down
    from l2_platform.settings import load_settings

    stopped = take_down(load_settings(), SystemClock(), output.note)
    if as_json:
        output.print_json({"stopped": stopped})
    else:
        output.line(f"stopped {len(stopped)} processes" if stopped else "nothing was running")


def run() -> None:
    """Run everything in the foreground until SIGTERM or Ctrl-C: what a systemd unit or a container starts (docs/deployment.md).

    Example: `L2_HOME=/var/lib/l2 l2 run`
    """
    import signal
    import threading

    from l2_platform.clock import SystemClock
    from l2_platform.operations.foreground import run as run_until
    from l2_platform.settings import load_settings

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with _Progress() as progress:
        run_until(load_settings(), SystemClock(), progress, ended, output.note)


def status(as_json: AsJson = False) -> None:
    """Show every process, stream and address; exit code 0 healthy, 1 degraded, 3 not running.

    Example: `l2 status --json | jq .overall`
    """
    from l2_platform.clock import SystemClock
    from l2_platform.operations.status import read_status
    from l2_platform.settings import load_settings

    settings = load_settings()
    found = read_status(settings, SystemClock())
    if as_json:
        output.print_json(found.as_dict())
    else:
        _show_status(found)
    raise typer.Exit(found.overall.exit_code)


def logs(
    name: Annotated[str | None, typer.Argument(help="A process, e.g. deliver-jsonl; all when left out.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on showing new lines until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=100_000, help="Lines from the end.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line: log and text.")] = False,
) -> None:
    """Show the end of the logs.

    Example: `l2 logs collector-iqfeed-depth-0 -n 50 -f`
    """
    from l2_platform.clock import SystemClock
    from l2_platform.errors import InputError
    from l2_platform.settings import load_settings

    settings = load_settings()
    paths = {path.stem: path for path in sorted(settings.log_dir.glob("*.log"))}
    if name is not None and name not in paths:
        known = ", ".join(paths) or "none yet"
        raise InputError(f"no log of {name!r} in {settings.log_dir}; there are: {known}")
    if not paths:
        raise InputError(f"no logs in {settings.log_dir}; nothing has run here yet (`l2 up`)")
    chosen = {name: paths[name]} if name is not None else paths
    offsets = {}
    for key, path in chosen.items():
        tail, offsets[key] = _tail(path, lines)
        for text in tail:
            _show_log_line(key, text, prefixed=name is None, as_json=as_json)
        if name is not None and not tail and lines and not follow:
            output.note(f"{path} is empty: {name} has had nothing to say")
    clock = SystemClock()
    while follow:
        for key, path in chosen.items():
            fresh, offsets[key] = _since(path, offsets[key])
            for text in fresh:
                _show_log_line(key, text, prefixed=name is None, as_json=as_json)
        clock.sleep(LOG_POLL_S)


def doctor(as_json: AsJson = False) -> None:
    """Check machine and settings: ports, disk, memory, clock, limits, symbols, and say what to do; exit code 1 when one fails.

    Example: `l2 doctor`
    """
    from l2_platform.clock import SystemClock
    from l2_platform.operations.doctor import Level, full
    from l2_platform.settings import load_settings

    findings = full(load_settings(), SystemClock())
    if as_json:
        output.print_json(
            [
                {"check": item.name, "level": item.level.value, "text": item.text, "advice": item.advice}
                for item in findings
            ]
        )
    else:
        rows = [[_coloured(item.level.value), item.name, item.text, item.advice] for item in findings]
        output.table("", ["", "check", "found", "what to do"], rows)
    raise typer.Exit(int(any(item.level is Level.FAIL for item in findings)))


def settings_(
    changed: Annotated[bool, typer.Option("--changed", help="Only what differs from its default.")] = False,
    bounds: Annotated[bool, typer.Option("--bounds", help="Every limit: default, range, what happens there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show every setting: effective value (secrets masked), variable, default, meaning.

    Example: `L2_JSONL__LEVELS=5 l2 settings --changed`
    """
    from dataclasses import asdict

    from l2_platform.monitoring.limits import limits, markdown
    from l2_platform.settings import Settings, load_settings

    if bounds:
        output.print_json([asdict(limit) for limit in limits()]) if as_json else output.line(markdown().removesuffix("\n"))
        return
    rows = [row for row in _setting_rows(load_settings(), Settings) if not changed or row["value"] != row["default"]]
    output.records(rows, as_json=as_json, title="settings", empty="every setting has its default")


class _Progress:
    """Steps and the state of the parts: a live line on a terminal, one line per news in a pipe; all on stderr."""

    def __init__(self) -> None:
        self._live: Any = None
        self._healthy: set[str] = set()

    def __enter__(self) -> "_Progress":
        if sys.stderr.isatty():
            self._live = output.console(stderr=True).status("looking around")
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def step(self, text: str) -> None:
        """A new step begins."""
        if self._live is not None:
            self._live.update(text)
            self._live.console.print(f"· {text}")
        else:
            output.note(text)

    def waiting(self, vitals: Sequence["Vitals"]) -> None:
        """Name what became healthy, and what is still awaited."""
        for item in vitals:
            if item.healthy and item.name not in self._healthy:
                self._healthy.add(item.name)
                if self._live is not None:
                    self._live.console.print(f"  [green]✓[/green] {item.name}")
                else:
                    output.note(f"  {item.name} is healthy")
        if self._live is not None:
            left = [f"{item.name} ({item.reason})" for item in vitals if not item.healthy]
            self._live.update(f"waiting for {', '.join(left)}" if left else "done")


def _cost(settings: "Settings") -> str:
    simulator = settings.simulator
    if simulator.symbols <= 50 and simulator.rate <= 300:
        return DEMO_COST
    return f"{simulator.symbols:,} symbols, {simulator.rate:,.0f} messages/s on average (the default: {DEMO_COST})"


def _say_addresses(settings: "Settings") -> None:
    from l2_platform.operations.plan import addresses

    for name, address in addresses(settings).items():
        output.line(f"  {name:<10} {address}")


def _show_status(found: "Status") -> None:
    if found.parts:
        columns = ["part", "state", "pid", "up", "cpu %", "memory", "lines", "lag", "beat", "gen"]
        output.table("", columns, [_part_row(part) for part in found.parts], numbers=columns[2:])
    if found.streams:
        rows = [
            [item.stream, item.session_date, f"{item.last_seq:,}", _seconds(item.durable_age_s)]
            for item in found.streams
        ]
        output.table(
            "", ["stream", "session date", "durable seq", "last byte"], rows, numbers=["durable seq", "last byte"]
        )
    if found.parts:
        for name, address in found.addresses.items():
            output.line(f"  {name:<10} {address}")
    free, reserve = output.text_from_bytes(found.disk_free_bytes), output.text_from_bytes(found.disk_reserve_bytes)
    output.line(f"  disk       {free} free (reserve {reserve}), {found.disk_state}")
    if found.quarantined:
        output.line(f"  quarantine {found.quarantined:,} rows that a sink refused (`l2 quarantine ls`)")
    reasons = "; ".join(found.reasons) or ("" if found.parts else "`l2 up` starts everything")
    output.line(f"{found.overall.value}{': ' + reasons if reasons else ''}")


def _part_row(part: "PartStatus") -> list[Any]:
    lines = part.numbers.get("lines", part.numbers.get("rows", part.numbers.get("messages")))
    lag = part.numbers.get("lag_lines")
    state = part.state if part.healthy else f"{part.state}: {part.reason}" if part.reason != part.state else part.state
    return [
        part.name, _coloured(state, good=part.healthy), part.pid or None, _seconds(part.uptime_s),
        f"{part.cpu_percent:.0f}" if part.cpu_percent is not None else None,
        output.text_from_bytes(part.rss_bytes) if part.rss_bytes is not None else None,
        f"{lines:,}" if isinstance(lines, int) else None, f"{lag:,}" if isinstance(lag, int) else None,
        _seconds(part.heartbeat_age_s), part.generation,
    ]  # fmt: skip


def _seconds(value: float | None) -> str | None:
    return None if value is None else output.text_from_seconds(value)


def _coloured(text: str, *, good: bool | None = None) -> Any:
    if not sys.stdout.isatty():
        return text
    from rich.text import Text

    style = {"ok": "green", "warn": "yellow", "fail": "bold red"}.get(text, "")
    if good is not None:
        style = "green" if good else "bold red"
    return Text(text, style=style)


def _setting_rows(settings: Any, model: Any, prefix: str = "") -> list[dict[str, Any]]:
    from pydantic import SecretStr

    from l2_platform.settings import Section, variable_of

    rows: list[dict[str, Any]] = []
    for name, field in model.model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Section):
            rows += _setting_rows(value, type(value), f"{prefix}{name}.")
            continue
        default = field.get_default(call_default_factory=True)
        shown, usual = (_setting_text(item, SecretStr) for item in (value, default))
        if f"{prefix}{name}" == "home":
            # `home` is made absolute; its default is relative to the working directory
            usual = str(default.absolute())
        path = f"{prefix}{name}"
        meaning = " ".join((field.description or "").split())
        rows.append(
            {"setting": path, "variable": variable_of(path), "value": shown, "default": usual, "meaning": meaning}
        )
    return rows


def _setting_text(value: Any, secret: type) -> str:
    if isinstance(value, secret):
        return "********" if value.get_secret_value() else ""  # type: ignore[attr-defined]
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return "" if value is None else str(value)


def _show_log_line(name: str, text: str, *, prefixed: bool, as_json: bool) -> None:
    """One line of a log; colours that a program wrote into its log reach a terminal only."""
    if as_json or not sys.stdout.isatty():
        text = ANSI.sub("", text)
    if as_json:
        # one object a line, also on a terminal: it never ends while following
        output.line(json.dumps({"log": name, "text": text}, ensure_ascii=False))
    else:
        output.line(f"{name}: {text}" if prefixed else text)


def _tail(path: "Path", count: int) -> tuple[list[str], int]:
    size = path.stat().st_size
    with path.open("rb") as file:
        # 300 bytes is a long log line; a tail of very long ones comes out shorter, never wrong
        file.seek(max(0, size - 300 * max(count, 1) - 4096))
        data = file.read(size)
    return (data.decode("utf-8", "replace").splitlines()[-count:] if count else []), size


def _since(path: "Path", offset: int) -> tuple[list[str], int]:
    if not path.exists():
        return [], 0
    size = path.stat().st_size
    if size < offset:
        offset = 0  # rotated
    if size == offset:
        return [], offset
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(size - offset)
    whole = data[: data.rfind(b"\n") + 1]
    return whole.decode("utf-8", "replace").splitlines(), offset + len(whole)
