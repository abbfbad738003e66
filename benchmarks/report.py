"""docs/benchmarks.md and its plots, made of the stored results; no number of the page is written by hand.

What does not belong here: measuring; texts about a figure (they stand with the figure).
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.drawing import draw
from benchmarks.results import FOLDER, load_all

PAGE_NAME = "benchmarks.md"
BUSY_CORES = 0.2
MACHINE = ("cpu", "cores", "caches", "memory", "kernel", "filesystem", "python", "packages")
INTRODUCTION = """\
# Benchmarks

Made by `python -m benchmarks report` from the result files in `docs/benchmarks/`; no number is written by hand. `make bench`
measures every figure but the long ones (`make bench ARGS=--long`: those too) and makes this page; `make bench ARGS="run book"`
measures one; `make bench-compare REV=main~5` measures two revisions in turns and prints ratios. Rates of two machines, or of two days
on a shared machine, say little beside each other; ratios of one run do.

In tables, *12.3 (11.9–12.6)* is the median with the lowest and highest of N passes; a number alone was measured once, or follows from
others.
"""


def write_page(results: Path = FOLDER) -> Path:
    """Draw every plot and write the page beside the folder of results; the page's path."""
    found = load_all(results)
    page = results.parent / PAGE_NAME
    for content in found:
        for plot in content["plots"]:
            draw(results / _plot_name(content, plot), plot)
    wanted = {_plot_name(content, plot) for content in found for plot in content["plots"]}
    for old in results.glob("*.svg"):
        if old.name not in wanted:
            old.unlink()
    link = os.path.relpath(results, page.parent)
    page.write_text("\n".join(page_lines(found, link)).rstrip() + "\n", encoding="utf-8")
    return page


def page_lines(found: Sequence[dict[str, Any]], folder: str) -> list[str]:
    """The page, line by line; plots are linked in `folder`."""
    lines = [INTRODUCTION]
    if not found:
        return [*lines, "Nothing has been measured yet."]
    newest = max(found, key=lambda content: str(content["date"]))
    lines += ["## Machine", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {newest['machine'][name]} |" for name in MACHINE if newest["machine"].get(name)]
    lines += ["", *_targets(found)]
    for content in found:
        lines += ["", *_section(content, folder, newest["machine"])]
    return lines


def _targets(found: Sequence[dict[str, Any]]) -> list[str]:
    rows = [(content, target) for content in found for target in content["targets"]]
    if not rows:
        return []
    reached = sum(target["reached"] for _, target in rows)
    lines = ["## Targets", "", f"{reached} of {len(rows)} are reached.", ""]
    lines += ["| target | measured | | why, when missed | figure |", "|---|---|---|---|---|"]
    for content, target in rows:
        verdict = "reached" if target["reached"] else "**missed**"
        why = "" if target["reached"] else target["why"] or content["limit"]
        link = f"[{content['figure']}](#{anchor(content['title'])})"
        lines.append("| " + " | ".join([_cell(target["what"]), _cell(target["measured"]), verdict, _cell(why), link]) + " |")
    return lines


def _section(content: dict[str, Any], folder: str, machine: dict[str, str]) -> list[str]:
    lines = [f"## {content['title']}", "", content["text"]]
    if content["baseline"]:
        lines[-1] += f" Baseline: {content['baseline']}."
    lines += ["", _origin(content)]
    if content["machine"] != machine:
        changed = [f"{name} {value}" for name, value in content["machine"].items() if machine.get(name) != value]
        lines.append(f"Measured on another machine than most: {'; '.join(changed)}.")
    lines += ["", *tables.markdown(content["rows"])]
    for title, rows in content["more"].items():
        lines += ["", f"**{title}**", "", *tables.markdown(rows)]
    for plot in content["plots"]:
        lines += ["", f"![{plot['title']}]({folder}/{_plot_name(content, plot)})"]
    if content["limit"]:
        lines += ["", f"**What limits it.** {content['limit']}"]
    if content["notes"]:
        lines += ["", *(f"- {note}" for note in content["notes"])]
    return lines


def _origin(content: dict[str, Any]) -> str:
    passes = tables.passes_of(content["rows"])
    parts = [f"`{content['command']}`", str(content["date"])[:16].replace("T", " ") + " UTC"]
    parts.append(f"commit {content['commit']}{' with uncommitted changes' if content['dirty'] else ''}")
    parts += [f"N = {passes}"] if passes else []
    parts.append(f"took {content['seconds']:.0f} s")
    if content.get("busy_before", 0.0) >= BUSY_CORES:
        parts.append(f"other work used {content['busy_before']:.1f} cores before the run")
    if content["scale"] != "full":
        parts.append("**smoke run: the numbers mean nothing**")
    return " · ".join(parts)


def anchor(title: str) -> str:
    """The link target that a forge makes of a heading."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def _plot_name(content: dict[str, Any], plot: dict[str, Any]) -> str:
    return f"{content['figure']}-{plot['name']}.svg"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
