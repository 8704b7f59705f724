"""`crdtbucket overrides`: the limits that operators give to keys of a running node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from crdtbucket.cli.answer_values import list_of
from crdtbucket.cli.command_group import CommandGroup
from crdtbucket.cli.node_options import NodeOptions, node_options
from crdtbucket.cli.options import say
from crdtbucket.cli.signing_options import SigningOptions, signing_options
from crdtbucket.cli.terminal_text import printable
from crdtbucket.spec.field_checks import canonical_name

if TYPE_CHECKING:
    from crdtbucket.cli.node_client import NodeClient

PAGE = 1_000
WHEN = ": needed where the node is in a mesh"


@click.group(
    cls=CommandGroup,
    epilog="Example: crdtbucket overrides set api tenant-42 1000/s --token-file token",
)
def overrides() -> None:
    """The limits that operators give to keys of a running node, and of its mesh.

    Each command needs the admin token. Exit status: 0, or 2 for an error.
    """


@overrides.command("list", epilog="Example: crdtbucket overrides list --token-file token")
@click.option("--bucket", default=None, help="Of this bucket alone.")
@node_options
def listing(bucket: str | None, node: NodeOptions, json_: bool) -> None:
    """List the limits that are given, by bucket and key."""

    async def all_pages(asked: NodeClient) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        after = None
        while True:
            page = await asked.overrides(bucket, after, PAGE)
            found += list_of(page, "overrides")
            after = page.get("next")
            if after is None:
                return found

    found = node.ask(all_pages)
    names = ("bucket", "key", "limit")
    lines = ("  ".join(printable(str(one.get(name))) for name in names) for one in found)
    say(found, json_, lines if found else ["no limit is given to any key"])


@overrides.command(
    "set", epilog="Example: crdtbucket overrides set api tenant-42 1000/s --token-file token"
)
@click.argument("bucket")
@click.argument("key")
@click.argument("limit")
@signing_options(required=False, when=WHEN)
@node_options
def give(
    bucket: str, key: str, limit: str, signing: SigningOptions, node: NodeOptions, json_: bool
) -> None:
    """Give KEY of BUCKET a LIMIT: a rate such as "100/s burst 200", or the name of a bucket.

    One node that takes it is enough: all nodes of its mesh, and all processes of its host, follow.
    What the key has consumed stays.
    """
    _change(bucket, key, limit, signing, node, json_)


@overrides.command(epilog="Example: crdtbucket overrides remove api tenant-42 --token-file token")
@click.argument("bucket")
@click.argument("key")
@signing_options(required=False, when=WHEN)
@node_options
def remove(bucket: str, key: str, signing: SigningOptions, node: NodeOptions, json_: bool) -> None:
    """Take the limit of KEY of BUCKET away: it has that of the configuration again."""
    _change(bucket, key, None, signing, node, json_)


def _change(
    bucket: str,
    key: str,
    limit: str | None,
    signing: SigningOptions,
    node: NodeOptions,
    json_: bool,
) -> None:
    order = None
    if signing.key_file is not None:
        from crdtbucket.mesh.links.override_orders import OverrideOrder

        signed = OverrideOrder.sign(
            signing.key(), signing.mesh_name, canonical_name(bucket), key, signing.number, limit
        )
        order = signed.as_text()

    answer = node.ask(lambda asked: asked.override(bucket, key, limit, order))
    before = "has no limit of its own" if limit is None else "has this limit already"
    text = "done" if answer.get("new") is True else f"nothing changed: the key {before}"
    say(answer, json_, [text])
