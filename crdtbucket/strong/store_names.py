"""What the store calls keys and processes."""

from __future__ import annotations

from crdtbucket._core import BucketCore, Table
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.strong.redis import script
from crdtbucket.strong.store_rules import Place


class StoreNames:
    """The names that one node uses in the store. Names that recur are made once."""

    def __init__(self, table: Table, roster: Roster, node: str, prefix: bytes) -> None:
        """`prefix` begins the name of every Redis key."""
        self._table = table
        self._roster = roster
        self._node = node
        self._prefix = prefix
        self._prefixes: dict[BucketCore, bytes] = {}
        self._owner = (0, b"")

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


__all__ = ["StoreNames", "key_prefix", "redis_key"]
