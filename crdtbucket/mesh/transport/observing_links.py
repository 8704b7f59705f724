"""The links to observers, which read a node's counters or correct them, and are not members."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from crdtbucket.errors import WireError
from crdtbucket.mesh.links.background_tasks import BackgroundTasks
from crdtbucket.mesh.links.channel import Channel
from crdtbucket.mesh.links.counters import LOG, MeshCounters, Refusals
from crdtbucket.mesh.links.link import Link
from crdtbucket.mesh.links.peer_identity import PeerIdentity
from crdtbucket.mesh.links.session import Handshake, HandshakeError, Reason
from crdtbucket.mesh.protocol.mesh_node import MeshNode

MAX_OBSERVERS = 4
OBSERVER_SILENT_S = 60.0


class ObservingLinks:
    """Serves the observers that are linked with one node: each asks, and gets its answer."""

    def __init__(
        self,
        node: MeshNode,
        clock_ns: Callable[[], int],
        counters: MeshCounters,
        refusals: Refusals,
        tasks: BackgroundTasks,
        writes: Callable[[Link], bool],
    ) -> None:
        """`tasks`: in which links are closed. `writes`: whether the counts that come over a link
        are accepted, which is the case if its secret is that of members."""
        self._node = node
        self._clock = clock_ns
        self._counters = counters
        self._refusals = refusals
        self._tasks = tasks
        self._writes = writes
        self._links: set[Link] = set()

    def __iter__(self) -> Iterator[Link]:
        return iter(self._links)

    def __contains__(self, link: Link) -> bool:
        return link in self._links

    def admit(self, channel: Channel, shake: Handshake, identity: PeerIdentity) -> Link:
        """Makes an authenticated channel a link to an observer. Raises `HandshakeError`."""
        peer = identity.info
        if len(self._links) >= MAX_OBSERVERS:
            text = f"there are {MAX_OBSERVERS} observers already"
            raise HandshakeError(Reason.BUSY, text, peer)
        link = Link(channel, shake.session, identity, dialed=False, counters=self._counters)
        self._links.add(link)
        link.start(accept=shake.proof())
        LOG.info("%s observes this node", peer.name)
        return link

    def remove(self, link: Link) -> None:
        """Forgets a link that has ended, if it was one to an observer."""
        self._links.discard(link)

    async def receive(self, link: Link, frame: bytes) -> None:
        """Answers a frame; a bad one ends the link."""
        try:
            answer = self._node.observe(frame, self._clock(), writes=self._writes(link))
            link.offer(answer)
        except WireError as error:
            text = f"refused a frame of observer {link.peer.name}: {error}"
            self._refusals.add("frame", text)
            self._tasks.spawn(link.close(Reason.BAD_FRAMES, str(error)))

    def give_up(self) -> None:
        """Ends the links of observers that do not read, or are silent."""
        for link in self._links:
            link.give_up(silent_s=OBSERVER_SILENT_S, stuck_s=OBSERVER_SILENT_S)
