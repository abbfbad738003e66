"""`l2 collect STREAM`: record one stream in this terminal."""

from typing import Annotated

import typer


def register(root: typer.Typer) -> None:
    """Add `l2 collect` to the command line."""
    root.command("collect")(collect)


def collect(
    stream: Annotated[str, typer.Argument(help="iqfeed-depth-0, iqfeed-level1-0 or iqfeed-admin-0.")],
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the lease when another copy runs, instead of exit 75.")
    ] = False,
) -> None:
    """Record one stream of the feed into the journal until SIGTERM or Ctrl-C.

    `l2 up` runs one for each stream. Example: `l2 collect iqfeed-depth-0`
    """
    from l2_platform.collectors.collector import run_collector
    from l2_platform.settings import load_settings

    raise typer.Exit(run_collector(load_settings(), stream, managed=wait))
