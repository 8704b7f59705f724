"""The pictures of docs/benchmarks.md, drawn from the results that are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.kept import Results
from benchmarks.report import number

OURS, OTHER, FLOOR = "#0b6e4f", "#8a97a8", "#cfd6de"
COLOURS = (
    "#4a72b0", "#d98e1f", "#8c5aa8", "#c0504d", "#3a9ca6", "#7f7f7f", "#a0722a", "#5b8c3a",
    "#d4679a",
)  # fmt: skip
MARKERS = "osD^vPX*h"
Point = tuple[float, dict[str, Any]]
STYLE = {
    "font.size": 11,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "figure.facecolor": "white",
    "figure.constrained_layout.w_pad": 0.15,  # fonts of readers are wider than the one measured
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "crdtbucket",  # the same picture is the same file
}


def colour(label: str) -> str:
    """The colour of a row: of this library, of a floor to compare with, or of another limiter."""
    if label.startswith("crdtbucket"):
        return OURS
    return FLOOR if label.startswith(("floor", "dict[", "EVALSHA", "aiohttp that")) else OTHER


def painted(told: dict[str, Any], ours: tuple[str, ...], other: str | None) -> list[dict[str, Any]]:
    """The rows of a table, of which those that begin so are ours and the rest have `other`."""
    return [
        {**row, "colour": OURS if row["label"].startswith(ours) else other} for row in told["rows"]
    ]


def bars(axes: Any, rows: Iterable[dict[str, Any]], unit: int, title: str, log: bool) -> None:
    """Draws a bar for each row, the first on top, with its median and the span of the repeats."""
    rows = list(rows)
    values = [row["values"][unit] for row in rows]
    middles = [value["median"] for value in values]
    spans = [
        [value["median"] - value["least"] for value in values],
        [value["most"] - value["median"] for value in values],
    ]
    colours = [row.get("colour") or colour(row["label"]) for row in rows]
    places = range(len(rows))
    axes.barh(places, middles, color=colours, xerr=spans, error_kw={"ecolor": "#555", "capsize": 2})
    axes.set_yticks(places, [row["label"] for row in rows])
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    for place, value in zip(places, values, strict=True):
        axes.annotate(
            number(value["median"]), (value["most"], place), (6, 0), va="center",
            textcoords="offset points", fontsize=10,
        )  # fmt: skip
    axes.set_xlabel(title)
    if log:
        axes.set_xscale("log")
        axes.set_xlim(min(middles) / 2, max(value["most"] for value in values) * 3)
    else:
        axes.set_xlim(0, max(value["most"] for value in values) * 1.25)
    axes.xaxis.set_major_formatter(_plain)


def curve(axes: Any, label: str, points: Sequence[Point], order: int, ours: bool = False) -> None:
    """Draws a line through the medians, and a band from least to most."""
    paint = OURS if ours else COLOURS[order % len(COLOURS)]
    plain = label.startswith("dict[")
    x = [at for at, _ in points]
    axes.plot(
        x, [value["median"] for _, value in points], label=label, color=paint,
        marker=MARKERS[order % len(MARKERS)], markersize=5, linewidth=2.6 if ours else 1.6,
        linestyle=":" if plain else "-",
    )  # fmt: skip
    low, high = ([value[side] for _, value in points] for side in ("least", "most"))
    axes.fill_between(x, low, high, color=paint, alpha=0.15, linewidth=0)


def axis(axes: Any, x: str, y: str, log_x: bool = True, log_y: bool = True) -> None:
    """Sets the names and scales of both axes; a short one gets more numbers."""
    from matplotlib.ticker import LogLocator

    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if log_x:
        axes.set_xscale("log")
    if log_y:
        axes.set_yscale("log")
    for one, log in ((axes.xaxis, log_x), (axes.yaxis, log_y)):
        one.set_major_formatter(_plain)
        if log:
            one.set_minor_formatter("")
    low, high = axes.get_ylim()
    if log_y and high < 300 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))


def _plain(value: float, _: int) -> str:
    """A number of an axis without powers of ten, such as 10,000, 0.5 or 10 M."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value:,.0f}" if value >= 1 or value == 0 else f"{value:g}"


def points(told: dict[str, Any], unit: int) -> list[Point]:
    """The rows of a table that have a place on the axis."""
    return [(row["at"], row["values"][unit]) for row in told["rows"] if row["at"] is not None]


