"""Regenerates docs/scaling.md: measures growth, fits exponents, writes the page and its pictures.

python docs/scaling.py                 all of it (a quarter of an hour)
python docs/scaling.py --render        the page and pictures again from docs/scaling.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from benchmarks.growth_report import Rows, exponent, number, reduced, table
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.protocol.wire import MAX_ORIGINS

DOCS = Path(__file__).parent
ROWS, PAGE, TEXT = DOCS / "scaling.json", DOCS / "scaling.md", DOCS / "scaling.tmpl"
NODES_PICTURE, KEYS_PICTURE = DOCS / "img" / "scaling-nodes.png", DOCS / "img" / "scaling-keys.png"
QUESTIONS = ("growth_nodes", "growth_keys")
COMMAND = f"python -m benchmarks {' '.join(QUESTIONS)}"
SIZES = (3, 10, 50, 200, 500)
IDLE, HOT, NEW = (
    "per node: nobody takes anything",
    "per node: all nodes take from one key, 4,000 calls/s in the mesh",
    "per node: 1,000 new keys/s in the mesh",
)
LINK_MBIT = 100


# ---- rows ----


def collect() -> dict[str, Any]:
    """Run the benchmarks; of each row the medians, with what they were measured on."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "growth.json"
        command = [sys.executable, "-m", "benchmarks", *QUESTIONS, "--json", str(file)]
        subprocess.run(command, check=True, cwd=DOCS.parent)
        return reduced(json.loads(file.read_text()))


# ---- tables ----


def costs(rows: Rows) -> str:
    """What a node pays in a full mesh."""
    out = []
    for size in SIZES:
        label = f"{size} nodes, scripted"
        frames = rows.value(IDLE, label, "frames")
        cells = [
            number(frames),
            *(number(rows.value(load, label, "kB sent")) for load in (IDLE, NEW, HOT)),
            *(number(rows.value(load, label, "CPU")) for load in (IDLE, NEW, HOT)),
            number(frames * socket_us(rows) / 1e3),
            number(rows.value("memory of", f"{size} nodes", "kB") / 1e3),
        ]
        out.append([str(size), *cells])
    return table(
        (
            "nodes", "frames/s", "kB/s idle", "kB/s new keys", "kB/s hot key", "CPU ms/s idle",
            "CPU ms/s new keys", "CPU ms/s hot key", "CPU ms/s idle, with sockets", "MB",
        ),
        out,
    )  # fmt: skip


def socket_us(rows: Rows) -> float:
    """Us of CPU of a frame, sent and received, in the largest mesh on sockets that was measured."""
    return list(rows.line("whole processes", "us of CPU"))[-1][1]


def agreement(rows: Rows) -> str:
    """One real node among scripted peers, over a mesh of real nodes."""
    out = []
    for size in (3, 10, 50):
        pairs = [
            (rows.value(load, f"{size} nodes, scripted", unit),
             rows.value(load, f"{size} nodes, all real", unit))
            for load in (IDLE, NEW, HOT) for unit in ("kB sent", "CPU")
        ]  # fmt: skip
        out.append([str(size), *(f"{100 * one / other:.0f} %" for one, other in pairs)])
    heads = (f"{what} {load}" for load in ("idle", "new keys", "hot key") for what in ("kB", "CPU"))
    return table(("nodes", *heads), out)


def one_key(rows: Rows) -> str:
    """A key that all nodes took from."""
    out = []
    for size in SIZES:
        label = f"{size} nodes"
        units = ("us a take", "us to write", "us to merge", "bytes of it")
        cells = [number(rows.value("one key", label, unit)) for unit in units]
        held = [rows.value("memory of", label, unit) for unit in ("table bytes", "columns a key")]
        out.append([str(size), *cells, *map(number, held)])
    head = ("nodes", "us a take", "us to write", "us to merge", "bytes sent", "bytes held",
            "columns a key, table full")  # fmt: skip
    return table(head, out)


def grown(rows: Rows) -> str:
    """Exponents: over all sizes, and from the last but one to the last."""
    lines: list[tuple[str, str, list[tuple[float, float]]]] = [
        ("bytes, idle", "nodes", rows.line(IDLE, "kB sent", "scripted")),
        ("bytes, new keys", "nodes", rows.line(NEW, "kB sent", "scripted")),
        ("bytes, a key hot on all nodes", "nodes", rows.line(HOT, "kB sent", "scripted")),
        ("CPU, idle", "nodes", rows.line(IDLE, "CPU", "scripted")),
        ("CPU, new keys", "nodes", rows.line(NEW, "CPU", "scripted")),
        ("CPU, a key hot on all nodes", "nodes", rows.line(HOT, "CPU", "scripted")),
        ("memory of the protocol", "nodes", rows.line("memory of", "kB")),
        ("a take of a hot key", "nodes", rows.line("one key", "us a take")),
        ("a snapshot", "keys held", rows.line("what goes over", "ms a snapshot")),
        ("pruning a dead epoch", "keys held", rows.line("what goes over", "ms a pruned")),
    ]
    return table(
        ("cost", "against", "exponent", "at the end"),
        [
            [what, against, f"{exponent(line):.2f}", f"{exponent(line[-2:]):.2f}"]
            for what, against, line in lines
        ],
    )


