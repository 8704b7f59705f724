"""The tables of one limiter: where its buckets count, and which of them other processes share."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

from crdtbucket._core import Table, table_size
from crdtbucket.base.hashing import shared_key
from crdtbucket.errors import InvalidSpec, LimiterClosed, LimiterNotOpen
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.shared.shared_file import DIRECTORY, SharedFile, path_for
from crdtbucket.shared.table_file import cannot_grow, open_table
from crdtbucket.spec.field_checks import check_whole
from crdtbucket.strong.redis.redis_config import RedisConfig

LOG = logging.getLogger("crdtbucket")
QUOTA_SUFFIX = "~quota"
"""The suffix of the file of the outage quotas, after the path of the shared table. `path_for`
escapes "~" in the names of nodes, so no node's own file can have this name."""


class Tables:
    """The tables of one limiter, and the files of those that other processes of the host share.

    Without `shared` one table holds all keys. With it, strong buckets count in a table of this
    process alone, under an epoch of its own: each process is one more user of Redis, which decides
    for all of them, and the records of two processes never mix. While Redis is gone, a bucket
    grants one share for the whole host, so those quotas are in a shared file.
    """

    def __init__(
        self,
        shared: str | os.PathLike[str] | None,
        *,
        node: str,
        mesh: MeshConfig | None,
        redis: RedisConfig | None,
        max_keys: int,
        main: Table | None = None,
    ) -> None:
        """Opens or makes the shared table, if there is one. `main`: a table to use in its place.

        Raises `SharedTableError` for a file that cannot be shared, `ConfigError` for two
        different secrets of the hash of keys, and `InvalidSpec`.
        """
        check_whole("max_keys", max_keys, 16, 2**30)
        _check_kind("mesh", mesh, MeshConfig, "pass MeshConfig(listen=..., peers=[...])")
        _check_kind("redis", redis, RedisConfig, "pass a URL, or RedisConfig(host=...)")
        fix = f'pass "auto", or a path such as "{DIRECTORY}/crdtbucket-edge"'
        _check_kind("shared", shared, (str, os.PathLike), fix)
        self._node = node
        self._max_keys = max_keys
        self._hash_key = shared_key(mesh, redis)
        self._process = os.getpid()
        self.file = None if shared is None else SharedFile(path_for(shared, node))
        self._quota_file: SharedFile | None = None
        self._cut_off: set[Table] = set()
        """The tables whose files were made shorter."""
        self._ungrown: set[Table] = set()
        """The tables of which a line says that they cannot grow."""
        self._strong: Table | None = None
        self._quotas: Table | None = None
        if main is None:
            key = self._hash_key
            main = self._in_file(self.file, key) if self.file else self._private(key)
        self.main = main

    @property
    def strong(self) -> Table:
        """The table in which strong buckets count; made when it is asked for first."""
        if self.file is None:
            return self.main
        if self._strong is None:
            self._strong = self._private(self._hash_key)
        return self._strong

    @property
    def quotas(self) -> Table:
        """The table in which the outage quotas of strong buckets count. Raises
        `SharedTableError`."""
        if self._quotas is None:
            if self.file is None:
                self._quotas = self._private(self._hash_key)
            else:
                self._quota_file = SharedFile(self.file.path + QUOTA_SUFFIX)
                self._quotas = self._in_file(self._quota_file, None)
        return self._quotas

    def of(self, strong: bool) -> Table:
        """The table of the buckets that ask Redis, or that of all others."""
        return self.strong if strong else self.main

    def deciding(self) -> Iterator[Table]:
        """Each table in which buckets count."""
        yield self.main
        if self._strong is not None:
            yield self._strong

    def begin_epoch(self) -> None:
        """To be called when the limiter opens. In the child of a fork a new epoch begins, since no
        two processes may count under one."""
        if os.getpid() == self._process:
            return
        self._process = os.getpid()
        for table in self.deciding():
            if not table.shared:
                table.epochs.open(int.from_bytes(os.urandom(8), "little") | 1)

    def refuse(self, error: LimiterClosed | LimiterNotOpen) -> None:
        """Every decision of this process raises `error` from now on."""
        for table in self.deciding():
            table.refuse(error)

    def admit(self) -> None:
        """The limiter is open: decisions are made, unless there is another reason to refuse
        them."""
        for table in self.deciding():
            table.admit(LimiterNotOpen)

    def cut_off(self) -> bool:
        """Whether the file of a shared table was made shorter. Then every decision raises
        `SharedTableError`, and nothing may touch the table any more."""
        for table, file in self._shared():
            if table in self._cut_off:
                continue
            error = file.cut_off(table_size(self._max_keys)[0])
            if error is not None:
                table.refuse(error)
                self._cut_off.add(table)
                LOG.error("%s", error)
        return bool(self._cut_off)

    def grow(self) -> None:
        """In the process that leads: asks again for memory that a full file system has refused to
        shared tables, and logs when that begins and when it is over."""
        if not self.main.sharing.leading:
            return
        for table, file in self._shared():
            why = table.sharing.grow()
            if why and table not in self._ungrown:
                self._ungrown.add(table)
                LOG.error("%s", cannot_grow(file.path, why))
            elif not why and table in self._ungrown:
                self._ungrown.remove(table)
                LOG.info("the shared table %s grows again", file.path)

    def close(self) -> None:
        """Ends this process' use of what it shares; what it counted stays."""
        self.cut_off()
        for table, file in self._shared():
            if table not in self._cut_off:
                table.sharing.unclaim()
            file.close()

    def _shared(self) -> Iterator[tuple[Table, SharedFile]]:
        for table, file in ((self.main, self.file), (self._quotas, self._quota_file)):
            if table is not None and file is not None and file.fd >= 0:
                yield table, file

    def _private(self, key: bytes | None) -> Table:
        return Table(max_keys=self._max_keys, hash_key=key)

    def _in_file(self, file: SharedFile, key: bytes | None) -> Table:
        try:
            return open_table(file, max_keys=self._max_keys, hash_key=key, owner=self._node)
        except BaseException:
            file.close()
            raise


def _check_kind(name: str, given: object, kind: type | tuple[type, ...], fix: str) -> None:
    """Raises `InvalidSpec` for a value that is neither None nor of this kind. The message does not
    repeat the value, which may hold a password."""
    if given is not None and not isinstance(given, kind):
        raise InvalidSpec(f"{name} is of type {type(given).__name__}", fix, name)
