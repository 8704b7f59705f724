"""The identity of a limiter's node, and what a roll-out needs of that node."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

from crdtbucket.errors import InvalidSpec, MeshError
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.rollout.limiter_file import ALONE
from crdtbucket.rollout.staged import Position
from crdtbucket.shared.shared_file import AUTO
from crdtbucket.spec.field_checks import check_name

NAMED = "in a file add node:, to a command give --node"
"""How a node gets its name outside a program."""
UNNAMED_TABLE = (
    "the shared table is called after its node, and no node is named, so other programs of this "
    "user would use the same table and change each other's limits"
)


@dataclass(frozen=True)
class Identity:
    """The name and the region of a node, and its part in the mesh, if it has one."""

    node: str
    region: str
    mesh: MeshConfig | None

    @classmethod
    def checked(
        cls,
        node: str | None,
        region: str,
        mesh: MeshConfig | None,
        shared: str | os.PathLike[str] | None,
    ) -> Identity:
        """Raises `MeshError` for a mesh without a node name, and `InvalidSpec`, also for a shared
        table that is to be named after the node if the node has no name."""
        if mesh is not None and node is None:
            raise MeshError(
                f"a node of a mesh needs a name of its own: pass node=, such as 'eu-1'; {NAMED}"
            )
        if shared == AUTO and node is None:
            raise InvalidSpec(UNNAMED_TABLE, "pass node=, such as 'web-1'; " + NAMED, "node")
        name = check_name(ALONE if node is None else node, "node")
        return cls(name, "" if region in ("", None) else check_name(region, "region"), mesh)


class OrderedNode(Protocol):
    """The node on which a version is rolled out: it knows the orders of operators, and advertises
    to peers how far the roll-out is."""

    identity: Identity

    @property
    def signs(self) -> bool:
        """Whether commands that affect other nodes have to be signed by an operator."""

    def ordered(self, version: int, content: int) -> Position | None:
        """The position to which an operator has ordered a version, as far as this process knows."""

    def advertise(self, running: tuple[int, int, int] | None, position: Position | None) -> None:
        """Advertises which configuration runs (version, hash, stage), and how far it is."""
