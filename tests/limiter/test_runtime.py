"""A limiter decides while it is connected with the others, and only then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crdtbucket import BucketSpec, Limiter, LimiterClosed, LimiterNotOpen, MeshConfig
from crdtbucket.errors import MeshError
from crdtbucket.mesh.state_dir import StateDir
from tests.forks import in_child
from tests.lives import SECRET
from tests.strong.redis_server import free_port

SPEC = BucketSpec("api", 100, 1, "1h")
DECISIONS: dict[str, Callable[[Limiter], object]] = {
    "take": lambda one: one.bucket("api").take("k"),
    "peek": lambda one: one.bucket("api").peek("k"),
    "settle": lambda one: one.bucket("api").settle("k", 1),
    "reset": lambda one: one.bucket("api").reset("k"),
    "burst": lambda one: one.bucket("api").take_burst("k", 2),
    "many": lambda one: one.bucket("api").take_many(["k"]),
    "all": lambda one: one.take_all([("api", "k")]),
    "acquire": lambda one: asyncio.run(one.bucket("api").acquire("k")),
    "acquire in a thread": lambda one: one.bucket("api").acquire_sync("k"),
    "acquire many": lambda one: asyncio.run(one.bucket("api").acquire_many(["k"])),
    "acquire all": lambda one: asyncio.run(one.acquire_all([("api", "k")])),
    "wait": lambda one: asyncio.run(one.bucket("api").wait("k", timeout=0)),
    "reserve": lambda one: one.bucket("api").reserve("k", 1).__enter__(),
    "reserve all": lambda one: one.reserve_all([("api", "k")]).__enter__(),
}
LOOKS: dict[str, Callable[[Limiter], object]] = {
    "stats": lambda one: one.stats(),
    "fleet": lambda one: one.fleet(),
    "keys": lambda one: one.keys("api"),
    "buckets": lambda one: dict(one.buckets),
    "bucket": lambda one: one.bucket("api").spec,
    "text": repr,
}


def node(**settings: Any) -> Limiter:
    mesh = MeshConfig(listen="127.0.0.1:0", secret=SECRET)
    return Limiter([SPEC], node="a", **{"mesh": mesh, **settings})


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("call", DECISIONS)
def test_a_node_that_was_not_opened_decides_nothing(
    call: str, shared: bool, tmp_path: Path
) -> None:
    limiter = node(shared=str(tmp_path / "table") if shared else None)
    with pytest.raises(
        LimiterNotOpen,
        match=r"is not open, so it would limit alone.*async with.*with TestClient\(app\)",
    ):
        DECISIONS[call](limiter)
    for look in LOOKS.values():
        look(limiter)
    with limiter:
        DECISIONS[call](limiter)
    with pytest.raises(LimiterClosed):
        DECISIONS[call](limiter)
    limiter.close()


def test_without_a_mesh_it_need_not_be_opened() -> None:
    limiter = node(mesh=None)
    for call in DECISIONS.values():
        call(limiter)


def test_one_that_could_not_be_opened_decides_nothing() -> None:
    port = free_port()
    with node(mesh=MeshConfig(listen=f"127.0.0.1:{port}", secret=SECRET)) as first:
        second = Limiter(
            [SPEC], node="b", mesh=MeshConfig(listen=f"127.0.0.1:{port}", secret=SECRET)
        )
        # As a second worker of one node that shares no table would.
        with pytest.raises(MeshError, match=r"in use.*set `shared: auto`.*one node"), second:
            pass
        with pytest.raises(LimiterNotOpen):
            second.bucket("api").take("k")
        assert first.bucket("api").take("k")
        second.close()
        with pytest.raises(LimiterClosed):
            second.bucket("api").take("k")


@pytest.mark.parametrize("shared", [False, True])
def test_a_child_forked_while_it_is_open_decides_nothing(shared: bool, tmp_path: Path) -> None:
    path = str(tmp_path / "table") if shared else None
    with node(shared=path) as limiter:
        assert limiter.bucket("api").take("k", 10)
        for call in DECISIONS.values():
            (said,) = in_child(lambda call=call: call(limiter))  # type: ignore[misc]
            assert said.startswith("LimiterNotOpen: this process was forked after"), said
        for look in LOOKS.values():
            (said,) = in_child(lambda look=look: look(limiter))  # type: ignore[misc]
            assert said
            assert "Error" not in said
        assert limiter.bucket("api").peek("k").remaining == 90


def test_a_child_forked_on_an_event_loop_decides_nothing() -> None:
    async def main() -> str:
        async with node() as limiter:
            return in_child(lambda: limiter.bucket("api").take("k"))[0]

    assert asyncio.run(main()).startswith("LimiterNotOpen: this process was forked after")


@pytest.mark.parametrize("shared", [False, True])
def test_a_child_ends_its_use_and_nothing_of_the_parents(shared: bool, tmp_path: Path) -> None:
    """No goodbye to the peers, no snapshot in the parent's place, and the name stays in use."""
    path = str(tmp_path / "table") if shared else None
    place = tmp_path / "state"
    mesh = MeshConfig(listen="127.0.0.1:0", secret=SECRET, state_dir=str(place))
    with node(mesh=mesh, shared=path) as limiter:
        assert limiter.bucket("api").take("k", 10)
        assert in_child(limiter.close, limiter.close) == ["None", "None"]
        assert StateDir(place, "a").snapshot.load() is None
        assert limiter.bucket("api").take("k", 10)
        if shared:
            assert limiter.stats()["shared"]["processes"] == 1
    assert StateDir(place, "a").snapshot.load()


