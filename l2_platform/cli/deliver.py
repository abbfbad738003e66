"""`l2 deliver SINK`: one delivery process in the foreground."""

from typing import Annotated

import typer


def register(root: typer.Typer) -> None:
    """Add `l2 deliver` to the command line."""
    root.command("deliver")(deliver)


def deliver(
    sink: Annotated[str, typer.Argument(help="clickhouse or jsonl.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the lease when another copy runs, instead of exit 75.")] = False,
) -> None:
    """Deliver every stream of the journal to one sink until SIGTERM or Ctrl-C.

    `l2 up` runs one for each sink that is switched on. Example: `l2 deliver jsonl`
    """
    from l2_platform.cli.output import ready_kernels
    from l2_platform.settings import load_settings

    settings = load_settings()
    ready_kernels(settings.cache_dir)
    from l2_platform.delivery.delivery import run_delivery

    raise typer.Exit(run_delivery(sink, settings, wait=wait))
