"""What the store calls keys and processes."""

from __future__ import annotations

from collections.abc import Callable

from crdtbucket._core import BucketCore, Table
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.strong.redis import script
from crdtbucket.strong.store_rules import Place

REMEMBERED_HOMES = 10_000


class StoreNames:
    """The names that one node uses in the store. Names that recur are made once."""

    def __init__(
        self,
        table: Table,
        roster: Roster,
        node: str,
        prefix: bytes,
        region_of: Callable[[str], str] = lambda node: "",
    ) -> None:
        """`prefix` begins the name of every Redis key. `region_of`: a node's region as the mesh
        knows it, "" for none."""
        self._table = table
        self._roster = roster
        self._node = node
        self._prefix = prefix
        self._prefixes: dict[BucketCore, bytes] = {}
        self._owner = (0, b"")
        self._region_of = region_of
        self._homes: dict[bytes, bytes] = {}

    def key(self, bucket: BucketCore, place: Place) -> bytes:
        """The Redis key of a bucket's key."""
        prefix = self._prefixes.get(bucket)
        if prefix is None:
            prefix = self._prefixes[bucket] = key_prefix(self._prefix, bucket.spec.key)
        return b"%s%016x%016x}" % (prefix, place[1], place[0])

    def own(self) -> tuple[int, bytes]:
        """The epoch of this process, and its name as the owner of a column."""
        epoch = self._table.epoch
        if self._owner[0] != epoch:
            self._owner = (epoch, script.owner_name(epoch, self._node))
        return self._owner

    def known(self) -> dict[int, str]:
        """The names of all nodes that this one knows, by their numbers in the table."""
        return self._roster.names()

    def home(self, owner: bytes, node: str) -> bytes:
        """The region in which a process asks, as Redis or the mesh says; b"" when neither does."""
        return self._homes.get(owner) or self._region_of(node).encode()

    def learn_home(self, owner: bytes, home: bytes) -> None:
        """Redis says in which region a process asks."""
        if home:
            if len(self._homes) >= REMEMBERED_HOMES:
                self._homes.clear()
            self._homes[owner] = home

    def origin(self, owner: bytes) -> int:
        """The number in the table of a column's owner. Raises `WireError`, `RedisReplyError`."""
        epoch, node = script.read_owner(owner)
        return self._table.origin(self._roster.node(node), epoch)


def key_prefix(prefix: bytes, bucket: str) -> bytes:
    """How the Redis keys of a bucket begin."""
    return b"%s{%s:" % (prefix, bucket.encode())


def redis_key(prefix: bytes, bucket: str, place: Place) -> bytes:
    """The Redis key of a bucket's key, known by its hash."""
    return b"%s%016x%016x}" % (key_prefix(prefix, bucket), place[1], place[0])
