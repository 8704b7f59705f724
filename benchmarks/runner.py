"""The one runner: `python -m benchmarks [NAMES] [--quick | --smoke] [--save] [--json FILE]`."""

from __future__ import annotations

import importlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks import environment, report
from benchmarks.measure import SCALES, Comparison, Scale, measure

QUESTIONS = (
    "take",
    "take_many",
    "many_keys",
    "memory",
    "workers",
    "strong",
    "merge",
    "codec",
    "gossip",
    "convergence",
    "sockets",
    "join",
    "accuracy",
    "surfaces",
    "integrations",
    "sidecar",
    "scrape",
    "growth",
)
SCALING = ("growth_keys", "growth_nodes")
"""The questions that docs/scaling.md answers."""
RESULTS = Path(__file__).parent / "results"
"""The results that the documents are made of, a file for each question."""
FORMAT = 1


class Progress:
    """Prints a line for each thing that begins, with the seconds since the start."""

    def __init__(self, console: Console) -> None:
        self.console, self.start = console, time.monotonic()

    def say(self, text: str) -> None:
        """Prints one line."""
        self.console.print(f"[dim]{time.monotonic() - self.start:6.1f} s[/]  {text}")


def answer(name: str, scale: Scale, progress: Progress) -> dict[str, Any]:
    """Runs one question, prints its tables as they come, and returns them for JSON."""
    module = importlib.import_module(f"benchmarks.{name}")
    progress.say(f"[bold]{name}[/]: {module.QUESTION}")
    start, told = time.monotonic(), []
    with closing(module.comparisons(scale)) as comparisons:  # whose servers end with it
        for comparison in _announced(comparisons, scale, progress):
            told.append(report.as_json(comparison, *measure(comparison, scale)))
            report.show(progress.console, told[-1])
    return {
        "name": name,
        "question": module.QUESTION,
        "seconds": round(time.monotonic() - start, 1),
        "comparisons": told,
    }


def _announced(
    comparisons: Iterator[Comparison], scale: Scale, progress: Progress
) -> Iterator[Comparison]:
    for comparison in comparisons:
        repeats = comparison.repeats or scale.repeats
        progress.say(f"{comparison.title}: {len(comparison.cases)} rows, {repeats} times")
        yield comparison


def as_text(whole: dict[str, Any]) -> str:
    """JSON in which each difference shows as a line, with the repeats of a value on one."""
    numbers = re.compile(r"\[\s+([-+.\de]+(?:,\s+[-+.\de]+)*)\s+\]")
    text = json.dumps(whole, indent=1)
    return numbers.sub(lambda match: f"[{' '.join(match[1].split())}]", text) + "\n"


def save(about: dict[str, Any], answered: dict[str, Any], folder: Path) -> Path:
    """Writes what the documents are made of."""
    folder.mkdir(exist_ok=True)
    file = folder / f"{answered['name']}.json"
    whole = {"format": FORMAT, "environment": about, "answer": answered}
    file.write_text(as_text(whole))
    return file


@click.command()
@click.argument("names", nargs=-1, type=click.Choice((*QUESTIONS, *SCALING)), metavar="[NAMES]...")
@click.option("--quick", "size", flag_value="quick", help="Fewer repeats and keys.")
@click.option("--smoke", "size", flag_value="smoke", help="Tiny counts: only that everything runs.")
@click.option("--save", "saved", is_flag=True, help="Keep the results for `make bench-page`.")
@click.option(
    "--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write results there."
)
def main(names: tuple[str, ...], size: str | None, saved: bool, file: Path | None) -> None:
    """Measure NAMES (default: all of the questions that docs/benchmarks.md answers).

    Times are CPU time of one pinned core, so that what else runs on the machine counts little; only
    where processes wait for each other (workers, strong, join, sidecar, scrape) they are wall
    time.
    """
    scale, console = SCALES[size or "full"], Console(width=None if Console().is_terminal else 120)
    if saved and scale.name != "full":
        raise click.UsageError("--save is for the full pass: what documents tell is measured well")
    about = environment.describe()
    about["pinned_to_core"] = environment.pin()
    about["pass"] = scale.name
    console.print(
        f"{about['processor']}, {about['cores']} cores, {about['python']}, "
        f"load {about['load']:.1f}, commit {(about['commit'] or 'unknown')[:10]}, "
        f"{scale.name} pass\n"
    )
    progress, answers = Progress(console), []
    for name in names or QUESTIONS:
        answers.append(answer(name, scale, progress))
        if saved:
            progress.say(f"written to {save(about, answers[-1], RESULTS)}\n")
    if file is not None:
        whole = {"format": FORMAT, "environment": about, "answers": answers}
        file.write_text(as_text(whole))
        progress.say(f"written to {file}")