# ---- the pictures ----


def take(results: Results, figure: Any) -> None:
    """A bar for each limiter."""
    rows = results.comparison("take", "one hot key, allowed")["rows"]
    bars(figure.subplots(), rows, 0, "ns of CPU for one take of a hot key, allowed", True)


def many_keys(results: Results, figure: Any) -> None:
    """A line for each limiter."""
    axes, lines = figure.subplots(), dict[str, list[Point]]()
    for told in results.comparisons("many_keys"):
        for row in told["rows"]:
            lines.setdefault(row["label"], []).append((told["at"], row["values"][0]))
    for order, (label, line) in enumerate(lines.items()):
        curve(axes, label, line, order, ours=label == "crdtbucket")
    axis(axes, "keys that are held", "ns of CPU for one take of a random key")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def memory(results: Results, figure: Any) -> None:
    """A bar for each limiter."""
    rows = results.comparisons("memory")[0]["rows"]
    bars(figure.subplots(), rows, 0, "bytes of resident memory for each key", False)


def workers(results: Results, figure: Any) -> None:
    """A line for each way, over the number of processes."""
    axes, told = figure.subplots(), results.comparison("workers", "admitted takes a second")
    counts = [int(unit.split()[0]) for unit in told["units"]]
    for order, row in enumerate(told["rows"]):
        line = list(zip(counts, row["values"], strict=True))
        curve(axes, row["label"], line, order, ours=row["label"] == "crdtbucket, shared table")
    axis(axes, "processes", "admitted takes a second of all processes, one key")
    axes.set_xticks(counts)
    axes.minorticks_off()
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def strong(results: Results, figure: Any) -> None:
    """Bars: one caller, and many."""
    left, right = figure.subplots(1, 2)
    one, many = (results.comparison("strong", title) for title in ("one caller", "64 callers"))
    bars(left, one["rows"], 0, "µs for a decision, one caller, median", False)
    bars(right, many["rows"], 0, "decisions a second, 64 callers", False)
    right.set_yticks(right.get_yticks(), [""] * len(many["rows"]))


def merge(results: Results, figure: Any) -> None:
    """Bars: merges over what the memory allows."""
    rows = painted(results.comparisons("merge")[0], ("merge",), FLOOR)
    bars(figure.subplots(), rows, 0, "ns of CPU for one entry of five columns", False)


def codec(results: Results, figure: Any) -> None:
    """Bars: ours over msgpack of Python objects, and over a copy."""
    told = results.comparison("codec", "entries with 5 columns")
    rows = painted(told, ("encode", "decode"), None)
    bars(figure.subplots(), rows, 0, "ns of CPU for one entry of five columns", True)


def gossip(results: Results, figure: Any) -> None:
    """Bytes and CPU, over nodes and over keys."""
    (a, b), (c, d) = figure.subplots(2, 2)
    for column, (axes, what) in enumerate(((a, "kB/s sent by a node"), (b, "CPU ms/s of a node"))):
        for order, told in enumerate(results.comparisons("gossip")[:3]):
            title = told["title"].removesuffix(" in the mesh")
            curve(axes, title, points(told, column), order)
        axis(axes, "nodes", what)
        axes.set_xticks([3, 5, 10, 20, 50])
        axes.minorticks_off()
    a.legend(frameon=False, fontsize=9)
    changing = results.comparison("gossip", "changing keys")
    held = results.comparison("gossip", "keys in debt")
    for axes, unit, what in ((c, 0, "kB/s sent by a node"), (d, 1, "CPU ms/s of a node")):
        curve(axes, "keys that change, a second", points(changing, unit), 3)
        curve(axes, "keys in debt that do not change", points(held, unit), 4)
        axis(axes, "keys, 3 nodes", what)
    c.legend(frameon=False, fontsize=9)


def convergence(results: Results, figure: Any) -> None:
    """Time over loss."""
    axes, told = figure.subplots(), results.comparisons("convergence")[0]
    curve(axes, "until all nodes know (median; band: least to most)", points(told, 0), 0, ours=True)
    floor = told["rows"][0]["values"][0]["median"]
    axes.axhline(floor, color="black", linestyle=(0, (5, 4)), linewidth=1.2, label="one-way delay")
    axis(axes, "frames lost, %", "ms after a take", log_x=False, log_y=False)
    axes.set_ylim(0)
    axes.legend(loc="upper left", frameon=False)


