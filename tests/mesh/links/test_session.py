"""Handshake and seals, without sockets."""

from __future__ import annotations

import os
import struct
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.links import hello as hello_message
from crdtbucket.mesh.links.hello import VERSION, Introduction, Role
from crdtbucket.mesh.links.keyring import Keyring, hash_key
from crdtbucket.mesh.links.session import (
    Handshake,
    HandshakeError,
    Kind,
    Reason,
    Session,
)
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol.wire import MAX_FRAME

EU = NodeInfo("eu-1", "eu", 2**64 - 1, "10.0.0.1:7946", 5)
US = NodeInfo("us-1", "us", 7, "", 2**62)


def shakes(
    dialer: MeshConfig, listener: MeshConfig, instances: tuple[int, int] = (1, 2)
) -> tuple[Handshake, Handshake]:
    return (
        Handshake(
            Keyring(dialer), Introduction(EU, instances[0]), nonce=os.urandom(32), dialer=True
        ),
        Handshake(
            Keyring(listener), Introduction(US, instances[1]), nonce=os.urandom(32), dialer=False
        ),
    )


def sessions(dialer: MeshConfig, listener: MeshConfig) -> tuple[Session, Session]:
    a, b = shakes(dialer, listener)
    assert b.read_hello(a.hello) == EU
    assert a.read_hello(b.hello) == US
    return a.session, b.session


def verdicts(dialer: MeshConfig, listener: MeshConfig) -> tuple[Reason, Reason]:
    a, b = shakes(dialer, listener)
    with pytest.raises(HandshakeError) as at_listener:
        b.read_hello(a.hello)
    with pytest.raises(HandshakeError) as at_dialer:
        a.read_hello(b.hello)
    assert at_listener.value.peer == EU
    assert at_dialer.value.peer == US
    return at_dialer.value.reason, at_listener.value.reason


def long(secret: str) -> str:
    return secret + " and what makes it long enough"


def secrets(*several: str, hash_secret: str | None = "h") -> MeshConfig:
    return MeshConfig(secret=[long(one) for one in several], hash_secret=hash_secret)


def test_both_directions_carry_frames_in_order() -> None:
    a, b = sessions(secrets("s"), secrets("s"))
    for number in range(3):
        assert b.open(a.seal(Kind.FRAME, bytes([number]))) == (Kind.FRAME, bytes([number]))
        assert a.open(b.seal(Kind.BYE, b"\0")) == (Kind.BYE, b"\0")


def test_a_seal_is_what_the_page_of_the_wire_says() -> None:
    """Nodes of two versions need that to understand each other."""
    counter = struct.Struct(">Q")
    hellos = counter.pack(len(b"dialer's")) + b"dialer's" + b"listener's"
    root = blake2b(hellos, key=b"k" * 32, person=b"cb-mesh-session", digest_size=32).digest()
    key = blake2b(key=root, person=b"cb-mesh-dialer", digest_size=32).digest()
    session = Session(b"k" * 32, b"dialer's", b"listener's", dialer=True)
    for number, body in enumerate((b"first", b"", bytes(MAX_FRAME))):
        content = bytes([Kind.FRAME]) + body
        seal = blake2b(counter.pack(number) + content, key=key, digest_size=16).digest()
        assert session.seal(Kind.FRAME, body) == seal + content


def test_where_a_carrier_may_lose_frames_only_later_ones_open() -> None:
    hellos = (b"d", b"l")
    a, b = (Session(b"k" * 32, *hellos, dialer=dialer, lossy=True) for dialer in (True, False))
    sealed = [a.seal(Kind.FRAME, bytes([number])) for number in range(6)]
    assert b.open(sealed[0]) == (Kind.FRAME, b"\0")
    assert b.open(sealed[3]) == (Kind.FRAME, b"\3")  # two are missing
    for bad in (sealed[3], sealed[1], sealed[4][:8] + sealed[5][8:], sealed[5][:7], b""):
        with pytest.raises(WireError):
            b.open(bad)
    assert b.open(sealed[5]) == (Kind.FRAME, b"\5")
    assert len(a.seal(Kind.FRAME, bytes(MAX_FRAME))) > MAX_FRAME


def test_no_secret_still_makes_a_session() -> None:
    a, b = sessions(MeshConfig(), MeshConfig())
    assert b.open(a.seal(Kind.PROVE)) == (Kind.PROVE, b"")


@pytest.mark.parametrize(
    ("dialer", "listener"),
    [
        (["old"], ["new", "old"]),
        (["old", "new"], ["old"]),
        (["new", "old"], ["old", "new"]),
        (["new", "old"], ["new"]),
        (["a", "b", "c"], ["c", "x"]),
    ],
)
def test_rotation_any_common_secret_is_found(dialer: list[str], listener: list[str]) -> None:
    a, b = sessions(secrets(*dialer), secrets(*listener))
    assert b.open(a.seal(Kind.PROVE)) == (Kind.PROVE, b"")