def test_a_limiter_made_before_a_fork_is_opened_after_it(tmp_path: Path) -> None:
    """gunicorn does so with --preload."""
    limiter = node(shared=str(tmp_path / "table"))

    def work() -> int:
        with limiter:
            return limiter.bucket("api").take_burst("k", 30)

    assert [in_child(work)[0] for _ in range(4)] == ["30", "30", "30", "10"]


def test_a_child_may_open_a_limiter_of_its_own_on_the_same_table(tmp_path: Path) -> None:
    path = str(tmp_path / "table")

    def work() -> int:
        with node(shared=path) as own:
            return own.bucket("api").take_burst("k", 90)

    with node(shared=path) as limiter:
        assert limiter.bucket("api").take("k", 20)
        assert in_child(work) == ["80"]
        assert not limiter.bucket("api").take("k")


def test_a_local_limiter_goes_on_in_a_child() -> None:
    with node(mesh=None) as limiter:
        assert in_child(lambda: limiter.bucket("api").take_burst("k", 200)) == ["100"]


def test_a_closed_limiter_shows_no_mesh_that_is_made_late() -> None:
    """A process that follows a dead leader may be about to start its mesh while it is closed."""
    limiter = node()
    made = limiter._node.service(limiter.rollout)
    assert limiter._node.mesh is made
    limiter.close()
    assert limiter._node.mesh is None
    limiter._node.service(limiter.rollout)
    assert limiter._node.mesh is None


def test_a_node_whose_event_loop_has_ended_decides_nothing() -> None:
    """So it is when a program opens it by `asyncio.run(limiter.__aenter__())`."""
    left, alone = node(), node(mesh=None)
    for limiter in (left, alone):
        asyncio.run(limiter.__aenter__())
    with pytest.raises(LimiterNotOpen, match="its event loop has ended, so it would limit alone"):
        left.bucket("api").take("k")
    assert alone.bucket("api").take("k")


@pytest.mark.parametrize("ends", [False, True], ids=["the caller is cancelled", "the loop ends"])
def test_closing_gives_the_name_back_however_it_is_cut_short(ends: bool, tmp_path: Path) -> None:
    async def main() -> None:
        mesh = MeshConfig(listen="127.0.0.1:0", secret=SECRET, state_dir=tmp_path)
        limiter = node(mesh=mesh)
        await limiter.__aenter__()
        closing = asyncio.ensure_future(limiter.aclose())
        await asyncio.sleep(0)
        if not ends:
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            await limiter.aclose()

    asyncio.run(main())
    again = StateDir(tmp_path, "a")
    again.open()
    again.close()
