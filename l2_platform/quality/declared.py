"""The declared checks as a table for people: docs/quality.md holds it, a test compares.

What does not belong here: rules.
"""

from l2_platform.quality.checks import CHECKS


def table_of_checks() -> str:
    """Markdown, one row a check."""
    lines = [
        "| # | check | table | worst | rule | settings of group `quality` | from |",
        "|---|---|---|---|---|---|---|",
    ]
    for check in CHECKS:
        settings = ", ".join(f"`{name}`" for name in check.thresholds) or "-"
        lines.append(
            f"| {check.number} | `{check.name}` | `{check.table}` | {check.severity} | {check.meaning} | {settings} | {check.provenance} |"
        )
    return "\n".join(lines) + "\n"
