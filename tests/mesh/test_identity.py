"""Nodes with keys of their own, as limiters have them: kept over restarts, shown, and held."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crdtbucket import BucketSpec, Limiter, MeshConfig
from crdtbucket.errors import MeshError
from tests.mesh.network import eventually

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
        before = refused(a)
        async with limiter("b", tmp_path / "b", str(a.address)):
            await eventually(lambda: a.stats()["keys"] == {"b": theirs})
            assert refused(a) == before


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
