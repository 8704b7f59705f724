"""Slots whose limit a real Redis keeps: exactly, over its restarts, and wherever they are used."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hiredis
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from crdtbucket import BucketSpec, Limiter, MeshConfig, RedisConfig
from crdtbucket.config import load_config
from crdtbucket.errors import CrdtbucketError, InvalidSpec, SlotDenied, WrongKind
from crdtbucket.http import Limits, Rule
from crdtbucket.http.middleware.asgi import ASGILimitMiddleware, ASGIRequest
from crdtbucket.limiter.held_slot import Slot
from crdtbucket.reconcile.buckets import BucketIndex
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.redis.slot_script import (
    SLOT_SCRIPT,
    SlotCall,
    SlotRow,
    parse_slots,
)
from crdtbucket.strong.strong_slots import StrongSlotBucket
from tests.forks import in_child
from tests.http.middleware.test_asgi import Server as AppServer
from tests.http.middleware.test_asgi import scope_of
from tests.http.serving import serving
from tests.strong.backends import REPLACED, Line
from tests.strong.redis_groups import cluster
from tests.strong.redis_server import EAGER, PROGRAMS, Server
from tests.strong.slot_books import SlotScriptModel
from tests.strong.test_resharding import begin_move, end_move
from tests.waits import eventually

KEY = "tenant-42"
SLOTS = 4
LLM = BucketSpec.concurrency("llm", SLOTS, ttl="60s", consistency="strong")
MODES = ControllerSettings(**EAGER)  # type: ignore[arg-type]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def limiter(server: Server, node: str, spec: BucketSpec = LLM, **degradation: Any) -> Limiter:
    config = RedisConfig(url=server.url, deadline=degradation.pop("deadline", 10.0))
    mesh = None
    if (peers := degradation.pop("mesh", None)) is not None:
        secret = "a secret of this test"
        mesh = MeshConfig(listen="127.0.0.1:0", peers=peers, secret=secret, gossip_interval=0.02)
    how = Degradation(modes=MODES, **degradation)
    return Limiter([spec], node=node, redis=config, degradation=how, mesh=mesh)


def bucket_of(limiter: Limiter) -> StrongSlotBucket:
    bucket = limiter.bucket("llm")
    assert isinstance(bucket, StrongSlotBucket)
    return bucket


def mode_of(*limiters: Limiter) -> set[Mode]:
    return {bucket_of(one).mode for one in limiters}


def calls(server: Server) -> int:
    """The scripts that were run."""
    found = re.search(rb"cmdstat_evalsha:calls=(\d+)", server.call("INFO", "commandstats"))
    return int(found[1]) if found else 0


def recorded(server: Server, limiter: Limiter) -> int:
    """The holds that Redis has of the key."""
    bucket = bucket_of(limiter)
    name = bucket.store.slots.ledger.name((bucket, bucket.hash(KEY)))
    return max(0, int(server.call("HLEN", name)) - 1)


async def enter(limiter: Limiter, **more: Any) -> Slot:
    return await bucket_of(limiter).slot(KEY, **more).__aenter__()


async def denied(limiter: Limiter) -> str:
    with pytest.raises(SlotDenied) as error:
        await enter(limiter)
    assert error.value.decision.retry_after > 0
    return str(error.value.decision.mode)


async def test_many_tasks_of_two_nodes_hold_the_slots_and_no_more(server: Server) -> None:
    tasks, answers, decided = 24, list[str](), asyncio.Event()
    async with limiter(server, "a") as a, limiter(server, "b") as b:

        def answered(mode: object) -> None:
            answers.append(str(mode))
            if len(answers) == tasks:
                decided.set()

        async def work(n: int) -> None:
            try:
                async with bucket_of((a, b)[n % 2]).slot(KEY) as slot:
                    assert slot.decision is not None
                    answered(slot.decision.mode)
                    await decided.wait()
            except SlotDenied:
                answered("denied")

        await asyncio.gather(*(work(n) for n in range(tasks)))
        assert sorted(answers) == ["denied"] * (tasks - SLOTS) + ["strong"] * SLOTS
        await eventually(lambda: not recorded(server, a))
        assert a.stats()["buckets"]["llm"]["slots_held"] == 0


async def test_a_slot_costs_one_call_to_hold_and_one_to_release(server: Server) -> None:
    async with limiter(server, "a") as one:
        before = calls(server)
        for _ in range(10):
            async with bucket_of(one).slot(KEY):
                pass
        name = bucket_of(one).store.slots.ledger.name((bucket_of(one), bucket_of(one).hash(KEY)))
        slot = await enter(one)
        assert server.call("EXISTS", name)
        slot.release()
    assert not server.call("EXISTS", name)  # closing waits for what is on its way
    assert calls(server) == before + 22


async def test_over_a_restart_what_is_held_counts_and_shares_are_all_that_comes_on_top(
    server: Server,
) -> None:
    how: dict[str, Any] = {"fallback_ratio": 0.5, "expected_nodes": 2}
    async with limiter(server, "a", **how) as a, limiter(server, "b", **how) as b:
        held = [await enter(a) for _ in range(SLOTS)]
        server.kill()
        await eventually(lambda: mode_of(a, b) == {Mode.FALLBACK})
        assert await denied(a) == "fallback"  # it holds more than its share
        assert bucket_of(b).fallback_policy(KEY) == (2, 60.0)
        more = [await enter(b), await enter(b)]
        assert await denied(b) == "fallback"
        assert held.pop().release()
        server.start()  # empty
        await eventually(lambda: mode_of(a, b) == {Mode.STRONG})
        await eventually(lambda: recorded(server, a) == len(held) + len(more) == 5)
        assert await denied(a) == await denied(b) == "strong"
        assert more.pop().release()
        assert held.pop().release()
        await eventually(lambda: recorded(server, a) == 3)
        await enter(b)
        assert await denied(a) == "strong"


async def test_with_a_mesh_what_redis_admitted_counts_when_it_is_gone(server: Server) -> None:
    spec = BucketSpec.concurrency("llm", SLOTS, consistency="strong", on_outage="eventual")
    async with (
        limiter(server, "a", spec, mesh=[]) as a,
        limiter(server, "b", spec, mesh=[str(a.address)]) as b,
    ):
        slots = [await enter(a) for _ in range(SLOTS)]
        await eventually(lambda: bucket_of(b).held(KEY) == SLOTS)
        server.kill()
        await eventually(lambda: Mode.STRONG not in mode_of(a, b))
        assert await denied(b) == "eventual"
        assert slots.pop().release()
        slot = await enter(b, timeout=60)
        assert slot.decision is not None
        assert slot.decision.mode == "eventual"
        server.start()  # empty
        await eventually(lambda: mode_of(a, b) == {Mode.STRONG})
        await eventually(lambda: recorded(server, a) == SLOTS)
        assert await denied(b) == "strong"


async def test_a_slot_whose_answer_was_lost_is_freed(server: Server) -> None:
    spec = BucketSpec.concurrency("llm", 1, consistency="strong", on_outage="deny")
    async with limiter(server, "a", spec, deadline=3.0) as one:
        await bucket_of(one).slot("warm").__aenter__()
        server.freeze()
        try:
            assert await denied(one) == "fallback"
            call = asyncio.create_task(enter(one))
            await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait({call})
        finally:
            server.thaw()
        await eventually(lambda: mode_of(one) == {Mode.STRONG})
        await eventually(lambda: not one.stats()["strong"]["unsettled"])
        await eventually(lambda: not recorded(server, one))


async def test_what_a_dead_process_held_is_free_after_its_ttl(server: Server) -> None:
    spec = BucketSpec.concurrency("llm", 1, ttl="500ms", consistency="strong")
    async with limiter(server, "b", spec) as b:
        async with limiter(server, "a", spec) as a:
            await enter(a)  # and is never released
        slot = await enter(b, timeout=30)
        assert slot.decision is not None
        assert slot.decision.mode == "strong"


async def test_who_waits_gets_the_slot_that_is_released(server: Server) -> None:
    spec = BucketSpec.concurrency("llm", 1, consistency="strong")
    async with limiter(server, "a", spec) as a, limiter(server, "b", spec) as b:
        slot = await enter(a)
        waiting = [asyncio.create_task(enter(one, timeout=60)) for one in (a, a, b)]
        await eventually(lambda: [len(bucket_of(one).waiters) for one in (a, b)] == [2, 1])
        for one in (a, b):
            with pytest.raises(SlotDenied):
                await enter(one, timeout=0.01)  # no turn: b knows of no hold, and did not ask
        slot.release()
        for _ in waiting:
            done, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            assert len(done) == 1
            waiting = list(left)
            next(iter(done)).result().release()


async def test_threads_hold_slots_and_an_event_loop_is_not_blocked(server: Server) -> None:
    async with limiter(server, "a") as one:
        bucket = bucket_of(one)

        def work() -> bool:
            with bucket.slot(KEY) as slot:
                return bool(slot.decision and slot.decision.mode == "strong")

        assert await asyncio.to_thread(work)
        with pytest.raises(CrdtbucketError, match="async with"):
            bucket.slot(KEY).__enter__()
        with pytest.raises(WrongKind):
            await one.acquire_all([("llm", KEY, 1)])
        await eventually(lambda: not recorded(server, one))
    with pytest.raises(CrdtbucketError, match=r"closed|not open"):
        await enter(one)


def test_a_forked_child_is_refused_and_its_parents_slots_stay(server: Server) -> None:
    with limiter(server, "a") as one:
        bucket = bucket_of(one)
        rules = Limits(one, [Rule("llm", key=lambda request: KEY)])
        request = ASGIRequest(scope_of(), rules.trusted)
        with bucket.slot(KEY) as slot:
            refused = in_child(
                bucket.slot(KEY).__enter__,
                bucket.slot(KEY, timeout=None).__enter__,
                lambda: rules.acquire_sync(request),
                lambda: asyncio.run(bucket.slot(KEY).__aenter__()),
                lambda: asyncio.run(bucket.slot(KEY, timeout=None).__aenter__()),
            )
            assert [told.partition(": this process was forked")[0] for told in refused] == [
                "LimiterNotOpen"
            ] * 5
            assert in_child(slot.release, lambda: slot.__exit__(None)) == ["False", "None"]
            assert recorded(server, one) == bucket.open_slots == 1
            assert slot.release()
        assert bucket.slot(KEY).__enter__().release()


async def test_http_holds_and_middleware_ask_redis(server: Server) -> None:
    spec = BucketSpec.concurrency("llm", 1, consistency="strong")
    async with limiter(server, "b", spec) as b, serving(limiter(server, "a", spec)) as client:
        rules = Limits(b, [Rule("llm", key=lambda request: KEY)])
        statuses = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            statuses.append((await client.refused("/v1/hold", bucket="llm", key=KEY))[0])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        wrapped = ASGILimitMiddleware(app, rules)

        async def status() -> int:
            return int((await AppServer().call(wrapped, scope_of()))[0]["status"])

        assert await status() == 200
        assert statuses == [429]
        await eventually(lambda: not recorded(server, b))
        held = await client.post("/v1/hold", bucket="llm", key=KEY)
        assert await status() == 429

        request = ASGIRequest(scope_of(), rules.trusted)
        assert not await asyncio.to_thread(rules.acquire_sync, request)
        assert await client.post("/v1/release", id=held["id"]) == {"released": True}


def test_reconciliation_leaves_the_records_of_slots_alone(tmp_path: Path) -> None:
    text = "rating: {consistency: strong, bucket_backend: {connection: {host: redis}}}\n"
    path = tmp_path / "file.yaml"
    path.write_text(text + "services: {llm: {concurrency: {slots: 2}}, api: {limit: 5/s}}\n")
    index = BucketIndex(load_config(path), MeshConfig(secret="a secret of this test"))
    assert [index.by_key[name].arguments is None for name in ("llm", "api")] == [True, False]


@pytest.mark.slow
async def test_in_a_cluster_a_hold_goes_where_its_key_is() -> None:
    async with cluster() as nodes:
        config = RedisConfig(host=nodes[0].host, port=nodes[0].port, cluster=True, deadline=10.0)
        how = Degradation(modes=MODES)
        async with Limiter([LLM], node="a", redis=config, degradation=how) as one:
            slots = [await enter(one)]
            bucket = bucket_of(one)
            name = bucket.store.slots.ledger.name((bucket, bucket.hash(KEY)))
            number = int(nodes[0].call("CLUSTER", "KEYSLOT", name))
            source = next(n for n in nodes if n.call("CLUSTER", "COUNTKEYSINSLOT", number))
            target = next(n for n in nodes if n is not source)
            begin_move(name, number, source, target)
            slots.append(await enter(one))
            end_move(number, nodes, target)
            slots += [await enter(one) for _ in range(2)]
            assert {slot.decision and slot.decision.mode for slot in slots} == {Mode.STRONG}
            assert await denied(one) == "strong"
            assert all(slot.release() for slot in slots)
            await eventually(lambda: not target.call("EXISTS", name))


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_script_and_its_python_model_agree(program: str) -> None:
    timed, redis_key = SLOT_SCRIPT.source, b"crdtbucket:{llm:0}:slots"
    for old, new in REPLACED.items():
        assert timed.count(old) == 1
        timed = timed.replace(old, new)
    ids = st.sampled_from([b"", b"1:1", b"1:2", b"2:1", b"2:2"])
    rows = st.builds(SlotRow, st.sampled_from([b"1:1", b"1:2", b"1:3"]), st.integers(1, 5_000),
                     st.integers(0, 5))  # fmt: skip
    calls = st.tuples(
        st.integers(0, 4_000_000),
        st.integers(1, 3),
        ids,
        st.integers(1, 5_000),
        st.lists(ids.filter(bool), max_size=2, unique=True),
        st.none() | st.lists(rows, max_size=2, unique_by=lambda row: row.id),
        st.sampled_from(["none", "known", "other"]),
    )

    with Server(program=program) as server, contextlib.ExitStack() as stack:
        line = stack.enter_context(contextlib.closing(Line(server)))
        sha = line.ask("SCRIPT", "LOAD", timed)

        # Without shrinking, in which thousands of tries ask a server.
        @settings(max_examples=20, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
        @given(st.lists(calls, min_size=1, max_size=12))
        def agree(history: list[Any]) -> None:
            model, ends = SlotScriptModel(), 0
            line.ask("FLUSHALL")
            for passed, slots, name, ttl, gone, live, kind in history:
                model.now_us += passed
                model.expire()
                if model.now_us // 1000 >= ends:
                    line.ask("DEL", redis_key)
                born = {"none": None, "known": model.born or None, "other": model.born + 1}[kind]
                call = SlotCall(redis_key, slots, born, name, ttl, gone, live)
                second, us = divmod(model.now_us, 1_000_000)
                command = call.command().replace(SLOT_SCRIPT.sha.encode(), sha)
                line.ask("HSET", "test:time", "s", second, "us", us)
                line.ask("DEL", "test:ttl")
                (reply,) = line.talk(command)
                left = line.ask("HGET", "test:ttl", redis_key)
                ends = ends if left is None else model.now_us // 1000 + int(left)
                assert parse_slots(reply) == model.run(call)

        agree()
        line.ask("DEL", redis_key)
        line.ask("HSET", redis_key, "level", "of tokens")
        call = SlotCall(redis_key, 1, None, b"1:1", 1_000)
        with pytest.raises(hiredis.ReplyError, match="CRDTBUCKET field level is no hold"):
            raise line.talk(call.command(source=True))[0]


def test_strong_slots_that_cannot_be_kept_are_refused(tmp_path: Path, server: Server) -> None:
    regions = RedisConfig(url=server.url, active_active=True, regions=("eu", "us"))
    with pytest.raises(InvalidSpec, match=r"a Redis in each region.*consistency: eventual") as one:
        Limiter([LLM], node="a", region="eu", redis=regions)
    assert one.value.field == "consistency"
    with pytest.raises(InvalidSpec, match=r"shares a table.*consistency: eventual"):
        Limiter([LLM], node="a", redis=server.url, shared=tmp_path / "table")
    with pytest.raises(InvalidSpec, match="strong consistency without a Redis"):
        Limiter([LLM], node="a")
