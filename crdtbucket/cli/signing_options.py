"""Options of the commands that sign orders with the key of an operator."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from crdtbucket.cli.options import gathered, with_options

if TYPE_CHECKING:
    from crdtbucket.mesh.links.node_key import NodeKey

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class SigningOptions:
    """The values of the options of `signing_options`."""

    key_file: str | None
    mesh_name: str
    counter: int | None

    @property
    def number(self) -> int:
        """The counter of the order."""
        return time.time_ns() // 1_000_000 if self.counter is None else self.counter

    def key(self) -> NodeKey:
        """The key in the file. Raises `UsageError`, and `MeshError` for what is no key."""
        from crdtbucket.mesh.links.node_key import NodeKey  # cryptography: for those who sign

        assert self.key_file is not None
        try:
            with open(self.key_file, "rb") as file:
                return NodeKey.from_pem(file.read(), self.key_file)
        except OSError as error:
            raise click.UsageError(f"{self.key_file} cannot be read: {error.strerror}") from error


def signing_options(*, required: bool, when: str = "") -> Callable[[F], F]:
    """The key and the numbers by which orders are signed, which the command gets as one `signing`.
    `when`: the end of the help of --key, about when it is needed."""

    return with_options(
        click.option(
            "--key", "key_file", type=click.Path(dir_okay=False), required=required,
            help=f"File with the operator's private key, one of mesh.operator_keys{when}.",
        ),
        click.option(
            "--mesh-name", default="mesh", show_default=True,
            help="The mesh.mesh_name of the nodes.",
        ),
        click.option(
            "--counter", type=click.IntRange(1, 2**63 - 1), default=None,
            help="Above that of every earlier order about the same [default: the time in ms].",
        ),
        gathered(SigningOptions, "signing"),
    )  # fmt: skip
