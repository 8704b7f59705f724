"""`crdtbucket status`: nodes, their modes, versions and peers, and what is wrong, in words."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from crdtbucket.cli.node_health import (
    SILENT,
    NodeReport,
    departed,
    faults,
    strangers,
    unprotected,
)
from crdtbucket.cli.node_options import TOKEN, NodesOptions, nodes_options
from crdtbucket.cli.options import FiniteRange
from crdtbucket.cli.screen import console, name, table
from crdtbucket.cli.terminal_text import seconds

if TYPE_CHECKING:
    from crdtbucket.cli.node_client import NodeClient

WRONG = 1
NO_TOKEN = (
    "crdtbucket: only what is public is shown; the node's version, roll-out and Redis need the "
    f"token of its --admin-token-file, in --token-file or {TOKEN}"
)

Answer = Mapping[str, Any] | str
"""The answer of a node, or the reason why there is none."""


@click.command(epilog="Example: crdtbucket status --url http://10.0.0.5:7980")
@click.option(
    "--max-lag", type=FiniteRange(0, 3600), default=2.0, show_default=True,
    help="How old a peer's last update may be before it counts as wrong, seconds.",
)  # fmt: skip
@nodes_options
def status(nodes: NodesOptions, json_: bool, max_lag: float) -> None:
    """Show nodes, the modes of their buckets, versions, peers and lag, and what is wrong.

    A node states what it knows of its peers; with several --url each is asked itself. Without the
    admin token it shows what is public: not the node's own version, its roll-out and its Redis.
    Exit status: 0 when all is well, 1 when something is wrong (a node out of reach, fallback, a
    dead peer, an address of mesh.peers without a link, lag, a version split), 2 for an error such
    as a wrong token.
    """
    answers = nodes.ask(_status)
    seen = [NodeReport.of(url, one) for url, one in answers.items() if not isinstance(one, str)]
    wrong = [one for one in answers.values() if isinstance(one, str)] + faults(seen, max_lag)
    notes = departed(seen) + strangers(seen) + unprotected(seen)
    if json_:
        asked = [
            {"url": url, **({"error": one} if isinstance(one, str) else one)}
            for url, one in answers.items()
        ]
        click.echo(json.dumps({"ok": not wrong, "wrong": wrong, "notes": notes, "nodes": asked}))
    else:
        _print(seen, wrong, notes)
        if seen and nodes.secret is None:
            click.echo(NO_TOKEN, err=True)
    sys.exit(WRONG if wrong else 0)


async def _status(node: NodeClient) -> Answer:
    from crdtbucket.cli.node_client import Unreachable  # aiohttp: where it is used

    try:
        return await node.status()
    except Unreachable as error:
        return str(error)


def _print(nodes: list[NodeReport], wrong: list[str], notes: list[str]) -> None:
    out = console()
    for node in nodes:
        region = f" ({node.region})" if node.region else ""
        config = f", configuration {node.config.name}" if node.config else ""
        key = f", key {node.fingerprint}" if node.fingerprint else ""
        out.print(f"{node.name}{region} at {node.url}{config}{key}")
        modes = _modes("bucket", node.modes), _modes("redis", node.redis)
        for rows in (*modes, _regions(node), _peers(node)):
            if rows.row_count:
                out.print(rows)
        out.print()
    for sentence in wrong:
        out.print(f"WRONG  {sentence}", style="bold red")
    for note in notes:
        out.print(f"note   {note}")
    if not wrong:
        out.print("ok", style="green")


def _modes(what: str, modes: Mapping[str, str]) -> Table:
    shown = table(f"  {what}", "mode")
    for of, mode in modes.items():
        style = "bold red" if mode == "fallback" else ""
        shown.add_row(name(f"  {of}"), mode, style=style)
    return shown


def _regions(node: NodeReport) -> Table:
    shown = table("  region", "state", "behind")
    for one in node.regions:
        late = "" if one.late is None else seconds(one.late)
        style = "bold red" if one.state == "silent" else ""
        shown.add_row(name(f"  {one.name}"), one.state, late, style=style)
    return shown


def _peers(node: NodeReport) -> Table:
    lags = any(peer.lag is not None for peer in node.peers)
    configs = any(peer.config is not None for peer in node.peers)
    keys = any(peer.fingerprint for peer in node.peers)
    optional = [("lag", lags), ("configuration", configs), ("key", keys)]
    shown = table("  peer", "state", *(column for column, used in optional if used))
    for peer in node.peers:
        cells: list[str] = []
        if lags:
            cells.append("" if peer.lag is None else seconds(peer.lag))
        if configs:
            cells.append("" if peer.config is None else peer.config.name)
        if keys:
            cells.append(peer.fingerprint)
        style = "bold red" if peer.state in SILENT else ""
        shown.add_row(name(f"  {peer.name}"), peer.state, *cells, style=style)
    return shown
