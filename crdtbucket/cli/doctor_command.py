"""`crdtbucket doctor`: whether everything that a configuration depends on is in order."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from crdtbucket.cli.node_options import ask_all, token_of, token_options
from crdtbucket.cli.options import FiniteRange, say
from crdtbucket.cli.terminal_text import printable

if TYPE_CHECKING:
    from crdtbucket.cli.node_client import NodeClient

WRONG = 1
NODE_TIMEOUT_S = 15.0
"""A node examines what it depends on for some seconds before it answers."""
Checks = list[dict[str, str]]


@click.command(epilog="Example: crdtbucket doctor limits.yaml")
@click.argument("file", type=click.Path(dir_okay=False), required=False)
@click.option(
    "--url", "urls", metavar="URL", multiple=True,
    help="Also ask this node to examine itself, from where it runs; may be given several times.",
)  # fmt: skip
@click.option("--node", default=None, help="This node's name, instead of the file's.")
@click.option("--region", default=None, help="This node's region, instead of the file's.")
@click.option(
    "--listen", multiple=True, metavar="HOST:PORT",
    help="Also look whether this address is free; may be given several times.",
)  # fmt: skip
@click.option(
    "--timeout", type=FiniteRange(0.05, 60), default=3.0, show_default=True,
    help="How long each step may take, seconds.",
)  # fmt: skip
@token_options
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def doctor(
    file: str | None,
    urls: tuple[str, ...],
    node: str | None,
    region: str | None,
    listen: tuple[str, ...],
    timeout: float,
    token_file: str | None,
    token: str | None,
    json_: bool,
) -> None:
    """Examine FILE and everything that it names: Redis, the peers, and this host.

    Each line says ok, or WRONG and what to do. It takes no tokens; it writes one key to each
    Redis, which is gone after a minute. With --url each node examines itself (it needs the admin
    token); FILE may be left out then.

    Exit status: 0 when nothing is wrong, 1 when something is, 2 for an error such as a wrong token.
    """
    if file is None and not urls:
        raise click.UsageError("give FILE, or --url of a node that is to examine itself")
    secret = token_of(token_file, token) if urls else None

    async def examined() -> list[tuple[str, Checks]]:
        found = []
        if file is not None:
            from crdtbucket.doctor.examination import examine  # the network, YAML and Redis

            results = await examine(file, node=node, region=region, listen=listen, timeout=timeout)
            found.append(("", [asdict(one) for one in results]))
        return found + await ask_all(urls, secret, NODE_TIMEOUT_S, _own_checks)

    found = asyncio.run(examined())
    well = all(one["level"] != "wrong" for _, checks in found for one in checks)
    rows = [{"node": name, **one} for name, checks in found for one in checks]
    say({"ok": well, "checks": rows}, json_, _lines(found))
    sys.exit(0 if well else WRONG)


async def _own_checks(node: NodeClient) -> Checks:
    from crdtbucket.cli.node_client import Unreachable  # aiohttp: where it is used

    try:
        answer = await node.doctor()
    except Unreachable as error:
        return [{"subject": "node", "level": "wrong", "text": str(error)}]
    return [_plain(one) for one in answer["checks"] if isinstance(one, dict)]


def _plain(check: dict[str, Any]) -> dict[str, str]:
    """A line of a node's report, safe to show."""
    return {name: printable(str(check.get(name, "wrong"))) for name in ("subject", "level", "text")}


def _lines(found: Iterable[tuple[str, Checks]]) -> Iterable[str]:
    for node, checks in found:
        if node:
            yield f"{node}:"
        for one in checks:
            label = one["level"].upper() if one["level"] == "wrong" else one["level"]
            yield f"{label:5}  {one['subject']}: {one['text']}"
