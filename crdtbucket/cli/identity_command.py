"""`crdtbucket identity`: the keys by which nodes of a mesh know each other."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from crdtbucket.cli.command_group import CommandGroup
from crdtbucket.cli.node_options import NodesOptions, nodes_options
from crdtbucket.cli.options import say, with_options
from crdtbucket.cli.signing_options import SigningOptions, signing_options

if TYPE_CHECKING:
    from crdtbucket.cli.node_client import NodeClient

TAKEN = ("taken, and passed on", "held already")


@click.group(cls=CommandGroup, epilog="Example: crdtbucket identity make node.pem")
def identity() -> None:
    """The keys by which the nodes of a mesh know each other."""


@identity.command(epilog="Example: crdtbucket identity show limits.yaml")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--node", metavar="NAME", default=None, help="The node [default: that of the file].")
def show(file: str, node: str | None) -> None:
    """Print the name of a node and the fingerprint of its key.

    FILE is its configuration. A node with mesh.state_dir that has no key yet is given one, as its
    first start would.
    """
    from crdtbucket.config import load_config
    from crdtbucket.mesh.links.peer_keys import KEYED, own_key
    from crdtbucket.mesh.state_dir import StateDir

    found = load_config(file)
    mesh, name = found.mesh, node or found.node
    if mesh is None or mesh.identity_policy not in KEYED:
        raise click.UsageError(f"{file} uses no keys: set mesh.identity: pinned, or allowed")
    if not name:
        raise click.UsageError(f"{file} names no node: give it with --node NAME")
    if mesh.state_dir is None:
        key = own_key(mesh, name, None)
    else:
        state = StateDir(mesh.state_dir, name)
        if mesh.identity_key is None and state.key.load() is None:
            state.open()  # no process of the node may make another one meanwhile
        try:
            key = own_key(mesh, name, state)
        finally:
            state.close()
    click.echo(f"{name}: {key.fingerprint}")


@identity.command(epilog="Example: crdtbucket identity make node.pem")
@click.argument("path", type=click.Path())
def make(path: str) -> None:
    """Make a private key at PATH, and print its fingerprint.

    The file is for mesh.identity_key: ${file:PATH}. Its owner alone may read it. What is at PATH
    already stays.
    """
    from crdtbucket.mesh.links.node_key import NodeKey

    key = NodeKey.make()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with open(os.open(path, flags, 0o600), "wb") as file:
            file.write(key.pem())
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise click.UsageError(f"{path} is there already: it is not replaced") from error
    except OSError as error:
        raise click.UsageError(f"{path} cannot be written: {error.strerror}") from error
    click.echo(key.fingerprint)


_ordering = with_options(click.argument("subject"), signing_options(required=True), nodes_options)


@identity.command(epilog="Example: crdtbucket identity eject us-1 --key ops.pem")
@_ordering
def eject(**options: Any) -> None:
    """Eject SUBJECT, the name of a node or the fingerprint of a key, from the mesh.

    Signs an order, and gives it to each --url; one that takes it is enough, as nodes pass it on.
    The links of whoever is ejected end, and it is refused by all nodes, until it is admitted again.
    Exit status: 0 when a node took the order, 2 when none did.
    """
    _order(**options)


@identity.command(epilog="Example: crdtbucket identity readmit us-1 --key ops.pem")
@_ordering
def readmit(**options: Any) -> None:
    """Admit SUBJECT again, which was ejected; see `eject`."""
    _order(ejected=False, **options)


@identity.command(epilog="Example: crdtbucket identity rebind us-1 ed25519:c2b7... --key ops.pem")
@_ordering
@click.argument("fingerprint")
def rebind(fingerprint: str, **options: Any) -> None:
    """Give a node that lost its key another one: the name SUBJECT has FINGERPRINT from now on.

    For nodes with mesh.identity: pinned, which know the name by the key that it had. Links with
    another key end. FINGERPRINT is what `crdtbucket identity show` prints at the node. A later
    order may give the name another key again. Else as `eject`.
    """
    _order(to=fingerprint, **options)


def _order(
    *,
    ejected: bool = True,
    to: str | None = None,
    subject: str,
    signing: SigningOptions,
    nodes: NodesOptions,
    json_: bool,
) -> None:
    from crdtbucket.cli.node_client import NodeError  # aiohttp: where it is used
    from crdtbucket.mesh.links.ejections import EjectOrder

    key, mesh_name, number = signing.key(), signing.mesh_name, signing.number
    if to is None:
        order = EjectOrder.sign(key, mesh_name, subject, number, ejected=ejected)
    else:
        order = EjectOrder.rebind(key, mesh_name, subject, number, to=to)

    async def given(node: NodeClient) -> str:
        """The answer of the node, or the error. A node that is out of reach does not keep others
        from getting the order."""
        try:
            answer = await node.order(order.as_text())
        except NodeError as error:
            return str(error).removeprefix(node.url).lstrip(": ")
        return TAKEN[0] if answer.get("new") is True else TAKEN[1]

    answers = nodes.ask(given)
    say(answers, json_, (f"{url}: {answer}" for url, answer in answers.items()))
    if not any(answer in TAKEN for answer in answers.values()):
        sys.exit(2)
