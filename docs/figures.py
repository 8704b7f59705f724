"""Regenerates what the documents show: the picture, the accuracy tables, and the rows behind them.

    python docs/figures.py                 all of it, as `make docs-figures` does
    python docs/figures.py --store         only those of a replicated store
    python docs/figures.py --render        the tables again from docs/accuracy.json

Every figure comes from `crdtbucket simulate`; the commands are written beside the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crdtbucket.simulator.batch import AnyJob, Job, run_all
from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario_run import Outcome

DOCS = Path(__file__).parent
ROWS, TABLE, PICTURE = DOCS / "accuracy.json", DOCS / "accuracy.md", DOCS / "img" / "partition.png"

OURS, BASELINES = "crdtbucket", ("static-split", "no-prediction", "max-of-totals")
SHARED, CUTS = "partition-burst-share", "partition-*"
STORE, WITHOUT = "replicated", "replicated-no-credit"
PICTURED = "partition-30s-skewed"

STORE_REGIONS = (2, 3)
STORE_COMMAND = "crdtbucket simulate --store replicated --json"
STORE_OTHERS = (
    f"balanced --regions 3 --rules {STORE},replicated-every-call,replicated-slot-50ms",
    f"balanced --regions 3 --lag 0.2 --rules {STORE}",
    f"balanced --regions 5 --rules {STORE}",
    *(
        f"store-clocks --regions {regions} --duration-scale 3 --capacity 1000 --rate 200 "
        f"--rules {STORE}"
        for regions in STORE_REGIONS
    ),
    f"store-clocks --regions 2 --rules {STORE},replicated-no-adoption",
)
"""Options of the runs that differ from those of the other tables."""

Rows = list[dict[str, Any]]


# ---- rows ----


def commands(patterns: Sequence[str], seeds: int) -> list[str]:
    """The command lines behind the tables: our rule over the seeds, the others on the first, and
    our option for partitions."""
    start = " ".join(["crdtbucket simulate", *patterns, "--json"])
    return [
        f"{start} --rules {OURS} --seeds {seeds}",
        f"{start} --rules {','.join(BASELINES)}",
        f"crdtbucket simulate '{CUTS}' --json --rules {SHARED} --seeds {seeds}",
    ]


def store_commands() -> list[str]:
    """The command lines behind the first tables of a replicated store."""
    return [f"{STORE_COMMAND} --regions {regions}" for regions in STORE_REGIONS]


def collect_stores(jobs: int) -> dict[str, Any]:
    """What the tables of a replicated store show; of the last one the rows of each command."""
    others = {line: collect([f"{STORE_COMMAND} {line}"], jobs)["rows"] for line in STORE_OTHERS}
    return {**collect(store_commands(), jobs), "others": others}


def collect(lines: Sequence[str], jobs: int) -> dict[str, Any]:
    """Run the commands; their output, one after the other, with the commands."""
    rows: Rows = []
    for line in lines:
        arguments = shlex.split(line)[1:]
        done = subprocess.run(
            [sys.executable, "-m", "crdtbucket", *arguments, "--jobs", str(jobs)],
            stdout=subprocess.PIPE,
            check=True,
        )
        found = json.loads(done.stdout)
        regions = re.search(r"--regions (\d+)", line)
        rows += [{**row, "regions": int(regions[1])} if regions else row for row in found]
    return {"commands": list(lines), "rows": rows}


# ---- tables ----


def render(data: dict[str, Any]) -> str:
    """The text of docs/accuracy.md."""
    groups: dict[tuple[str, str], Rows] = {}
    for row in data["rows"]:
        groups.setdefault((row["scenario"], row["rule"]), []).append(row)
    names = list(dict.fromkeys(row["scenario"] for row in data["rows"]))
    ours = {name: _ours(name, groups[name, OURS]) for name in names}
    shared = {name: _ours(name, groups[name, SHARED]) for name in names if (name, SHARED) in groups}
    differ = [row for name, row in shared.items() if _but_bound(row) != _but_bound(ours[name])]
    page = _PAGE.format(
        seeds=len({row["seed"] for row in data["rows"] if row["rule"] == OURS}),
        first=data["commands"][0],
        second=data["commands"][1],
        table=_table(
            (*_OURS_HEAD, *BASELINES),
            [[*ours[name], *_others(name, groups)] for name in names],
        ),
        light=_denied_light([row for row in data["rows"] if row["rule"] in (OURS, SHARED)]),
        third=data["commands"][2],
        shared=_table(_OURS_HEAD, differ),
    )
    return page + _stores(data["store"]) if "store" in data else page


_OURS_HEAD = ("scenario", "of ideal", "over %", "bound %", "starved s", "share")
_BOUND = _OURS_HEAD.index("bound %")


def _but_bound(cells: Sequence[str]) -> list[str]:
    return [*cells[:_BOUND], *cells[_BOUND + 1 :]]


_PAGE = """# Accuracy

For somebody who asks by how much a limit may be exceeded. Afterwards you know it for each simulated
scenario, and which ones are the worst. `make docs-figures` writes this page from
[accuracy.json](accuracy.json).

