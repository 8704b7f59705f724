"""Lists the entries of `mesh.peers` at which no node is linked, since when, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

from crdtbucket.base.clock import NS_PER_SECOND, now_ns

MISSED_NS = 2 * NS_PER_SECOND
"""A link that is made within this time, after a start or after it was lost, is not missed."""
MOST_ROWS = 32
"""Most entries that are shown, so that stats stay small whatever a file or a peer contains."""
MOST_TEXT = 300
"""Characters of a reason."""


@dataclass(frozen=True)
class PeerSource:
    """One entry of `mesh.peers`, and the addresses of other nodes that it stands for now."""

    entry: str
    addresses: tuple[str, ...]
    fault: str = ""
    """Why the last attempt to resolve the name failed; "" if it did not."""
    since: int = 0
    """When that fault began, ns by `now_ns`; 0 without one."""


@dataclass
class DialState:
    """The result of the calls of one address so far."""

    since: int = field(default_factory=now_ns)
    """When its last link ended, or calls began (ns by `now_ns`)."""
    node: str = ""
    """The node last met there."""
    linked: bool = False
    own: bool = False
    """Whether this process itself answered there."""
    reason: str = ""
    """Why the last call made no link; "" before the first has ended."""
    left: bool = False
    """The node last met there said that it leaves."""

    @property
    def fails(self) -> bool:
        """Whether calls were made and no link came of them."""
        return bool(self.reason) and not (self.linked or self.own)


@dataclass(frozen=True)
class Unreached:
    """An entry of `mesh.peers` at which no node is linked."""

    address: str
    node: str
    """The node last met there, if any was."""
    since: int
    """Ns by `now_ns`."""
    reason: str
    left: bool
    """That node said that it leaves, so nothing is wrong."""


def unreached(
    sources: Iterable[PeerSource], state: Callable[[str], DialState | None], now: int
) -> list[Unreached]:
    """The entries whose dials failed and of which no address has been linked for at least
    `MISSED_NS`. `state` returns None for an address that is not dialled. A name is reached once one
    of its addresses is."""
    rows = (_row(source, state) for source in sources)
    missed = (one for one in rows if one is not None and now - one.since >= MISSED_NS)
    return list(islice(missed, MOST_ROWS))


def _row(source: PeerSource, state: Callable[[str], DialState | None]) -> Unreached | None:
    found = [(one, known) for one in source.addresses if (known := state(one)) is not None]
    failing = [(address, known) for address, known in found if known.fails]
    if not source.addresses and source.fault:
        return Unreached(source.entry, "", source.since, source.fault[:MOST_TEXT], left=False)
    if not failing or any(known.linked for _, known in found):
        return None
    address, first = failing[0]
    since = max(known.since for _, known in failing)
    left = all(known.left for _, known in failing)
    if address == source.entry:
        return Unreached(address, first.node, since, first.reason[:MOST_TEXT], left)
    reasons = "; ".join(f"{one}: {known.reason}" for one, known in failing)
    several = f"none of its {len(failing)} addresses is linked: " if len(failing) > 1 else ""
    text = f"{several}{reasons}"
    return Unreached(source.entry, "", since, text[:MOST_TEXT], left)
