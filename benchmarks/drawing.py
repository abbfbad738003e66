"""Plots of figures as SVG files: the same numbers give the same bytes.

What does not belong here: numbers.
"""

from pathlib import Path
from typing import Any

SIZE_INCHES = (7.2, 3.8)


def draw(path: Path, plot: dict[str, Any]) -> None:
    """Draw a stored plot (see figure.Plot) into an SVG file."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    # text as text keeps files small; the salt keeps the ids of two runs equal
    settings: Any = {
        "svg.fonttype": "none", "svg.hashsalt": plot["name"], "font.size": 9, "axes.spines.top": False,
        "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
    }  # fmt: skip
    with mpl.rc_context(settings):
        figure, axes = plt.subplots(figsize=SIZE_INCHES, layout="constrained")
        if plot["kind"] == "lines":
            _lines(axes, plot)
        else:
            _bars(axes, plot, stacked=plot["kind"] == "stack")
        axes.set_title(plot["title"], loc="left")
        axes.set_xlabel(plot["x_label"])
        axes.set_ylabel(plot["y_label"])
        if plot["log_y"]:
            axes.set_yscale("log")
        elif axes.get_ylim()[0] > 0:
            axes.set_ylim(bottom=0)
        if len(plot["series"]) > 1:
            axes.legend(frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)


def _lines(axes: Any, plot: dict[str, Any]) -> None:
    for series in plot["series"]:
        (line,) = axes.plot(series["x"], series["y"], marker="o", markersize=3, linewidth=1.4, label=series["label"])
        if series["low"]:
            axes.fill_between(series["x"], series["low"], series["high"], color=line.get_color(), alpha=0.15, linewidth=0)
    if plot["log_x"]:
        axes.set_xscale("log")
    points = sorted({x for series in plot["series"] for x in series["x"]})
    if len(points) <= 8:
        axes.set_xticks(points, [f"{x:,g}" if isinstance(x, int | float) else x for x in points])
        axes.minorticks_off()


def _bars(axes: Any, plot: dict[str, Any], *, stacked: bool) -> None:
    names = list(dict.fromkeys(str(x) for series in plot["series"] for x in series["x"]))
    places = range(len(names))
    width = 0.6 if stacked else 0.8 / max(1, len(plot["series"]))
    below = [0.0] * len(names)
    for number, series in enumerate(plot["series"]):
        values = dict(zip((str(x) for x in series["x"]), series["y"], strict=True))
        heights = [values.get(name, 0.0) for name in names]
        shift = 0.0 if stacked else (number - (len(plot["series"]) - 1) / 2) * width
        lefts = [place + shift for place in places]
        axes.bar(lefts, heights, width, bottom=below if stacked else None, label=series["label"])
        if stacked:
            below = [low + height for low, height in zip(below, heights, strict=True)]
    axes.set_xticks(list(places), names)
