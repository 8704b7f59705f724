"""What was not sent to Redis is not lost with the process: it is kept on disk, or its loss is
logged."""

from __future__ import annotations

import logging
from pathlib import Path

import msgpack
import pytest

from crdtbucket import BucketSpec, Limiter, MeshConfig, MeshError, Mode, RedisConfig
from crdtbucket._core import BucketCore, Table
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.previous_epoch import PreviousEpoch, dump, load
from crdtbucket.strong.unsettled import Unsettled
from tests.strong.redis_server import EAGER, Server
from tests.waits import eventually

STILL = BucketSpec("b", 1_000, 1, "1h", consistency="strong")
MODES = ControllerSettings(**EAGER)  # type: ignore[arg-type]


def limiter(
    server: Server, folder: Path | None, node: str = "n1", *specs: BucketSpec, **mesh: str
) -> Limiter:
    return Limiter(
        specs or [STILL],
        node=node,
        mesh=None if folder is None else MeshConfig(listen="127.0.0.1:0", state_dir=folder, **mesh),  # type: ignore[arg-type]
        redis=RedisConfig(url=server.url, deadline=10.0),
        degradation=Degradation(modes=MODES),
    )


async def charged(server: Server, key: str = "k") -> int:
    """The tokens that Redis charges for a key, by a call that knows none of the earlier takes."""
    async with limiter(server, None, "judge") as judge:
        decision = await judge.bucket("b").acquire(key)
        assert decision.mode is Mode.STRONG
        judge.bucket("b").refund(decision)
        return STILL.capacity - decision.remaining - 1


async def close_in_fallback(one: Limiter, server: Server, keys: int = 1) -> int:
    """Takes while strong, then in an outage, and closes within it; how much was consumed."""
    async with one:
        bucket = one.bucket("b")
        got = 20 * (await bucket.acquire("k", 20)).allowed
        server.freeze()
        if server.process is not None:
            server.kill()
        await eventually(lambda: bucket.mode is Mode.FALLBACK)
        for number in range(20):
            decision = await bucket.acquire("k" if number % keys == 0 else f"k{number}", 5)
            got += decision.cost * decision.allowed * (decision.key == "k")
    return got


async def settled(one: Limiter) -> None:
    await eventually(
        lambda: one.bucket("b").mode is Mode.STRONG and not one.stats()["strong"]["unsettled"]
    )


async def test_the_next_epoch_settles_what_was_taken_in_an_outage_exactly(tmp_path: Path) -> None:
    """Redis comes back empty: what it knew is owed again, too."""
    with Server() as server:
        consumed = await close_in_fallback(limiter(server, tmp_path), server)
        assert consumed > 20
        server.start()
        async with limiter(server, tmp_path) as one:
            first = await one.bucket("b").acquire("k")  # knows of it already
            assert (first.mode, first.remaining) == (Mode.STRONG, 1_000 - consumed - 1)
            one.bucket("b").refund(first)
            await settled(one)
            assert await charged(server) == consumed
            await one.bucket("b").acquire("k", 7)
            assert await charged(server) == consumed + 7


async def test_a_redis_that_kept_its_records_is_sent_the_difference(tmp_path: Path) -> None:
    with Server() as server:
        async with limiter(server, tmp_path) as one:
            bucket = one.bucket("b")
            assert await bucket.acquire("k", 20)
            server.freeze()
            (endpoint,) = bucket.store.endpoints.values()  # type: ignore[attr-defined]
            endpoint.supervisor.drop()
            took = [await bucket.acquire("k", 5) for _ in range(30)]
            assert {decision.mode for decision in took} == {Mode.FALLBACK}
            consumed = 20 + 5 * sum(decision.allowed for decision in took)
            assert consumed > 20
        server.thaw()
        async with limiter(server, tmp_path) as one:
            await settled(one)
            assert await charged(server) == consumed


async def test_a_server_that_lost_what_the_previous_epoch_had_sent_is_sent_it_again(
    tmp_path: Path,
) -> None:
    with Server() as server:
        async with limiter(server, tmp_path) as one:
            assert await one.bucket("b").acquire("k", 20)
        server.restart()
        async with limiter(server, tmp_path) as one:
            await eventually(lambda: server.call("KEYS", "crdtbucket:{b:*"))
            await settled(one)
            assert await charged(server) == 20


async def test_what_one_epoch_cannot_settle_the_next_one_does(tmp_path: Path) -> None:
    with Server() as server:
        consumed = await close_in_fallback(limiter(server, tmp_path), server)
        async with limiter(server, tmp_path) as one:  # Redis is still gone
            await eventually(lambda: one.bucket("b").mode is Mode.FALLBACK)
            assert one.stats()["strong"]["unsettled"] == 1
        server.start()
        async with limiter(server, tmp_path) as one:
            await settled(one)
        assert await charged(server) == consumed


async def test_a_bucket_that_is_no_longer_defined_has_no_debt(tmp_path: Path) -> None:
    other = BucketSpec("other", 10, 1, consistency="strong")
    with Server() as server:
        await close_in_fallback(limiter(server, tmp_path), server)
        server.start()
        async with limiter(server, tmp_path, "n1", other) as one:
            assert one.stats()["strong"]["unsettled"] == 0
            assert (await one.bucket("other").acquire("k")).mode is Mode.STRONG


async def test_with_a_state_dir_the_log_says_that_it_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Server() as server, caplog.at_level(logging.INFO, "crdtbucket.strong"):
        consumed = await close_in_fallback(limiter(server, tmp_path), server)
    lines = [r for r in caplog.records if "not settled with Redis" in r.getMessage()]
    assert [r.levelno for r in lines] == [logging.INFO]
    assert f"{consumed - 20} tokens of 1 key" in lines[0].getMessage()
    assert str(tmp_path) in lines[0].getMessage()


