"""Finds each fault of a peer, at real nodes."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from crdtbucket import Limiter, MeshConfig
from crdtbucket.config import Config, load_config
from crdtbucket.doctor.diagnosis import Diagnosis, note, wrong
from crdtbucket.doctor.mesh_examination import examine_mesh
from crdtbucket.doctor.peer_examination import clock_error, compare_configs
from crdtbucket.mesh.links.node_key import NodeKey
from tests.certificates import Authority
from tests.strong.redis_server import free_port

SECRET = "a secret of these tests"
FILE = """\
version: 3
node: me
services: {{api: {{limit: 100/minute}}}}
mesh: {{peers: [{peers}], {more}}}
"""
MS = 1_000_000


def config(folder: Path, *peers: str | None, more: str = f"secret: {SECRET}") -> Config:
    path = folder / "crdtbucket.yaml"
    path.write_text(FILE.format(peers=", ".join(f'"{one}"' for one in peers), more=more))
    return load_config(path)


async def examined(found: Config) -> dict[str, Diagnosis]:
    """What was found, by the last word of the subject."""
    assert found.mesh is not None
    return {
        one.subject.rpartition(" ")[2]: one for one in await examine_mesh(found, found.mesh, 20.0)
    }


def node(file: Config, name: str = "eu-1", **settings: object) -> Limiter:
    mesh = MeshConfig(**{"listen": "127.0.0.1:0", "secret": SECRET, **settings})  # type: ignore[arg-type]
    return Limiter.from_file(file.path, node=name, mesh=mesh)


async def test_a_peer_that_is_in_order(tmp_path: Path) -> None:
    async with node(config(tmp_path)) as peer:
        found = await examined(config(tmp_path, peer.address))
    assert [*found] == ["name", "port", "handshake", "configuration", "clock"]
    assert {one.level for one in found.values()} == {"ok"}
    assert found["handshake"].text == "node 'eu-1' proves the secret"
    assert "it runs the same, version 3" in found["configuration"].text


async def test_a_name_and_a_port_that_lead_nowhere(tmp_path: Path) -> None:
    found = await examined(config(tmp_path, "nobody.invalid:7946"))
    assert [(one.subject, one.level) for one in found.values()] == [
        ("peer nobody.invalid:7946 name", "wrong")
    ]
    found = await examined(config(tmp_path, f"127.0.0.1:{free_port()}"))
    assert found["port"].text == (
        "it cannot be reached (Connection refused): start the node, or correct mesh.peers"
    )
    found = await examined(config(tmp_path, "dns+nobody.invalid:7946"))
    assert found["dns+nobody.invalid:7946"].level == "wrong"


async def test_all_addresses_of_a_name_are_called(tmp_path: Path) -> None:
    async with node(config(tmp_path)) as peer:
        port = peer.address.rpartition(":")[2]
        found = await examined(config(tmp_path, f"dns+localhost:{port}"))
    assert found[f"dns+localhost:{port}"].level == "ok"
    assert found["handshake"].subject.startswith("peer ")


async def test_a_peer_with_another_secret_is_wrong_and_no_secret_is_shown(tmp_path: Path) -> None:
    async with node(config(tmp_path)) as peer:
        found = await examined(config(tmp_path, peer.address, more="secret: another-secret-0123"))
    assert found["handshake"].level == "wrong"
    assert "check mesh.secret" in found["handshake"].text
    assert "another-secret" not in found["handshake"].text


async def test_a_node_with_another_key_than_the_file_lists(tmp_path: Path) -> None:
    key, other = NodeKey.make(), NodeKey.make()
    keys = {"identity": "allowed", "identity_key": key.pem().decode()}
    listed = {"eu-1": key.fingerprint}
    path = tmp_path / "own.pem"
    async with node(config(tmp_path), **keys, allowed_keys=listed) as peer:
        for wanted in (key, other):
            path.write_bytes(wanted.pem())
            more = f"secret: {SECRET}, identity: allowed, identity_key: '${{file:{path}}}'"
            more += f", allowed_keys: {{eu-1: '{wanted.fingerprint}'}}"
            found = await examined(config(tmp_path, peer.address, more=more))
            if wanted is key:
                told = f"node 'eu-1' proves the secret and its key, {key.fingerprint}"
                assert found["handshake"].text == told
            else:
                assert found["handshake"].level == "wrong"
                assert f"it shows the key {key.fingerprint}" in found["handshake"].text


async def test_another_hash_secret(tmp_path: Path) -> None:
    async with node(config(tmp_path)) as peer:
        more = f"secret: {SECRET}, hash_secret: other"
        found = await examined(config(tmp_path, peer.address, more=more))
    assert "mesh.hash_secret" in found["handshake"].text


async def test_tls_that_is_not_trusted(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    mine, other = ours.issue("me", "me"), ours.issue("eu-1", "eu-1")
    async with node(config(tmp_path), **other, tls_ca=ours.file) as peer:
        for authority, level in ((ours, "ok"), (theirs, "wrong")):
            pair = f"cert: {mine['tls_cert']}, key: {mine['tls_key']}"
            tls = f"tls: {{{pair}, ca: {authority.file}}}"
            file = config(tmp_path, peer.address, more=tls)
            found = await examined(file)
            assert found["TLS"].level == level
    assert "give the authority that signed it as mesh.tls.ca" in found["TLS"].text


async def test_a_node_in_order_logs_no_fault_of_its_examination(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority(tmp_path, "ours")
    mine, other = authority.issue("me", "me"), authority.issue("eu-1", "eu-1")
    async with node(config(tmp_path), **other, tls_ca=authority.file) as peer:
        pair = f"cert: {mine['tls_cert']}, key: {mine['tls_key']}, ca: {authority.file}"
        file = config(tmp_path, peer.address, more=f"secret: {SECRET}, tls: {{{pair}}}")
        assert {one.level for one in (await examined(file)).values()} == {"ok"}
    assert [one.getMessage() for one in caplog.records if one.levelno > logging.INFO] == []


async def test_a_certificate_that_has_expired(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    files = authority.issue("me", "me", hours=(-2, -1))
    pair = f"cert: {files['tls_cert']}, key: {files['tls_key']}, ca: {authority.file}"
    found = await examined(config(tmp_path, more=f"tls: {{{pair}}}"))
    assert found["certificate"].level == "wrong"
    assert "certificate has expired): renew it there" in found["certificate"].text


async def test_a_certificate_that_should_have_been_renewed(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    for hours, wrong_ in (((-100, 20), True), ((-100, 30), False)):
        files = authority.issue("me", "me", hours=hours)
        pair = f"cert: {files['tls_cert']}, key: {files['tls_key']}, ca: {authority.file}"
        found = await examined(config(tmp_path, more=f"tls: {{{pair}}}"))
        assert ("certificate" in found) is wrong_
        if wrong_:
            assert found["certificate"].level == "wrong"
            said = f"mesh.tls.cert '{files['tls_cert']}' expires in 19 hours: put a new certificate"
            assert said in found["certificate"].text


async def test_a_certificate_that_is_not_for_this_node(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    files = authority.issue("all", "node.example")
    pair = f"cert: {files['tls_cert']}, key: {files['tls_key']}, ca: {authority.file}"
    (found, *_) = (await examined(config(tmp_path, more=f"tls: {{{pair}}}"))).values()
    assert (found.subject, found.level) == ("mesh identity", "wrong")
    assert "is for 'node.example', not for 'me': issue one" in found.text
    off = await examined(config(tmp_path, more=f"tls: {{{pair}}}, identity: off"))
    assert "identity" not in off


async def test_two_peers_with_one_name(tmp_path: Path) -> None:
    async with node(config(tmp_path)) as one, node(config(tmp_path)) as two:
        file = config(tmp_path, one.address, two.address)
        assert file.mesh is not None
        found = await examine_mesh(file, file.mesh, 20.0)
    assert found[-1].level == "wrong"
    assert "'eu-1' is the name of the process at" in found[-1].text


@pytest.mark.parametrize("runs", [False, True])
async def test_a_peer_that_has_this_nodes_name(runs: bool, tmp_path: Path) -> None:
    """Where this node does not answer at its own address, the peer may be this node itself."""
    listen = f"127.0.0.1:{free_port()}"
    async with node(config(tmp_path), "me") as other, AsyncExitStack() as stack:
        if runs:
            await stack.enter_async_context(node(config(tmp_path), "me", listen=listen))
        more = f"secret: {SECRET}, listen: '{listen}'"
        there = other.address
        file = config(tmp_path, there, more=more)
        assert file.mesh is not None
        found = await examine_mesh(file, file.mesh, 20.0)
    subject, advice = f"peer {there} name", "give every process a node name of its own"
    surely = f"'me' is the name of this node, and another process runs under it there: {advice}"
    perhaps = (
        f"'me' is the name of this node, which does not answer at {listen}: unless it is this "
        f"node that answers there, as behind a published port, {advice}"
    )
    assert [one for one in found if one.level != "ok"] == [
        wrong(subject, surely) if runs else note(subject, perhaps)
    ]


async def test_this_node_among_its_peers_is_no_other_process(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    more = f"secret: {SECRET}, listen: '{listen}'"
    async with node(config(tmp_path), "me", listen=listen):
        port = listen.rpartition(":")[2]
        file = config(tmp_path, listen, f"localhost:{port}", more=more)
        assert file.mesh is not None
        found = await examine_mesh(file, file.mesh, 20.0)
    assert {one.level for one in found} == {"ok"}


async def test_this_node_among_its_peers_need_not_run_yet(tmp_path: Path) -> None:
    """One list of peers serves all nodes; before the first start nobody answers at one's own."""
    listen, other = (f"127.0.0.1:{free_port()}" for _ in range(2))
    more = f"secret: {SECRET}, listen: '{listen}'"
    file = config(tmp_path, listen, other, more=more)
    assert file.mesh is not None
    found = await examine_mesh(file, file.mesh, 20.0)
    assert [one.subject for one in found if one.level != "ok"] == [f"peer {other} port"]
    itself = next(one for one in found if one.subject == f"peer {listen} port")
    assert itself.text == "the address of this node itself, which does not run yet"


