"""Handshakes of nodes that have keys of their own, and what a member can do with them."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest

from crdtbucket.errors import WireError
from crdtbucket.mesh.links import hello as hello_message
from crdtbucket.mesh.links.handshake import PendingDials, handshake_as_dialer
from crdtbucket.mesh.links.hello import MAX_HELLO, Introduction, Role
from crdtbucket.mesh.links.keyring import Keyring
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.mesh.links.peer_keys import PeerKeys
from crdtbucket.mesh.links.session import Handshake, HandshakeError, Kind, Reason, Session
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from tests.mesh.network import RecordingNode

KEYRING = Keyring(MeshConfig(secret="a secret that all members share"))
A, B = NodeInfo("a", "eu", 1, "10.0.0.1:7946", 5), NodeInfo("b", "us", 2, "", 6)
KEY_A, KEY_B, KEY_M = NodeKey.make(), NodeKey.make(), NodeKey.make()


def shake(info: NodeInfo, key: NodeKey | None, *, dialer: bool, cluster: str = "mesh") -> Handshake:
    return Handshake(
        KEYRING,
        Introduction(info, info.epoch, node_key=key, cluster=cluster),
        nonce=os.urandom(32),
        dialer=dialer,
    )


def met(
    dialer: NodeKey | None, listener: NodeKey | None, clusters: tuple[str, str] = ("mesh", "mesh")
) -> tuple[Handshake, Handshake]:
    a = shake(A, dialer, dialer=True, cluster=clusters[0])
    b = shake(B, listener, dialer=False, cluster=clusters[1])
    assert b.read_hello(a.hello) == A
    assert a.read_hello(b.hello) == B
    return a, b


def test_both_sides_prove_their_keys() -> None:
    a, b = met(KEY_A, KEY_B)
    assert (a.peer_key, b.peer_key) == (KEY_B.public, KEY_A.public)
    assert a.signed
    b.check_proof(a.proof(), A)
    a.check_proof(b.proof() + b"what a later version adds", B)
    assert b.session.open(a.session.seal(Kind.FRAME, b"x")) == (Kind.FRAME, b"x")


@pytest.mark.parametrize("keys", [(KEY_A, None), (None, KEY_B)])
def test_one_side_without_a_key_signs_and_checks_nothing(
    keys: tuple[NodeKey | None, NodeKey | None],
) -> None:
    a, b = met(*keys)
    assert not a.signed
    assert not b.signed
    assert (a.proof(), b.proof()) == (b"", b"")
    a.check_proof(b"", B)
    b.check_proof(b"", A)
    assert b.session.open(a.session.seal(Kind.FRAME, b"x")) == (Kind.FRAME, b"x")


def test_who_shows_the_key_of_another_cannot_sign() -> None:
    thief = shake(A, KEY_M, dialer=True)
    shown = hello_message.decode(thief.hello)
    assert shown.keys is not None
    stolen = with_key(shown, KEY_A.public)
    b = shake(B, KEY_B, dialer=False)
    b.read_hello(stolen)
    thief.hello = stolen
    thief.read_hello(b.hello)
    for proof in (thief.proof(), b"", b.proof(), bytes(64)):
        with pytest.raises(HandshakeError, match="has not signed") as caught:
            b.check_proof(proof, A)
        assert caught.value.reason is Reason.KEY


def with_key(shown: hello_message.Hello, node: bytes) -> bytes:
    assert shown.keys is not None
    fields = {name: getattr(shown, name) for name in shown.__dataclass_fields__}
    return hello_message.Hello(**fields | {"keys": shown.keys._replace(node=node)}).encode()


def test_a_handshake_that_is_played_again_proves_nothing() -> None:
    a, b = met(KEY_A, KEY_B)
    proof = a.proof()
    b.check_proof(proof, A)
    again = shake(B, KEY_B, dialer=False)  # the same node, asked by the same hello
    again.read_hello(a.hello)
    with pytest.raises(HandshakeError, match="has not signed"):
        again.check_proof(proof, A)
    with pytest.raises(WireError):
        again.session.open(a.session.seal(Kind.PROVE, proof))


def test_a_signature_is_of_no_use_on_another_link() -> None:
    """M, a member, is dialled by a and dials b: what a signs for M is not for b."""
    a, to_a = shake(A, KEY_A, dialer=True), shake(B, KEY_M, dialer=False)
    to_a.read_hello(a.hello)
    a.read_hello(to_a.hello)
    to_b, b = shake(A, KEY_M, dialer=True), shake(B, KEY_B, dialer=False)
    stolen = with_key(hello_message.decode(to_b.hello), KEY_A.public)
    b.read_hello(stolen)
    to_b.hello = stolen
    to_b.read_hello(b.hello)
    with pytest.raises(HandshakeError, match="has not signed"):
        b.check_proof(a.proof(), A)


def test_who_passes_a_handshake_on_cannot_seal_what_comes_after_it() -> None:
    """M has the secret and sees both hellos, and so had all that seals frames without keys."""
    for keys, can in (((KEY_A, KEY_B), False), ((None, None), True)):
        a, b = met(*keys)
        theirs = hello_message.decode(a.hello)
        secret = KEYRING.common(theirs, dialer=False)
        assert secret is not None
        forged = Session(secret, a.hello, b.hello, dialer=True).seal(Kind.FRAME, b"forged")
        if can:
            assert b.session.open(forged) == (Kind.FRAME, b"forged")
        else:
            with pytest.raises(WireError):
                b.session.open(forged)


class Scripted:
    """A channel to a peer that is played by a test."""

    lossy = certified = False
    peer_name = remote = source = ""
    certified_names = ()

    def __init__(self, info: NodeInfo, key: NodeKey, *, shown: bytes) -> None:
        """The peer has `key`, and shows `shown`."""
        self._shake = shake(info, key, dialer=False)
        self._shown = shown
        self.sent: list[bytes] = []

    async def send(self, data: bytes) -> None:
        self.sent.append(data)

    async def receive(self) -> bytes:
        if len(self.sent) == 1:
            hello = with_key(hello_message.decode(self._shake.hello), self._shown)
            self._shake.hello = hello
            self._shake.read_hello(self.sent[0])
            return hello
        proof = self._shake.proof()
        return self._shake.session.seal(Kind.BYE, bytes((Reason.CONFLICT,)) + proof)


@pytest.mark.parametrize(
    ("key", "shown", "reason"),
    [
        (KEY_A, KEY_A, Reason.CONFLICT),  # it is a second process of this node indeed
        (KEY_M, KEY_A, Reason.KEY),
        (KEY_M, KEY_M, Reason.KEY),
    ],
)
async def test_that_the_own_name_is_used_is_believed_of_the_own_key_alone(
    key: NodeKey, shown: NodeKey, reason: Reason
) -> None:
    host = MeshNetwork(
        RecordingNode("a"),
        MeshConfig(secret="a secret that all members share"),
        peer_keys=PeerKeys("a", "pinned", KEY_A),
    )
    namesake = NodeInfo("a", "eu", 9, "", 2**62)
    channel: Any = Scripted(namesake, key, shown=shown.public)
    with pytest.raises(HandshakeError) as caught:
        await handshake_as_dialer(channel, host, PendingDials(), "127.0.0.1:1")
    assert caught.value.reason is reason


def test_keys_that_are_cut_out_on_the_way_break_the_handshake() -> None:
    a, b = shake(A, KEY_A, dialer=True), shake(B, KEY_B, dialer=False)
    b.read_hello(a.hello[:-74])
    a.read_hello(b.hello)
    assert b.peer_key is None  # which is refused where a key belongs to the name
    with pytest.raises(WireError):
        b.session.open(a.session.seal(Kind.PROVE, a.proof()))


def test_nodes_of_two_meshes_with_one_secret_do_not_take_each_other_s_signatures() -> None:
    a, b = met(KEY_A, KEY_B, ("shop", "bank"))
    with pytest.raises(HandshakeError, match="mesh_name"):
        b.check_proof(a.proof(), A)


def test_a_link_key_that_keeps_nothing_secret_is_refused() -> None:
    a, b = shake(A, KEY_A, dialer=True), shake(B, KEY_B, dialer=False)
    with pytest.raises(HandshakeError, match="keeps nothing secret") as caught:
        b.read_hello(a.hello[:-41] + bytes(41))
    assert caught.value.reason is Reason.MALFORMED


def test_keys_stand_at_the_end_of_a_hello_and_later_kinds_are_left_alone() -> None:
    whole = shake(A, KEY_A, dialer=True).hello[:-9]  # without the flags
    bare = whole[:-65]
    assert hello_message.decode(whole).keys is not None
    for end in (b"", b"\0", b"\2" + bytes(64), b"\2"):
        read = hello_message.decode(bare + end)
        assert read.keys is None
        assert read.role is Role.MEMBER
    for cut in range(1, 65):
        with pytest.raises(WireError, match="ends within its keys"):
            hello_message.decode(whole[:-cut])
    assert hello_message.decode(whole + b"more").keys == hello_message.decode(whole).keys


@pytest.mark.parametrize("key", [KEY_A, None])
def test_who_is_established_and_when_it_began_stands_behind_the_keys(key: NodeKey | None) -> None:
    for established in (False, True):
        me = dataclasses.replace(A, established=established, began=2**64 - 1)
        hello = shake(me, key, dialer=True).hello
        assert hello_message.decode(hello).info == me
        assert hello_message.decode(hello + b"more").info == me
        earlier = hello_message.decode(hello[:-9])  # of a version that does not say it
        assert earlier.info == A
        assert (earlier.keys is None) is (key is None)


def test_the_longest_hello_fits() -> None:
    text = "\u00e9" * 100
    longest = NodeInfo(text, text, 2**64 - 1, text, 2**62)
    many = Keyring(MeshConfig(secret=[f"a long secret, no. {n:02d}" for n in range(16)]))
    hello = Handshake(
        many, Introduction(longest, 1, node_key=KEY_A), nonce=bytes(32), dialer=True
    ).hello
    assert len(hello) <= MAX_HELLO
    assert hello_message.decode(hello).info == longest
