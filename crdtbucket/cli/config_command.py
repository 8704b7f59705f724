"""`crdtbucket config`: check, show, compare and explain configuration files."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from crdtbucket.base.address import is_loopback, split_address
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.counted import counted
from crdtbucket.base.duration import duration_ns, span
from crdtbucket.cli.command_group import CommandGroup
from crdtbucket.errors import ConfigError, Problem
from crdtbucket.spec.mode import Mode

if TYPE_CHECKING:
    from rich.table import Table

    from crdtbucket.config import Config
    from crdtbucket.config.outlook import Fleet, Outlook, Share

FAULTS = 1
DIFFERENT = 1
NODES = (1, 3, 5, 10)
EMPTY = ("says nothing", "add services: with a bucket, such as {api: {limit: 100/minute}}")

FILE = click.Path(dir_okay=False)
JSON = click.option("--json", "json_", is_flag=True, help="Print JSON.")


@click.group(cls=CommandGroup)
def config() -> None:
    """Check, show and compare configuration files."""


@config.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE)
def check(files: tuple[str, ...]) -> None:
    """Print every fault of FILE, with its place, and what to write instead.

    What the file names (Redis, peers, ports) is examined by `crdtbucket doctor`.

    Exit status: 0 when all files can be used, 1 when one cannot.
    """
    from crdtbucket.config import Config, load_config

    failed = False
    for file in files:
        try:
            found = load_config(file)
            if found == Config(found.path):
                raise ConfigError([Problem(*EMPTY, file=file, line=1, column=1)])
        except ConfigError as error:  # noqa: PERF203 - each file is looked at
            failed = True
            for problem in error.problems:
                click.echo(str(problem))
        else:
            click.echo(f"{file}: {_summary(found)}")
            for note in (*_node_notes(found), *_notes(found)):
                click.echo(f"{file}: note: {note}")
    sys.exit(FAULTS if failed else 0)


@config.command()
@click.argument("file", type=FILE)
@JSON
def show(file: str, json_: bool) -> None:
    """Print FILE with all defaults filled in and all references resolved, as YAML.

    Secrets are shown as ***. Without any, what is printed can be loaded again.
    """
    from crdtbucket.config import load_config
    from crdtbucket.config.effective import effective

    found = load_config(file)
    tree = effective(found)
    if json_:
        head = {"file": file, "version": found.version, "hash": found.hash}
        click.echo(json.dumps({**head, "config": tree}, ensure_ascii=False))
    else:
        click.echo(f"# {file}: {_summary(found)}\n{_yaml(tree)}", nl=False)


@config.command()
def schema() -> None:
    """Print the JSON Schema of configuration files, for editors.

    Save it, and begin a file with "# yaml-language-server: $schema=PATH".
    """
    from crdtbucket.config.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


@config.command()
@click.argument("old", type=FILE)
@click.argument("new", type=FILE)
@JSON
def diff(old: str, new: str, json_: bool) -> None:
    """Tell what changes from OLD to NEW, for each bucket, and what becomes of usage.

    Exit status: 0 when nothing changes, 1 when something does.
    """
    from crdtbucket.config import load_config
    from crdtbucket.config.compare import compare

    found = compare(load_config(old), load_config(new))
    if json_:
        click.echo(json.dumps(found.as_dict(), ensure_ascii=False))
    else:
        click.echo("\n".join(found.lines()))
    sys.exit(0 if found.same else DIFFERENT)


def _sizes(context: click.Context, option: click.Parameter, value: str) -> tuple[int, ...]:
    sizes = [part.strip() for part in value.split(",")]
    if not all(size.isascii() and size.isdigit() and 1 <= int(size) <= 100_000 for size in sizes):
        raise click.BadParameter(f"{value!r}: write numbers of nodes with commas, such as 1,3,5")
    return tuple(int(size) for size in sizes)


@config.command()
@click.argument("file", type=FILE)
@click.option(
    "--against", metavar="OLD", type=FILE, default=None,
    help="Tell first what changes from this file.",
)  # fmt: skip
@click.option(
    "--nodes", metavar="N,...", default=",".join(map(str, NODES)), show_default=True,
    callback=_sizes, help="Sizes of the fleet.",
)  # fmt: skip
@JSON
def plan(file: str, against: str | None, nodes: tuple[int, ...], json_: bool) -> None:
    """Tell what FILE means for fleets of some sizes: limits, quotas in an outage, memory.

    The limit is that of all nodes together, however many there are. Beside it stand, as tokens at
    once and tokens in each refill_interval: what a static split would leave each node, what each
    and all grant in an outage of Redis, and the most that all can grant together while no node
    sees another.
    """
    from crdtbucket.config import load_config
    from crdtbucket.config.compare import compare
    from crdtbucket.config.effective import effective
    from crdtbucket.config.outlook import outlook

    found = load_config(file)
    changes = None if against is None else compare(load_config(against), found)
    rows = outlook(found, nodes)
    if json_:
        document = {
            "version": found.version,
            "hash": found.hash,
            "changes": None if changes is None else changes.as_dict(),
            "rollout": effective(found).get("rollout"),
            "buckets": [row.as_dict() for row in rows],
        }
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    if changes is not None:
        click.echo("\n".join([*changes.lines(), ""]))
    click.echo(f"{file}: {_summary(found)}")
    for note in _notes(found):
        click.echo(f"note: {note}")
    for line in _stages(found):
        click.echo(line)
    for row in rows:
        _print_outlook(row)


# -- words


def _summary(found: Config) -> str:
    buckets = counted(len(found.buckets), "bucket")
    return f"{buckets}, version {found.version}, hash {found.hash}"


def _notes(found: Config) -> Iterator[str]:
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


def _node_notes(found: Config) -> Iterator[str]:
    if found.node is None and (found.mesh is not None or found.redis is not None):
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


def _stages(found: Config) -> Iterator[str]:
    """The stages by which it comes into force after another version."""
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


def _yaml(tree: dict[str, Any]) -> str:
    from ruamel.yaml import YAML

    writer = YAML()
    writer.width = 1_000
    out = io.StringIO()
    writer.dump(tree, out)
    return out.getvalue()


def _print_outlook(row: Outlook) -> None:
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
        ("static split, each", [one.split for one in rows]),
        ("outage, each", [one.quota for one in rows]),
        ("outage, all", [one.quota_of_all for one in rows]),
        ("all cut off, all", [one.cut_off for one in rows]),
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
    """Tokens at once, and those that come back in the bucket's interval."""
    if share is None:
        return ""
    rate = share.per_second * duration_ns(interval) / NS_PER_SECOND
    number = f"{rate:,.0f}" if rate >= 1_000 else f"{rate:.3g}"
    return f"{share.capacity:,} + {number}{'/s' if interval == '1s' else f' per {interval}'}"


def _seconds(seconds: float) -> str:
    return f"{seconds:,.3g} s" if seconds < 120 else f"{seconds / 60:,.3g} min"
