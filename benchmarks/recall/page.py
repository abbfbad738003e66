"""The section on recall in docs/quality.md, made of the stored result of the figure; no number in it is written by hand.

What does not belong here: measuring.
"""

from pathlib import Path
from typing import Any, Final

from benchmarks.recall import ALARMS, RECALL, STORES
from benchmarks.recall.planting import KINDS
from benchmarks.recall.stores import KINDS as STORE_KINDS
from benchmarks.results import FOLDER, ROOT, load

PAGE: Final = ROOT / "docs" / "quality.md"
RESULT: Final = FOLDER / "recall.json"
HEAD: Final = "## Recall\n"
END: Final = "\n## How a check works\n"


def section(content: dict[str, Any]) -> str:
    """Markdown, from the heading on."""
    rows = {row["kind"]: row for row in content["rows"]}
    lines = [
        HEAD,
        "Faults of many kinds are planted into clean generated days, and the days are audited:"
        " `python -m benchmarks run recall` measures this again and `python -m benchmarks.recall` writes this section. A fault counts as"
        " found when a check of its kind names its symbol (or stream) and a time that overlaps; other findings count for nothing. How much"
        " is wrong is drawn from the range that the table states, with equal weight on a log scale, in regular trading without its first"
        " and last minute. Intervals are Wilson's, 95 %.",
        "",
        f"Every number here is of one run: {content['date'][:16].replace('T', ' ')} UTC, commit {content['commit']},"
        f" `{content['command']}`. It planted {rows['all']['planted']:,} faults of {len(rows) - 1} kinds. {_added_since(content)}".rstrip(),
        "",
        *(f"- {target['what']}: {target['measured']}{'' if target['reached'] else ' (**missed**)'}." for target in content["targets"]),
        f"- Promised: at least {RECALL:.0%} found, at most {ALARMS:.0%} false alarms.",
        *(f"- {note}" for note in content["notes"]),
        "- A cut (`seconds_lost`) about as short as the stream's own pauses at that hour cannot be told from them by an audit. In service"
        " the same loss is met earlier: of a link or a process by the gap ledger, of prints by their counters (`seconds_of_prints_lost`).",
        "",
        "| kind | what is wrong | checks that may find it | planted | found | recall, % (95 %) |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        kind = KINDS.get(name)
        checks = ", ".join(f"`{check}`" for check in kind.checks) if kind else ""
        lines.append(f"| {name} | {kind.what if kind else 'every kind'} | {checks} | {_numbers(row)} |")
    return "\n".join([*lines, *_stores(content["more"].get(STORES, []))]) + "\n"


def _added_since(content: dict[str, Any]) -> str:
    """Which kinds there are now that the run did not have; empty: it had all."""
    missing = {
        "Kinds": sorted(set(KINDS) - {row["kind"] for row in content["rows"]}),
        "Faults of single stores": sorted(set(STORE_KINDS) - {row["kind"] for row in content["more"].get(STORES, [])}),
    }
    return " ".join(
        f"{what} that were added since and are in none of these numbers: {', '.join(f'`{name}`' for name in names)}."
        for what, names in missing.items() if names
    )  # fmt: skip


def _stores(rows: list[dict[str, Any]]) -> list[str]:
    """The table of what single stores lost or have otherwise; nothing where it was not measured."""
    if not rows:
        return []
    lines = [
        "",
        "Faults of a single store, after the delivery: found when `l2 reconcile` names the key under its table, store and difference.",
        "",
        "| kind | what is wrong | named as | planted | found | recall, % (95 %) |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        difference, what = STORE_KINDS[row["kind"]]
        lines.append(f"| {row['kind']} | {what} | {difference} | {_numbers(row)} |")
    return lines


def _numbers(row: dict[str, Any]) -> str:
    """Planted, found, and the share with its interval."""
    share = f"{row['recall, %']:.1f} ({row['from, %']:.1f} to {row['to, %']:.1f})"
    return f"{row['planted']:,} | {row['found']:,} | {share}"


def write(page: Path = PAGE, result: Path = RESULT) -> None:
    """Put the section into the page, in place of the one that is there."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(END)
    page.write_text(before.partition(f"\n{HEAD}")[0] + "\n" + section(load(result)) + END + rest, encoding="utf-8")
