"""`crdtbucket replay`: a trace of real calls through a simulated mesh."""

from __future__ import annotations

import click

from crdtbucket.cli.options import FiniteRange
from crdtbucket.cli.run_options import RunOptions, mesh_options
from crdtbucket.cli.simulated_runs import run_and_print
from crdtbucket.simulator.batch import AnyJob, ReplayJob
from crdtbucket.simulator.simulation_errors import SimulationError
from crdtbucket.simulator.trace import read_trace


@click.command()
@click.argument("trace", type=click.Path(exists=True, dir_okay=False))
@mesh_options
@click.option(
    "--speed", type=FiniteRange(0, min_open=True), default=1.0, show_default=True,
    help="How many times as fast as it happened.",
)  # fmt: skip
def replay(trace: str, runs: RunOptions, speed: float) -> None:
    """Replay TRACE, a CSV file with the columns TIMESTAMP,ContextTokens,GeneratedTokens.

    A call costs the sum of its tokens. Calls are spread over the regions by the seed; every rule
    gets the same. The bucket comes from --capacity and --rate, or from --config.
    """
    if runs.config is None and (runs.capacity is None or runs.rate is None):
        raise SimulationError("a replay needs --capacity and --rate, or --config")
    settings, chosen, calls = runs.settings(), runs.chosen(), read_trace(trace)
    work: list[AnyJob] = [
        ReplayJob(calls, rule, each, speed) for rule in chosen for each in settings
    ]
    run_and_print(work, runs.jobs, runs.json_)
