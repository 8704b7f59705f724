"""Tells a peer that died from one that is cut off, by how its connection ended.

Silence proves nothing: a peer that nobody hears may be serving on the other side of a partition.
But when a process dies, its kernel ends its connections, and refuses calls to its port at once. So
a peer counts as dead when all of this holds:

1. its connection *ended*: the peer's side closed or reset it (this side did not give up waiting);
2. for `ended_is_dead` since then, every call to it was refused, and one was just now;
3. no connected peer hears it, and no relay has heard it during that time;
4. this node hears more than half of the members since then, directly or through relays; or this
   peer is the only one that is missing.

A device that resets connections and refuses calls looks the same from one node. Rules 3 and 4 are
for that: the smaller side of a partition, and a node that is alone, declare nobody dead. Relays
count in both rules: in a ring or a chain, and beside a broken pair, few members are connected here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

RECENT_NS = 10_000_000_000
"""The newest refused call may be this old: calls are at most 5 s apart, and each may take 3 s."""


@dataclass
class Ending:
    """A connection that the peer's side ended, and the calls to it since then. Times are local
    ns."""

    since: int
    """When it ended, or when a later call was not refused."""
    refused: int | None = None
    """When the newest call since then was refused; None for none."""

    def called(self, now: int, *, refused: bool) -> None:
        """A call has failed: it was refused, or nobody answered it in time."""
        if refused:
            self.refused = now
        else:
            self.since, self.refused = now, None

    def refused_for(self, period: int, now: int) -> bool:
        """Whether all calls of the last `period` ns were refused, and one was lately."""
        if self.refused is None:
            return False
        return now - self.since >= period and now - self.refused <= RECENT_NS


class Places:
    """How many members there are, as far as connections show: those that are connected, and the
    places that connections have left empty.

    A member that says goodbye takes its place with it. A dead member leaves an empty place,
    although it is forgotten: else each of the connections that a partition ends one by one would
    leave a majority behind. A newcomer takes an empty place, as it does when a pod is replaced
    under a new name. After `keep_ns` a place that stayed empty is none any more.
    """

    def __init__(self, keep_ns: int) -> None:
        self._keep_ns = keep_ns
        self._empty: dict[str, int] = {}
        """Whose places are empty, in the order in which they were left, and since when (ns)."""

    def left_empty(self, name: str, now: int) -> None:
        """The connection to this member is gone without a goodbye."""
        self._empty[name] = now

    def taken(self, name: str) -> None:
        """This member is connected, or is known to be gone for good. It takes its own place; a
        newcomer takes the one that has been empty for longest."""
        place = name if name in self._empty else next(iter(self._empty), None)
        if place is not None:
            del self._empty[place]

    def empty(self, now: int) -> Collection[str]:
        """The names of the members whose places are empty now."""
        for name, since in list(self._empty.items()):
            if now - since > self._keep_ns:
                del self._empty[name]
        return self._empty.keys()


def is_majority(heard: int, missing: int) -> bool:
    """Whether a node that hears `heard` members, itself included, may declare one of the `missing`
    others dead: it hears more than half of all, or misses this one only."""
    return heard > missing or missing == 1


def hears(members: Collection[str] | None, unheard: Collection[str], name: str) -> bool:
    """Whether a peer that has told these `members` (None while it has told none), and those of
    them that it does not hear, may hear `name`."""
    return members is None or (name in members and name not in unheard)


__all__ = ["RECENT_NS", "Ending", "Places", "hears", "is_majority"]
