"""Makes the names of keys and processes in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from crdtbucket._core import BucketCore, Table
from crdtbucket.errors import WireError
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.strong.redis import script
from crdtbucket.strong.redis.script import Column
from crdtbucket.strong.store_rules import Place

REMEMBERED_HOMES = 10_000


class StoreNames:
    """The names that one node uses in the store. Names that recur are made once."""

    def __init__(
        self,
        table: Table,
        roster: Roster,
        node: str,
        prefix: bytes = b"crdtbucket:",
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
        return b"%s%032x}" % (prefix, place[1] << 64 | place[0])

    def owner(self) -> bytes:
        """The name of this process as the owner of a column."""
        epoch = self._table.epochs.running
        if self._owner[0] != epoch:
            self._owner = (epoch, script.owner_name(epoch, self._node))
        return self._owner[1]

    def columns(self, counts: Iterable[Sequence[int]]) -> tuple[Column, ...]:
        """The columns of a key, (node, epoch, generation, taken, refunded) each, as the store has
        them; columns of nodes without a name here are left out."""
        names = self._roster.names()
        return tuple(self._column(names[one[0]], *one[1:]) for one in counts if one[0] in names)

    def _column(self, node: str, epoch: int, generation: int, taken: int, refunded: int) -> Column:
        owner = script.owner_name(epoch, node)
        # The region in which the node asks, as known from Redis or the mesh; b"" when it is
        # unknown.
        home = self._homes.get(owner) or self._region_of(node).encode()
        return Column(owner, generation, taken, refunded, home)

    def origin(self, column: Column) -> int:
        """The number that the owner of a column has in the table; 0 where there is no room for one
        more owner, or its epoch is another node's here: then the column is ignored, as one in a
        frame of the mesh is. Remembers the region in which the owner asks, if Redis states it.
        Raises `RedisReplyError`."""
        epoch, node = script.read_owner(column.owner)
        try:
            origin = self._table.epochs.origin(self._roster.node(node), epoch)
        except WireError:
            return 0
        if column.home:
            if len(self._homes) >= REMEMBERED_HOMES:
                self._homes.clear()
            self._homes[column.owner] = column.home
        return origin


def key_prefix(prefix: bytes, bucket: str) -> bytes:
    """The beginning of the Redis keys of a bucket."""
    return b"%s{%s:" % (prefix, bucket.encode())


def redis_key(prefix: bytes, bucket: str, place: Place) -> bytes:
    """The Redis key of a bucket's key, known by its hash."""
    return b"%s%016x%016x}" % (key_prefix(prefix, bucket), place[1], place[0])
