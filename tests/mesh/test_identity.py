"""Limiters whose nodes have keys of their own: the keys stay over restarts, are shown, and are
enforced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crdtbucket import BucketSpec, Limiter, MeshConfig
from crdtbucket.errors import ConfigError, MeshError, NodeConflict
from crdtbucket.mesh.links.ejections import EjectOrder
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.mesh.links.override_orders import OverrideOrder
from tests.certificates import Authority
from tests.waits import eventually

SECRET = "a secret of these tests"


def limiter(name: str, folder: Path, *peers: str, **settings: Any) -> Limiter:
    settings = {"identity": "pinned", "state_dir": folder, **settings}
    mesh = MeshConfig(listen="127.0.0.1:0", peers=peers, secret=SECRET, **settings)
    return Limiter([BucketSpec("api", 100, 10)], node=name, mesh=mesh)


def refused(node: Limiter) -> int:
    count: int = node.stats()["mesh"]["refused"].get("key", 0)
    return count


async def test_pinned_keys_outlive_restarts_and_a_stranger_gets_in_nowhere(tmp_path: Path) -> None:
    async with (
        limiter("a", tmp_path / "a") as a,
        limiter("b", tmp_path / "b", str(a.address)) as b,
    ):
        await eventually(lambda: a.stats()["keys"] and b.stats()["keys"])
        mine, theirs = (one.stats()["identity"]["fingerprint"] for one in (a, b))
        assert a.stats()["keys"] == {"b": theirs}
        assert b.stats()["keys"] == {"a": mine}
    async with limiter("a", tmp_path / "a") as a:
        async with limiter("b", tmp_path / "another disk", str(a.address)) as stranger:
            await eventually(lambda: refused(a) and refused(stranger))
            assert not a.stats()["keys"]
            assert a.bucket("api").take("k")
        async with limiter("b", tmp_path / "b", str(a.address)):
            await eventually(lambda: a.stats()["keys"] == {"b": theirs})


@pytest.mark.parametrize(("suffix", "told"), [("key", "holds no key"), ("pins", "is damaged")])
def test_a_node_with_a_damaged_file_does_not_start(suffix: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / f"a.{suffix}"
    file.write_bytes(b"{")
    file.chmod(0o600)
    with pytest.raises(MeshError, match=rf"a\.{suffix} {told}"), limiter("a", tmp_path):
        pass
    assert file.read_bytes() == b"{"
    file.unlink()
    with limiter("a", tmp_path) as node:
        assert node.bucket("api").take("k")


FILE = """
node: {name}
mesh:
  listen: 127.0.0.1:0
  peers: [{peers}]
  secret: [{secrets}]
  hash_secret: {hash_secret}
services:
  api: {{limit: 100/s}}
"""
OLD, NEW = "a secret of these tests", "the secret after it, longer"


class Filed:
    """A limiter of a file that a test writes again."""

    def __init__(self, folder: Path, name: str, *, hash_secret: str = "for life") -> None:
        self._path = folder / f"{name}.yaml"
        self._values = {"name": name, "hash_secret": hash_secret, "peers": ""}

    def written(self, *secrets: str, **values: str) -> str:
        self._values |= values
        text = FILE.format(**self._values, secrets=", ".join(f'"{one}"' for one in secrets))
        self._path.write_text(text)
        return str(self._path)


async def test_secrets_are_changed_by_reloads_and_no_peer_is_refused(tmp_path: Path) -> None:
    files = Filed(tmp_path, "a"), Filed(tmp_path, "b")
    async with Limiter.from_file(files[0].written(OLD)) as a:
        path = files[1].written(OLD, peers=f'"{a.address}"')
        async with Limiter.from_file(path) as b:
            await eventually(lambda: a.stats()["peers"] and b.stats()["peers"])
            for secrets in ((NEW, OLD), (NEW,)):
                for file, node in zip(files, (a, b), strict=True):
                    file.written(*secrets)
                    node.reload()
                    assert node.bucket("api").take("k")
            # The link of the old secret is gone, and there is another one.
            await eventually(lambda: a.stats()["mesh"]["connections"] > 1)
            for node in (a, b):
                await eventually(lambda node=node: "alive" in node.stats()["peers"].values())
                assert not node.stats()["mesh"]["refused"].keys() & {"secret", "seal", "hash_key"}
            stranger = MeshConfig(
                listen="127.0.0.1:0", secret=OLD, hash_secret="for life", peers=[a.address]
            )
            async with Limiter([BucketSpec("api", 100, 10)], node="c", mesh=stranger) as c:
                await eventually(lambda: c.stats()["mesh"]["refused"].get("secret"))


def test_what_of_a_mesh_cannot_change_is_said_and_nothing_is_changed(tmp_path: Path) -> None:
    file = Filed(tmp_path, "a", hash_secret="")
    with Limiter.from_file(file.written(OLD)) as a:
        file.written(NEW, OLD)
        a.reload()
        file.written(NEW)
        with pytest.raises(ConfigError, match=r"mesh\.secret: would end.*\(set hash_secret"):
            a.reload()
        file.written(NEW, OLD, peers="127.0.0.1:1")
        with pytest.raises(ConfigError, match=r"mesh\.peers: cannot change"):
            a.reload()
        file.written(OLD, peers="")
        a.reload()
    given = MeshConfig(listen="127.0.0.1:0", secret=OLD)
    with Limiter.from_file(file.written(OLD), mesh=given) as a:
        file.written(NEW, OLD)
        with pytest.raises(ConfigError, match=r"mesh\.secret: cannot change"):
            a.reload()


ORDERED = """
node: a
mesh: {{listen: "127.0.0.1:0", secret: a secret of these tests, state_dir: {state}{operators}}}
services:
  api: {{limit: 100/s}}
