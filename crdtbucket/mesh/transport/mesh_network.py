"""A node's real network: its links to its peers, and the timer that drives the protocol.

All of it runs on one event loop. `take` may run in other threads: calls into the node from here
and from there meet in the compiled core, which the interpreter's lock serialises.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from dataclasses import replace

from crdtbucket.base.clock import now_ns
from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.links.background_tasks import BackgroundTasks
from crdtbucket.mesh.links.channel import Channel
from crdtbucket.mesh.links.counters import LOG, MeshCounters, Refusals
from crdtbucket.mesh.links.dialer import Dialer
from crdtbucket.mesh.links.hello import NONCE_BYTES, Introduction, Role
from crdtbucket.mesh.links.keyring import Keyring
from crdtbucket.mesh.links.link import Link
from crdtbucket.mesh.links.link_table import LinkTable, LinkVerdict
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.mesh.links.operator_orders import OperatorBooks, OperatorOrders
from crdtbucket.mesh.links.peer_identity import PeerIdentity
from crdtbucket.mesh.links.peer_keys import PeerKeys, key_under
from crdtbucket.mesh.links.session import Handshake, HandshakeError, Reason
from crdtbucket.mesh.links.unreached import Unreached
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.protocol.mesh_node import MeshNode
from crdtbucket.mesh.protocol.rounds import Frames
from crdtbucket.mesh.transport.carriers import TransportFactory, carrier_of
from crdtbucket.mesh.transport.driver import Driver
from crdtbucket.mesh.transport.observing_links import ObservingLinks
from crdtbucket.mesh.transport.used_names import UsedNames

SILENT_S = 15.0
STUCK_S = 5.0
BAD_FRAMES = 3
WATCH_S = 0.5


class MeshNetwork:
    """Connects one node with its peers between `start` and `stop`, both on one event loop."""

    def __init__(
        self,
        node: MeshNode,
        config: MeshConfig,
        clock_ns: Callable[[], int] = now_ns,
        *,
        carrier: TransportFactory | None = None,
        hash_key: bytes | None = None,
        peer_keys: PeerKeys | None = None,
        books: OperatorBooks | None = None,
    ) -> None:
        """`carrier`: makes the transport, if not the one of `config`. `hash_key`: for bucket keys,
        if not the one of `config`. `peer_keys`: the keys of names. `books`: the orders of
        operators. Raises `MeshError`."""
        self.name = node.info.name
        self.counters = MeshCounters()
        self.links = LinkTable(self.name)
        self.max_peers = config.max_peers
        self.refusals = Refusals(self.counters)
        self.peer_keys = PeerKeys(self.name) if peer_keys is None else peer_keys
        self.address = ""
        """The address that others dial, once started; ":port" when only they can see the host."""
        self._tasks = BackgroundTasks()
        books = OperatorBooks() if books is None else books
        self.orders = OperatorOrders(
            self.peer_keys, books, self.links, self.refusals, self._tasks, self._bad_frame
        )
        self._node, self._config, self._clock = node, config, clock_ns
        self._hash_key, self._keys = hash_key, Keyring(config, hash_key)
        self.instance = int.from_bytes(os.urandom(8), "big")
        self._names = UsedNames(node, clock_ns)
        self.conflict_reported = self._names.reported
        self._carrier = carrier_of(config) if carrier is None else carrier
        self._observers = ObservingLinks(
            node,
            clock_ns,
            self.counters,
            self.refusals,
            self._tasks,
            lambda link: self._keys.accepts(link.identity.used),
        )
        self._driver = Driver(node, clock_ns, self.refusals, self._dispatch)
        self._running = False
        self.handshake(dialer=True, lossy=False)  # raises what does not fit into a hello

    async def start(self) -> None:
        """Begins to take calls, and to dial peers. Raises `MeshError` when it cannot."""
        if self._running or self.address:
            raise MeshError("this mesh was started before: make a new one")
        self._loop = asyncio.get_running_loop()
        self._transport = self._carrier(self, self._config, random.Random())
        self._dialer = Dialer(self, self._transport, random.Random())
        await self._transport.start()  # the last step that can fail
        self.address = self._transport.address
        self._running = True
        self._driver.start()
        self.orders.start()
        for look in (self._give_up_links, self.orders.look, self.found):
            self._tasks.repeat("what the mesh looks after", look, WATCH_S)
        LOG.info("node %s can be found at %s", self.name, self.address)

    async def stop(self, *, handed_over: bool = False) -> None:
        """Says goodbye to all peers at once, and closes; within two seconds or so. `handed_over`:
        another process goes on with this node, so there is no goodbye."""
        if not self._running:
            return
        self._running = False
        self.orders.stop()
        self._driver.stop()
        try:
            await self._transport.refuse_new()
            await self._dialer.cease()
            if not handed_over:
                for frames in self._node.leave(self._clock()):
                    self._dispatch(frames)
                    await asyncio.sleep(0)
        finally:
            reason = Reason.HANDOVER if handed_over else Reason.LEAVING
            links = [*self.links.all(), *self._observers]
            await asyncio.gather(*(link.close(reason, "this process ends") for link in links))
            await self._dialer.stop()
            await self._transport.stop()
            await self._tasks.end()
            how = "goes on in another process" if handed_over else "has left"
            LOG.info("node %s %s", self.name, how)

    def renew(self, config: MeshConfig) -> None:
        """From now on the secrets and keys are those of `config`. Safe from any thread. Links that
        were made with other ones end, and are made again. Raises `MeshError` for a key that cannot
        be used."""
        own = key_under(config, self.name, self.peer_keys.own)
        keys = Keyring(config, self._hash_key)
        if self._running:
            self._loop.call_soon_threadsafe(self._renew, config, keys, own)
        else:
            self._renew(config, keys, own)

    def _renew(self, config: MeshConfig, keys: Keyring, own: NodeKey | None) -> None:
        self._keys = keys
        self.peer_keys.change(config, own)
        self.orders.change(config.operator_keys)
        for link in [*self.links.all(), *self._observers]:
            used = link.identity.used
            known = keys.accepts(used) or (link in self._observers and keys.is_observers(used))
            if not (known and self.peer_keys.holds(link.identity)):
                self._tasks.spawn(link.close(Reason.RENEWED, "its secret or key holds no more"))

    def handshake(self, *, dialer: bool, lossy: bool) -> Handshake:
        """A fresh handshake in this node's name."""
        info = self._node.info
        return Handshake(
            self._keys,
            Introduction(
                info if info.address else replace(info, address=self.address),
                self.instance,
                node_key=self.peer_keys.own,
                cluster=self._config.mesh_name,
            ),
            nonce=os.urandom(NONCE_BYTES),
            dialer=dialer,
            lossy=lossy,
        )

    def found(self, hurry: str = "") -> None:
        """Dials what the transport and gossip know now, `hurry` at once."""
        if self._running:  # a dial begun later would outlive the dialer
            self._dialer.follow([one for one in self._node.known_addresses() if one])
            self._dialer.hurry(hurry)

    def unreached(self) -> list[Unreached]:
        """The entries of `mesh.peers` that no node is linked at; from any thread."""
        return self._dialer.unreached() if self._running else []

    def dial_failed(self, name: str, address: str, *, refused: bool) -> None:
        """A dial made no link."""
        self._node.dial_failed(name, address, self._clock(), refused=refused)

    def admit(
        self,
        channel: Channel,
        shake: Handshake,
        identity: PeerIdentity,
        *,
        dialed: str,
        serial: int,
    ) -> Link:
        """Makes an authenticated channel the link to its peer. Raises `HandshakeError`."""
        peer = identity.info
        # A peer that has accepted our proof may have made the link already, and must get the
        # goodbye.
        if not (self._running or dialed):
            raise HandshakeError(Reason.LEAVING, "this node is shutting down", peer)
        observes = not dialed and shake.peer_role is Role.OBSERVER
        if not self._keys.accepts(identity.used):
            if not self._keys.is_observers(identity.used):
                raise HandshakeError(Reason.RENEWED, "secrets have changed meanwhile", peer)
            if not observes:
                raise HandshakeError(Reason.ROLE, "it has the secret of observers alone", peer)
        if observes:
            return self._observers.admit(channel, shake, identity)
        self.peer_keys.check_alone(identity, self.links.identities())
        old = self.links.get(peer.name)
        verdict = self.links.judge(peer, identity.instance, dialed=bool(dialed), serial=serial)
        if verdict is LinkVerdict.DUPLICATE:
            raise HandshakeError(Reason.DUPLICATE, "it is linked already", peer)
        place = self.links.places.of(dialed, channel.source, old)
        now = self._clock()
        self.peer_keys.check_new(peer, channel.source, configured=bool(place), now=now)
        yielding = self.links.make_room(peer, channel.source, place, self.max_peers)
        if old is not None and verdict is not LinkVerdict.OTHER_PROCESS:
            self._drop(old)
        # Where two processes have one name, the node decides which of them counts.
        self._names.introduce(peer, shake.me)
        if yielding is not None:
            self._drop(yielding)
            self._dialer.lost(yielding.peer, left=False)
            text = f"gave way to {peer.name!r}, as there are {self.max_peers} peers already"
            self.refusals.add("gave_way", f"the link with {yielding.peer.name!r} {text}")
        for gone in filter(None, (old, yielding)):
            self._tasks.spawn(gone.close(Reason.DUPLICATE, "another connection took its place"))
        self.peer_keys.linked(peer, channel.source, configured=bool(place), now=now)
        self.peer_keys.proved(identity, configured=bool(place))
        link = Link(channel, shake.session, identity, dialed=bool(dialed), counters=self.counters)
        self.links.put(link, place)
        link.start(accept=None if dialed else shake.proof())
        self.counters.connections += 1
        self.orders.begin(link)
        region = f" (region {peer.region!r})" if peer.region else ""
        LOG.info("linked with %s%s at %s", peer.name, region, peer.address or "?")
        self._driver.schedule()
        return link

    async def serve(self, link: Link) -> None:
        """Runs a link until it ends; whatever a peer does, nothing is raised."""
        name = link.peer.name
        try:
            if link in self._observers:
                await link.run(self._observers.receive)
            else:
                await link.run(self._receive, self.orders.receive)
        except WireError as error:
            self.refusals.add("seal", f"closing the link with {name}: {error}")
            link.abort(str(error))
        except Exception:  # noqa: BLE001 - logged; it must not reach the transport
            LOG.exception("closing the link with %s: a bug in handling its frames", name)
            self.refusals.add("internal", f"a frame of {name} met a bug")
            link.abort("internal error")
        finally:
            if self.links.get(name) is link:
                self._drop(link)
                LOG.info("the link with %s has ended: %s", name, link.ended_because or "cancelled")
                self._dialer.lost(link.peer, left=link.left)
            self._observers.remove(link)
            await link.finish()

    def _drop(self, link: Link) -> None:
        if self.links.remove(link):
            self._node.disconnected(link.peer.name, self._clock(), ended=link.ended_there)

    async def _receive(self, link: Link, frame: bytes) -> None:
        """Takes in a frame; between its parts other tasks of the loop run."""
        parts = self._node.parts(link.peer.name, frame, self._clock())
        more = True
        while more and self.links.get(link.peer.name) is link:  # else the peer has another one
            try:
                answers, more = next(parts, ([], False))
            except WireError as error:
                self._bad_frame(link, error)
                return
            self._dispatch(answers)
            self._driver.schedule()
            if more:
                await asyncio.sleep(0)

    def _bad_frame(self, link: Link, error: WireError) -> None:
        link.bad_frames += 1
        self.refusals.add("frame", f"refused a frame of {link.peer.name}: {error}")
        if link.bad_frames >= BAD_FRAMES:
            self._tasks.spawn(link.close(Reason.BAD_FRAMES, f"{BAD_FRAMES} bad frames"))

    def _dispatch(self, frames: Frames) -> None:
        for name, frame in frames:
            link = self.links.get(name)
            if link is None:
                self.counters.frames_dropped += 1
            else:
                link.offer(frame)

    def _give_up_links(self) -> None:
        for link in self.links.all():
            link.give_up(silent_s=SILENT_S, stuck_s=STUCK_S)
        self._observers.give_up()