def test_of_several_common_secrets_the_dialers_first_is_used() -> None:
    chosen = []
    for dialer in (["x", "y"], ["y", "x"]):
        a, b = shakes(secrets(*dialer), secrets("x", "y"))
        b.read_hello(a.hello)
        ours = Keyring(secrets(*dialer))
        theirs = hello_message.decode(b.hello)
        chosen.append(ours.common(theirs, dialer=True))
        used = Keyring(secrets(dialer[0])).common(theirs, dialer=True)
        assert chosen[-1] == used
    assert chosen[0] != chosen[1]


def test_key_ids_reveal_nothing_across_links() -> None:
    keys = Keyring(secrets("a", "b"))
    one, two = keys.ids(b"1" * 32, dialer=True), keys.ids(b"2" * 32, dialer=True)
    assert len({*one, *two}) == 4


@pytest.mark.parametrize(
    ("dialer", "listener", "reason"),
    [
        (secrets("right"), secrets("wrong"), Reason.SECRET),
        (secrets("right"), MeshConfig(hash_secret="h"), Reason.SECRET),
        (MeshConfig(hash_secret="h"), secrets("right"), Reason.SECRET),
        (secrets("s", hash_secret="h"), secrets("s", hash_secret="i"), Reason.HASH_KEY),
        (secrets("s", hash_secret=None), secrets("s", "t", hash_secret=None), Reason.HASH_KEY),
    ],
)
def test_both_sides_find_the_same_fault(
    dialer: MeshConfig, listener: MeshConfig, reason: Reason
) -> None:
    assert verdicts(dialer, listener) == (reason, reason)


def test_a_node_that_calls_itself_knows_it() -> None:
    a, b = shakes(secrets("s"), secrets("s"), instances=(9, 9))
    with pytest.raises(HandshakeError) as caught:
        b.read_hello(a.hello)
    assert caught.value.reason is Reason.SELF


def test_who_speaks_the_version_before_is_refused_with_both_and_what_to_do() -> None:
    a, b = shakes(secrets("s"), secrets("s"))
    before = bytearray(a.hello)
    before[4:6] = bytes([VERSION - 1, VERSION - 1])
    text = (
        f"speaks protocol versions {VERSION - 1} to {VERSION - 1} and this node {VERSION}: "
        "upgrade the older one"
    )
    with pytest.raises(HandshakeError, match=text) as caught:
        b.read_hello(bytes(before))
    assert caught.value.reason is Reason.VERSION


def test_a_later_version_is_named_in_the_error() -> None:
    a, b = shakes(secrets("s"), secrets("s"))
    later = bytearray(a.hello)
    later[4:6] = bytes([VERSION + 1, VERSION + 2])
    text = f"versions {VERSION + 1} to {VERSION + 2}"
    with pytest.raises(HandshakeError, match=text) as caught:
        b.read_hello(bytes(later))
    assert caught.value.reason is Reason.VERSION


def test_a_hello_may_grow_in_later_versions() -> None:
    a, b = shakes(secrets("s"), secrets("s"))
    grown = a.hello + b"something new"
    assert b.read_hello(grown) == EU
    a.read_hello(b.hello)
    with pytest.raises(WireError):  # and it is authenticated: the dialer did not send that
        b.session.open(a.session.seal(Kind.PROVE))


def test_a_hello_may_end_before_its_role_so_that_an_early_version_is_named() -> None:
    a, b = shakes(secrets("s"), secrets("s"))
    first = bytearray(a.hello[:-11])
    assert b.read_hello(bytes(first)) == EU
    assert b.peer_role is Role.MEMBER
    first[4:6] = bytes([1, 2])
    with pytest.raises(HandshakeError, match=f"versions 1 to 2 and this node {VERSION}"):
        b.read_hello(bytes(first))


def test_an_observer_says_that_it_is_one() -> None:
    a = Handshake(
        Keyring(secrets("s")),
        Introduction(EU, 1, Role.OBSERVER),
        nonce=os.urandom(32),
        dialer=True,
    )
    _, b = shakes(secrets("s"), secrets("s"))
    b.read_hello(a.hello)
    assert b.peer_role is Role.OBSERVER
    with pytest.raises(HandshakeError, match="role 2, which is of a later version"):
        b.read_hello(a.hello[:-11] + b"\2")


