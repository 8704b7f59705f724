"""The tables of hosts whose processes share one, each in a file that is only in memory."""

from __future__ import annotations

import os
import weakref

from crdtbucket._core import Table, table_damage

HOST = (bytes(16), 0, 0, 0)
"""The mark of every file: nothing else than this simulation opens it."""


class SharedTables:
    """By host, the file of its table."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}

    def begin(self, host: str, *, max_keys: int, epoch: int, now: int) -> Table:
        """The table as a process maps it that is the only one of its host: in a new file, or in
        that which earlier ones have left. `now`: the time of the host (ns)."""
        if (fd := self._files.get(host)) is None:
            fd = self._files[host] = os.memfd_create(host)
            weakref.finalize(self, os.close, fd)
        elif (damage := table_damage(fd, max_keys, True)) is not None:
            raise AssertionError(f"the table of {host} cannot be used again: {damage}")
        return Table(
            max_keys=max_keys,
            hash_key=bytes(16),
            virtual=True,
            now=now,
            epoch=epoch,
            fd=fd,
            host=HOST,
        )

    def lose(self, host: str) -> None:
        """The host is gone, and with it the file."""
        self._files.pop(host, None)

    def join(self, host: str, max_keys: int) -> Table:
        """The table as another process of the host maps it, which others use as well."""
        return Table(
            max_keys=max_keys, hash_key=bytes(16), virtual=True, fd=self._files[host], join=True
        )
