"""Passes the limits that operators give to keys on, to all linked peers.

A new order goes to every linked peer at once. When a link begins, and then regularly, both ends
send the digests of their shards, and each asks the other for the shards that differ, some at a time
and each shard from one peer only: so a node that comes late gets everything once, and what a link
has lost comes later. Signatures are checked page by page between other work.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from crdtbucket.base.counted import counted
from crdtbucket.base.packing import pack, unpack
from crdtbucket.errors import WireError
from crdtbucket.mesh.links.background_tasks import BackgroundTasks
from crdtbucket.mesh.links.link import Link
from crdtbucket.mesh.links.link_table import LinkTable
from crdtbucket.mesh.links.override_book import OverrideBook, no_room
from crdtbucket.mesh.links.override_orders import SHARDS, OverrideOrder
from crdtbucket.mesh.links.session import Kind

AUDIT = logging.getLogger("crdtbucket.audit")
PAGE = 8
"""Orders in a frame: each costs some 0.2 ms to check."""
COMPARE_S = 10.0
"""How often digests are sent, and after which time a shard is asked for again."""
SHARDS_AT_ONCE = 2
"""Most shards that are asked for and have not come, of all peers together."""
MOST_AT_ONCE = 600
"""Most new orders that are sent one by one; beyond that, peers find them by the digests."""
MOST_NAMED = 20
"""Most orders that a peer has brought within a second and that are audited one by one."""
MAX_WAITING = 512
"""Most frames that came and were not looked at yet. What is dropped beyond that comes again."""

_DIGESTS = struct.Struct(f">{SHARDS}Q")


@dataclass
class AskedShard:
    """A shard that was asked for and has not come completely."""

    link: Link
    since: float
    digest: int
    """The digest of the shard as the peer stated it."""
    frames: int = 0
    """The frames of the shard that have come."""


class OverrideSpread:
    """Exchanges the limits of operators between this node and its linked peers. It runs on one
    event loop."""

    KIND = Kind.OVERRIDES

    def __init__(
        self,
        book: OverrideBook,
        links: LinkTable,
        tasks: BackgroundTasks,
        on_forged: Callable[[Link, WireError], None],
    ) -> None:
        """`tasks`: in which frames are looked at. `on_forged` gets a frame that no honest peer
        sends."""
        self._book = book
        self._links = links
        self._tasks = tasks
        self._on_forged = on_forged
        self._waiting: deque[tuple[Link, tuple[object, ...]]] = deque()
        self._working = False
        self._new: dict[str, list[OverrideOrder]] = {}
        """By peer, the orders that came into force since the audit log was last written."""
        self._compared_at = 0.0
        self._theirs: dict[Link, tuple[int, ...]] = {}
        """The digests that came last over each link."""
        self._wanted: dict[Link, deque[int]] = {}
        self._asked: dict[int, AskedShard] = {}
        self._in_vain: dict[tuple[str, int], tuple[int, int]] = {}
        """By peer and shard, both digests that still differed after the shard had come: the peer
        has orders that do not hold here. It is not asked for the shard again until a digest
        changes."""

    def start(self) -> None:
        """From now on new orders are sent at once, so that peers have them before the takes under
        them."""
        loop = asyncio.get_running_loop()

        def kick() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(self._send_fresh)

        self._book.subscribe(kick)

    def stop(self) -> None:
        """Nothing is sent from now on."""
        self._book.subscribe(None)
        self._audit()

    def begin(self, link: Link) -> None:
        """A link has begun."""
        if len(self._book):
            self._send(link, ("digests", _DIGESTS.pack(*self._book.digests)))

    def receive(self, link: Link, data: bytes) -> None:
        """A message about limits has come from a peer. Raises `WireError` for a malformed one."""
        try:
            message = unpack(data)
        except ValueError as error:
            raise WireError(f"overrides: {error}") from error
        if not isinstance(message, tuple) or not message or not isinstance(message[0], str):
            raise WireError("overrides that are no message")
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append((link, message))
        if not self._working:
            self._working = True
            self._tasks.spawn(self._work())

    def look(self) -> None:
        """Sends what is new, and digests when it is time; called every second or so."""
        now = asyncio.get_running_loop().time()
        self._audit()
        self._send_fresh()
        for gone in self._theirs.keys() - set(self._links.all()):
            self._theirs.pop(gone)
            self._wanted.pop(gone)
            for about in [one for one in self._in_vain if one[0] == gone.peer.name]:
                del self._in_vain[about]
        for shard, asked in list(self._asked.items()):
            if asked.link not in self._theirs or now - asked.since > COMPARE_S:
                del self._asked[shard]
        if now - self._compared_at >= COMPARE_S:
            self._compared_at = now
            for link in self._links.all():
                self.begin(link)
        self._ask()

    def _audit(self) -> None:
        """Writes to the audit log which orders of peers came into force. If there are very many, it
        writes only their number: the node where they were given has logged each."""
        for peer, orders in self._new.items():
            if len(orders) > MOST_NAMED:
                number = counted(len(orders), "override")
                AUDIT.warning("%s from node %s hold here from now on", number, peer)
            else:
                for order in orders:
                    AUDIT.warning("override from node %s: %s", peer, order.in_words())
        self._new.clear()

    def _send_fresh(self) -> None:
        fresh = self._book.fresh()
        if len(fresh) > MOST_AT_ONCE:
            self._compared_at, fresh = -COMPARE_S, []
        links = self._links.all()
        for page in _pages(fresh):
            packed = pack(("orders", page))
            for link in links:
                link.offer(packed, self.KIND)

    async def _work(self) -> None:
        """Looks at the frames that came. Other tasks of the loop get at least half of the time."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                link, message = self._waiting.popleft()
                began = loop.time()
                try:
                    self._take(link, message)
                except WireError as error:
                    self._on_forged(link, error)
                await asyncio.sleep(loop.time() - began)
        finally:
            self._working = False

    def _take(self, link: Link, message: tuple[object, ...]) -> None:
        kind, *parts = message
        if kind == "digests" and parts:
            self._compare(link, parts[0])
        elif kind == "ask" and parts:
            self._answer(link, parts[0])
        elif kind == "orders" and parts:
            if not isinstance(parts[0], tuple) or len(parts[0]) > PAGE:
                raise WireError(f"overrides that are no list of up to {PAGE}")
            new = self._book.merge_rows(parts[0], no_room)
            self._new.setdefault(link.peer.name, []).extend(new)
            if len(parts) > 3:
                self._came(link, *parts[1:4])

    def _compare(self, link: Link, digests: object) -> None:
        if not isinstance(digests, bytes) or len(digests) != _DIGESTS.size:
            raise WireError(f"digests of overrides that are not {SHARDS}")
        theirs, ours = _DIGESTS.unpack(digests), self._book.digests
        self._theirs[link] = theirs
        self._wanted[link] = deque(
            shard
            for shard in range(SHARDS)
            if theirs[shard] not in (0, ours[shard])
            and self._in_vain.get((link.peer.name, shard)) != (theirs[shard], ours[shard])
        )
        self._ask()

    def _ask(self) -> None:
        now, ours = asyncio.get_running_loop().time(), self._book.digests
        for link, wanted in self._wanted.items():
            for _ in range(len(wanted)):
                if len(self._asked) >= SHARDS_AT_ONCE:
                    return
                shard = wanted.popleft()
                digest = self._theirs[link][shard]
                if shard in self._asked:  # another peer was asked: its answer may have all
                    wanted.append(shard)
                elif digest != ours[shard]:
                    self._asked[shard] = AskedShard(link, now, digest)
                    self._send(link, ("ask", shard))

    def _answer(self, link: Link, shard: object) -> None:
        if type(shard) is not int or not 0 <= shard < SHARDS:
            raise WireError("a shard of overrides that there is not")
        pages = list(_pages(self._book.shard(shard))) or [[]]
        for number, page in enumerate(pages, 1):
            self._send(link, ("orders", page, shard, number, len(pages)))

    def _came(self, link: Link, shard: object, number: object, count: object) -> None:
        asked = self._asked.get(shard) if type(shard) is int else None
        if asked is None or asked.link is not link or type(shard) is not int:
            return
        asked.frames += 1
        if number != count:
            return
        del self._asked[shard]
        ours = self._book.digests[shard]
        if asked.frames == count and asked.digest != ours:  # no frame of it was lost
            self._in_vain[link.peer.name, shard] = asked.digest, ours
        self._ask()

    def _send(self, link: Link, message: tuple[object, ...]) -> None:
        link.offer(pack(message), self.KIND)


def _pages(orders: Iterable[OverrideOrder]) -> Iterator[list[tuple[object, ...]]]:
    page: list[tuple[object, ...]] = []
    for order in orders:
        page.append(order.row())
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page
