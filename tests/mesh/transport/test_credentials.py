"""Which nodes are linked: secrets, names and certificates, over real sockets."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from crdtbucket.errors import MeshError
from crdtbucket.mesh.links import mesh_tls
from crdtbucket.mesh.links.link import Link
from crdtbucket.mesh.links.peer_keys import PeerKeys
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.protocol.wire import MAX_FRAME
from crdtbucket.mesh.sockets import admission
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from tests.certificates import Authority
from tests.mesh.network import RecordingNode, config, pair, running, say
from tests.waits import eventually


async def test_a_wrong_secret_is_refused_and_both_logs_name_the_peer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    a, b = RecordingNode("eu-1"), RecordingNode("us-1")
    mesh_a = MeshNetwork(a, config())
    async with running(mesh_a):
        mesh_b = MeshNetwork(b, config(mesh_a.address, secret="another one, and long"))
        async with running(mesh_b):
            await eventually(lambda: mesh_b.counters.refused.get("secret"))
            await eventually(lambda: mesh_a.counters.refused.get("secret"))
    lines = [record.getMessage() for record in caplog.records]
    assert any("refused a peer, 'us-1' at 127.0.0.1" in line for line in lines)
    assert any("no link with 'eu-1' at " + mesh_a.address in line for line in lines)
    assert "another one" not in caplog.text
    assert "a secret of these tests" not in caplog.text
    assert not a.events
    assert not b.events


async def test_another_hash_key_is_said_on_both_sides() -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    mesh_a = MeshNetwork(a, config(hash_secret="one"))
    async with running(mesh_a):
        mesh_b = MeshNetwork(b, config(mesh_a.address, hash_secret="two"))
        async with running(mesh_b):
            await eventually(lambda: mesh_a.counters.refused.get("hash_key"))
            await eventually(lambda: mesh_b.counters.refused.get("hash_key"))
            assert not a.linked


async def test_rotation_old_and_new_secrets_link() -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    async with pair(
        a,
        b,
        {"secret": ["new" * 6, "old" * 6], "hash_secret": "h"},
        {"secret": ["old" * 6], "hash_secret": "h"},
    ):
        b.send("a", b"with the old one")
        await eventually(lambda: a.frames)


async def test_two_processes_with_one_name_are_both_reported() -> None:
    one, two = RecordingNode("same", epoch=1), RecordingNode("same", epoch=2)
    mesh_one = MeshNetwork(one, config())
    async with running(mesh_one):
        mesh_two = MeshNetwork(two, config(mesh_one.address))
        async with running(mesh_two):
            await eventually(lambda: one.conflicts and two.conflicts)
            assert not mesh_one.links.all()


async def test_a_name_that_is_used_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    one, two = RecordingNode("same", epoch=1), RecordingNode("same", epoch=2)
    mesh_one = MeshNetwork(one, config())
    async with running(mesh_one), running(MeshNetwork(two, config(mesh_one.address))):
        await eventually(lambda: len(one.conflicts) >= 3)
    starts = ["refused a peer, 'same'", "no link with 'same'"]  # one line of each process
    assert [one.partition(" at ")[0] for one in caplog.messages if "'same'" in one] == starts


@pytest.mark.parametrize("silent_s", [0.0, 5.0])
async def test_a_second_process_with_a_peers_name_does_not_push_it_out(
    silent_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is for the node to say for how long a peer may be silent between two rounds."""
    monkeypatch.setattr(Link, "silent_for", lambda link: silent_s)
    a, first = RecordingNode("a"), RecordingNode("b", epoch=1)
    async with pair(a, first) as (mesh_a, _):
        second = RecordingNode("b", epoch=2)
        mesh = MeshNetwork(second, config(mesh_a.address))
        async with running(mesh):
            await eventually(lambda: second.conflicts)
            assert a.linked["b"].epoch == 1
            first.send("a", b"still here")
            await eventually(lambda: a.frames)


async def test_without_a_secret_only_loopback_is_called() -> None:
    node = RecordingNode("a")
    node.addresses = ["192.0.2.1:7946"]
    mesh = MeshNetwork(node, config(secret=None))
    async with running(mesh):
        await eventually(lambda: mesh.counters.refused.get("unauthenticated"))
        assert mesh.counters.dials_failed == 0


def test_without_a_secret_only_loopback_is_listened_on() -> None:
    with pytest.raises(MeshError, match="secret"):
        MeshConfig(listen="0.0.0.0:7946")


