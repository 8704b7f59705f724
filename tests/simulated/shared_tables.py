"""The tables of hosts whose processes share one, each in a file that is only in memory."""

from __future__ import annotations

import os
import weakref

from crdtbucket._core import Table

HOST = (bytes(16), 0, 0, 0)
"""The mark of every file: nothing else than this simulation opens it."""


class SharedTables:
    """By host, the file of its table."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}

    def begin(self, host: str, *, max_keys: int, epoch: int) -> Table:
        """The table of the first process of a host, in a new file."""
        fd = os.memfd_create(host)
        weakref.finalize(self, os.close, fd)
        self._files[host] = fd
        return Table(
            max_keys=max_keys, hash_key=bytes(16), virtual=True, epoch=epoch, fd=fd, host=HOST
        )

    def join(self, host: str, max_keys: int) -> Table:
        """The table as another process of the host maps it, which others use as well."""
        return Table(
            max_keys=max_keys, hash_key=bytes(16), virtual=True, fd=self._files[host], join=True
        )