"""


async def test_what_was_ordered_holds_when_a_reload_lists_the_operator_again(
    tmp_path: Path,
) -> None:
    operator, path = NodeKey.make(), tmp_path / "a.yaml"

    def written(operators: str = "") -> str:
        path.write_text(ORDERED.format(state=tmp_path / "a", operators=operators))
        return str(path)

    listed = f", operator_keys: ['{operator.fingerprint}']"
    ejected = EjectOrder.sign(operator, "mesh", "b", 1, ejected=True)
    limited = OverrideOrder.sign(operator, "mesh", "api", "k", 1, "7/s")
    async with Limiter.from_file(written(listed)) as a:
        assert a.order(ejected.as_text())
        assert a.overrides.give(limited.as_text())
    async with (
        Limiter.from_file(written()) as a,
        limiter("b", tmp_path / "b", str(a.address), identity="off") as b,
    ):
        await eventually(lambda: a.stats()["peers"] and b.stats()["peers"])
        assert a.bucket("api").peek("k").limit == 100
        written(listed)
        a.reload()
        await eventually(lambda: b.stats()["mesh"]["refused"].get("ejected"))
        await eventually(lambda: a.bucket("api").peek("k").limit == 7)


@pytest.mark.parametrize("identity", ["off", "pinned"])
async def test_a_node_that_begins_while_its_name_is_held_says_where_and_what_to_do(
    identity: str, tmp_path: Path
) -> None:
    """With keys it is a process that has this node's key, too."""
    keys: dict[str, str] = {"identity": identity}
    if identity == "pinned":
        keys |= {"identity_key": NodeKey.make().pem().decode()}
    async with (
        limiter("a", tmp_path / "a", identity=identity) as a,
        limiter("b", tmp_path / "holder", str(a.address), **keys) as holder,
    ):
        await eventually(lambda: a.stats()["peers"])
        async with limiter("b", tmp_path / "late", str(a.address), **keys) as late:
            await eventually(lambda: refuses(late))
            assert refuses(late).startswith(
                f"'a' at {a.address} says: two running processes are called 'b', one of them at "
                f"{holder.address}: give each node its own name, or keep a stranger out: by "
            )


def refuses(node: Limiter) -> str:
    try:
        node.bucket("api").peek("k")
    except NodeConflict as error:
        return str(error)
    return ""


TLS = {"tls_cert": "cert", "tls_key": "key", "tls_ca": "ca"}


@pytest.mark.parametrize(
    ("settings", "policy"),
    [
        (TLS, "certificate"),
        ({**TLS, "secret": SECRET}, "certificate"),
        ({**TLS, "identity": "off"}, "off"),
        ({**TLS, "secret": SECRET, "tls_verify_peer": False}, "off"),
        ({"secret": SECRET, "tls_cert": "cert", "tls_key": "key"}, "off"),
        ({"secret": SECRET, "tls_ca": "ca", "transport": "nats", "servers": ["tls://h"]}, "off"),
        ({}, "off"),
    ],
)
def test_certificates_bind_names_where_both_sides_show_them(
    settings: dict[str, Any], policy: str
) -> None:
    assert MeshConfig(**settings).identity_policy == policy


def certified(authority: Authority, name: str, *dns: str, **settings: Any) -> Limiter:
    """A node with mutual TLS; `dns`: the names in its certificate."""
    files = authority.issue("-".join((name, *dns)), *dns)
    mesh = MeshConfig(listen="127.0.0.1:0", tls_ca=authority.file, **files, **settings)
    return Limiter([BucketSpec("api", 100, 10)], node=name, mesh=mesh)


async def test_with_mutual_tls_a_certificate_binds_the_name_of_its_node(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    async with certified(authority, "a", "a") as a:
        known = {"peers": [a.address]}
        # It does not look at its own certificate, as an honest process does at its start.
        async with certified(authority, "b", "c", identity="off", **known) as stranger:
            await eventually(lambda: refused(a) and refused(stranger))
            assert not a.stats()["peers"]
        async with certified(authority, "b", "node.example", "b", **known) as b:
            await eventually(lambda: a.stats()["peers"].keys() == {"b"} and b.stats()["peers"])
            assert b.stats()["identity"]["policy"] == "certificate"


async def test_one_certificate_for_all_nodes_needs_identity_off(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    with (
        pytest.raises(
            MeshError,
            match="this node's certificate is for 'all', not for 'a': issue one with 'a' among its "
            r"DNS names, or set mesh\.identity: off on every node where all share one",
        ),
        certified(authority, "a", "all"),
    ):
        pass
    async with certified(authority, "a", "all", identity="off") as a:
        settings = {"identity": "off", "peers": [a.address]}
        async with certified(authority, "b", "all", **settings) as b:
            await eventually(lambda: a.stats()["peers"] and b.stats()["peers"])
