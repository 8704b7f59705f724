"""Options of the commands that talk to a node over its HTTP API."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import click

from crdtbucket.cli.options import FiniteRange, gathered

if TYPE_CHECKING:
    from crdtbucket.cli.node_client import NodeClient

F = TypeVar("F", bound=Callable[..., Any])

URL = "http://127.0.0.1:7980"
TOKEN = "CRDTBUCKET_TOKEN"

_TOKEN_OPTIONS = (
    click.option(
        "--token-file", type=click.Path(exists=True, dir_okay=False), default=None,
        help=f"File with the token to show [default: the environment's {TOKEN}].",
    ),
    click.option(
        "--token", metavar="TEXT", default=None,
        help="The token itself. Other users of this machine see it in the list of "
        f"processes: prefer --token-file or {TOKEN}.",
    ),
)  # fmt: skip


def _timeout_and_json(command: F) -> F:
    for option in (
        click.option("--json", "json_", is_flag=True, help="Print JSON."),
        click.option(
            "--timeout", type=FiniteRange(0.05, 3600), default=5.0, show_default=True,
            help="How long an answer is waited for, seconds.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


@dataclass(frozen=True)
class NodeOptions:
    """The values of the options of `node_options`."""

    url: str
    timeout: float
    token_file: str | None
    token: str | None = field(repr=False)

    def client(self) -> NodeClient:
        """A client of the node."""
        from crdtbucket.cli.node_client import NodeClient  # aiohttp: for those who use it

        return NodeClient(self.url, token_of(self.token_file, self.token), timeout=self.timeout)


def node_options(command: F) -> F:
    """Where the node is, and a token, which the command gets as one `node`; and the form of the
    output."""
    command = _timeout_and_json(gathered(NodeOptions, "node")(command))
    command = click.option(
        "--url", metavar="URL", default=URL, show_default=True, help="Where the node serves."
    )(command)
    return token_options(command)


def nodes_options(command: F) -> F:
    """The same for any number of nodes."""
    return click.option(
        "--url", "urls", metavar="URL", multiple=True, default=(URL,), show_default=True,
        help="Where the node serves; more than one are asked one beside the other.",
    )(_timeout_and_json(command))  # fmt: skip


def token_options(command: F) -> F:
    """A token, of one of its three sources."""
    for option in reversed(_TOKEN_OPTIONS):
        command = option(command)
    return command


def token_of(token_file: str | None, token: str | None) -> str | None:
    """The token that the options or the environment give; None where there is none."""
    if token_file is not None and token is not None:
        raise click.UsageError("give --token-file or --token, not both")
    source = f"--token-file {token_file}" if token_file else "--token" if token else TOKEN
    if token_file is not None:
        try:
            with open(token_file, encoding="ascii") as file:
                token = file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(f"{source}: {error}") from error
    elif token is None:
        token = os.environ.get(TOKEN)
        if not token:
            return None
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise click.UsageError(f"{source} holds no token: one word of ASCII is wanted")
    return token
