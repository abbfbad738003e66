"""`l2 feed probe`: which disputed facts of the feed's protocol hold at this account, as a report to keep."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from l2_platform.cli import output

if TYPE_CHECKING:
    from l2_platform.feeds.iqfeed.probe import ProbeReport
    from l2_platform.settings import Settings

_SYMBOLS_MAX = 20
_SECONDS_DEFAULT = 300.0


def register(root: typer.Typer) -> None:
    """Add `l2 feed probe` to the command line."""
    feed = typer.Typer(name="feed", help="Questions to the feed itself.", no_args_is_help=True)
    feed.callback()(_feed)
    feed.command("probe")(probe)
    root.add_typer(feed)


def _feed() -> None:
    """Questions to the feed itself."""


def probe(
    seconds: Annotated[float, typer.Option(help="How long to listen, s.", min=1, max=3600)] = _SECONDS_DEFAULT,
    symbols: Annotated[str, typer.Option(help="Comma separated; none = the first of the symbols file.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
) -> None:
    """Ask the feed which disputed or unverified facts of its protocol hold there; the report is kept under `reports`.

    Example: `l2 feed probe --seconds 60 --symbols AAPL,@ESZ26`
    """
    from l2_platform.clock import SystemClock
    from l2_platform.collectors.link import session_options
    from l2_platform.errors import FeedError
    from l2_platform.feeds.iqfeed.probe import ProbeTarget, run_probe
    from l2_platform.settings import load_settings

    settings = load_settings()
    target = ProbeTarget(
        host=settings.feed.host,
        level1_port=settings.ports.level1,
        level2_port=settings.ports.level2,
        admin_port=settings.ports.admin,
        options=session_options(settings.feed),
        symbols=_chosen(symbols, settings),
        seconds=seconds,
    )
    try:
        report = run_probe(target, SystemClock(), lambda step: output.note(f"asking: {step}"))
    except FeedError as error:
        simulated = "start the simulated market first (`l2 up` or `l2 simulate`), or set L2_FEED__KIND=iqfeed"
        advice = simulated if settings.feed.kind == "simulated" else "is IQConnect up, and are L2_FEED__HOST and the ports right?"
        raise FeedError(f"{error.message}; {advice}") from None
    path = _keep(report, settings)
    if as_json:
        output.print_json({**report.as_dict(), "file": path})
        return
    output.table(
        "What holds at this feed", ("fact", "answer"), [(finding.fact, finding.answer) for finding in report.findings]
    )
    output.note(f"the whole report, with numbers and examples: {path}")


def _chosen(symbols: str, settings: "Settings") -> tuple[str, ...]:
    from l2_platform.monitoring.symbols_file import load_symbols, simulated_symbols

    names = tuple(name.strip().upper() for name in symbols.split(",") if name.strip())
    if names:
        return names[:_SYMBOLS_MAX]
    if settings.symbols_file.exists() or settings.feed.kind != "simulated":
        return load_symbols(settings.symbols_file, limit=settings.symbols.limit).symbols[:_SYMBOLS_MAX]
    return simulated_symbols(settings.simulator.symbols)[:_SYMBOLS_MAX]


def _keep(report: "ProbeReport", settings: "Settings") -> Path:
    stamp = datetime.fromtimestamp(report.started_ns / 1e9, UTC).strftime("%Y%m%dT%H%M%SZ")
    path = settings.home / "reports" / f"probe-{stamp}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report.as_dict(), indent=2) + "\n", encoding="utf-8")
    return path
