"""Options of the commands that talk to a node over its HTTP API."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import click

from crdtbucket.cli.options import FiniteRange, gathered, with_options

if TYPE_CHECKING:
    from crdtbucket.cli.node_client import NodeClient

T = TypeVar("T")

URL = "http://127.0.0.1:7980"
TOKEN = "CRDTBUCKET_TOKEN"

token_options = with_options(
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
"""A token, of one of its three sources."""
_TIMEOUT_AND_JSON = (
    click.option(
        "--timeout", type=FiniteRange(0.05, 3600), default=5.0, show_default=True,
        help="The most seconds to wait for an answer.",
    ),
    click.option("--json", "json_", is_flag=True, help="Print JSON."),
)  # fmt: skip


@dataclass(frozen=True)
class AskingOptions:
    """The values of the options that say how nodes are asked."""

    timeout: float
    token_file: str | None
    token: str | None = field(repr=False)

    @cached_property
    def secret(self) -> str | None:
        """The token, read once: a pipe such as `<(pass show token)` has it only once. None where
        there is none."""
        return token_of(self.token_file, self.token)


@dataclass(frozen=True)
class NodesOptions(AskingOptions):
    """The values of the options of `nodes_options`."""

    urls: tuple[str, ...]

    def ask(self, question: Callable[[NodeClient], Awaitable[T]]) -> dict[str, T]:
        """The answers of all nodes, by their URLs."""
        return dict(asyncio.run(ask_all(self.urls, self.secret, self.timeout, question)))


@dataclass(frozen=True)
class NodeOptions(AskingOptions):
    """The values of the options of `node_options`."""

    url: str

    def client(self) -> NodeClient:
        """A client of the node."""
        from crdtbucket.cli.node_client import NodeClient  # aiohttp: for those who use it

        return NodeClient(self.url, self.secret, timeout=self.timeout)

    def ask(self, question: Callable[[NodeClient], Awaitable[T]]) -> T:
        """The answer of the node."""
        [(_, answer)] = asyncio.run(ask_all([self.url], self.secret, self.timeout, question))
        return answer


node_options = with_options(
    token_options,
    click.option(
        "--url", metavar="URL", default=URL, show_default=True, help="Where the node serves."
    ),
    *_TIMEOUT_AND_JSON,
    gathered(NodeOptions, "node"),
)
"""Where a node is and how it is asked, which the command gets as one `node`; and the form of the
output, as `json_`."""
nodes_options = with_options(
    token_options,
    click.option(
        "--url", "urls", metavar="URL", multiple=True, default=(URL,), show_default=True,
        help="Where the node serves; more than one are asked one beside the other.",
    ),
    *_TIMEOUT_AND_JSON,
    gathered(NodesOptions, "nodes"),
)  # fmt: skip
"""The same for any number of nodes, which the command gets as one `nodes`."""


async def ask_all(
    urls: Iterable[str],
    token: str | None,
    timeout: float,
    question: Callable[[NodeClient], Awaitable[T]],
) -> list[tuple[str, T]]:
    """The answers of several nodes, which are asked one beside the other."""
    from crdtbucket.cli.node_client import NodeClient  # aiohttp: for those who use it

    async def one(url: str) -> tuple[str, T]:
        async with NodeClient(url, token, timeout=timeout) as node:
            return node.url, await question(node)

    return await asyncio.gather(*map(one, dict.fromkeys(urls)))


def token_of(token_file: str | None, token: str | None) -> str | None:
    """The token that the options or the environment give; None where there is none."""
    if token_file is not None and token is not None:
        raise click.UsageError("give --token-file or --token, not both")
    source = f"--token-file {token_file}" if token_file else "--token" if token else TOKEN
    if token_file is not None:
        try:
            with open(token_file, encoding="ascii", errors="replace") as file:
                token = file.read()
        except OSError as error:
            raise click.UsageError(f"{source} cannot be read: {error.strerror}") from error
    elif token is None:
        token = os.environ.get(TOKEN)
        if not token:
            return None
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable():
        raise click.UsageError(f"{source} holds no token: one line of ASCII is wanted")
    return token