def test_every_changed_bit_of_a_hello_ends_the_handshake() -> None:
    a, b = shakes(secrets("s"), secrets("s"))
    a.read_hello(b.hello)
    proof = a.session.seal(Kind.PROVE)
    for bit in range(len(a.hello) * 8):
        changed = bytearray(a.hello)
        changed[bit // 8] ^= 1 << bit % 8
        listener = Handshake(
            Keyring(secrets("s")), Introduction(US, 2), nonce=b.hello[6:38], dialer=False
        )
        assert listener.hello == b.hello
        try:
            listener.read_hello(bytes(changed))
        except HandshakeError:
            continue
        with pytest.raises(WireError):
            listener.session.open(proof)


@pytest.mark.parametrize("rotated", [("s",), ("t", "s"), ("s", "t")])
def test_a_recorded_conversation_is_worthless_later(rotated: tuple[str, ...]) -> None:
    """Also where the secret of then is still one of several."""
    keys = secrets("s")
    a, b = shakes(keys, keys)
    b.read_hello(a.hello)
    a.read_hello(b.hello)
    recorded = [a.hello, a.session.seal(Kind.PROVE), a.session.seal(Kind.FRAME, b"frame")]
    for sealed in recorded[1:]:
        _, later = shakes(keys, secrets(*rotated))
        later.read_hello(recorded[0])
        with pytest.raises(WireError):
            later.session.open(sealed)
    one, other = sessions(secrets(*rotated), secrets(*rotated))
    other.open(one.seal(Kind.PROVE))
    with pytest.raises(WireError):
        other.open(recorded[2])  # it has the number of the next one


def test_a_reflected_frame_is_refused() -> None:
    a, _ = sessions(secrets("s"), secrets("s"))
    with pytest.raises(WireError):
        a.open(a.seal(Kind.PROVE))


def test_every_changed_bit_of_a_frame_is_refused() -> None:
    a, b = sessions(secrets("s"), secrets("s"))
    sealed = a.seal(Kind.FRAME, bytes(range(64)))
    for bit in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(WireError):
            b.open(bytes(changed))
    assert b.open(sealed) == (Kind.FRAME, bytes(range(64)))


def test_truncated_and_longer_frames_are_refused() -> None:
    a, b = sessions(secrets("s"), secrets("s"))
    sealed = a.seal(Kind.FRAME, b"contents")
    for length in range(len(sealed)):
        with pytest.raises(WireError):
            b.open(sealed[:length])
    with pytest.raises(WireError):
        b.open(sealed + b"\0")


def test_replayed_skipped_and_reordered_frames_are_refused() -> None:
    a, b = sessions(secrets("s"), secrets("s"))
    first, second, third = (a.seal(Kind.FRAME, text) for text in (b"1", b"2", b"3"))
    with pytest.raises(WireError):
        b.open(second)
    b.open(first)
    with pytest.raises(WireError):
        b.open(first)
    with pytest.raises(WireError):
        b.open(third)
    assert b.open(second) == (Kind.FRAME, b"2")


def test_the_largest_frame_passes_and_one_byte_more_does_not() -> None:
    a, b = sessions(secrets("s"), secrets("s"))
    assert b.open(a.seal(Kind.FRAME, bytes(MAX_FRAME))) == (Kind.FRAME, bytes(MAX_FRAME))
    with pytest.raises(ValueError, match=f"at most {MAX_FRAME}"):
        a.seal(Kind.FRAME, bytes(MAX_FRAME + 1))


@given(st.binary(max_size=400))
def test_any_bytes_are_a_hello_or_a_wire_error(data: bytes) -> None:
    for candidate in (data, b"CBKM\x01\x01" + data):
        try:
            hello_message.decode(candidate)
        except WireError:
            continue
        assert len(candidate) > 70


@given(st.data())
def test_a_damaged_hello_is_a_hello_or_a_wire_error(data: st.DataObject) -> None:
    a, _ = shakes(secrets("s"), secrets("s"))
    damaged = bytearray(a.hello)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    for candidate in (bytes(damaged), bytes(damaged[:cut])):
        try:
            name = hello_message.decode(candidate).info.name
        except WireError:
            continue
        assert name.isprintable()
        assert name


def test_a_process_that_began_before_every_clock_is_no_hello() -> None:
    """When the peer began is a number of 64 bits at the node. One that was beyond them was met at
    every tick, and the node sent nothing any more."""
    a, b = shakes(secrets("s"), secrets("s"))
    for age, fits in ((2**62, True), (2**62 + 1, False), (2**64 - 1, False)):
        hello = a.hello[:54] + struct.pack(">Q", age) + a.hello[62:]
        if fits:
            assert b.read_hello(hello).age_ns == age
            continue
        with pytest.raises(HandshakeError, match="impossible age") as caught:
            b.read_hello(hello)
        assert caught.value.reason is Reason.MALFORMED


@pytest.mark.parametrize("name", ["x" * 256, "two\nlines", "\x1b[31m"])
def test_a_name_that_would_spoil_logs_cannot_be_sent(name: str) -> None:
    info = NodeInfo(name, "", 1, "", 0)
    with pytest.raises(MeshError, match="printable"):
        Handshake(Keyring(secrets("s")), Introduction(info, 1), nonce=bytes(32), dialer=True)


def test_more_secrets_than_a_hello_holds_are_an_error() -> None:
    with pytest.raises(MeshError, match="at most 16"):
        Keyring(secrets(*(f"s{number}" for number in range(17))))


def test_hash_key_from_hash_secret_else_oldest_secret_else_known() -> None:
    explicit = hash_key(secrets("a", "b"))
    assert len(explicit) == 16
    assert explicit == hash_key(MeshConfig(secret=long("other"), hash_secret=b"h"))
    oldest = hash_key(secrets("new", "old", hash_secret=None))
    assert oldest == hash_key(MeshConfig(secret=long("old")))
    assert oldest == hash_key(MeshConfig(hash_secret=long("old")))
    assert hash_key(MeshConfig()) == hash_key(MeshConfig())
    assert len({explicit, oldest, hash_key(MeshConfig())}) == 3