# Up to Python 3.10 a failed `start_tls` drops its inner transport without closing it; the socket
# itself is closed. Newer versions are held to no warning at all.
failed_tls = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning" if sys.version_info < (3, 11) else "error"
)


async def exchange(settings_a: dict[str, object], settings_b: dict[str, object]) -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    async with pair(a, b, settings_a, settings_b):
        b.send("a", b"x" * MAX_FRAME)
        await eventually(lambda: a.frames == [("b", b"x" * MAX_FRAME)])


async def test_mutual_tls_needs_no_secret(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    common = {"tls_ca": authority.file, "secret": None}
    await exchange({**authority.issue("a"), **common}, {**authority.issue("b"), **common})


async def test_tls_that_takes_any_certificate_with_a_secret(tmp_path: Path) -> None:
    one, two = Authority(tmp_path, "one"), Authority(tmp_path, "two")
    await exchange(
        {**one.issue("a"), "tls_verify_peer": False}, {**two.issue("b"), "tls_verify_peer": False}
    )


@failed_tls
async def test_mutual_tls_refuses_certificates_of_another_authority(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    a, b = RecordingNode("a"), RecordingNode("b")
    mesh_a = MeshNetwork(a, config(**ours.issue("a"), tls_ca=ours.file))
    async with running(mesh_a):
        # It trusts our node, so only our node's check stands in its way.
        mesh_b = MeshNetwork(b, config(mesh_a.address, **theirs.issue("b"), tls_ca=ours.file))
        async with running(mesh_b):
            await eventually(lambda: mesh_a.counters.refused.get("tls"))
            await eventually(lambda: mesh_b.counters.dials_failed)
            assert not a.events


@failed_tls
async def test_mutual_tls_refuses_to_call_a_node_of_another_authority(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    a, b = RecordingNode("a"), RecordingNode("b")
    mesh_a = MeshNetwork(a, config(**theirs.issue("a"), tls_ca=ours.file))
    async with running(mesh_a):
        mesh_b = MeshNetwork(b, config(mesh_a.address, **ours.issue("b"), tls_ca=ours.file))
        async with running(mesh_b):
            await eventually(lambda: mesh_b.counters.dials_failed)
            assert not a.events


def lines_of(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    found = [record.getMessage() for record in caplog.records]
    return [line for line in found if words in line]


DATES = pytest.mark.parametrize(
    ("hours", "says"),
    [
        (
            (-2, -1),
            r"certificate has expired\): renew it there, or correct the clock",
        ),
        (
            (1, 2),
            # OpenSSL 3.6 adds that the clock may be wrong.
            r"certificate is not yet valid[^)]*\): correct the clock of this host",
        ),
    ],
    ids=["expired", "not yet"],
)


@failed_tls
@DATES
async def test_both_sides_say_why_the_certificate_of_a_caller_is_refused(
    hours: tuple[int, int], says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours = Authority(tmp_path, "ours")
    mesh_g = MeshNetwork(RecordingNode("good"), config(**ours.issue("good"), tls_ca=ours.file))
    async with running(mesh_g):
        bad = ours.issue("bad", hours=hours)
        mesh_b = MeshNetwork(RecordingNode("bad"), config(mesh_g.address, **bad, tls_ca=ours.file))
        async with running(mesh_b):
            await eventually(lambda: mesh_b.counters.dials_failed > 2)
            await eventually(lambda: sum(mesh_g.counters.refused.values()) > 2)
    (own,) = lines_of(caplog, bad["tls_cert"])
    assert "is refused by nodes with the same mesh.tls.ca (" in own
    assert re.search(says, own)
    assert set(mesh_g.counters.refused) == {"tls"}
    first = lines_of(caplog, "refused a conn")[0]
    assert ": its certificate is not trusted (" in first
    assert re.search(says, first)
    (told,) = lines_of(caplog, "cannot reach")
    assert "it does not trust this node's certificate (its log says why)" in told


@failed_tls
@DATES
async def test_both_sides_say_why_the_certificate_of_who_is_called_is_refused(
    hours: tuple[int, int], says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours = Authority(tmp_path, "ours")
    bad = config(**ours.issue("bad", hours=hours), tls_ca=ours.file)
    mesh_b = MeshNetwork(RecordingNode("bad"), bad)
    async with running(mesh_b):
        good = config(mesh_b.address, **ours.issue("good"), tls_ca=ours.file)
        async with running(MeshNetwork(RecordingNode("good"), good)):
            await eventually(lambda: sum(mesh_b.counters.refused.values()) > 2)
    assert set(mesh_b.counters.refused) == {"tls"}
    assert "does not trust this node's certificate" in lines_of(caplog, "refused a conn")[0]
    (told,) = lines_of(caplog, "cannot reach")
    assert ": its certificate is not trusted (" in told
    assert re.search(says, told)


@failed_tls
async def test_a_certificate_of_an_authority_that_the_node_does_not_trust_itself_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    settings = theirs.issue("a")
    async with running(MeshNetwork(RecordingNode("a"), config(**settings, tls_ca=ours.file))):
        (own,) = lines_of(caplog, settings["tls_cert"])
    assert "issue one that the authorities of mesh.tls.ca sign, or correct that file" in own


@failed_tls
@pytest.mark.parametrize("changed", ["the authority that is listened for", "the one called with"])
async def test_changed_certificates_come_into_use(changed: str, tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    both, known = tmp_path / "both", tmp_path / "known"
    for files, name in (([ours.file, theirs.file], both), ([ours.file], known)):
        name.write_text("".join(Path(one).read_text() for one in files))  # noqa: ASYNC240
    a, b = RecordingNode("a"), RecordingNode("b")
    mesh_a = MeshNetwork(a, config(**ours.issue("a"), tls_ca=str(known)))
    async with running(mesh_a):
        used = theirs.issue("b")
        mesh_b = MeshNetwork(b, config(mesh_a.address, **used, tls_ca=str(both)))
        async with running(mesh_b):
            await eventually(lambda: mesh_a.counters.refused.get("tls"))
            await eventually(lambda: mesh_b.counters.dials_failed)
            if changed.startswith("the authority"):
                shutil.copy(both, known)
            else:
                for field, fitting in ours.issue("new").items():
                    shutil.copy(fitting, used[field])
            await eventually(lambda: a.linked and b.linked)


async def test_a_certificate_may_have_to_name_its_node(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    certified = {"tls_ca": authority.file, "secret": None, "identity": "certificate"}

    def mesh(node: RecordingNode, *peers: str, named: str) -> MeshNetwork:
        settings = {**authority.issue(node.info.name, "node.example", named), **certified}
        keys = PeerKeys(node.info.name, "certificate")
        return MeshNetwork(node, config(*peers, **settings), peer_keys=keys)

    a, b, stranger = RecordingNode("a"), RecordingNode("b"), RecordingNode("b", epoch=2)
    mesh_a = mesh(a, named="a")
    async with running(mesh_a):
        mesh_s = mesh(stranger, mesh_a.address, named="c")  # it dials under the name of another
        async with running(mesh_s):
            await eventually(lambda: mesh_a.counters.refused.get("key"))
            await eventually(lambda: mesh_s.counters.refused.get("key"))
            late = RecordingNode("d")
            mesh_d = mesh(late, mesh_s.address, named="d")  # it is dialled
            async with running(mesh_d):
                await eventually(lambda: mesh_d.counters.refused.get("key"))
        async with running(mesh(b, mesh_a.address, named="b")):
            await eventually(lambda: a.linked and b.linked)
    assert not stranger.events
    assert not late.events


@failed_tls
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"])
async def test_a_connection_that_never_speaks_tls_is_closed(
    said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "HANDSHAKE_S", 0.3)
    authority = Authority(tmp_path, "ca")
    mesh = MeshNetwork(RecordingNode("a"), config(**authority.issue("a"), tls_ca=authority.file))
    async with running(mesh):
        await say(mesh, said)
        assert sum(mesh.counters.refused.values()) == 1
        assert set(mesh.counters.refused) <= {"handshake_timeout", "tls"}


@pytest.mark.parametrize("broken", ["tls_cert", "tls_key", "tls_ca"])
async def test_a_certificate_file_that_cannot_be_read_is_named(broken: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    settings = {**authority.issue("a"), "tls_ca": authority.file, broken: str(tmp_path / "gone")}
    with pytest.raises(MeshError, match=rf"mesh\.{broken.replace('_', '.')} .*gone"):
        await MeshNetwork(RecordingNode("a"), config(**settings)).start()


def test_an_encrypted_key_is_an_error_and_no_prompt(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    settings = authority.issue("a")
    key = serialization.load_pem_private_key(Path(settings["tls_key"]).read_bytes(), None)
    Path(settings["tls_key"]).write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"pass"),
        )
    )
    with pytest.raises(MeshError, match="unencrypted private key"):
        mesh_tls.listener_context(config(**settings))
