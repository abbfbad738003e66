"""`l2 metrics`: what every worker says of itself, as text for Prometheus."""

from typing import Annotated

import typer

from l2_platform.cli import output


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("metrics")(metrics)


def metrics(
    openmetrics: Annotated[bool, typer.Option("--openmetrics", help="OpenMetrics text instead of Prometheus text.")] = False,
) -> None:
    """Print every worker's numbers and limits (value, high-water mark, how often reached) as Prometheus text.

    Example: `l2 metrics | grep l2_bound_high`
    """
    from l2_platform.clock import SystemClock
    from l2_platform.monitoring.heartbeat import read_heartbeat
    from l2_platform.monitoring.metrics import render
    from l2_platform.settings import load_settings

    settings = load_settings()
    paths = sorted((settings.run_dir / "heartbeats").glob("*.json"))
    records = [record for path in paths if (record := read_heartbeat(path)) is not None]
    output.line(render(records, SystemClock().now_ns(), openmetrics=openmetrics).removesuffix("\n"))
