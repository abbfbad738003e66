"""`l2 gaps`: what is missing, from when to when, and why."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from l2_platform.cli import gaps_explain, gaps_repair

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from l2_platform.settings import Settings

QUERY = """
SELECT gap_id, stream, session_date, state, cause, ts_from, ts_to,
       if(ts_to IS NULL, NULL, round((toUnixTimestamp64Nano(assumeNotNull(ts_to)) - toUnixTimestamp64Nano(ts_from)) / 1e9, 3)) AS seconds,
       multiIf(state = 'withdrawn' OR explanation != '', '', seconds_now > {error_s:Float64}, 'error',
               seconds_now > {warn_s:Float64}, 'warn', '') AS alert,
       explanation, repair_state, symbols, evidence
FROM (SELECT *, (toUnixTimestamp64Nano(ifNull(ts_to, now64(9, 'UTC'))) - toUnixTimestamp64Nano(ts_from)) / 1e9 AS seconds_now FROM gaps)
WHERE (session_date = {date:Date} OR {any_date:UInt8}) AND (state != 'withdrawn' OR {all:UInt8})
  AND ({symbol:String} = '' OR empty(symbols) OR has(symbols, {symbol:String}))
ORDER BY ts_from DESC, stream, gap_id LIMIT {limit:UInt32}
"""


class _ListFirst(typer.core.TyperGroup):
    """`l2 gaps --date …` means `l2 gaps list --date …`."""

    show_first = True

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `list` in front of what is no subcommand and no question for help."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def register(root: typer.Typer) -> None:
    """Add `l2 gaps` to the command line."""
    group = typer.Typer(name="gaps", help="What is missing, from when to when, why, and what became of it.")
    group.command("list")(gaps)
    group.command("explain")(gaps_explain.explain)
    group.command("export")(gaps_explain.export)
    group.command("repair")(gaps_repair.repair)
    root.add_typer(group, name="gaps", cls=_ListFirst)


def gaps(
    date: Annotated[str | None, typer.Option("--date", help="Session date, YYYY-MM-DD.")] = None,
    symbol: Annotated[str, typer.Option("--symbol", help="Gaps that touch this symbol.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Also silences in which nothing was lost.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="Most rows; the newest.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one object a gap.")] = False,
) -> None:
    """List the gaps of the recording: bounds, cause and state, newest state of each.

    Example: `l2 gaps --date 2026-11-20 --symbol SYM000`
    """
    from l2_platform.cli.output import note, records
    from l2_platform.cli.times import session_date_from_text
    from l2_platform.settings import load_settings
    from l2_platform.warehouse.client import connect
    from l2_platform.warehouse.schema import migrate

    settings = load_settings()
    number = session_date_from_text(date, "--date") if date else 19700101
    text = f"{number // 10000:04d}-{number // 100 % 100:02d}-{number % 100:02d}"
    client = connect(settings)
    try:
        migrate(client, settings.clickhouse.database)
        client.database = settings.clickhouse.database
        parameters = {"date": text, "any_date": int(not date), "all": int(everything), "symbol": symbol, "limit": limit + 1,
                      "warn_s": settings.gaps.warn_s, "error_s": settings.gaps.error_s}  # fmt: skip
        result = client.query(QUERY, parameters=parameters)
        rows: list[dict[str, Any]] = [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]
        unread = _explain_open(rows, settings, client)
    finally:
        client.close()
    if len(rows) > limit:
        note(f"there are more than {limit} gaps, these are the newest; --date, --symbol and --limit choose others")
    if unread:
        note(f"halts explain no open gap: {unread}")
    rows = rows[:limit][::-1]
    records(rows, as_json=as_json, title="gaps", empty="no gap is recorded" + (f" on {text}" if date else ""))


def _explain_open(rows: list[dict[str, Any]], settings: "Settings", client: "Client") -> str:
    """Put `halt` to the open silences that halts in force cover; why halts cover nothing, where they cannot be read."""
    from l2_platform.clock import SystemClock
    from l2_platform.quality.ledger import load_gaps
    from l2_platform.quality.silence import halted_now

    if all(row["state"] != "open" for row in rows):
        return ""
    found = load_gaps(client, settings.clickhouse.database, only_open=True)
    halted = halted_now(settings, found, SystemClock().now_ns())
    for row in rows:
        if row["gap_id"] in halted.gap_ids:
            row |= {"explanation": "halt", "alert": ""}
    return halted.message
