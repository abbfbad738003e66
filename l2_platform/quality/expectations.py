"""The results of audits as Great Expectations: a suite a table, run on the counts of its checks, published as static pages.

The rules themselves ran in the warehouse; what is validated here is one small frame a table: a row a session date, three columns a check
(errors, warnings, not judged), all of which are expected to be 0. The library is imported when a suite is run, since that takes
seconds and much memory; nothing of it touches the network, and its pages lose what they would load from there. What does not belong
here: rules (checks), running them (audit).
"""

import html
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from l2_platform.errors import L2Error
from l2_platform.quality.checks import CHECKS
from l2_platform.quality.findings import AuditResult, CheckResult
from l2_platform.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

COUNTS: Final = {"errors": "critical", "warnings": "warning", "not judged": "critical"}
"""What is counted of a check → severity of the expectation that it is 0."""
STYLE: Final = """
body{font:15px/1.45 system-ui,sans-serif;color:#1b1f24;background:#fff;margin:2rem auto;max-width:72rem;padding:0 1rem}
table{border-collapse:collapse;margin:.6rem 0;width:100%}
td,th{border-bottom:1px solid #d8dee4;padding:.35rem .6rem;text-align:left;vertical-align:top}
.collapse,.hide-succeeded-validations-column-section{display:block}h1,h2,h3,h4{line-height:1.2}.fa-check-circle::before{content:"✓";color:#1a7f37}
.fa-times::before,.fa-exclamation-triangle::before{content:"✗";color:#cf222e}.failed{color:#cf222e;font-weight:600}a{color:#0969da}
nav,button,.modal,.navbar,#ge-cta-footer{display:none}@media print{body{margin:0;max-width:none}}
"""
_LOADED: Final = re.compile(r"<script\b.*?</script>|<style\b.*?</style>|<link\b[^>]*>|<img\b[^>]*>|<!--.*?-->", re.DOTALL | re.IGNORECASE)
_OUTSIDE: Final = re.compile(r"""\s(?:href|src|action)\s*=\s*(?:"(?:https?:)?//[^"]*"|'(?:https?:)?//[^']*')""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """What came of one table's suite."""

    table: str
    passed: bool
    severity: str
    """Worst failed expectation: critical or warning; empty: none."""
    expectations: int
    failed: tuple[str, ...] = field(default=())
    """Columns (check and count) that are not 0."""


@dataclass(frozen=True, slots=True)
class Published:
    """Suites and where their pages are."""

    index: Path
    suites: tuple[SuiteResult, ...]


def frames_of(results: Sequence[AuditResult]) -> "dict[str, pd.DataFrame]":
    """Table → counts: a row a session date, columns `<check> <count>`; only checks that ran on every date."""
    import pandas as pd

    found: dict[str, Any] = {}
    for check in CHECKS:
        ran = [next((one for one in result.checks if one.name == check.name), None) for result in results]
        if not results or None in ran:
            continue
        columns = found.setdefault(check.table, {"session_date": [result.session_date.isoformat() for result in results]})
        for name in COUNTS:
            columns[f"{check.name} {name}"] = [_count(one, name) for one in ran if one is not None]
    return {table: pd.DataFrame(columns) for table, columns in found.items()}


def _count(check: CheckResult, name: str) -> int:
    """Kept findings are the worst ones, so that errors beyond `quality.findings_max` are the only ones not told from warnings."""
    errors = sum(found.severity == "error" for found in check.findings)
    if name == "not judged":
        return int(check.outcome == "not_evaluated" and check.severity == "error")
    return errors if name == "errors" else check.found - errors


def publish(settings: Settings, results: Sequence[AuditResult]) -> Published:
    """Run every suite, write its page and an index under `quality/DATE/`, of several dates `quality/FIRST_LAST/`.

    Raise L2Error when a suite cannot run. The pages hold all that they show: no script, no picture, no address outside.
    """
    if not results:
        raise L2Error("there is no audit to publish: no session date was audited")
    # nothing is sent by the versions in use; said nevertheless
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    with warnings.catch_warnings():
        # deprecations between that library and Python are not ours to act on
        warnings.simplefilter("ignore")
        import great_expectations as gx
    context: Any = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    days = list(dict.fromkeys(result.session_date.isoformat() for result in (results[0], results[-1])))
    folder = settings.quality_dir / "_".join(days)
    folder.mkdir(parents=True, exist_ok=True)
    suites = []
    for table, frame in frames_of(results).items():
        outcome = _validate(context, table, frame)
        suites.append(_suite_result(table, outcome))
        _write(folder / f"{table}.html", _page(outcome))
    index = folder / "index.html"
    _write(index, _index(results, suites))
    return Published(index, tuple(suites))


def _validate(context: Any, table: str, frame: "pd.DataFrame") -> Any:
    """Run the suite of a table on its frame."""
    import great_expectations as gx
    from great_expectations.expectations.metadata_types import FailureSeverity

    expectations: Any = import_module("great_expectations.expectations")
    meanings = {check.name: check.meaning for check in CHECKS}
    rules = [
        expectations.ExpectColumnMaxToBeBetween(
            column=column, min_value=0, max_value=0, severity=FailureSeverity(COUNTS[column.partition(" ")[2]]),
            notes=meanings[column.partition(" ")[0]]
        )
        for column in frame.columns if column != "session_date"
    ]  # fmt: skip
    asset = context.data_sources.add_pandas(table).add_dataframe_asset(table)
    batch = asset.add_batch_definition_whole_dataframe("audit").get_batch({"dataframe": frame})
    outcome = batch.validate(gx.ExpectationSuite(name=table, expectations=rules), result_format="SUMMARY")
    # the library does not raise for an expectation that it could not evaluate
    broken = [item.expectation_config.kwargs["column"] for item in outcome.results if _is_broken(item.exception_info)]
    if broken:
        raise L2Error(f"the suite of {table} could not be evaluated: {', '.join(broken)}", table=table)
    return outcome


def _is_broken(told: Any) -> bool:
    """`exception_info` is one record, or one a metric."""
    records = [told] if "raised_exception" in told else list(told.values())
    return any(record.get("raised_exception") for record in records if isinstance(record, dict))


def _suite_result(table: str, outcome: Any) -> SuiteResult:
    worst = outcome.get_max_severity_failure()
    failed = tuple(str(item.expectation_config.kwargs["column"]) for item in outcome.results if not item.success)
    return SuiteResult(table, bool(outcome.success), "" if worst is None else str(worst.value), len(outcome.results), failed)


def _page(outcome: Any) -> str:
    """The library's page of a validation, without what it would load."""
    # not exported where its types say
    renderer: Any = import_module("great_expectations.render.renderer")
    view: Any = import_module("great_expectations.render.view")
    return self_contained(view.DefaultJinjaPageView().render(renderer.ValidationResultsPageRenderer().render(outcome)))


def self_contained(text: str) -> str:
    """A page without scripts, style sheets, pictures and addresses from outside, with a style of its own."""
    text = _OUTSIDE.sub("", _LOADED.sub("", text))
    # what is left of addresses is text
    text = re.sub(r"https?://", "", text)
    return re.sub(r"</head>", f"<style>{STYLE}</style></head>", text, count=1, flags=re.IGNORECASE)


def _index(results: Sequence[AuditResult], suites: Sequence[SuiteResult]) -> str:
    days = [result.session_date.isoformat() for result in results]
    title = f"Quality of {days[0]}" + (f" to {days[-1]}" if len(days) > 1 else "")
    rows = "".join(
        f"<tr><td><a href='{suite.table}.html'>{suite.table}</a></td><td class='{'' if suite.passed else 'failed'}'>"
        f"{'passed' if suite.passed else suite.severity}</td><td>{suite.expectations}</td>"
        f"<td>{html.escape(', '.join(suite.failed))}</td></tr>"
        for suite in suites
    )
    checks = "".join(_row(result, check) for result in results for check in result.checks)
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title}</title><style>{STYLE}</style></head>"
        f"<body><h1>{title}</h1>"
        f"<table><tr><th>suite<th>result<th>expectations<th>not met</tr>{rows}</table>"
        f"<table><tr><th>session date<th>check<th>outcome<th>worst<th>rows<th>flagged<th>findings<th>why</tr>{checks}</table></body></html>"
    )


def _row(result: AuditResult, check: CheckResult) -> str:
    cells = (
        result.session_date.isoformat(), check.name, check.outcome.replace("_", " "), check.severity or "-", f"{check.looked:,}",
        f"{check.flagged:,}", f"{check.found:,}", check.message,
    )  # fmt: skip
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"


def _write(path: Path, text: str) -> None:
    """It appears when it is whole."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
