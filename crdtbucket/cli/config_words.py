"""Describes a configuration in words: notes on what is missing, its stages, and its limits for
fleets of some sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from crdtbucket.base.address import is_loopback, split_address
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.counted import counted
from crdtbucket.base.duration import duration_ns, span
from crdtbucket.shared.shared_file import AUTO
from crdtbucket.spec.mode import Mode

if TYPE_CHECKING:
    from rich.table import Table

    from crdtbucket.config import Config
    from crdtbucket.config.outlook import Fleet, Outlook, Share


def summary(found: Config) -> str:
    """How many buckets it has, its version and its hash."""
    buckets = counted(len(found.buckets), "bucket")
    return f"{buckets}, version {found.version}, hash {found.hash}"


def notes(found: Config) -> Iterator[str]:
    """Settings that the author of the configuration may not have intended, a sentence each."""
    if not found.enabled:
        yield "rating.enabled is false: nothing is denied, and what would be is counted"
    if not found.buckets:
        yield "no bucket is defined: add services:"
    asked = {found.consistency, *(spec.consistency for spec in found.buckets)}
    if Mode.STRONG in asked and found.redis is None:
        yield (
            "strong consistency is asked for and no Redis is named, so buckets run in eventual "
            "mode: give bucket_backend.connection a host or a url"
        )
    local = [spec.name for spec in found.buckets if spec.period]
    if found.consistency is Mode.STRONG and local:
        alone = "" if found.mesh else ", and without a mesh each node grants them whole: add mesh:"
        yield f"{', '.join(local)}: calendar quotas are never strong{alone}"
    if found.redis is not None and found.redis.active_active:
        yield from _replicated(found.region, found.redis.regions)


def node_notes(found: Config) -> Iterator[str]:
    """What a node that runs with the configuration may lack, a sentence each."""
    needed = found.mesh is not None or found.redis is not None or found.shared == AUTO
    if found.node is None and needed:
        yield "no node is named: add node:, or give --node to each command that runs one"
    mesh = found.mesh
    if mesh is not None and mesh.transport == "sockets" and mesh.advertise is None:
        yield from _unreachable(mesh.listen, mesh.peers)


def _unreachable(listen: str, peers: Sequence[str]) -> Iterator[str]:
    hosts = [split_address(one.removeprefix("dns+"))[0] for one in (listen, *peers)]
    if is_loopback(hosts[0]) and not all(map(is_loopback, hosts)):
        yield (
            f"mesh.listen is {listen}, where nodes of other machines cannot call this one: listen "
            "where they reach it, such as 0.0.0.0:7946"
        )


def _replicated(own: str | None, regions: Sequence[str]) -> Iterator[str]:
    from crdtbucket.strong.redis.regions import ASSUMPTIONS, others

    if own is None:
        named = ", ".join(regions)
        yield f"region is missing: add region: with one of {named}, or give it as --region"
        yield f"the keys of each region are read in all of them: {named}"
    else:
        read = ", ".join(others(own, regions)) or "no other region"
        yield f"keys of region {own} are written to this Redis, and copies of {read} are read there"
    yield from ASSUMPTIONS


def stages(found: Config) -> Iterator[str]:
    """The stages by which it comes into force after another version, a line each."""
    plan = found.rollout
    if plan is None:
        return
    lasts = "until the command" if plan.hold_ns is None else f"for {span(plan.hold_ns)} each"
    yield f"comes into force by stages, {lasts}:"
    for number, stage in enumerate(plan.stages, 1):
        yield f"  {number}. {stage}"
    rise = plan.denied_ratio_rise
    if rise is None:
        yield "  it never halts by itself"
    else:
        yield f"  it halts where it denies {rise:.0%} of its calls more than the version before"


def print_outlook(row: Outlook) -> None:
    """Prints what a bucket means for fleets of some sizes."""
    from crdtbucket.cli.screen import console

    click.echo(f"\n{row.bucket}: {row.limit}, of all nodes together ({row.consistency})")
    click.echo(f"  empty to full in {_seconds(row.seconds_to_full)}")
    if row.memory_bytes is not None:
        size = f"{row.memory_bytes / 2**20:,.1f} MiB"
        click.echo(f"  {row.max_keys:,} keys take {size} on each node (up to four nodes)")
    if row.on_outage in ("allow", "deny"):
        effect = "all" if row.on_outage == "allow" else "nothing"
        click.echo(f"  in an outage of Redis: {effect} is admitted")
    console().print(_fleets(row.fleets, row.refill_interval))


def _fleets(fleets: Iterable[Fleet], interval: str) -> Table:
    from rich.table import Table

    rows = list(fleets)
    columns: list[tuple[str, list[Share | None]]] = [
        ("static split, each node", [one.split for one in rows]),
        ("outage, each node", [one.quota for one in rows]),
        ("outage, sum", [one.quota_of_all for one in rows]),
        ("without links, sum", [one.cut_off for one in rows]),
    ]
    columns = [(head, shares) for head, shares in columns if any(shares)]
    table = Table(box=None, padding=(0, 2), header_style="")
    for head in ("nodes", *(head for head, _ in columns)):
        table.add_column(head, justify="right")
    for number, one in enumerate(rows):
        cells = (shares[number] for _, shares in columns)
        table.add_row(str(one.nodes), *(_share(cell, interval) for cell in cells))
    return table


def _share(share: Share | None, interval: str) -> str:
    """A share in words: tokens at once, and those that come back in the bucket's interval."""
    if share is None:
        return ""
    rate = share.per_second * duration_ns(interval) / NS_PER_SECOND
    number = f"{rate:,.0f}" if rate >= 1_000 else f"{rate:.3g}"
    return f"{share.capacity:,} + {number}{'/s' if interval == '1s' else f' per {interval}'}"


def _seconds(seconds: float) -> str:
    return f"{seconds:,.3g} s" if seconds < 120 else f"{seconds / 60:,.3g} min"
