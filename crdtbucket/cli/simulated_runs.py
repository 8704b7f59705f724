"""Runs the simulator for a command: shows the progress, and prints the outcomes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
from rich.console import Console

from crdtbucket.cli.progress import progress
from crdtbucket.simulator.batch import AnyJob, Job, run_all
from crdtbucket.simulator.outcome_report import as_json, print_table
from crdtbucket.simulator.scenario_run import Outcome

INTERRUPTED = 130


def run_and_print(work: Sequence[AnyJob], processes: int, json_: bool) -> list[Outcome]:
    """Prints and returns the outcomes. A run that the user interrupts prints those that it has,
    and exits."""
    outcomes: list[Outcome] = []
    interrupted = False
    with progress("simulating", len(work)) as advance:
        try:
            for outcome, job in zip(run_all(work, processes), work, strict=True):
                outcomes.append(outcome)
                scenario = job.scenario if isinstance(job, Job) else "replay"
                advance(len(outcomes), f"{scenario}, {job.rule}")
        except KeyboardInterrupt:
            interrupted = True
    if json_:
        click.echo(as_json(outcomes))
    elif outcomes:
        print_table(outcomes, Console())
    if interrupted:
        click.echo(f"crdtbucket: stopped after {len(outcomes)} of {len(work)} runs", err=True)
        sys.exit(INTERRUPTED)
    return outcomes
