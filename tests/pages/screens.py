"""The main screens of the web UI: where each is, and which words a person must find on it.

Used by the tests and by the command that takes the pictures (`python -m tests.pages`). What does not belong here: driving a browser
(`browser.py`).
"""

from dataclasses import dataclass

LOCATION = "/locations/l2_platform"
ERRORS = ("An unexpected error occurred", "Python error", "PythonError", "GraphQL error", "Could not load")
"""Words of the UI's own error messages: no page may show one."""


@dataclass(frozen=True, slots=True)
class Screen:
    """One page."""

    name: str
    """Name of the picture, without `.png`."""
    path: str
    words: tuple[str, ...]
    """What must be on it once it has loaded."""
    text: str
    """What a person uses it for; under the picture."""
    at_once: tuple[str, ...] = ()
    """What must be seen without scrolling."""


SCREENS = (
    Screen(
        "catalog", "/assets", ("iqfeed-depth-0", "deliveries", "depth_updates", "Materialized", "partition"),
        "Every asset with its state: what is red needs somebody.",
    ),
    Screen(
        "health", "/assets/platform_health", ("disk_has_room", "recording_works", "no_gaps_today"),
        "The verdict: every promise of the instance, each with what to do.", at_once=("verdict", "recording_works", "delivery_works"),
    ),
    Screen(
        "lineage", "/asset-groups/", ("collect", "record", "tables", "archive"),
        "The flow, left to right: collect, record, tables, archive.",
    ),
    Screen(
        "collector", "/assets/collectors/iqfeed-depth-0", ("Writes every byte", "Latest check results", "lines_per_s"),
        "A collector: what it does, its checks, its numbers (Plots draws them over time).",
    ),
    Screen(
        "collector-checks", "/assets/collectors/iqfeed-depth-0?view=checks",
        ("Checks (4)", "spec_applied", "lag", "gaps", "heartbeat", "Passed"),
        "Its promises, each with what was seen and what to do.",
    ),
    Screen(
        "table", "/assets/trades", ("Every print with price", "Row count", "Columns", "Capture that the row comes from"),
        "A table: rows of the day, checks, every column with its meaning.",
    ),
    Screen(
        "jobs", "/jobs", ("close_day", "control_collector", "daily_close", "measure_day", "rebuild", "roll_symbols"),
        "What can be started by hand.",
    ),
    Screen(
        "launchpad", f"{LOCATION}/jobs/control_collector/playground",
        ("Launch Run", "action: start", "workers:", "No errors"),
        "Start, stop or restart a worker: edit two lines, then Launch Run.",
    ),
    Screen(
        "automation", "/automation", ("collector_supervisor", "daily_close", "measure_day_hourly", "new_session_date"),
        "Schedules and sensors; all are on after the first start.",
        at_once=("collector_supervisor", "daily_close", "daily_proofs", "measure_day_hourly", "new_session_date"),
    ),
    Screen(
        "sensor", f"{LOCATION}/sensors/collector_supervisor", ("Every 15 s", "Running", "Next tick"),
        "The supervisor and its last looks.",
    ),
    Screen("runs", "/runs", ("measure_day", "Success"), "Every intervention and every measurement, with its log."),
)  # fmt: skip
"""Pages that have a picture in the documentation."""

MORE = (
    Screen(
        "health-checks", "/assets/platform_health?view=checks", ("Checks (8)", "recording_works", "no_gaps_today"),
        "Each promise with what was seen and what to do.",
        at_once=(
            "recording_works", "delivery_works", "services_work", "checks_pass", "dates_are_closed", "disk_has_room", "dagster_works",
            "no_gaps_today",
        ),
    ),
    Screen(
        "gaps", "/assets/gaps", ("The ledger of gaps of a session date", "Latest check results", "explanations", "timeline"),
        "What was missing on a session date, and why.",
    ),
    Screen(
        "reconciliation", "/assets/reconciliation", ("beside what its journal yields", "Latest check results", "stores", "healed"),
        "Whether tables and files are what the journal yields.",
    ),
    Screen(
        "completeness", "/assets/completeness", ("Expected beside seen for each symbol", "unexplained_rows", "coverage"),
        "A grade for every symbol of a session date.",
    ),
    Screen(
        "quality-audit", "/assets/quality_audit", ("Every declared check", "flagged", "findings"),
        "Every rule, over how many rows, and what it found.",
    ),
    Screen(
        "day-report", "/assets/day_report", ("readable in a minute", "verdict", "needs_a_person"),
        "The page of a session date, and what needs a person.",
    ),
    Screen(
        "bars", "/assets/bars_1m", ("Bars of one minute", "Latest check results", "Columns", "ts_begin"),
        "Bars of the day: a view over trades, checked.",
    ),
    Screen(
        "universe", "/assets/universe", ("Which symbols are wanted", "groups", "added", "removed"),
        "Which symbols are recorded, and since when.",
    ),
    Screen(
        "launchpad-rebuild", f"{LOCATION}/jobs/rebuild/playground", ("Launch Run", "rebuilt_tables", "streams", "symbols", "No errors"),
        "Dates once more from the journal: streams and symbols.",
    ),
    Screen(
        "launchpad-backfill", f"{LOCATION}/jobs/backfill_day/playground",
        ("Launch Run", "backfilled_day", "source", "interval", "No errors"),
        "Dates that were never recorded: source, ticks or bars, symbols.",
    ),
    Screen(
        "launchpad-replay", f"{LOCATION}/jobs/replay_day/playground", ("Launch Run", "speed:", "target:", "No errors"),
        "A stored day again: date, speed, target.",
    ),
)  # fmt: skip
"""Further pages that people use."""
