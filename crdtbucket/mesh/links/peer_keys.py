"""Decides which key belongs to the name of a node: the one that the file lists, the one with which
it was first met, or one that a certificate names.

A pinned key is kept on disk, and nothing that a peer says replaces it. An operator may order that a
name has another key from now on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from crdtbucket.errors import MeshError
from crdtbucket.mesh.links.channel import Channel
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.mesh.links.ejections import Ejections, EjectOrder
from crdtbucket.mesh.links.mesh_tls import check_certified, not_certified
from crdtbucket.mesh.links.new_names import NewNames
from crdtbucket.mesh.links.node_key import NodeKey, fingerprint_of, load_cryptography
from crdtbucket.mesh.links.peer_identity import PeerIdentity
from crdtbucket.mesh.links.session import HandshakeError, Reason
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.state_dir import StateDir
from crdtbucket.mesh.state_file import CheckedFile

KEYED = ("pinned", "allowed")
"""The policies by which a node has a key of its own."""
MAX_SHOWN = 32
"""Subjects that stats list as ejected."""
MAX_PINS = 1024
"""Names of nodes whose keys are pinned; further names are admitted by the secret alone."""
CONFIGURED_PINS = 256
"""Of these, so many are only for nodes that are met at addresses in `mesh.peers`."""
_PINNED = "what is pinned"
"""The word of messages for pins that are in no file."""


class PeerKeys:
    """The keys that this node accepts for the names of others. At first there are none, and every
    name is admitted."""

    def __init__(
        self,
        name: str,
        policy: str = "off",
        own: NodeKey | None = None,
        *,
        allowed: Mapping[str, tuple[str, ...]] | None = None,
        pins: CheckedFile | None = None,
        ejections: Ejections | None = None,
    ) -> None:
        """`name`, `own`: of this node. `allowed`: fingerprints by name. `pins`: the file of what is
        pinned. `ejections`: the nodes and keys that are refused in any case. Raises `MeshError`
        when the file is damaged."""
        self.ejections = Ejections() if ejections is None else ejections
        self.policy = policy
        self.own = own
        self._name = name
        self._allowed = allowed or {}
        self._file = pins
        self._full = False
        self._new = NewNames()
        self._pins = {} if policy != "pinned" or pins is None else _read_pins(pins)

    def described(self) -> dict[str, Any]:
        """The policy, the fingerprint of this node's key, those of the keys whose orders hold, who
        is ejected, and which names have another key by order."""
        rebound = self.ejections.rebound if self.policy == "pinned" else {}
        return {
            "policy": self.policy,
            "fingerprint": None if self.own is None else self.own.fingerprint,
            "operators": sorted(self.ejections.operators)[:MAX_SHOWN],
            "ejected": self.ejections.ejected[:MAX_SHOWN],
            "rebound": dict(list(rebound.items())[:MAX_SHOWN]),
        }

    def change(self, config: MeshConfig, own: NodeKey | None) -> None:
        """From now on other keys belong to the names, as this configuration says. `own`: what
        `key_under` gave."""
        self.own = own
        self._allowed = _allowed(config)

    def check(self, peer: NodeInfo, key: bytes | None, channel: Channel) -> None:
        """Raises `HandshakeError` for a peer that shows another key than belongs to its name. A
        peer that passes still has to sign with its key."""
        order = self.ejections.of(peer.name, key)
        if order is not None:
            raise HandshakeError(Reason.EJECTED, order.in_words(), peer)
        if self.policy == "certificate":
            names = channel.certified_names
            if peer.name not in names:
                raise HandshakeError(Reason.KEY, f"its {not_certified(names, peer.name)}", peer)
            return
        wanted = self._wanted(peer)
        if wanted is None:
            return
        shown = "no key" if key is None else f"the key {fingerprint_of(key)}"
        if key is None or fingerprint_of(key) not in wanted:
            raise HandshakeError(
                Reason.KEY,
                f"it shows {shown}, and to {peer.name!r} belongs {' or '.join(wanted)}: another "
                f"process uses the name, or the node has a new key: {self._fix(peer)}",
                peer,
            )

    def check_alone(self, peer: PeerIdentity, linked: Iterable[PeerIdentity]) -> None:
        """Raises `HandshakeError` for a peer that has the key, or certificate, of another node that
        is linked now, or of this one: a process that takes several names counts once."""
        others = {one.info.name: one.key for one in linked}
        others[self._name] = None if self.own is None else self.own.public
        others.pop(peer.info.name, None)
        if self.policy == "certificate":
            shared = [other for other in others if other in peer.certified_names]
            what, also = "certificate", ", or set mesh.identity: off where all nodes share one"
        else:
            shared = [other for other, key in others.items() if key is not None and key == peer.key]
            what, also = f"key {peer.fingerprint}", ""
        if shared:
            whose = "this node" if self._name in shared else f"{shared[0]!r}, which is linked"
            raise HandshakeError(
                Reason.SHARED_KEY,
                f"its {what} is that of {whose}, too: give each node one of its own{also}",
                peer.info,
            )

    def check_new(self, peer: NodeInfo, host: str, *, configured: bool, now: int) -> None:
        """Raises `HandshakeError` for a name without a pin that is one too many in an hour: whoever
        has the secret can make up names and keys. `host`, `configured`, `now`: as in `NewNames`."""
        if not self._without_pin(peer):
            return
        if why := self._new.refuses(peer.name, host, configured=configured, now=now):
            text = f"{why}, none with a pinned key: {peer.name!r} may come later; find out who "
            text += "has the secret, or list keys in mesh.allowed_keys"
            raise HandshakeError(Reason.NEW_NAMES, text, peer)

    def linked(self, peer: NodeInfo, host: str, *, configured: bool, now: int) -> None:
        """A peer that passed `check_new` is linked, not `proved` yet: its name counts as new."""
        if self._without_pin(peer):
            self._new.linked(peer.name, host, configured=configured, now=now)

    def order_against(self, identity: PeerIdentity) -> EjectOrder | None:
        """The order that forbids a link: its peer is ejected, or has another key."""
        name, key = identity.info.name, identity.key
        order = self._rebound(name)
        if order is not None and identity.fingerprint != order.said:
            return order
        return self.ejections.of(name, key)

    def holds(self, identity: PeerIdentity) -> bool:
        """Whether the key by which a peer was linked still belongs to its name."""
        if self.policy != "allowed" or identity.key is None:
            return True
        return fingerprint_of(identity.key) in self._allowed.get(identity.info.name, ())

    def proved(self, identity: PeerIdentity, *, configured: bool = False) -> None:
        """A peer has proved its key: from now on its name is bound to it, if keys are pinned.
        `configured`: it was met at an address that the file names."""
        name, key = identity.info.name, identity.key
        if self.policy != "pinned" or key is None or name == self._name:
            return
        order, shown, known = self._rebound(name), fingerprint_of(key), self._pins.get(name)
        if known is not None and (known == shown or order is None or order.said != shown):
            return
        most = MAX_PINS if configured else MAX_PINS - CONFIGURED_PINS
        if known is None and len(self._pins) >= most:
            if not self._full:
                LOG.warning(
                    "%d keys are pinned, which is the most: those of %s and of all later names are "
                    "not pinned; take names, and the last line, out of %s, or list keys "
                    "in mesh.allowed_keys",
                    len(self._pins),
                    name,
                    self._file or _PINNED,
                )
            self._full = True
            return
        self._pins[name] = shown
        how = "it has shown first" if order is None else "an operator has given it"
        LOG.info("pinned %s to the key %s, which %s", name, shown, how)
        if self._file is None:
            return
        try:
            self._file.save(json.dumps({"pins": self._pins}, indent=1, sort_keys=True).encode())
        except MeshError as error:  # the pin holds until this process ends
            LOG.error("the pinned key of %s is not kept over a restart: %s", name, error)

    def _without_pin(self, peer: NodeInfo) -> bool:
        return self.policy == "pinned" and self._wanted(peer) is None

    def _wanted(self, peer: NodeInfo) -> tuple[str, ...] | None:
        """The fingerprints that may show a name; None: any may."""
        if self.policy == "off":
            return None
        if peer.name == self._name and self.own is not None:
            return (self.own.fingerprint,)
        if self.policy == "allowed":
            if peer.name not in self._allowed:
                text = f"mesh.allowed_keys does not list {peer.name!r}"
                raise HandshakeError(Reason.KEY, text, peer)
            return self._allowed[peer.name]
        order = self._rebound(peer.name)
        if order is not None:
            return (str(order.said),)
        return (self._pins[peer.name],) if peer.name in self._pins else None

    def _rebound(self, name: str) -> EjectOrder | None:
        """The order by which a name has another key than is pinned."""
        if self.policy != "pinned" or name == self._name:
            return None
        return self.ejections.key_of(name)

    def _fix(self, peer: NodeInfo) -> str:
        if self.policy == "allowed":
            return "then list that in mesh.allowed_keys too"
        return (
            "then let an operator give it that (crdtbucket identity rebind), or take "
            f"{peer.name!r} out of {self._file or _PINNED}, and start this node again"
        )


def load_for(config: MeshConfig) -> None:
    """Imports now what the keys of this configuration need, since a process that takes over from
    one that has ended has no time for it. Raises `MeshError` for a package that is not
    installed."""
    if config.identity_policy in KEYED or config.operator_keys:
        load_cryptography()


def peer_keys_of(config: MeshConfig, name: str, state: StateDir | None) -> PeerKeys:
    """The keys that a node of this configuration knows. Makes its own key when it has none yet.
    Raises `MeshError` for a key that cannot be used, and for a missing one.
    """
    orders = None if state is None else state.orders
    ejections = Ejections(config.operator_keys, config.mesh_name, orders)
    policy, own = config.identity_policy, None
    if policy == "certificate":
        check_certified(config, name)
    if policy in KEYED:
        own = key_under(config, name, own_key(config, name, state))
    pins = None if state is None else state.pins
    return PeerKeys(name, policy, own, allowed=_allowed(config), pins=pins, ejections=ejections)


def key_under(config: MeshConfig, name: str, own: NodeKey | None) -> NodeKey | None:
    """The key of a node that works with `own`, under this configuration. Raises `MeshError` for one
    that cannot be used."""
    load_for(config)
    if config.identity_policy not in KEYED:
        return None
    if config.identity_key is not None:
        own = NodeKey.from_pem(config.identity_key.encode(), "mesh.identity_key")
    listed = _allowed(config).get(name, ())
    if config.identity_policy == "allowed" and own is not None and own.fingerprint not in listed:
        raise MeshError(
            f"mesh.allowed_keys does not list the key of this node, so no other would link with "
            f"it: add {own.fingerprint} for {name!r}, on every node"
        )
    return own


def observer_keys(config: MeshConfig) -> PeerKeys:
    """The keys that an observer of the nodes of this configuration knows: those that the file
    lists. It has a key of its own only so that the nodes sign their handshakes."""
    own = NodeKey.make() if config.identity_policy in KEYED else None
    return PeerKeys("", config.identity_policy, own, allowed=_allowed(config))


def own_key(config: MeshConfig, name: str, state: StateDir | None) -> NodeKey:
    """The key that the configuration names, or the one in `state`, which is made when there is
    none."""
    if config.identity_key is not None:
        return NodeKey.from_pem(config.identity_key.encode(), "mesh.identity_key")
    assert state is not None, "a mesh without a key has a state_dir"
    pem = state.key.load()
    if pem is not None:
        return NodeKey.from_pem(pem, str(state.key))
    key = NodeKey.make()
    state.key.save(key.pem())
    LOG.info("made a key for %s, which had none: %s", name, key.fingerprint)
    return key


def _allowed(config: MeshConfig) -> dict[str, tuple[str, ...]]:
    return {name: tuple(several) for name, several in (config.allowed_keys or {}).items()}


def _read_pins(file: CheckedFile) -> dict[str, str]:
    data = file.load()
    if data is None:
        return {}
    try:
        pins = json.loads(data)["pins"]
        if not all(isinstance(one, str) for one in (*pins, *pins.values())):
            raise TypeError("not all of it is text")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise file.damaged(error) from error
    return dict(pins)