def keys(rows: Rows) -> str:
    """A round and what goes over all keys, against keys held."""
    out = []
    for size, sent in rows.line("a round in which", "ns a changed key, sent"):
        label = f"{size:,.0f} keys"
        cells = [
            sent,
            rows.value("a round in which", label, "ns a changed key, received"),
            rows.value("upkeep", label, "us to look"),
            rows.value("upkeep", label, "us a digest"),
            rows.value("what goes over", label, "ms a snapshot"),
            rows.value("what goes over", label, "ms a pruned"),
            rows.value("what goes over", label, "memory bytes") * size / 1e6,
        ]
        out.append([f"{size:,.0f}", *map(number, cells)])
    head = ("keys held", "ns a changed key, sent", "ns, received", "us a sweep", "us a digest",
            "ms a snapshot", "ms to prune an epoch", "MB")  # fmt: skip
    return table(head, out)


def values(rows: Rows) -> dict[str, str]:
    """Every number and table of the page, by its name in the text."""
    one = {size: rows.value(HOT, f"{size} nodes, scripted", "kB") for size in SIZES}
    idle = {size: rows.value(IDLE, f"{size} nodes, scripted", "kB") for size in SIZES}
    link = LINK_MBIT / 8 * 1e3
    lives = MAX_ORIGINS - 1
    found = rows.line("convergence", "ms until")
    out = {
        "environment": "{processor}, {cores} cores, {python}, commit {commit:.10}".format(
            **rows.environment
        ),
        "command": COMMAND,
        "note": rows.note,
        "costs": costs(rows),
        "agreement": agreement(rows),
        "one_key": one_key(rows),
        "grown": grown(rows),
        "keys": keys(rows),
        "converged": table(("nodes", "ms until all agree"),
                           [[f"{n:.0f}", number(ms)] for n, ms in found]),
        "lives": str(lives),
        "half": str(lives // 2),
        "default_peers": str(MeshConfig.__dataclass_fields__["max_peers"].default),
        "refused": number(rows.value("peers that", "1000 nodes", "refused")),
        "socket_us": number(socket_us(rows)),
        "link": str(LINK_MBIT),
        "room": number(rows.value("memory of", "500 nodes", "columns a key")),
    }  # fmt: skip
    for size in SIZES[2:]:
        out[f"hot_{size}"] = f"{(link - idle[size]) / (one[size] - idle[size]):,.0f}"
    return out


def render(data: dict[str, Any]) -> str:
    """The text of docs/scaling.md."""
    return Template(TEXT.read_text()).substitute(values(Rows(data)))


# ---- pictures ----


def draw(data: dict[str, Any]) -> None:
    """Bytes and CPU of a node against nodes, and a round's cost against keys."""
    rows = Rows(data)
    loads = [("idle", IDLE, "#4a72b0"), ("1,000 new keys/s", NEW, "#0b6e4f"),
             ("a key hot on all nodes", HOT, "#d98e1f")]  # fmt: skip
    panels = [
        (title, "nodes", [(name, rows.line(load, unit, "scripted"), hue)
                          for name, load, hue in loads])
        for title, unit in (("kB/s sent by a node", "kB sent"),
                            ("CPU ms/s of a node's protocol", "CPU"))
    ]  # fmt: skip
    picture(NODES_PICTURE, panels)
    held, changed = "a round in which", "rounds of a table"
    parts = [
        ("ns a changed key, sent", rows.line(held, "ns a changed key, sent"), "#0b6e4f"),
        ("ns a changed key, received", rows.line(held, "ns a changed key, received"), "#4a72b0"),
        ("us a digest", rows.line("upkeep", "us a digest"), "#d98e1f"),
        ("us a sweep", rows.line("upkeep", "us to look"), "#8a8a8a"),
    ]
    whole = [
        ("sent", rows.line(changed, "ms sent"), "#0b6e4f"),
        ("received", rows.line(changed, "ms received"), "#4a72b0"),
    ]
    picture(KEYS_PICTURE, [("a round's parts", "keys held", parts),
                           ("ms a round", "keys changed", whole)])  # fmt: skip


Line = tuple[str, Sequence[tuple[float, float]], str]


def picture(path: Path, panels: Sequence[tuple[str, str, Sequence[Line]]]) -> None:
    """Panels side by side, both axes in powers of ten; beside what grows, a line of slope one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.4), dpi=130, layout="constrained")
    every = zip(figure.subplots(1, len(panels)), panels, strict=True)
    for axes, (title, size, lines) in every:
        for name, points, hue in lines:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, marker="o", color=hue, linewidth=2, label=name)
        axes.set_xscale("log")
        axes.set_yscale("log")
        (low, high), (x0, y0) = axes.get_xlim(), lines[0][1][0]
        if exponent(lines[0][1]) > 0.5:
            limits, ends = axes.get_ylim(), [y0 * at / x0 for at in (low, high)]
            axes.plot((low, high), ends, color="black", linewidth=1, linestyle=(0, (5, 4)),
                      label="linear")  # fmt: skip
            axes.set_ylim(limits)
        else:
            axes.set_ylim(1, 10_000)
        axes.set_title(title, fontsize=12, loc="left")
        axes.set_xlabel(size, fontsize=12)
        axes.grid(True, color="#e6e6e6", linewidth=0.8)
        axes.legend(fontsize=10, frameon=False, loc="upper left")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)


def main() -> None:
    """Do what the options ask for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--render", action="store_true", help="only the page, from the rows")
    if not parser.parse_args().render:
        ROWS.write_text(json.dumps(collect(), indent=1) + "\n")
    data = json.loads(ROWS.read_text())
    PAGE.write_text(render(data))
    draw(data)


if __name__ == "__main__":
    main()
