"""`python -m benchmarks`: measure figures, make the page of them, compare two revisions.

Without a command: every figure but the long ones, then the page. What does not belong here: measuring (a file for each figure),
running (running.py), pages (report.py), comparing (compare.py).
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.figure import NotMeasurable, Scale, discover
from benchmarks.results import FOLDER
from l2_platform.monitoring.runtime import prepare_numba


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = parse(arguments)
    # before any module with kernels is imported
    prepare_numba(Path(tempfile.gettempdir()) / f"l2-bench-numba-{os.getuid()}")
    return int(options.command(options))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What was said, in front of the command's name and behind it."""
    options = parser().parse_args(arguments)
    options.set = [*options.set, *getattr(options, "set_behind", [])]
    return options


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = top.add_subparsers()
    run = commands.add_parser("run", help="measure the named figures, or all but the long ones")
    run.add_argument("names", nargs="*", metavar="NAME", help="figures (see list)")
    listing = commands.add_parser("list", help="name every figure")
    report = commands.add_parser("report", help="make docs/benchmarks.md and its plots of the stored results")
    report.add_argument("--results", type=Path, default=FOLDER, help="folder of result files")
    compare = commands.add_parser("compare", help="measure two revisions in turns; exit 1 when a figure got slower")
    compare.add_argument("revision", metavar="REV", help="the revision to compare with")
    compare.add_argument("names", nargs="*", metavar="NAME", help="figures (default: those of the hot path)")
    compare.add_argument("--with", dest="other", metavar="REV2", help="compare this one, not the checkout as it is")
    compare.add_argument("--rounds", type=int, default=3, help="turns of each revision (default 3)")
    compare.add_argument("--threshold", type=float, default=0.10, help="slower by more is a failure (default 0.10)")
    for command in (top, run, compare):
        command.add_argument("--smoke", action="store_true", help="the tiny run that proves that figures run", **_kept(command, top, False))
    for command in (top, run):
        command.add_argument("--long", action="store_true", help="the long figures too", **_kept(command, top, False))
        command.add_argument(
            "--out", type=Path, help="folder of result files (default docs/benchmarks; smoke: none)", **_kept(command, top, None)
        )
        command.add_argument("--no-save", action="store_true", help="store nothing", **_kept(command, top, False))
        command.add_argument(
            "--scratch", type=Path, help="where to work (default: the folder for temporary files)", **_kept(command, top, None)
        )
        command.add_argument(
            "--set", action="append", dest="set" if command is top else "set_behind", default=[], metavar="KEY=VALUE",
            help="an option of a figure",
        )  # fmt: skip
        command.add_argument("--limits", type=json.loads, help=argparse.SUPPRESS, **_kept(command, top, {}))
    top.set_defaults(command=run_all, names=[])
    run.set_defaults(command=run_named)
    listing.set_defaults(command=list_figures)
    report.set_defaults(command=make_report)
    compare.set_defaults(command=compare_revisions)
    return top


def _kept(command: argparse.ArgumentParser, top: argparse.ArgumentParser, default: object) -> dict[str, Any]:
    """A command has no defaults of its own: they would undo what was said in front of its name."""
    return {"default": default if command is top else argparse.SUPPRESS}


def list_figures(_options: argparse.Namespace) -> int:
    """Print every figure."""
    for figure in discover().values():
        print(f"{figure.name:<24}{figure.title}{' (long)' if figure.long else ''}")
    return 0


def run_figures(options: argparse.Namespace) -> int:
    """Measure; 0 when all figures could be measured or say what they need."""
    from benchmarks.running import Plan, chosen, run_many, run_one

    figures = chosen(options.names, with_long=options.long)
    scale: Scale = "smoke" if options.smoke else "full"
    out = options.out or (None if options.smoke else FOLDER)
    plan = Plan(
        scale, None if options.no_save else out, dict(text.split("=", 1) for text in options.set), options.limits, options.scratch
    )
    if len(figures) > 1:
        failed = run_many(figures, plan)
        if failed:
            print(f"\nfailed: {', '.join(failed)}")
        return bool(failed)
    for figure in figures:
        try:
            run_one(figure, plan)
        except NotMeasurable as reason:
            print(f"\n{figure.title} [{figure.name}]: not measured: {reason}")
    return 0


def run_named(options: argparse.Namespace) -> int:
    """Measure some; the page is made anew unless their results went elsewhere."""
    return run_figures(options) if options.out is not None else run_all(options)


def run_all(options: argparse.Namespace) -> int:
    """Measure, then make the page."""
    failed = run_figures(options)
    if not (options.smoke or options.no_save):
        options.results = options.out or FOLDER
        make_report(options)
    return failed


def make_report(options: argparse.Namespace) -> int:
    """Write the page."""
    from benchmarks.report import write_page

    discover()
    print(f"\nwritten: {write_page(options.results)}")
    return 0


def compare_revisions(options: argparse.Namespace) -> int:
    """Measure in turns, print ratios."""
    from benchmarks.compare import compare

    return compare(
        options.revision,
        options.other,
        options.names,
        rounds=options.rounds,
        threshold=options.threshold,
        smoke=options.smoke,
    )


if __name__ == "__main__":
    raise SystemExit(main())
