"""`l2 notify`: who is told of failures, what was told, and a test message."""

from datetime import UTC, datetime
from typing import Annotated

import typer


def register(root: typer.Typer) -> None:
    """Add `l2 notify` to the command line."""
    root.command("notify")(notify)


def notify(
    test: Annotated[bool, typer.Option("--test", help="Send a message to every receiver now.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON.")] = False,
) -> None:
    """Show who is told of failures and what waits to be told; --test sends a message. Exit code 1 when a receiver does not take it.

    Receivers are URLs of the library apprise, separated by spaces, in L2_NOTIFY__URLS or better in a file that L2_NOTIFY__URLS_FILE
    names: `mailtos://user:password@example.com`, `jsons://example.com/hook` (a webhook), `slack://…`, and a hundred others. Example:
    `l2 notify --test`
    """
    from l2_platform.cli.output import line, print_json
    from l2_platform.clock import SystemClock
    from l2_platform.operations.notifying import Notifier
    from l2_platform.settings import load_settings

    notifier = Notifier(load_settings(), SystemClock())
    kinds = [url.partition("://")[0] for url in notifier.receivers]
    if test:
        _test(notifier.send_test() if kinds else [], kinds, as_json=as_json)
        return
    told = notifier.look()
    last = max(told.sent_ns, default=0)
    shown = {
        "receivers": kinds, "told_in_the_last_hour": len(told.sent_ns), "waiting": len(told.waiting) + told.uncounted,
        "last_message": f"{datetime.fromtimestamp(last // 10**9, UTC):%Y-%m-%d %H:%M:%S} UTC" if last else None,
        "not_over": sorted(told.causes), "not_taken_yet": told.message["title"] if told.message else None,
    }  # fmt: skip
    if as_json:
        print_json(shown)
        return
    for name, value in shown.items():
        text = ", ".join(value) if isinstance(value, list) else value
        line(f"{name.replace('_', ' ')}\t{'none' if text in {None, ''} else text}")


def _test(failed: list[int], kinds: list[str], *, as_json: bool) -> None:
    from l2_platform.cli.output import line, note, print_json

    if not kinds:
        note("nobody is to be told: set L2_NOTIFY__URLS or L2_NOTIFY__URLS_FILE")
        raise typer.Exit(2)
    results = [
        {"receiver": number, "kind": kind, "took_it": number not in failed} for number, kind in enumerate(kinds, 1)
    ]
    if as_json:
        print_json(results)
    else:
        for item in results:
            line(f"receiver {item['receiver']} ({item['kind']}): {'took it' if item['took_it'] else 'did not take it'}")
    if failed:
        note("look at the URL (host, port, login) and at whether this machine reaches it")
        raise typer.Exit(1)
