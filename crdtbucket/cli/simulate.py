"""`crdtbucket simulate` and `replay`: how accurate a limit will be in a mesh that does not run yet,
with the demand of scenarios or with that of a trace of real calls."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from types import FrameType

import click

from crdtbucket.cli.options import FiniteRange
from crdtbucket.cli.progress import progress
from crdtbucket.cli.run_options import RunOptions, mesh_options
from crdtbucket.simulator.batch import AnyJob, Job, ReplayJob, run_all
from crdtbucket.simulator.outcome_report import as_json, print_table
from crdtbucket.simulator.plot import check_plot, draw
from crdtbucket.simulator.rule_catalogue import COMPARED, STORE_RULES
from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import Factory
from crdtbucket.simulator.scenario_catalogue import SCENARIOS, select
from crdtbucket.simulator.scenario_run import Outcome
from crdtbucket.simulator.simulation_errors import SimulationError
from crdtbucket.simulator.store_scenarios import ALL_SCENARIOS, STORE_SCENARIOS
from crdtbucket.simulator.trace import read_trace

_POINTS = 2_000
INTERRUPTED = 130


@click.command(epilog="Example: crdtbucket simulate balanced partition-30s --duration-scale 0.05")
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO]...")
@mesh_options
@click.option(
    "--store", type=click.Choice(["replicated"]), default=None,
    help="Strong mode on a Redis that is replicated between the regions: its scenarios, and its "
    f"rules [{','.join(STORE_RULES)}].",
)  # fmt: skip
@click.option(
    "--duration-scale", type=FiniteRange(0.05, 10), default=1.0, show_default=True,
    help="Make scenarios, and the faults in them, shorter or longer.",
)  # fmt: skip
@click.option(
    "--plot", default=None, metavar="FILE", help="Also draw a picture (.png, .svg, .pdf)."
)
@click.option("--list", "list_", is_flag=True, help="Name the scenarios and stop.")
def simulate(
    scenarios: tuple[str, ...],
    runs: RunOptions,
    store: str | None,
    duration_scale: float,
    plot: str | None,
    list_: bool,
) -> None:
    """Simulate SCENARIOs (all of them by default; patterns such as 'partition-*' work).

    Every rule gets the same calls, drawn from the seed. The same arguments print the same. When it
    is interrupted it prints what it has.

    "of ideal" is what was admitted, as a part of what one bucket admits. "over %" is the most that
    was admitted beyond the limit, in % of the capacity, and "bound %" the most that it may be.
    "starved s" is the longest time in which a region with demand was given nothing. "share" is what
    regions were given, as parts of their share. "denied light" counts calls that were denied while
    all regions together asked for less than the limit. docs/simulator.md says more, also of the
    rules.
    """
    settings = runs.settings()
    catalogue = SCENARIOS if store is None else STORE_SCENARIOS
    if list_:
        _list(catalogue, settings[0], duration_scale)
        return
    names = select(scenarios, catalogue)
    chosen = runs.chosen(COMPARED if store is None else STORE_RULES)
    if plot is not None:
        check_plot(plot)
    work = _jobs(names, chosen, settings, duration_scale, plot is not None)
    outcomes = run_and_print(work, runs.jobs, runs.json_)
    if plot is not None:
        drawn = [catalogue[name](settings[0], duration_scale) for name in names]
        draw(outcomes, drawn, settings[0], plot)


def _jobs(
    names: list[str], rules: tuple[str, ...], settings: list[Settings], scale: float, curve: bool
) -> list[AnyJob]:
    work: list[AnyJob] = []
    for name in names:
        every = 0
        if curve:
            # A multiple of 100 ms: fine enough to see, coarse enough to draw.
            length = ALL_SCENARIOS[name](settings[0], scale).duration_ns
            every = max(1, round(length / _POINTS / (NS // 10))) * (NS // 10)
        for rule in rules:
            work += [Job(name, rule, each, scale, every) for each in settings]
    return work


def _list(catalogue: dict[str, Factory], settings: Settings, scale: float) -> None:
    width = max(len(name) for name in catalogue)
    for name, factory in catalogue.items():
        scenario = factory(settings, scale)
        click.echo(f"{name:{width}}  {scenario.duration_ns / NS:>6g} s  {scenario.title}")


def run_and_print(work: Sequence[AnyJob], processes: int, json_: bool) -> list[Outcome]:
    """Prints and returns the outcomes. A run that Control-C or SIGTERM interrupts prints those that
    it has, and exits."""
    outcomes: list[Outcome] = []
    interrupted = False
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    with progress("simulating", len(work)) as advance:
        try:
            for outcome, job in zip(run_all(work, processes), work, strict=True):
                outcomes.append(outcome)
                scenario = job.scenario if isinstance(job, Job) else "replay"
                advance(len(outcomes), f"{scenario}, {job.rule}")
        except KeyboardInterrupt:
            interrupted = True
            before = _ignored  # `timeout` sends a second one, and this process ends anyway
        finally:
            signal.signal(signal.SIGTERM, before)
    if json_:
        click.echo(as_json(outcomes))
    elif outcomes:
        print_table(outcomes)
    if interrupted:
        click.echo(f"crdtbucket: stopped after {len(outcomes)} of {len(work)} runs", err=True)
        sys.exit(INTERRUPTED)
    return outcomes


def _ignored(number: int, frame: FrameType | None) -> None:
    """Handles a signal; a handler is not passed on to other programs, as SIG_IGN is."""


@click.command(epilog="Example: crdtbucket replay trace.csv --speed 10")
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
