"""`crdtbucket config`: check, show, compare and explain configuration files."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import asdict
from typing import Any

import click

from crdtbucket.cli.command_group import CommandGroup
from crdtbucket.cli.config_words import node_notes, notes, print_outlook, stages, summary
from crdtbucket.errors import ConfigError, Problem

FAULTS = 1
DIFFERENT = 1
NODES = (1, 3, 5, 10)
EMPTY = ("says nothing", "add services: with a bucket, such as {api: {limit: 100/minute}}")

FILE = click.Path(dir_okay=False)
JSON = click.option("--json", "json_", is_flag=True, help="Print JSON.")


@click.group(cls=CommandGroup, epilog="Example: crdtbucket config check limits.yaml")
def config() -> None:
    """Check, show and compare configuration files."""


@config.command(epilog="Example: crdtbucket config check limits.yaml")
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
            click.echo(f"{file}: {summary(found)}")
            for note in (*node_notes(found), *notes(found)):
                click.echo(f"{file}: note: {note}")
    sys.exit(FAULTS if failed else 0)


@config.command(epilog="Example: crdtbucket config show limits.yaml")
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
        click.echo(f"# {file}: {summary(found)}\n{_yaml(tree)}", nl=False)


@config.command(epilog="Example: crdtbucket config schema > schema.json")
def schema() -> None:
    """Print the JSON Schema of configuration files, for editors.

    Save it, and begin a file with "# yaml-language-server: $schema=PATH".
    """
    from crdtbucket.config.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


@config.command(epilog="Example: crdtbucket config diff limits.yaml new.yaml")
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
    if not all(re.fullmatch("[0-9]{1,6}", size) and 1 <= int(size) <= 100_000 for size in sizes):
        raise click.BadParameter(f"{value!r}: write numbers of nodes with commas, such as 1,3,5")
    return tuple(int(size) for size in sizes)


@config.command(epilog="Example: crdtbucket config plan limits.yaml --nodes 3")
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
            "buckets": [asdict(row) for row in rows],
        }
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    if changes is not None:
        click.echo("\n".join([*changes.lines(), ""]))
    click.echo(f"{file}: {summary(found)}")
    for note in notes(found):
        click.echo(f"note: {note}")
    for line in stages(found):
        click.echo(line)
    for row in rows:
        print_outlook(row)


def _yaml(tree: dict[str, Any]) -> str:
    from ruamel.yaml import YAML

    writer = YAML()
    writer.width = 1_000
    out = io.StringIO()
    writer.dump(tree, out)
    return out.getvalue()
