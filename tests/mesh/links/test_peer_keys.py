"""Which key belongs to which name, and what is saved of that."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from crdtbucket.config import load_config
from crdtbucket.doctor.examination import examine
from crdtbucket.errors import MeshError
from crdtbucket.mesh.links import peer_keys
from crdtbucket.mesh.links.ejections import Ejections, EjectOrder
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.mesh.links.peer_identity import PeerIdentity, Proof
from crdtbucket.mesh.links.peer_keys import PeerKeys, key_under, peer_keys_of
from crdtbucket.mesh.links.session import HandshakeError, Reason
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.state_dir import StateDir
from tests.mesh.keys import KeptFile

SECRET = "a secret of these tests"
OWN, KEY, OTHER = NodeKey.make(), NodeKey.make(), NodeKey.make()


class Certified:
    """A channel, as far as its certificate is asked for."""

    def __init__(self, *names: str) -> None:
        self.certified_names = names


def info(name: str) -> NodeInfo:
    return NodeInfo(name, "", 1, "", 0)


def identity(name: str, key: NodeKey | None) -> PeerIdentity:
    return PeerIdentity(info(name), 1, Proof.KEY, None if key is None else key.public)


def check(keys: PeerKeys, name: str, key: NodeKey | None, *names: str) -> None:
    public = None if key is None else key.public
    keys.check(info(name), public, Certified(*names))  # type: ignore[arg-type]


def refused(keys: PeerKeys, name: str, key: NodeKey | None, *names: str) -> str:
    with pytest.raises(HandshakeError) as caught:
        check(keys, name, key, *names)
    assert caught.value.reason is Reason.KEY
    return str(caught.value)


def test_without_a_policy_a_name_is_whoever_takes_it() -> None:
    keys = PeerKeys("me")
    keys.proved(identity("b", KEY))
    for key in (None, KEY, OTHER):
        check(keys, "b", key)
        check(keys, "me", key)


def test_the_first_key_of_a_name_is_pinned_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    kept = KeptFile()
    keys = PeerKeys("me", "pinned", OWN, pins=kept)
    check(keys, "b", KEY)
    assert kept.data is None  # it has not signed yet
    with caplog.at_level(logging.INFO):
        keys.proved(identity("b", KEY))
        keys.proved(identity("b", KEY))
    assert [record.message for record in caplog.records] == [
        f"pinned b to the key {KEY.fingerprint}, which it has shown first"
    ]
    assert json.loads(kept.data or b"") == {"pins": {"b": KEY.fingerprint}}
    for later in (keys, PeerKeys("me", "pinned", OWN, pins=kept)):
        check(later, "b", KEY)
        assert KEY.fingerprint in refused(later, "b", OTHER)
        assert "it shows no key" in refused(later, "b", None)
        later.proved(identity("b", OTHER))  # a pin stays, whatever calls this
        check(later, "b", KEY)
        assert "take 'b' out of the pins in memory" in refused(later, "b", OTHER)


def test_an_operator_gives_a_name_another_key_and_that_is_pinned() -> None:
    """... until a later order. A node that knows the operator no more keeps what is pinned."""
    operator, kept = NodeKey.make(), KeptFile()
    orders = Ejections([operator.fingerprint], "mesh")
    keys = PeerKeys("me", "pinned", OWN, pins=kept, ejections=orders)
    keys.proved(identity("b", KEY))
    orders.take(EjectOrder.rebind(operator, "mesh", "b", 1, to=OTHER.fingerprint))
    assert keys.described()["rebound"] == {"b": OTHER.fingerprint}
    assert KEY.fingerprint in refused(keys, "b", KEY)
    refused(keys, "b", None)
    assert keys.order_against(identity("b", KEY)) is not None
    assert keys.order_against(identity("b", OTHER)) is None
    check(keys, "b", OTHER)
    keys.proved(identity("b", KEY))  # whatever calls this
    assert json.loads(kept.data or b"") == {"pins": {"b": KEY.fingerprint}}
    for _ in range(2):
        keys.proved(identity("b", OTHER))
    assert json.loads(kept.data or b"") == {"pins": {"b": OTHER.fingerprint}}
    later = PeerKeys("me", "pinned", OWN, pins=kept)
    check(later, "b", OTHER)
    refused(later, "b", KEY)
    orders.take(EjectOrder.rebind(operator, "mesh", "b", 2, to=KEY.fingerprint))
    check(keys, "b", KEY)
    orders.take(EjectOrder.sign(operator, "mesh", "b", 1, ejected=True))  # of another kind
    with pytest.raises(HandshakeError, match="ejected"):
        check(keys, "b", KEY)


def test_orders_about_keys_change_neither_lists_nor_the_own_name() -> None:
    operator = NodeKey.make()
    orders = Ejections([operator.fingerprint], "mesh")
    for name in ("b", "me"):
        orders.take(EjectOrder.rebind(operator, "mesh", name, 1, to=OTHER.fingerprint))
    listed = PeerKeys("me", "allowed", OWN, allowed={"b": (KEY.fingerprint,)}, ejections=orders)
    check(listed, "b", KEY)
    refused(listed, "b", OTHER)
    assert listed.order_against(identity("b", KEY)) is None
    check(PeerKeys("me", "pinned", OWN, pins=KeptFile(), ejections=orders), "me", OWN)
    check(PeerKeys("me", ejections=orders), "b", None)


def test_the_own_name_has_the_own_key_whatever_is_pinned_or_listed() -> None:
    pinned = PeerKeys("me", "pinned", OWN, pins=KeptFile())
    pinned.proved(identity("me", OTHER))
    listed = PeerKeys("me", "allowed", OWN, allowed={"me": (OTHER.fingerprint, OWN.fingerprint)})
    for keys in (pinned, listed):
        check(keys, "me", OWN)
        refused(keys, "me", OTHER)
        refused(keys, "me", None)


def test_a_name_without_a_key_is_bound_to_the_first_one() -> None:
    keys = PeerKeys("me", "pinned", OWN, pins=KeptFile())
    keys.proved(identity("b", None))
    check(keys, "b", None)
    keys.proved(identity("b", KEY))
    refused(keys, "b", None)


def test_a_list_admits_its_names_with_its_keys_alone() -> None:
    keys = PeerKeys("me", "allowed", OWN, allowed={"b": (KEY.fingerprint,)})
    check(keys, "b", KEY)
    assert "list that in mesh.allowed_keys" in refused(keys, "b", OTHER)
    refused(keys, "b", None)
    assert "does not list 'c'" in refused(keys, "c", KEY)


def test_a_certificate_is_for_the_name_of_its_node() -> None:
    keys = PeerKeys("me", "certificate")
    check(keys, "b", None, "b.example", "b")
    assert "for 'a', 'b.example', not for 'b'" in refused(keys, "b", None, "a", "b.example")
    assert "is for no name" in refused(keys, "b", None)
    refused(keys, "me", None, "B", "*")


def test_a_full_table_of_pins_keeps_what_it_has(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(peer_keys, "MAX_PINS", 2)
    monkeypatch.setattr(peer_keys, "CONFIGURED_PINS", 1)
    caplog.set_level("WARNING", "crdtbucket")
    keys = PeerKeys("me", "pinned", OWN, pins=KeptFile())
    for name in ("b", "c", "d"):
        keys.proved(identity(name, KEY))
    for name in ("named", "too"):
        keys.proved(identity(name, KEY), configured=True)
    for name in ("b", "named"):
        refused(keys, name, OTHER)
    for name in ("c", "too"):
        check(keys, name, OTHER)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_pin_that_cannot_be_saved_holds_for_this_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept = KeptFile()
    kept.full = True
    keys = PeerKeys("me", "pinned", OWN, pins=kept)
    keys.proved(identity("b", KEY))
    refused(keys, "b", OTHER)
    assert "is not kept over a restart: the disk is full" in caplog.text


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"{}", b'{"pins": 1}', b'{"pins": ["b"]}', b'{"pins": {"b": 1}}']
)
def test_damaged_pins_are_no_reason_to_trust_anew(tmp_path: Path, data: bytes) -> None:
    state = StateDir(tmp_path, "me")
    (tmp_path / "me.pins").write_bytes(data)
    mesh = MeshConfig(secret=SECRET, identity="pinned", state_dir=tmp_path)
    with pytest.raises(MeshError, match=r"me\.pins is damaged .*put back a copy, or remove it"):
        peer_keys_of(mesh, "me", state)


def test_a_key_is_made_once_and_survives(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mesh = MeshConfig(secret=SECRET, identity="pinned", state_dir=tmp_path)
    with caplog.at_level(logging.INFO):
        made = peer_keys_of(mesh, "me", StateDir(tmp_path, "me")).own
        again = peer_keys_of(mesh, "me", StateDir(tmp_path, "me")).own
    assert made is not None
    assert again is not None
    assert made.fingerprint == again.fingerprint
    assert (tmp_path / "me.key").stat().st_mode & 0o777 == 0o600
    assert [record.message for record in caplog.records] == [
        f"made a key for me, which had none: {made.fingerprint}"
    ]


def test_a_key_of_the_file_comes_before_that_of_the_folder(tmp_path: Path) -> None:
    given = KEY.pem().decode()
    mesh = MeshConfig(
        secret=SECRET, identity="pinned", state_dir=tmp_path, identity_key=f"\n{given}\n"
    )
    own = peer_keys_of(mesh, "me", StateDir(tmp_path, "me")).own
    assert own is not None
    assert own.fingerprint == KEY.fingerprint
    assert not list(tmp_path.iterdir())
    assert given not in repr(mesh)


def test_a_list_without_this_node_is_refused_at_the_start() -> None:
    mesh = MeshConfig(
        secret=SECRET,
        identity="allowed",
        identity_key=OWN.pem().decode(),
        allowed_keys={"b": KEY.fingerprint, "me": [OTHER.fingerprint]},
    )
    with pytest.raises(MeshError, match=f"add {OWN.fingerprint} for 'me'"):
        peer_keys_of(mesh, "me", None)


async def test_a_missing_package_is_found_by_the_doctor_and_by_a_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "crdtbucket.yaml"
    operator = f"operator_keys: ['{KEY.fingerprint}']"
    path.write_text(f"node: me\nmesh: {{secret: '{SECRET}', {operator}}}\n")
    found = load_config(path)
    assert found.mesh is not None
    monkeypatch.setattr(peer_keys, "load_cryptography", missing)
    _, told = await examine(path)
    assert (told.subject, told.level) == ("mesh identity", "wrong")
    for config in (found.mesh, MeshConfig(secret=SECRET, identity="pinned", state_dir=tmp_path)):
        with pytest.raises(MeshError, match="not installed here"):
            key_under(config, "me", OWN)
    assert key_under(MeshConfig(secret=SECRET), "me", None) is None


def missing() -> None:
    raise MeshError("not installed here")


def test_a_list_that_no_longer_has_this_node_is_no_change() -> None:
    listed = {
        "secret": SECRET,
        "identity": "allowed",
        "identity_key": KEY.pem().decode(),
        "allowed_keys": {"me": KEY.fingerprint, "b": OTHER.fingerprint},
    }
    assert key_under(MeshConfig(**listed), "me", OWN).public == KEY.public  # type: ignore[union-attr, arg-type]
    gone = {**listed, "allowed_keys": {"b": OTHER.fingerprint}}
    with pytest.raises(MeshError, match="does not list the key of this node"):
        key_under(MeshConfig(**gone), "me", OWN)  # type: ignore[arg-type]


def test_a_node_without_keys_makes_none(tmp_path: Path) -> None:
    keys = peer_keys_of(
        MeshConfig(secret=SECRET, state_dir=tmp_path), "me", StateDir(tmp_path, "me")
    )
    assert keys.own is None
    assert not list(tmp_path.iterdir())
