"""Every limit in words: what happens when it is reached, and which metric shows how near it is.

One entry for every setting that holds a number, so that none is forgotten (a test compares the two), and the fixed limits beside
them. What does not belong here: the numbers themselves (settings), counting (bounds).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from l2_platform.settings import Section, Settings

AT_LIMIT: Final[dict[str, str]] = {
    "feed.depth_levels_max": "the feed sends no deeper levels",
    "feed.field_ack_s": "fields are asked for in the other form, then taken as the lines show them (`fields_unacknowledged`)",
    "feed.connect_timeout_s": "the attempt failed (`connect_failed`) and is made again; a feed that takes no commands for so long is left",
    "feed.suspect_s": "the link is suspect; a provisional gap opens",
    "feed.silence_s": "the connection is closed (`silence`) and made anew; a gap is recorded",
    "feed.reconnect_first_s": "the next attempt is made; the wait doubles, with jitter",
    "feed.reconnect_cap_s": "the wait between two attempts grows no further",
    "feed.unauthorized_retry_s": "the login is tried again",
    "feed.rewatch_s": "the next round of watches is sent, spread over the time",
    "feed.rollout_pause_s": "the next step of first watches is sent",
    "feed.watch_batch_max": "the rest of the watches waits for the next turn of the loop",
    "feed.events_max": "the oldest system lines of the read are not acted on; all are in the journal",
    "symbols.limit": "the symbols file is refused (`l2 up`); a running collector keeps the one before",
    "symbols.name_bytes_max": "the symbols file is refused, with the name",
    "symbols.versions_kept": "the oldest version is deleted; one that asset `universe` has not recorded by then is not told apart",
    "symbols.names_max": "lines with a further name go to quarantine (`symbol`); known names go on",
    "session.roll_margin_s": "the session date rolls",
    "session.clock_skew_max_s": "the roll waits; `clock_skew` is recorded and logged once a minute",
    "session.start_margin_s": "the collectors connect",
    "session.stop_margin_s": "the collectors leave the feed and stand by",
    "journal.line_bytes_max": "the line is cut into frames of this size, one seq each, and quarantined (`oversize`)",
    "journal.recv_bytes": "the rest stays in the kernel's buffer for the next read, which follows at once",
    "journal.read_sleep_ms": "the next read is made",
    "journal.fsync_interval_ms": "the next group sync begins",
    "journal.unsynced_bytes_max": "reading the feed pauses until the disk has caught up; the kernel's buffer and the feed hold the rest",
    "journal.segment_bytes_max": "the segment is closed and the next one begun",
    "journal.segment_s_max": "the segment is closed and the next one begun",
    "journal.block_bytes": "the sealer begins a new block",
    "journal.seal_s": "the sealer looks again",
    "delivery.poll_ms": "the journal is looked at again",
    "delivery.idle_poll_ms": "the journal is looked at again",
    "delivery.step_bytes": "what waits is read and decoded",
    "delivery.flush_ms": "what has gathered is written",
    "delivery.flush_ms_min": "the next write may begin",
    "delivery.flush_lines": "what has gathered is written as soon as the write before allows it",
    "delivery.read_bytes_max": "the step ends; the next one follows at once",
    "delivery.read_lines_max": "the step ends; the next one follows at once",
    "delivery.raw_bytes_max": "the text in `feed_events` is cut there; the journal has the line",
    "delivery.batch_rows_max": "nothing more is read before the write; a larger table is sent in several inserts",
    "delivery.lag_lines_max": "check `journal_delivered` fails for a running date",
    "delivery.quarantine_rows_max": "no further refused row is set apart: the delivery waits, a person has to look",
    "delivery.checkpoint_s": "a checkpoint is saved with the next write",
    "delivery.checkpoint_lines": "a checkpoint is saved with the next write, before `delivery.checkpoint_s` is over",
    "delivery.checkpoints_kept": "the oldest checkpoint is deleted",
    "delivery.retry_first_s": "the write is tried again; the wait doubles, with jitter",
    "delivery.retry_cap_s": "the wait between two attempts grows no further; rows wait in the journal",
    "delivery.breaker_failures": "the metric says that the sink is down; it is tried on, with waits up to `delivery.retry_cap_s`",
    "delivery.discover_s": "new streams and dates are looked for",
    "jsonl.levels": "deeper levels are in `depth_updates` only",
    "jsonl.l2_interval_ms": "changes of a book in between make no record of their own",
    "jsonl.open_files_max": "the file used longest ago is closed; it is opened again when it is needed",
    "jsonl.sync_s": "the files are synced and their position is saved",
    "clickhouse.timeout_s": "the request counts as lost: the table is asked how far it got before anything is sent again",
    "clickhouse.settle_s": "the delivery waits (`an earlier insert … still runs`) and asks again",
    "warehouse.idle_exit_s": "a warehouse that a command started ends",
    "warehouse.queries_max": "further requests wait",
    "warehouse.queue_max": "further requests are refused: 503, code 202; a sink tries again",
    "warehouse.query_s_max": "the query is cancelled, code 159; a client that reads too slowly is cut 5 s later",
    "warehouse.memory_bytes_max": "the query that asks for more fails, code 241; a sink tries again",
    "warehouse.body_bytes_max": "the body is refused: 413 when it is too large alone, 503 (code 202) with the others at hand",
    "warehouse.body_s_max": "the request is refused: 408, code 209",
    "warehouse.answer_bytes_max": "the query fails, code 396; formats that can be sent piece by piece have no such limit",
    "warehouse.spool_bytes_max": "the query fails, code 396",
    "warehouse.connections_max": "requests on further connections are refused: 503",
    "warehouse.sessions_max": "a new session is refused: 503, code 202; idle ones end by their own time-out",
    "warehouse.keep_alive_s": "the idle connection is closed",
    "warehouse.start_s": "the command says that the warehouse did not answer, and where its log is",
    "imports.lines_max": "the file is refused, nothing is imported: split it",
    "imports.file_bytes_max": "the file is refused, nothing is imported: split it",
    "gaps.false_alarms_per_day": "a silence so improbable is a gap of its symbol",
    "gaps.silence_s_min": "a silence may be a gap of its symbol",
    "gaps.pauses_min": "the silence of the symbol is judged",
    "gaps.warn_s": "an unexplained gap that is longer is a warning of `platform_health` and of its table; it makes the date degraded",
    "gaps.error_s": "an unexplained gap that is longer turns `platform_health` and its table red",
    "gaps.halts_bytes_max": "the file of halts is refused; nothing is explained by halts",
    "gaps.halts_timeout_s": "the halts count as unreachable; nothing is explained by them, the next run asks again",
    "gaps.halt_edge_s": "the silence is not explained by the halt",
    "gaps.auction_s": "the silence is not explained by the auction",
    "rebuild.insert_rows": "what has gathered is sent to the staging table",
    "rebuild.insert_threads": "reading the journal waits for an insert to end",
    "rebuild.request_s": "the statement counts as lost and is sent again; a rebuilt date is swapped only when every row was counted",
    "rebuild.retry_s": "the rebuild ends; nothing was replaced, the next run removes what it left",
    "rebuild.nice": "the kernel gives the processor to others first",
    "rebuild.lag_s": "the next insert waits, at most `rebuild.yield_s`",
    "rebuild.yield_s": "the insert is made, however far the live delivery is behind",
    "rebuild.diff_keys": "further keys are counted, not named",
    "rebuild.diff_rows": "the comparison goes on with the next range of seqs",
    "completeness.gap_s": "the gap counts in the verdict",
    "completeness.gap_short_s": "shorter gaps of the symbol count in its verdict, too",
    "completeness.dark_minutes": "every symbol of the date is degraded, with the minutes",
    "completeness.volume_share": "the symbol is degraded, with the volume that is missing",
    "completeness.tick_sparse": "the TickIDs of the market centre are not judged, and the verdict says so",
    "completeness.usual_days": "earlier dates do not count",
    "completeness.usual_days_min": "usual rows begin to be judged",
    "completeness.usual_rows_min": "the hour begins to be judged",
    "completeness.usual_share": "the symbol is degraded, with the hours",
    "completeness.suspect_s": "the symbol is degraded, with the time",
    "completeness.suspect_share": "the symbol is degraded, with the time",
    "completeness.latency_p99_ms": "the verdict tells the latency",
    "completeness.latency_every": "further lines are not measured",
    "completeness.query_s": "the date is not evaluated, and the result says so",
    "reconcile.chunk_seqs": "the search for keys goes on with the next range of seqs",
    "reconcile.rows_max": "further files are compared by their numbers of records, and the result says so",
    "reconcile.keys": "further keys are counted, not named",
    "reconcile.minutes": "further minutes are counted, not named",
    "reconcile.read_bytes": "a line that is longer counts as no record",
    "report.rows": "further rows of a table of the page are counted, not shown",
    "report.symbols": "the coverage map shows the worst symbols only, and says of how many",
    "report.gaps_max": "older gaps of the date are not looked at, and the date counts as not evaluated",
    "report.query_s": "the part of the page is not evaluated, and says why",
    "close.wait_s": "the close ends red and says what it waited for; nothing was changed, the next one tries again",
    "close.poll_s": "positions and segments are looked at again",
    "quality.findings_max": "further findings of the check are counted, not kept",
    "quality.episode_s": "rows that are flagged later make another finding",
    "quality.group_rows": "a further range of symbols goes in another statement",
    "quality.join_rows": "a further range of symbols goes in another statement",
    "quality.memory_bytes_max": "the statement runs in smaller ranges of symbols; when one alone needs more, the check is `not_evaluated`",
    "quality.statement_s": "the statement is ended, a check that runs 12 times as long too; the check is `not_evaluated`",
    "quality.auction_margin_s": "rows count as regular trading",
    "quality.crossed_s": "check `book_not_crossed` or `quote_not_crossed` finds an error",
    "quality.locked_s": "check `book_not_crossed` or `quote_not_crossed` finds a warning",
    "quality.snapshot_hold_s": "the time until the next snapshot counts no further",
    "quality.stale_prints": "check `quote_not_stale` finds an error",
    "quality.stale_s": "check `quote_not_stale` finds an error",
    "quality.through_spreads": "check `trade_not_through` flags the print",
    "quality.through_min": "check `trade_not_through` flags the print",
    "quality.through_late_s": "a quote so long ago no longer explains a print",
    "quality.spike_rows": "the next block of rows begins",
    "quality.spike_deviations": "checks `trade_not_spiking` and `quote_not_spiking` flag the row",
    "quality.spike_share": "checks `trade_not_spiking` and `quote_not_spiking` flag the row",
    "quality.spike_min": "checks `trade_not_spiking` and `quote_not_spiking` flag the row",
    "quality.spike_error_share": "the finding is an error",
    "quality.spread_times": "check `spread_not_outlying` flags the quote",
    "quality.spread_share": "check `spread_not_outlying` flags the quote",
    "quality.reorder_ms": "check `times_rise` flags the row",
    "quality.latency_negative_ms": "check `clocks_agree` flags the row",
    "quality.latency_s_max": "check `clocks_agree` flags the row",
    "quality.zone_s": "check `clocks_agree` finds an error",
    "quality.drift_ms": "check `clocks_agree` finds a warning",
    "quality.coverage_days": "older session dates do not count",
    "quality.price_max": "check `values_in_range` flags the row",
    "quality.size_max": "check `values_in_range` flags the row",
    "quality.volume_share": "check `volume_reconciled` finds an error",
    "quality.gap_s": "an unexplained gap is an error",
    "quality.silence_rows": "check `silence_explained` flags the pause",
    "quality.silence_times": "check `silence_explained` flags the pause",
    "quality.book_level1_ms": "a quote further away is not compared",
    "quality.book_level1_share": "check `book_equals_level1` finds a warning",
    "quality.book_level1_least": "check `book_equals_level1` judges the symbol",
    "quality.split_ratio": "check `no_overnight_jump` finds a warning",
    "quality.coverage_days_min": "check `coverage_steady` is judged",
    "quality.coverage_rows": "check `coverage_steady` judges the hour",
    "quality.coverage_low": "check `coverage_steady` finds a warning; none at all is an error",
    "quality.coverage_high": "check `coverage_steady` finds a warning; none at all is an error",
    "quality.cross_source_share": "check `sources_agree` flags the minute",
    "archive.batch_rows": "the next rows are read when these are written",
    "archive.part_rows_max": "the next file is begun",
    "archive.read_rows_max": "the read is refused, with the number of rows: ask for fewer symbols or a shorter time",
    "lookup.sockets": "further requests wait",
    "lookup.requests_per_s": "the next request waits",
    "lookup.per_send": "the vendor sends the next lines",
    "lookup.silence_s": "the connection is closed and the request made again, up to `lookup.attempts`",
    "lookup.reply_s_max": "the connection is closed and the request made again, up to `lookup.attempts`",
    "lookup.reply_bytes_max": "the symbol counts as failed; the others go on",
    "lookup.attempts": "the symbol counts as failed; the others go on, and the same command tries it again",
    "lookup.retry_s": "the request is made again",
    "lookup.tick_days": "older dates are refused: the vendor has no ticks of them",
    "lookup.bar_days": "older dates are refused",
    "lookup.commit_bytes": "what was fetched goes into the journal, then the next symbols are fetched",
    "repair.look_s": "the sensor looks again",
    "repair.settle_s": "the gap may be repaired",
    "repair.margin_s": "prints farther from the gap are not asked for",
    "repair.delivered_s": "the repair of the gap failed, nothing was fetched; it is tried again",
    "repair.gaps_max": "the run says how many are left for the next one; more named gaps are refused",
    "repair.symbols_max": "what was fetched is compared and journaled, then the next replies are",
    "repair.attempts_max": "the gap stays failed or partial; `l2 gaps repair` tries it when somebody asks",
    "repair.retry_first_s": "the gap is tried again; the wait doubles",
    "repair.retry_cap_s": "the wait between two attempts grows no further",
    "repair.age_days_max": "the gap is repaired only when somebody asks (`l2 gaps repair`)",
    "repair.silence_s": "the connection is closed and the request made again, up to `lookup.attempts`",
    "repair.reply_s_max": "the connection is closed and the request made again, up to `lookup.attempts`",
    "repair.gap_s_max": "symbols that were not asked for count as failed; the next attempt asks for them",
    "book_index.unit_bytes": "the next piece of the journal begins",
    "book_index.group_rows_min": "the group is written, unless it holds fewer than eight rows an order that is in the books",
    "book_index.group_rows_max": "the group is written",
    "book_index.group_slices_max": "the group is written",
    "book_index.chunk_bytes": "the next symbols are compressed apart",
    "book_index.cache_bytes": "the part used longest ago is forgotten; it is read again when it is needed",
    "book_index.open_files_max": "the file used longest ago is closed; it is opened again when it is needed",
    "simulator.symbols": "the market has no more symbols",
    "simulator.rate": "the market makes no more messages",
    "simulator.symbol_limit": "the watch is refused with SYMBOL LIMIT REACHED",
    "simulator.client_queue_bytes_max": "the client is cut (`slow`); from an eighth of it on its commands wait",
    "simulator.clients_max": "the new connection is closed at once",
    "simulator.command_bytes_max": "the client is cut (`line too long`, `line without end`)",
    "simulator.trades_max": "the oldest trade is forgotten",
    "simulator.recording_bytes_max": "the recording is refused: play a part of it",
    "simulator.halts_per_hour": "no more symbols are halted, on average",
    "simulator.halt_s": "trading of the symbol is resumed",
    "simulator.halts_max": "the oldest halt is no longer published",
    "simulator.ledger_bytes_max": "the ledger says `full` and ends; the market goes on",
    "replay.ahead_bytes": "reading ahead waits for the playing",
    "replay.step_bytes": "the next piece of the journal is read",
    "replay.spin_us": "before that the wait sleeps",
    "replay.settle_s": "playing begins",
    "replay.stall_s": "the client that takes nothing is cut (`does not read`); the others go on",
    "replay.report_s": "the next line of progress is written",
    "kafka.connect_s": "the command ends: no broker answers",
    "kafka.delivery_s": "the replay to Kafka ends with the first record that was not acknowledged",
    "kafka.queue_messages_max": "the next record waits for an acknowledgement",
    "kafka.queue_bytes_max": "the next record waits for an acknowledgement",
    "disk.reserve_bytes": "JSONL stops first; below a quarter all but the recording and the sealer, below a sixteenth recording waits",
    "disk.check_s": "free space is looked at again",
    "supervision.heartbeat_s": "the next heartbeat is written",
    "supervision.hung_s": "the watchdog kills the worker; the process manager starts it again",
    "supervision.start_s": "`l2 up` says what is not healthy; what runs goes on",
    "supervision.stop_s": "the part is killed; the next start recovers",
    "supervision.spec_s": "check `spec_applied` is an error and the worker is rolled",
    "supervision.lag_s_max": "check `lag` warns; at ten times as much it is an error",
    "supervision.attempts_max": "no further run is requested; check `alive` says that a person has to look",
    "supervision.attempt_first_s": "the next run is requested; the wait doubles",
    "supervision.attempt_cap_s": "the wait between two runs grows no further",
    "supervision.crash_s": "an end of the process is no crash any more, and crashes before it are forgotten",
    "supervision.revivals_max": "`l2 run` brings everything down and ends with exit code 1: its service manager starts it again",
    "supervision.crash_starts_max": "the watchdog stops the process and holds it back; check `alive` says `crashloop`",
    "supervision.crash_first_s": "the process is tried again; the next time it is held back twice as long",
    "supervision.crash_cap_s": "the time that a process is held back grows no further",
    "dagster.room_dates": "older dates do not count for the growth",
    "disk.dates_min": "check `disk_has_room` of `platform_health` fails",
    "close.margin_s": "`daily_close` begins",
    "close.due_s": "check `dates_are_closed` of `platform_health` fails",
    "close.again_dates": "older dates are not closed by themselves: job `daily_close`, their partition",
    "close.again_max": "the date is not tried again; check `dates_are_closed` stays red until a person closes it",
    "close.again_first_s": "an unclosed date is given to `daily_close` again",
    "close.again_cap_s": "the wait between two tries grows no further",
    "dagster.keep_runs_days": "the run, its log and ticks are deleted by job `prune`; the newest evidence of a partition stays",
    "dagster.keep_events_days": "the event is deleted by job `prune`; the newest of each asset and check stays",
    "dagster.prune_rows_max": "the rest is deleted by the next pruning",
    "dagster.prune_runs_max": "the rest is deleted by the next pruning",
    "notify.group_s": "what gathered goes out in one message",
    "notify.repeat_s": "the cause is told again, with how often it happened meanwhile",
    "notify.hour_max": "further messages wait, and are told together when the hour has room",
    "notify.causes_max": "further causes are counted in the message, not named; the oldest told one is forgotten",
    "notify.timeout_s": "the attempt failed; the next look at what happened tries again",
    "notify.attempts_max": "the message is given up; the log says so (`notification_given_up`)",
    "log.file_bytes_max": "the log is rotated",
    "log.files_kept": "the oldest rotated log is deleted",
}
"""Setting → what happens there, for people."""
METRICS: Final[dict[str, str]] = {
    "journal.line_bytes_max": "line_bytes", "journal.recv_bytes": "read_bytes", "feed.events_max": "system_lines",
    "feed.watch_batch_max": "watch_batch", "journal.unsynced_bytes_max": "unsynced_bytes",
    "journal.segment_bytes_max": "segment_bytes", "delivery.read_bytes_max": "read_bytes",
    "delivery.read_lines_max": "read_lines", "symbols.names_max": "symbol_names", "delivery.batch_rows_max": "write_rows",
    "delivery.breaker_failures": "write_failures", "jsonl.open_files_max": "open_files",
    "warehouse.body_bytes_max": "body_bytes", "warehouse.queue_max": "queue", "warehouse.queries_max": "running",
    "warehouse.sessions_max": "sessions", "warehouse.connections_max": "requests",
    "simulator.client_queue_bytes_max": "client_queue", "simulator.clients_max": "clients",
    "simulator.command_bytes_max": "command_bytes",
}  # fmt: skip
"""Setting → the `bound` label of `l2_bound_now`, `_high`, `_limit`, `_reached_total`."""
UNLIMITED: Final = frozenset({
    "ports.base", "clickhouse.port", "simulator.seed", "journal.compression_level", "archive.compression_level",
    "book_index.compression_level",
})  # fmt: skip
"""Numbers that limit nothing."""
FIXED: Final[tuple[tuple[str, str, str], ...]] = (
    ("frame of the journal", "64 MiB", "a longer one is damage, and skipped"),
    ("block of a sealed segment", "64 MiB unpacked", "a larger one is damage, and skipped"),
    ("symbol name in a line", "64 bytes", "the line goes to quarantine (`symbol`)"),
    ("columns of a Level 1 layout", "as the feed acknowledges them", "names that are not known are ignored"),
    ("price levels a side of a live book", "grow with the feed", "what the feed sends for one symbol; a snapshot holds `jsonl.levels`"),
    ("position of a table", "1 a second", "a replay begins a little earlier"),
    ("answer held back before its headers", "1 MiB", "it is sent while it is made"),
    ("unread commands of a simulated client", "1 MiB", "they stay in the client's own socket"),
    ("lookup requests of the simulated market", "50 a second", "the request is refused with an error line"),
    ("garbage of one fault of the simulated market", "128 MiB", "the command is refused"),
    ("compiled kernels of former versions", "3 folders", "the oldest is deleted"),
    ("unix socket path", "107 bytes", "`l2 up` says that `home` is too long"),
)
"""Limits that no setting moves: (what, how much, what happens there)."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One row of the table."""

    setting: str
    default: Any
    smallest: Any
    largest: Any
    at_limit: str
    metric: str
    """`bound` label of the metrics, empty where a limit is a time or a size that shows elsewhere."""


