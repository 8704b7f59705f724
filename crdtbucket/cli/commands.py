"""All commands in one group, and how their errors reach the terminal."""

from __future__ import annotations

import sys

import click

from crdtbucket import __version__
from crdtbucket.cli.command_group import CommandGroup, ImportedCommands
from crdtbucket.errors import CrdtbucketError

MODULES = {
    "config": "config_command",
    "demo": "demo_command",
    "doctor": "doctor_command",
    "identity": "identity_command",
    "mesh": "mesh_command",
    "overrides": "overrides_command",
    "peek": "take",
    "reconcile": "reconcile_command",
    "replay": "simulate",
    "reset": "take",
    "rollout": "rollout_command",
    "serve": "serve",
    "simulate": "simulate",
    "status": "status",
    "take": "take",
    "top": "top",
}
"""The module of each command."""
KINDS = {"integer": "whole number", "float": "number"}
"""What people call numbers, by click's name for them."""


@click.group(
    cls=CommandGroup,
    commands=ImportedCommands({name: f"crdtbucket.cli.{one}" for name, one in MODULES.items()}),
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    epilog="Example: crdtbucket demo",
)
@click.version_option(__version__, prog_name="crdtbucket", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """One rate limit across regions: tools to plan and to operate with."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


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
    """The error in one line; where the call itself was wrong, with the example of the command's
    help; for a group without a command its help."""
    text = error.format_message()
    if text.startswith("Usage:"):
        return text
    line = "crdtbucket: " + " ".join(text.split())
    for kind, words in KINDS.items():
        for named in (f"{kind} range", kind):
            line = line.replace(f"is not a valid {named}.", f"is not a {words}.")
    missing = isinstance(error, click.MissingParameter)  # which is a `BadParameter`, too
    wrong_value = isinstance(error, click.BadParameter) and not missing
    if not isinstance(error, click.UsageError) or error.ctx is None or wrong_value:
        return line
    end = "" if line.endswith((".", "?")) else "."
    example = error.ctx.command.epilog or ""
    return f"{line}{end} {example} (more: {error.ctx.command_path} --help)"
