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


SCREENS = (
    Screen(
        "catalog", "/assets", ("iqfeed-depth-0", "deliveries", "depth_updates", "Materialized", "1 partition"),
        "Every asset with its state: what is red needs somebody.",
    ),
    Screen(
        "health", "/assets/platform_health", ("disk_has_room", "recording_works", "no_gaps_today"),
        "The verdict: every promise of the instance, each with what to do.",
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
    ),
    Screen(
        "sensor", f"{LOCATION}/sensors/collector_supervisor", ("Every 15 s", "Running", "Next tick"),
        "The supervisor and its last looks.",
    ),
    Screen("runs", "/runs", ("measure_day", "Success"), "Every intervention and every measurement, with its log."),
)  # fmt: skip