APART = 0.13
"""The distance of the dots of two rules in one scenario, so that equal ones are both seen."""


def accuracy(results: Results, figure: Any) -> None:
    """Two dots for each rule and scenario: how much, and how far over."""
    left, right = figure.subplots(1, 2, sharey=True)
    told = results.comparisons("accuracy")
    for axes, unit in ((left, 0), (right, 1)):
        for order, label in enumerate(row["label"] for row in told[0]["rows"]):
            rows = [next(row for row in one["rows"] if row["label"] == label) for one in told]
            ours = label == "crdtbucket"
            axes.plot(
                [row["values"][unit]["median"] for row in rows],
                [place + (order - 2) * APART for place in range(len(rows))], label=label,
                linestyle="", marker=MARKERS[order], markersize=10 if ours else 7,
                color=OURS if ours else COLOURS[order], zorder=3 if ours else 2,
            )  # fmt: skip
    left.set_yticks(range(len(told)), [one["title"] for one in told])
    left.invert_yaxis()
    left.set_xscale("log")
    left.set_xticks([20, 50, 100, 200, 500])
    left.set_xlim(15, 600)
    left.minorticks_off()
    left.axvline(100, color="black", linewidth=1, linestyle=(0, (5, 4)), zorder=1)
    left.set_xlabel("admitted, % of what one bucket admits")
    right.set_xscale("symlog", linthresh=1)
    right.set_xlim(-0.3, 10_000)
    right.set_xticks([0, 1, 10, 100, 1_000])
    right.set_xlabel("worst over-admission, % of the capacity")
    for axes in (left, right):
        axes.xaxis.set_major_formatter(_plain)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)


def sidecar(results: Results, figure: Any) -> None:
    """Decisions a second."""
    rows = painted(results.comparisons("sidecar")[0], ("take",), FLOOR)
    bars(figure.subplots(), rows, 0, "decisions a second over HTTP, one process", True)


def growth(results: Results, figure: Any) -> None:
    """A line for each operation."""
    axes = figure.subplots()
    takes, merged = (results.comparison("growth", title) for title in ("takes", "merged"))
    curve(axes, "dict[key] += 1", points(takes, 0), 5)
    curve(axes, "take", points(takes, 1), 0, ours=True)
    curve(axes, "take_many, a take", points(takes, 2), 1)
    curve(axes, "merge, an entry", points(merged, 0), 2)
    axis(axes, "keys", "ns of CPU")
    axes.legend(frameon=False)


PICTURES: dict[str, tuple[Callable[[Results, Any], None], tuple[float, float], str]] = {
    "take": (take, (8, 3.2), "nanoseconds for one take of a hot key, crdtbucket and five others"),
    "many_keys": (
        many_keys,
        (9, 4.2),
        "nanoseconds for a take of a random key, over the number of keys",
    ),
    "memory": (memory, (8, 3.6), "bytes for each key, crdtbucket and five others"),
    "workers": (workers, (9, 4.6), "takes a second of 1, 2 and 4 processes that share a limit"),
    "strong": (strong, (9.5, 3.0), "time and number of decisions of a shared Redis"),
    "merge": (merge, (8, 2.4), "nanoseconds for a merged entry, beside what the memory allows"),
    "codec": (codec, (8, 2.7), "nanoseconds to write and read an entry, beside msgpack and a copy"),
    "gossip": (gossip, (9.5, 7), "bytes and CPU time of gossip over nodes and over keys"),
    "convergence": (
        convergence,
        (8, 3.6),
        "milliseconds until all nodes know of a take, over lost frames",
    ),
    "accuracy": (accuracy, (9.5, 4.6), "what five rules admit, and by how much they exceed"),
    "sidecar": (sidecar, (8, 2.4), "decisions a second of the sidecar"),
    "growth": (
        growth,
        (8, 4),
        "nanoseconds of each operation, from a thousand keys to ten millions",
    ),
}
"""Of each picture: the function that draws it, its size in inches, and what it shows in words."""


def draw(name: str, results: Results, path: Path) -> None:
    """Writes one picture; the suffix of the path chooses the format."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    make, size, _ = PICTURES[name]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        make(results, figure)
        # Without the date, the same results are the same file.
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, metadata=metadata, dpi=110)