async def test_a_node_that_runs_has_to_answer_at_its_own_address(tmp_path: Path) -> None:
    """Nobody answers at `advertise`, while the port of `listen` is taken."""
    async with node(config(tmp_path), "me") as running:
        nowhere = f"127.0.0.1:{free_port()}"
        more = f"secret: {SECRET}, listen: '{running.address}', advertise: '{nowhere}'"
        file = config(tmp_path, nowhere, more=more)
        assert file.mesh is not None
        found = await examine_mesh(file, file.mesh, 20.0)
    assert [one.subject for one in found if one.level == "wrong"] == [f"peer {nowhere} port"]


async def test_a_file_without_peers(tmp_path: Path) -> None:
    assert (await examined(config(tmp_path)))["mesh"].level == "note"


@pytest.mark.parametrize(
    ("theirs", "level"),
    [
        (None, "note"),
        ((2, 0xFF, 0), "note"),
        ((4, 0xFF, 1), "note"),
        ((3, 0xFF, 0), "wrong"),
        ("the same", "ok"),
    ],
)
def test_a_peer_with_another_configuration_is_noted_or_wrong(
    tmp_path: Path, theirs: object, level: str
) -> None:
    file = config(tmp_path)
    other = (9, int(file.hash, 16), 0) if theirs == "the same" else theirs
    assert compare_configs(file, other)[0] == level  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ahead", "moved"),
    [(5_000, 0), (5_011, 0), (4_989, 0), (5_113, 100), (4_887, 100)],
)
def test_clocks_that_run_apart(ahead: int, moved: int) -> None:
    # Theirs is ahead by 5 s, known to 10 ms; a second later by so many ms, known as well.
    first = (0, 5_000 * MS, 5_010 * MS)
    second = (1_000 * MS, ahead * MS, (ahead + 10) * MS)
    assert clock_error(first, second) == moved * MS
