"""All commands in one group, and how their errors reach the terminal."""

from __future__ import annotations

import sys

import click

from crdtbucket import __version__
from crdtbucket.cli.command_group import CommandGroup
from crdtbucket.cli.config_command import config
from crdtbucket.cli.demo_command import demo
from crdtbucket.cli.doctor_command import doctor
from crdtbucket.cli.identity_command import identity
from crdtbucket.cli.mesh_command import mesh
from crdtbucket.cli.overrides_command import overrides
from crdtbucket.cli.reconcile_command import reconcile
from crdtbucket.cli.replay_command import replay
from crdtbucket.cli.rollout_command import rollout
from crdtbucket.cli.serve import serve
from crdtbucket.cli.simulate import simulate
from crdtbucket.cli.status import status
from crdtbucket.cli.take import peek, reset, take
from crdtbucket.cli.top import top
from crdtbucket.errors import CrdtbucketError


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.version_option(__version__, prog_name="crdtbucket", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """One rate limit across regions: tools to plan and to operate with."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (
    *(config, doctor, serve, status, top, take, peek, reset, rollout, overrides, reconcile, mesh),
    *(identity, demo, simulate, replay),
):
    cli.add_command(command)


def run() -> None:
    """Runs the command line. Errors are one line on stderr, with exit status 2."""
    try:
        cli.main(prog_name="crdtbucket", standalone_mode=False)
    except click.ClickException as error:
        click.echo(_message(error), err=True)
        sys.exit(2)
    except CrdtbucketError as error:
        click.echo(f"crdtbucket: {error}", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("crdtbucket: stopped", err=True)
        sys.exit(130)


def _message(error: click.ClickException) -> str:
    """One line, with the command that explains the call where it was no call at all; for a group
    without a command its help."""
    text = error.format_message()
    if text.startswith("Usage:"):
        return text
    line = "crdtbucket: " + " ".join(text.split())
    malformed = type(error) is click.UsageError or isinstance(
        error, (click.MissingParameter, click.NoSuchOption)
    )
    context = error.ctx if malformed and isinstance(error, click.UsageError) else None
    return line if context is None else f"{line} See `{context.command_path} --help`."
