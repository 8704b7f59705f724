"""What the leader of a shared table shows the other processes of the mesh."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from crdtbucket import Limiter, MeshConfig
from crdtbucket._core import MAX_VIEW_BYTES, Table
from crdtbucket.errors import CrdtbucketError
from crdtbucket.shared import leader_view
from tests.lives import SECRET, SPECS
from tests.shared.test_table_file import opened
from tests.strong.redis_server import free_port
from tests.waits import eventually

WITHIN_S = 60.0


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "table")


def stats_of(peers: int, name: str = "peer-{}") -> tuple[dict[str, Any], list[tuple[Any, ...]]]:
    names = [name.format(f"{number:04}") for number in range(peers)]
    mesh = {
        "peers": dict.fromkeys(names, "alive"),
        "lag": dict.fromkeys(names[1:], 0.25),
        "longest_lag": dict.fromkeys(names[1:], 0.5),
        "keys": dict.fromkeys(names[2:], "ed25519:0123456789abcdef0123456789abcdef"),
        "identity": {"policy": "pinned", "fingerprint": "ed25519:mine"},
        "mesh": {
            "frames": 7,
            "refused": {"seal": 1},
            "unreached": [{"seconds": 3.5}],
            "snapshot_age": 4.5,
        },
    }
    return mesh, [(name, "eu", "alive", (1, 2, 3), None) for name in ["me", *names]]


def test_what_one_process_shows_another_reads_with_the_time_since(path: str) -> None:
    _file, table = opened(path, virtual=True)
    _other, reader = opened(path, virtual=True)
    assert leader_view.read(reader) is None
    table.set_time(10**9)
    leader_view.publish(table, *stats_of(3))
    reader.set_time(3 * 10**9)
    view = leader_view.read(reader)
    assert view is not None
    assert view["peers"] == {f"peer-000{i}": "alive" for i in range(3)}
    assert view["lag"] == {f"peer-000{i}": 2.25 for i in (1, 2)}
    assert view["longest_lag"] == {f"peer-000{i}": 2.5 for i in (1, 2)}
    assert view["keys"] == {"peer-0002": "ed25519:0123456789abcdef0123456789abcdef"}
    assert view["identity"] == {"policy": "pinned", "fingerprint": "ed25519:mine"}
    assert view["mesh"] == {
        "frames": 7,
        "refused": {"seal": 1},
        "unreached": [{"seconds": 5.5}],
        "snapshot_age": 6.5,
    }
    assert (view["view_age"], view["omitted"]) == (2.0, 0)
    assert [row[0] for row in view["fleet"]] == ["me", *view["peers"]]


def test_a_view_of_a_leader_of_an_earlier_version_and_of_one_that_keeps_nothing_is_read() -> None:
    table = Table(max_keys=64, virtual=True)
    for kept in ({}, {"snapshot_age": None}):
        stats, fleet = stats_of(1)
        stats["mesh"] = {"frames": 7, **kept}
        leader_view.publish(table, stats, fleet)
        view = leader_view.read(table)
        assert view is not None
        assert view["mesh"] == {"frames": 7, "unreached": [], **kept}


def test_a_view_of_an_earlier_epoch_is_none(path: str) -> None:
    file, table = opened(path, virtual=True)
    leader_view.publish(table, *stats_of(3))
    del table
    file.close()
    _file, table = opened(path, virtual=True)
    assert leader_view.read(table) is None


def test_what_does_not_fit_is_left_out_and_counted() -> None:
    table = Table(max_keys=64, virtual=True)
    leader_view.publish(table, *stats_of(1024, "{}" + "\U0001f984" * 196))
    view = leader_view.read(table)
    assert view is not None
    assert len(view["fleet"]) + view["omitted"] == 1025
    assert 0 < len(view["fleet"]) < 1025
    with pytest.raises(CrdtbucketError, match="no room for a view"):
        table.sharing.write_view(bytes(MAX_VIEW_BYTES + 1))


def test_no_view_is_ever_read_in_parts(path: str) -> None:
    """One process shows views of one letter each while another reads."""
    _file, table = opened(path)
    table.sharing.write_view(b"a" * 70_000)
    pid = os.fork()
    if pid == 0:
        for number in range(10**9):  # until it is killed
            table.sharing.write_view(bytes([97 + number % 26]) * (60_000 + number % 20_000))
    try:
        seen = set()
        while len(seen) < 200:
            view = table.sharing.read_view()
            assert len(set(view)) == 1
            seen.add((view[:1], len(view)))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


async def test_every_process_knows_how_the_peers_are(path: str) -> None:
    ports = free_port(), free_port()

    def node(name: str, port: int, peer: int, **settings: Any) -> Limiter:
        mesh = MeshConfig(listen=f"127.0.0.1:{port}", peers=[f"127.0.0.1:{peer}"], secret=SECRET)
        return Limiter(SPECS, node=name, mesh=mesh, **settings)

    peer = node("b", ports[1], ports[0])
    first, second = (node("a", *ports, shared=path) for _ in range(2))
    async with peer, first, second:
        assert [one.stats()["shared"]["leading"] for one in (first, second)] == [1, 0]
        await eventually(lambda: second.stats().get("peers") == {"b": "alive"})
        await eventually(lambda: second.stats()["peers"] == first.stats()["peers"])
        stats, led = second.stats(), first.stats()
        assert set(stats["lag"]) == set(stats["longest_lag"]) == {"b"}
        assert 0 <= stats["lag"]["b"] < WITHIN_S
        assert set(stats["mesh"]) == set(led["mesh"])
        assert stats["shared"]["view_age"] >= 0
        assert "view_age" not in led["shared"]
        assert [row["node"] for row in second.fleet()] == ["a", "b"]
        await first.aclose()
        await eventually(lambda: second.stats()["shared"]["leading"])
        await eventually(lambda: second.stats().get("peers") == {"b": "alive"})
