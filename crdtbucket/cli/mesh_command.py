"""`crdtbucket mesh`: prints the rights that nodes need at a message engine."""

from __future__ import annotations

import click

from crdtbucket.cli.command_group import CommandGroup


@click.group(cls=CommandGroup, epilog="Example: crdtbucket mesh permissions limits.yaml")
def mesh() -> None:
    """What a mesh needs from the message engine that carries its frames."""


@mesh.command(epilog="Example: crdtbucket mesh permissions limits.yaml")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option(
    "--format", "form", type=click.Choice(["nats", "redis-acl"]), default=None,
    help="For which engine [default: that of the file].",
)  # fmt: skip
@click.option(
    "--node", "nodes", metavar="NAME", multiple=True,
    help="A node of the mesh; give all of them [default: that of the file].",
)  # fmt: skip
def permissions(file: str, form: str | None, nodes: tuple[str, ...]) -> None:
    """Print the rules by which an engine lets each node publish under its own name alone.

    Passwords are not in them: in place of each stands a variable (nats) or a word to replace
    (redis-acl).
    """
    from crdtbucket.config import load_config
    from crdtbucket.mesh.engines.engines import subjects_of
    from crdtbucket.mesh.engines.subjects import nats_rules, redis_rules

    found = load_config(file)
    settings = found.mesh
    if settings is None:
        raise click.UsageError(f"{file} has no mesh: add mesh: with transport: nats, or redis")
    form = form or {"nats": "nats", "redis": "redis-acl"}.get(settings.transport)
    if form is None:
        raise click.UsageError(
            f"{file} has a mesh of sockets, where no engine has rules: add transport: nats, or "
            "redis, to mesh, or give --format"
        )
    names = nodes or ((found.node,) if found.node else ())
    if not names:
        raise click.UsageError(f"{file} names no node: give each with --node NAME")
    rules = nats_rules if form == "nats" else redis_rules
    click.echo(rules([subjects_of(settings, name) for name in dict.fromkeys(names)]))
    if not nodes:
        text = f"crdtbucket: these are the rules for {names[0]} alone; name all nodes with --node"
        click.echo(text, err=True)