def limits() -> Iterator[Limit]:
    """Every numeric setting that limits something, in the order of the tree; KeyError when one has no words."""
    for path, field in numeric_settings(Settings):
        if path not in UNLIMITED:
            smallest, largest = range_of(field)
            yield Limit(path, field.default, smallest, largest, AT_LIMIT[path], METRICS.get(path, ""))


def numeric_settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """(dotted path, field) of every whole or real number."""
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            yield from numeric_settings(annotation, f"{prefix}{name}.")
        elif annotation in {int, float}:
            yield f"{prefix}{name}", field


def range_of(field: FieldInfo) -> tuple[Any, Any]:
    """(smallest, largest) that a setting may be; None where it has no such end."""
    found: dict[str, Any] = {}
    for part in field.metadata:
        for name in ("gt", "ge", "lt", "le"):
            value = getattr(part, name, None)
            if value is not None:
                found[name] = value
    return found.get("ge", found.get("gt")), found.get("le", found.get("lt"))


def markdown() -> str:
    """The tables of docs/limits.md."""
    lines = ["| setting | default | from | to | at the limit | `bound` |", "|---|---|---|---|---|---|"]
    for limit in limits():
        numbers = " | ".join(_text(limit.setting, value) for value in (limit.default, limit.smallest, limit.largest))
        metric = f"`{limit.metric}`" if limit.metric else ""
        lines.append(f"| `{limit.setting}` | {numbers} | {limit.at_limit} | {metric} |")
    lines += ["", "Fixed, since they belong to a format or protocol, or nobody needs to move them:", ""]
    lines += ["| what | how much | at the limit |", "|---|---|---|"]
    lines += [f"| {what} | {size} | {words} |" for what, size, words in FIXED]
    return "\n".join(lines) + "\n"


def _text(setting: str, value: Any) -> str:
    if value is None:
        return ""
    if "bytes" in setting and value >= 1 << 10:
        for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
            if value % size == 0:
                return f"{value // size:,} {unit}"
    return f"{value:,g}" if isinstance(value, float) else f"{value:,}"
