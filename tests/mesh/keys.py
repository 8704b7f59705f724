"""The file in which a node keeps the keys of others, in memory."""

from __future__ import annotations

from pathlib import Path

from crdtbucket.errors import MeshError
from crdtbucket.mesh.state_file import CheckedFile


class KeptFile(CheckedFile):
    """A file of a node's state that is on no disk."""

    def __init__(self, name: str = "the pins in memory") -> None:
        super().__init__(Path(name), "remove it")
        self.data: bytes | None = None
        self.full = False
        """Whether nothing can be saved."""

    def load(self) -> bytes | None:
        return self.data

    def save(self, data: bytes) -> None:
        if self.full:
            raise MeshError("the disk is full")
        self.data = data

    def remove(self) -> None:
        self.data = None
