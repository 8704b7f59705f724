"""`crdtbucket demo`: three processes keep one limit, before your eyes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from crdtbucket.cli.options import FiniteRange
from crdtbucket.demo.modes import PER_REGION

SECONDS, REDIS_SECONDS, REDIS_LEAST = 25.0, 40.0, 16.0


@click.command(epilog="Example: crdtbucket demo --console")
@click.option(
    "--seconds", type=FiniteRange(8, 600), default=None,
    show_default=f"{SECONDS:g}; with --redis {REDIS_SECONDS:g}, and at least {REDIS_LEAST:g}",
    help="How long the traffic lasts; some seconds come on top.",
)  # fmt: skip
@click.option(
    "--redis", metavar="URL|auto|regions", default=None,
    help="Run in strong mode with this Redis, or with one that is started for the run, or with one "
    "in each region.",
)  # fmt: skip
@click.option(
    "--nats", type=click.Choice(["auto"]), default=None,
    help="Have the regions meet at two NATS servers that are started for the run.",
)  # fmt: skip
@click.option(
    "--trace", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=None,
    help="Replay this CSV file (TIMESTAMP,ContextTokens,GeneratedTokens) instead.",
)  # fmt: skip
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Which region gets which call."
)
@click.option(
    "--console", is_flag=True,
    help="Show the console of each region while it runs, at addresses that are printed. In a "
    "terminal of a desktop, and without --plain, a browser opens with the first.",
)  # fmt: skip
@click.option("--plain", is_flag=True, help="A line a second instead of a live table.")
@click.option("--json", "json_", is_flag=True, help="Print the verdict alone, as JSON.")
def demo(
    seconds: float | None,
    redis: str | None,
    nats: str | None,
    trace: Path | None,
    seed: int,
    console: bool,
    plain: bool,
    json_: bool,
) -> None:
    """Three real processes share one limit, also while the network between them is cut.

    They are regions on this machine's loopback interface, with real LLM calls as their traffic.
    With --redis they ask it in strong mode, and it becomes slow, is gone, and comes back; with
    --redis regions each asks its own, and one region is cut off.
    With --nats a gateway joins them; it is cut, and heals, and a server stalls.
    Exit status: 0 when they kept the limit, 1 when not or when a process failed, 2 for an error
    such as a wrong URL.
    """
    if redis is not None and nats is not None:
        raise click.UsageError("--redis and --nats are two runs: give one of them")
    acts = redis not in (None, PER_REGION)
    if seconds is None:
        seconds = REDIS_SECONDS if acts else SECONDS
    elif acts and seconds < REDIS_LEAST:
        raise click.BadParameter(
            f"with --redis a run lasts {REDIS_LEAST:g} seconds or more: its switches take time",
            param_hint="--seconds",
        )
    # A terminal view and asyncio's subprocesses: for those who run it.
    from crdtbucket.demo.demo_run import Options, Stopped, run_demo
    from crdtbucket.demo.processes import DemoError
    from crdtbucket.demo.view import view_for
    from crdtbucket.demo.words import as_dict

    view = view_for(plain=plain, json=json_)
    try:
        result = run_demo(Options(seconds, seed, trace, redis, nats is not None, console), view)
    except Stopped as stopped:
        click.echo(f"crdtbucket: stopped by {stopped}", err=True)
        sys.exit(stopped.status)
    except DemoError as error:
        click.echo(f"crdtbucket: {error}", err=True)
        sys.exit(1)
    if json_:
        click.echo(json.dumps(as_dict(result.verdict, seed, result.traffic), indent=2))
    sys.exit(0 if result.verdict.holds else 1)