Apart from [a replicated store](#a-replicated-store), all runs have five regions, 80 ms apart one
way with 50 % jitter, a gossip round every 100 ms, and a bucket of 10,000 tokens with 2,000
tokens/s.
[The simulator](simulator.md) describes the scenarios and rules. The same version prints the same
figures.

## All scenarios

```console
$ {first}
$ {second}
```

The columns up to `share` are of this library: the worst of {seeds} seed(s), or a range where they
differ. `of ideal` is what was admitted, as a part of what one bucket admits. `over %` is the worst
over-admission in % of the capacity; below zero, no window reached the limit. `bound %` is
[the bound](model.md#what-is-exact-what-is-bounded-what-is-predicted) of that run. `starved s` is
the longest time in which a region with demand admitted nothing.
[The simulator](simulator.md#the-table) defines all columns. The last three columns are other rules
on the same calls: `over %` and (in brackets) `of ideal`.

{light}

{table}
The worst ones, by cause:

- `isolated-by-reset`: the others take the region behind the device for dead and give its
  share away, while it goes on; [`ended_is_dead: never`](security.md#dead-or-cut-off) avoids that.
- `partition-300s-square`: on both sides the bucket fills while its callers are quiet, and both
  burst at once; [`partition_burst: share`](#with-partition_burst-share) avoids most of it.
- `drift`: clocks that run at different speeds refill the bucket at different speeds.

## With `partition_burst: share`

```console
$ {third}
```

While peers are silent, a bucket refills to this side's share of the capacity only. So bursts on
both sides of a partition add up to one capacity; a burst on one side alone gets that side's share.

What `partition-300s-square` still has is its first wave, which begins with the cut: both sides find
a full bucket then, and cannot know of it yet. In each later wave less is admitted than is refilled.
In the scenarios that are not in this table, only the bound differs from the table above.

{shared}"""

_STORE_PART = """
## A replicated store

```console
$ {commands}
```

Strong mode on a Redis in each region, [as simulated](simulator.md#a-replicated-store), without a
mesh. Each cell has the figures of two regions and of three. `without` has `over %` and (in
brackets) `of ideal` when nothing is predicted for silent regions.

{light}

{table}
Further runs, each by `{command}` and the options in the
first column: calls that look at the other regions always, or every 50 ms in place of 10; a longer
lag; more regions; clocks that drift for three times as long, in a smaller bucket; and clocks that
drift while no region adopts the level of another one.

{others}"""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _ours(name: str, rows: Rows) -> list[str]:
    bounds = [row["bound_percent"] for row in rows if row["bound_percent"] is not None]
    shares = [row[key] for row in rows for key in ("share_min", "share_max")]
    return [
        f"`{name}`",
        _span([row["ratio"] for row in rows], ".3f"),
        _signed(max(row["over_admission_percent"] for row in rows)),
        f"{max(bounds):.1f}" if bounds else "-",
        f"{max(row['starved_seconds'] for row in rows):.2f}",
        _span(shares, ".2f"),
    ]


def _denied_light(rows: Rows) -> str:
    """Whether this library denied calls of a light load, and where."""
    denied: dict[str, int] = {}
    for row in rows:
        name, calls = row["scenario"], row["denied_light"]
        denied[name] = max(calls, denied.get(name, 0))
    worst = ", ".join(f"{calls:,} in `{name}`" for name, calls in denied.items() if calls)
    if worst:
        return f"`denied light`, calls denied while less than the refill was asked for: {worst}."
    return "No call was denied while less than the refill was asked for (`denied light`)."


def _stores(store: dict[str, Any]) -> str:
    return _STORE_PART.format(
        commands="\n$ ".join(store["commands"]),
        light=_denied_light([row for row in store["rows"] if row["rule"] == STORE]),
        table=_store_table(store["rows"]),
        command=STORE_COMMAND,
        others=_table(
            ("options", "rule", "of ideal", "over %", "starved s", "share"),
            [
                _other_run("" if n else f"`{line}`", row)
                for line, rows in store["others"].items()
                for n, row in enumerate(rows)
            ],
        ),
    )


def _other_run(options: str, row: dict[str, Any]) -> list[str]:
    _, ratio, over_admission, _, starved, share = _ours(row["scenario"], [row])
    return [options, f"`{row['rule']}`", ratio, over_admission, starved, share]


def _store_table(rows: Rows) -> str:
    groups: dict[tuple[str, str, int], Rows] = {}
    for row in rows:
        groups.setdefault((row["scenario"], row["rule"], row["regions"]), []).append(row)
    lines = []
    for name in dict.fromkeys(row["scenario"] for row in rows):
        cells = []
        for regions in STORE_REGIONS:
            _, ratio, over_admission, _, *more = _ours(name, groups[name, STORE, regions])
            without = _pair(groups.get((name, WITHOUT, regions), []))
            cells.append([ratio, over_admission, *more, without])
        lines.append([f"`{name}`", *(" / ".join(cell) for cell in zip(*cells, strict=True))])
    head = ("scenario", "of ideal", "over %", "starved s", "share", "without")
    return _table(head, lines)


def _others(name: str, groups: dict[tuple[str, str], Rows]) -> list[str]:
    return [_pair(groups.get((name, rule), [])) for rule in BASELINES]


def _pair(rows: Rows) -> str:
    if not rows:
        return "-"
    over_admission = _signed(max(row["over_admission_percent"] for row in rows))
    return f"{over_admission} ({_span([row['ratio'] for row in rows], '.3f')})"


def _signed(percent: float) -> str:
    return f"{round(percent, 1) + 0.0:+.1f}"  # + 0.0: no negative zero


def _span(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    low, high = format(min(known), form), format(max(known), form)
    return low if low == high else f"{low} to {high}"


# ---- picture ----

_LINES = (  # rule, what it is called, colour, width
    ("no-prediction", "counts gossiped, no prediction", "#d98e1f", 1.8),
    ("static-split", "a fixed share for each region", "#4a72b0", 1.8),
    ("crdtbucket", "crdtbucket", "#0b6e4f", 3.2),
)
_CUT = "#f3e3ba"
_FROM_S, _UNTIL_S = 40.0, 130.0


def draw_picture(jobs: int, path: Path = PICTURE) -> None:
    """What three rules admit while two of five regions are cut off for half a minute."""
    settings = Settings()
    work: list[AnyJob] = [
        Job(PICTURED, rule, settings, curve_every_ns=NS // 10) for rule, *_ in _LINES
    ]
    outcomes = dict(zip([line[0] for line in _LINES], run_all(work, jobs), strict=True))
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.6), dpi=160, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    _draw_rates(upper, outcomes, settings)
    _draw_surplus(lower, outcomes, settings)
    for axes in (upper, lower):
        axes.set_xlim(_FROM_S, _UNTIL_S)
        axes.axvspan(60, 90, color=_CUT, alpha=0.75, linewidth=0, zorder=0.8)
        axes.grid(True, axis="y", color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=13)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    lower.set_xlabel("seconds", fontsize=14)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)


def _draw_rates(axes: Any, outcomes: dict[str, Outcome], settings: Settings) -> None:
    x, y = _speed(outcomes["crdtbucket"], 1)
    axes.fill_between(x, y, color="#e3e6ea", linewidth=0, label="offered", zorder=0.6)
    for rule, label, colour, width in reversed(_LINES):
        x, y = _speed(outcomes[rule], 2)
        order = 3 if rule == "crdtbucket" else 2
        axes.plot(x, y, color=colour, linewidth=width, label=label, zorder=order)
    limit = settings.rate_per_second
    axes.axhline(
        limit, color="black", linewidth=1.3, linestyle=(0, (5, 4)), label="the limit", zorder=4
    )
    axes.set_ylabel("tokens/s, all regions", fontsize=14)
    axes.set_ylim(0, 2.2 * limit)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.text(
        75, 1.72 * limit, "two regions of five\ncut off", fontsize=13, ha="center", va="center"
    )
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, fontsize=13, frameon=False,
        columnspacing=1.4, handlelength=1.6,
    )  # fmt: skip


def _draw_surplus(axes: Any, outcomes: dict[str, Outcome], settings: Settings) -> None:
    for rule, _, colour, width in _LINES:
        curve = outcomes[rule].curve
        start = next(point for point in curve if point[0] >= _FROM_S)
        x = [point[0] for point in curve]
        y = [((point[2] - point[3]) - (start[2] - start[3])) / settings.capacity for point in curve]
        axes.plot(x, y, color=colour, linewidth=width)
    axes.axhline(0, color="black", linewidth=1.3, linestyle=(0, (5, 4)))
    axes.set_ylabel("admitted beyond\none bucket,\ncapacities", fontsize=14)


def _speed(outcome: Outcome, column: int) -> tuple[list[float], list[float]]:
    """Tokens a second over a sliding second, each at the middle of it."""
    curve, x, y = outcome.curve, [], []
    for before, after in zip(curve, curve[10:], strict=False):
        x.append((before[0] + after[0]) / 2)
        y.append((after[column] - before[column]) / (after[0] - before[0]))
    return x, y


# ---- command ----


def main() -> None:
    """Do what the options ask for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scenarios", nargs="*", help="patterns; all scenarios by default")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--render", action="store_true", help="only the tables, from the rows")
    parser.add_argument("--picture", action="store_true", help="only the picture")
    parser.add_argument("--store", action="store_true", help="only the replicated store")
    options = parser.parse_args()
    everything = not (options.render or options.picture or options.store)
    if options.picture or everything:
        draw_picture(options.jobs)
    if options.picture:
        return
    data = json.loads(ROWS.read_text()) if ROWS.exists() else {}
    if everything:
        data |= collect(commands(options.scenarios, options.seeds), options.jobs)
    if options.store or everything:
        data["store"] = collect_stores(options.jobs)
    if not options.render:
        ROWS.write_text(json.dumps(data, separators=(",", ":")).replace("},{", "},\n{") + "\n")
    TABLE.write_text(render(json.loads(ROWS.read_text())))


if __name__ == "__main__":
    main()
