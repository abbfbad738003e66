"""Audits as suites of Great Expectations: what failed fails there, and the pages need nothing from outside."""

import re
import sys
from datetime import date
from pathlib import Path

import pytest

from l2_platform.errors import L2Error
from l2_platform.quality.checks import CHECKS
from l2_platform.quality.expectations import frames_of, publish, self_contained
from l2_platform.quality.findings import AuditResult, CheckResult, Finding
from l2_platform.settings import load_settings

DAY = date(2026, 3, 6)


def audit(**outcomes: CheckResult) -> AuditResult:
    return AuditResult("run", DAY, [outcomes.get(check.name, CheckResult(check.name, looked=10)) for check in CHECKS])


def failed(name: str, severity: str, found: int = 1) -> CheckResult:
    finding = Finding(name, "iqfeed-level1-0", "AAA", 1, 2, severity, 1.0, 0.5)
    return CheckResult(name, 10, found, [finding], "failed", severity=severity, found=found)


def test_frames_hold_a_row_a_date_and_the_counts_of_each_check() -> None:
    result = audit(key_once=failed("key_once", "error", 3))
    frames = frames_of([result, audit()])
    assert set(frames) == {check.table for check in CHECKS}
    trades = frames["trades"]
    assert trades["key_once errors"].tolist() == [1, 0]
    assert trades["key_once warnings"].tolist() == [2, 0]


def test_suites_fail_by_severity_and_pages_are_self_contained(tmp_path: Path) -> None:
    lost = CheckResult("book_equals_level1", outcome="not_evaluated", message="table <quotes> is missing", severity="error")
    result = audit(key_once=failed("key_once", "error"), spread_not_outlying=failed("spread_not_outlying", "warn"), book_equals_level1=lost)
    published = publish(load_settings(home=tmp_path), [result])
    suites = {suite.table: suite for suite in published.suites}
    assert (suites["trades"].passed, suites["trades"].severity, suites["trades"].failed) == (False, "critical", ("key_once errors",))
    assert (suites["quotes"].severity, suites["quotes"].failed) == ("warning", ("spread_not_outlying warnings",))
    assert suites["book_snapshots"].failed == ("book_equals_level1 not judged",)
    assert (suites["feed_events"].passed, suites["feed_events"].severity) == (True, "")
    pages = sorted(published.index.parent.glob("*.html"))
    assert {page.stem for page in pages} == {"index", *suites}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert re.findall(r"https?:|<script|<link|<img|@import|url\(", text) == [], page.name
    index = published.index.read_text(encoding="utf-8")
    assert "table &lt;quotes&gt; is missing" in index
    assert all(check.name in index for check in CHECKS)
    assert "key_once errors" in (published.index.parent / "trades.html").read_text(encoding="utf-8")


def test_pages_of_several_dates_leave_those_of_single_dates_alone(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    days = [date(2026, 3, 4), date(2026, 3, 5), DAY]
    published = publish(settings, [AuditResult("run", day, []) for day in days])
    assert published.index == settings.quality_dir / "2026-03-04_2026-03-06" / "index.html"
    assert publish(settings, [AuditResult("run", DAY, [])]).index == settings.quality_dir / "2026-03-06" / "index.html"


def test_nothing_to_publish_is_refused(tmp_path: Path) -> None:
    with pytest.raises(L2Error, match="no audit to publish"):
        publish(load_settings(home=tmp_path), [])


def test_addresses_are_taken_out_of_any_page() -> None:
    head = '<head><link href="//x.y/a.css"><script src="https://a.b/c.js">x</script></head>'
    page = head + "<a href='https://a.b'>see https://a.b</a><img src=x>"
    text = self_contained(page)
    assert "//x.y" not in text
    assert "a.b/c.js" not in text
    assert "https" not in text
    assert "<style>" in text


def test_the_library_is_not_loaded_by_an_import() -> None:
    code = "import sys, l2_platform.quality.expectations, l2_platform.quality.audit; sys.exit('great_expectations' in sys.modules)"
    import subprocess

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
