"""The one runner: `python -m benchmarks [names] [--quick] [--smoke] [--json FILE]`."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks import environment, report
from benchmarks.measure import SCALES, Scale, measure

QUESTIONS = (
    "take",
    "take_many",
    "merge",
    "codec",
    "memory",
    "gossip",
    "convergence",
    "growth_keys",
    "growth_nodes",
    "growth_regions",
    "strong",
    "scrape",
)


def answer(name: str, scale: Scale, console: Console) -> dict[str, Any]:
    """Runs one question, prints its tables as they come, and returns them for JSON."""
    module = importlib.import_module(f"benchmarks.{name}")
    console.print(f"[bold]{name}[/]: {module.QUESTION}\n")
    start, comparisons = time.monotonic(), []
    for comparison in module.comparisons(scale):
        rows = measure(comparison, scale)
        report.show(console, comparison, rows)
        comparisons.append(report.as_json(comparison, rows))
    return {
        "name": name,
        "question": module.QUESTION,
        "seconds": round(time.monotonic() - start, 1),
        "comparisons": comparisons,
    }


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(QUESTIONS), metavar="[NAMES]...")
@click.option(
    "--quick", "size", flag_value="quick", help="Fewer repeats and keys: a minute or two."
)
@click.option("--smoke", "size", flag_value="smoke", help="Tiny counts: only that everything runs.")
@click.option(
    "--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write results there."
)
def main(names: tuple[str, ...], size: str | None, file: Path | None) -> None:
    """Measure NAMES (default: all): take, take_many, merge, codec, memory, gossip, convergence,
    growth_keys, growth_nodes, growth_regions, strong, scrape.

    Times are CPU time of one pinned core, so that what else runs on the machine counts little; only
    those of strong, which waits for a server, are wall time.
    """
    scale, console = SCALES[size or "full"], Console(width=None if Console().is_terminal else 120)
    about = environment.describe()
    about["pinned_to_core"] = environment.pin()
    about["pass"] = scale.name
    console.print(
        f"{about['processor']}, {about['cores']} cores, {about['python']}, "
        f"load {about['load']:.1f}, commit {(about['commit'] or 'unknown')[:10]}, "
        f"{scale.name} pass\n"
    )
    answers = [answer(name, scale, console) for name in names or QUESTIONS]
    if file is not None:
        file.write_text(json.dumps({"environment": about, "answers": answers}, indent=1) + "\n")
        console.print(f"written to {file}")
