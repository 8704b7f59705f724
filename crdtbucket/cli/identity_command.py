"""`crdtbucket identity`: the keys by which nodes of a mesh know each other."""

from __future__ import annotations

import os

import click


@click.group()
def identity() -> None:
    """The keys by which the nodes of a mesh know each other."""


@identity.command()
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
    if mesh is None or mesh.identity not in KEYED:
        raise click.UsageError(f"{file} uses no keys: set mesh.identity: pinned, or allowed")
    if not name:
        raise click.UsageError(f"{file} names no node: give it with --node NAME")
    if mesh.state_dir is None:
        key = own_key(mesh, name, None)
    else:
        state = StateDir(mesh.state_dir, name)
        if mesh.identity_key is None and state.load_key() is None:
            state.open()  # no process of the node may make another one meanwhile
        try:
            key = own_key(mesh, name, state)
        finally:
            state.close()
    click.echo(f"{name}: {key.fingerprint}")


@identity.command()
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


__all__ = ["identity"]