async def test_without_a_state_dir_the_log_warns_of_the_tokens_that_are_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Server() as server, caplog.at_level(logging.INFO, "crdtbucket.strong"):
        consumed = await close_in_fallback(limiter(server, None), server)
    lines = [r for r in caplog.records if "not settled with Redis" in r.getMessage()]
    assert [r.levelno for r in lines] == [logging.WARNING]
    assert f"{consumed - 20} tokens of 1 key" in lines[0].getMessage()
    assert "mesh.state_dir" in lines[0].getMessage()


@pytest.mark.parametrize("full", ["snapshot", "owed"])
async def test_with_a_full_disk_the_log_says_how_much_is_lost_and_what_to_do(
    full: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Server() as server, caplog.at_level(logging.INFO, "crdtbucket"):
        (tmp_path / f"n1.{full}.new").mkdir()  # nothing can be written
        one = await limiter(server, tmp_path).__aenter__()
        bucket = one.bucket("b")
        assert await bucket.acquire("k", 20)
        await eventually(lambda: not one.stats()["strong"]["unsettled"])
        server.kill()
        await eventually(lambda: bucket.mode is Mode.FALLBACK)
        assert await bucket.acquire("k", 5)
        with pytest.raises(MeshError, match="cannot be written"):
            await one.aclose()
    (line,) = [r for r in caplog.records if "not settled with Redis" in r.getMessage()]
    assert line.levelno == logging.ERROR
    assert line.getMessage() == (
        "this node ends with 5 tokens of 1 key not settled with Redis, and "
        f"{tmp_path}/n1.{full} cannot be written: Is a directory. Redis never charges those of "
        "them that were taken since the last snapshot. Make room there before the node starts "
        "again, and close nodes while Redis is reached"
    )


async def test_a_process_that_shares_a_table_says_that_it_keeps_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Strong buckets have a table of their own beside that, which no snapshot contains."""
    with Server() as server, caplog.at_level(logging.INFO, "crdtbucket"):
        async with Limiter(
            [STILL],
            node="n1",
            shared=tmp_path / "table",
            mesh=MeshConfig(listen="127.0.0.1:0", state_dir=tmp_path),
            redis=RedisConfig(url=server.url, deadline=10.0),
            degradation=Degradation(modes=MODES),
        ) as one:
            bucket = one.bucket("b")
            assert await bucket.acquire("k", 20)
            server.kill()
            await eventually(lambda: bucket.mode is Mode.FALLBACK)
            assert await bucket.acquire("k", 5)
    (line,) = [r for r in caplog.records if "not settled with Redis" in r.getMessage()]
    assert line.levelno == logging.WARNING
    assert "A process that shares a table keeps none" in line.getMessage()


async def test_keys_without_tokens_are_nothing_to_warn_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Server() as server, caplog.at_level(logging.INFO, "crdtbucket.strong"):
        async with limiter(server, None) as one:
            bucket = one.bucket("b")
            await bucket.acquire("k")
            await eventually(lambda: not one.stats()["strong"]["unsettled"])
            server.kill()
            await eventually(lambda: bucket.mode is Mode.FALLBACK)
            store = bucket.store  # type: ignore[attr-defined]
            store.ledger.unsettled.add(bucket, bucket.hash("k"))  # a peer's counts
    assert not [r for r in caplog.records if "not settled with Redis" in r.getMessage()]


async def test_what_is_settled_before_the_end_is_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Server() as server, caplog.at_level(logging.INFO, "crdtbucket.strong"):
        async with limiter(server, None) as one:
            bucket = one.bucket("b")
            bucket.refund(await bucket.acquire("k", 20), 5)
        assert await charged(server) == 15
    assert not [r for r in caplog.records if "not settled with Redis" in r.getMessage()]


# ---- what is kept ----


def test_what_is_kept_is_read_back() -> None:
    life = PreviousEpoch(((1, 2**64 - 1, 0, 5), (3, 4, 5, 0)), (("10.0.0.1:6379", "abc"),))
    assert load(dump(life)) == life
    assert load(dump(PreviousEpoch())) == PreviousEpoch()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x93\x01\x90",
        msgpack.packb((2, (), ())),
        msgpack.packb((1, ((1, 2, 3),), ())),
        msgpack.packb((1, ((1, 2, 3, -1),), ())),
        msgpack.packb((1, ((1, 2, 3, "4"),), ())),
        msgpack.packb((1, (), (("a",),))),
        msgpack.packb((1, (), (("a", b"b"),))),
        msgpack.packb((1, 5, ())),
        msgpack.packb(7),
    ],
)
def test_what_no_epoch_has_left_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"msgpack|format|malformed|not what an epoch left"):
        load(data)


# ---- calls that are adrift ----


def test_what_is_adrift_ends_with_a_younger_call_and_not_with_an_older_one() -> None:
    table = Table(max_keys=16, virtual=True)
    bucket = BucketCore(table, BucketSpec("b", 10, 1))
    unsettled, item = Unsettled(table, {}), (bucket, bucket.hash("k"))
    table.open_tokens = 12
    unsettled.may_still_run(item, 5, 3)
    unsettled.may_still_run(item, 7, 4)
    unsettled.fenced((bucket, bucket.hash("other")), 9)
    unsettled.fenced(item, 3)
    unsettled.fenced(item, 4)
    assert table.open_tokens == 12
    unsettled.fenced(item, 5)
    assert table.open_tokens == 0
    unsettled.fenced(item, 6)
    assert table.open_tokens == 0
