"""Every number in the settings is a limit with words, a metric where it is a queue or a size, and a test that reaches it."""

import re
from pathlib import Path

import pytest

from l2_platform.monitoring.limits import AT_LIMIT, METRICS, UNLIMITED, markdown, numeric_settings
from l2_platform.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PATHS = [path for path, _ in numeric_settings(Settings)]
SIZES = re.compile(r"(_max|_bytes)$")
ELSEWHERE = {
    "feed.depth_levels_max", "symbols.name_bytes_max", "symbols.limit", "journal.segment_s_max", "journal.block_bytes",
    "delivery.raw_bytes_max", "delivery.step_bytes", "delivery.quarantine_rows_max", "warehouse.query_s_max",
    "warehouse.memory_bytes_max", "warehouse.body_s_max", "warehouse.answer_bytes_max", "warehouse.spool_bytes_max",
    "session.clock_skew_max_s", "archive.part_rows_max", "archive.read_rows_max",
    "repair.gaps_max", "repair.symbols_max", "repair.attempts_max", "repair.age_days_max", "repair.reply_s_max", "repair.gap_s_max",
    "lookup.reply_s_max", "lookup.reply_bytes_max", "lookup.commit_bytes",
    "imports.lines_max", "imports.file_bytes_max", "simulator.trades_max", "simulator.halts_max",
    "replay.ahead_bytes", "replay.step_bytes", "kafka.queue_messages_max", "kafka.queue_bytes_max",
    "simulator.recording_bytes_max", "simulator.ledger_bytes_max", "disk.reserve_bytes", "log.file_bytes_max",
    "delivery.lag_lines_max", "gaps.halts_bytes_max",
    "dagster.prune_rows_max", "dagster.prune_runs_max", "notify.hour_max", "notify.causes_max",
    "notify.attempts_max", "supervision.lag_s_max", "supervision.attempts_max", "supervision.crash_starts_max",
    "supervision.revivals_max", "close.again_max",
    "book_index.unit_bytes", "book_index.group_rows_max", "book_index.group_slices_max", "book_index.chunk_bytes",
    "book_index.cache_bytes", "book_index.open_files_max", "reconcile.rows_max", "reconcile.read_bytes",
    "quality.findings_max", "quality.memory_bytes_max", "quality.latency_s_max",
    "report.gaps_max",
    "quality.price_max", "quality.size_max",
}  # fmt: skip
"""Sizes without a high-water mark: an input is refused whole, a file is begun anew, a check tells it, or the process ends first."""


def test_every_number_is_a_limit_with_words():
    assert set(AT_LIMIT) == set(PATHS) - UNLIMITED


def test_the_page_shows_what_the_code_says():
    text = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    assert markdown() in text, "write the output of `l2 settings --bounds` into docs/limits.md"


def test_every_size_has_a_metric_or_a_reason_to_have_none():
    sizes = {path for path in PATHS if SIZES.search(path)} - UNLIMITED
    assert sizes - set(METRICS) - ELSEWHERE == set()
    assert set(PATHS) >= ELSEWHERE


def test_every_metric_is_made_somewhere():
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "l2_platform").rglob("*.py"))
    for setting, metric in METRICS.items():
        found = re.search(rf'Bound\(\s*"{metric}",[^"]*"[a-z]+",\s*"{re.escape(setting)}"', code)
        assert found, (setting, metric)


@pytest.mark.parametrize("path", sorted(set(PATHS) - {"ports.base"}))
def test_every_setting_is_read_somewhere(path: str):
    """A number that nothing reads limits nothing."""
    name = path.rsplit(".", 1)[1]
    files = [file for file in (ROOT / "l2_platform").rglob("*.py") if file.name not in {"settings.py", "limits.py"}]
    # thresholds of checks are read by name: filled into SQL, or compared with a finding
    assert any(re.search(rf"\.{name}\b|\{{{name}:|=\"{name}\"", file.read_text(encoding="utf-8")) for file in files)
