"""`crdtbucket reconcile`: merges the counters of all nodes and of Redis."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import click
from rich.table import Table

from crdtbucket.base.address import split_address
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.duration import duration_ns
from crdtbucket.cli.progress import progress
from crdtbucket.cli.screen import console
from crdtbucket.reconcile.findings import Report

Once = Callable[[Callable[[float], None], Callable[[], bool]], Coroutine[Any, Any, Report]]
"""One run; see `crdtbucket.reconcile.asked_fleet.reconcile`."""
COLUMNS = {
    "keys": "keys", "behind: keys": "behind_keys", "tokens": "behind_tokens",
    "refunds": "behind_refunds", "debt charged": "charged", "left": "left_tokens",
    "refused": "refused",
}  # fmt: skip
"""Fields of a holder, by the heads of their columns."""
INTERRUPTED = 130
INCOMPLETE = 1


def _seconds(context: click.Context, option: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = duration_ns(value, option.name or "duration") / NS_PER_SECOND
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if seconds < 0.1:
        raise click.BadParameter(f"{value} is too short: give 0.1 s or more")
    return seconds


def _addresses(
    context: click.Context, option: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    for address in value:
        if address.startswith(("nats:", "redis:")):  # a node of an engine; the run checks it
            continue
        try:
            split_address(address.removeprefix("dns+"))
        except ValueError as error:
            raise click.BadParameter(f"{error}; write host:port") from error
    return value


@click.command(epilog="Example: crdtbucket reconcile --dry-run limits.yaml")
@click.argument("config", type=click.Path(exists=True, dir_okay=False))
@click.option("--dry-run", is_flag=True, help="Only look: nothing is written anywhere.")
@click.option("--json", "json_", is_flag=True, help="Print each report as one line of JSON.")
@click.option(
    "--every", metavar="DURATION", default=None, callback=_seconds,
    help='Go on, with this pause after each run, such as "10m".',
)  # fmt: skip
@click.option(
    "--peer", "peers", metavar="HOST:PORT|ENGINE:NODE", multiple=True, callback=_addresses,
    help="Ask these nodes alone, not those of the file and the members that they know.",
)  # fmt: skip
@click.option(
    "--node", metavar="NAME", default=None,
    help="What nodes call this observer in their logs, and its name at an engine "
    "[default: reconcile@HOST].",
)  # fmt: skip
@click.option(
    "--timeout", metavar="DURATION", default="5s", show_default=True, callback=_seconds,
    help="How long each answer is waited for.",
)  # fmt: skip
def reconcile(
    config: str,
    dry_run: bool,
    json_: bool,
    every: float | None,
    peers: tuple[str, ...],
    node: str | None,
    timeout: float,
) -> None:
    """Merge the counters of all nodes and of Redis, send each what it lacks, and report that.

    CONFIG is the configuration file of the nodes: its buckets, its mesh (secret and peers) and its
    Redis. No count is lowered and nothing is taken, so it may run under traffic, be interrupted,
    and be repeated. Exit status: 0 when all were brought up to date; 1 when somebody could not be
    reached, refused, or has no room for all keys; 130 when it was interrupted.
    """
    # The network, YAML and Redis: for those who run it.
    from crdtbucket.config import load_config
    from crdtbucket.reconcile.asked_fleet import reconcile as reconcile_once

    settings = load_config(config)

    async def once(moved: Callable[[float], None], stopped: Callable[[], bool]) -> Report:
        return await reconcile_once(
            settings,
            name=node or f"reconcile@{socket.gethostname()}"[:100],
            peers=peers,
            timeout=timeout,
            dry_run=dry_run,
            moved=moved,
            stopped=stopped,
        )

    sys.exit(asyncio.run(_repeat(once, every, json_)))


async def _repeat(once: Once, every: float | None, json_: bool) -> int:
    """Runs once, or again and again until a signal; the exit status.

    A signal lets the range that is under way come to its end, a second one does not.
    """
    stop = asyncio.Event()
    running = asyncio.current_task()

    def interrupt() -> None:
        if stop.is_set() and running is not None:
            running.cancel()
        stop.set()

    stopped = asyncio.ensure_future(stop.wait())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, interrupt)
    try:
        while True:
            with progress("reconciling") as moved:
                report = await once(moved, stop.is_set)
            _print(report, json_)
            if stop.is_set() and report.done < 1:
                return INTERRUPTED
            if every is None:
                return 0 if report.complete else INCOMPLETE
            await asyncio.wait({stopped}, timeout=every)
            if stopped.done():
                return 0
    except asyncio.CancelledError:
        click.echo("crdtbucket: stopped", err=True)
        return INTERRUPTED


def _print(report: Report, json_: bool) -> None:
    if json_:
        click.echo(json.dumps(report.as_dict()))
        return
    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column("who")
    for head in COLUMNS:
        table.add_column(head, justify="right")
    for one in report.holders:
        if one.error is None or one.keys:
            table.add_row(one.name, *(f"{getattr(one, field):,}" for field in COLUMNS.values()))
    if table.row_count:
        console().print(table)
    for line in report.lines():
        click.echo(line)
    for one in report.holders:
        if one.error is not None:
            where = "" if one.address == one.name else f" ({one.address or 'no address'})"
            click.echo(f"crdtbucket: {one.name}{where}: {one.error}", err=True)
