"""`l2 warehouse`: the embedded ClickHouse engine in the foreground."""

from typing import Annotated

import typer


def register(root: typer.Typer) -> None:
    """Add `l2 warehouse` to the command line."""
    root.command("warehouse")(warehouse)


def warehouse(
    idle_exit: Annotated[
        float | None, typer.Option("--idle-exit", metavar="S", min=0.1, help="End S seconds after the last request, on a free port.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the lease when another copy runs, instead of exit 75.")] = False,
) -> None:
    """Serve the tables on ClickHouse's HTTP interface (127.0.0.1:8123) until SIGTERM or Ctrl-C.

    `l2 up` runs it; commands start one for themselves when none runs. User `l2`, password in run/warehouse.password.
    Example: `l2 warehouse --idle-exit 60`
    """
    from l2_platform.monitoring.logs import configure_logging
    from l2_platform.settings import load_settings
    from l2_platform.warehouse.server import serve

    settings = load_settings()
    configure_logging("warehouse", settings.log)
    serve(settings, idle_exit_s=idle_exit, wait=wait)
