"""A key gets another limit while callers wait for Redis to admit them: tokens and slots."""

from __future__ import annotations

import asyncio

from crdtbucket import BucketSpec, Limiter
from tests.strong.redis_server import Server
from tests.waits import WITHIN_S, eventually

API = BucketSpec("api", 1, 1, "1h", consistency="strong")
LLM, ONE, MANY = (
    BucketSpec.concurrency(name, slots, ttl="60s", consistency="strong")
    for name, slots in (("llm", 2), ("one", 1), ("many", 3))
)


async def test_who_waits_goes_by_the_limit_of_the_moment() -> None:
    with Server() as server:
        async with Limiter([API, LLM, ONE, MANY], node="eu-1", **server.patient()) as limiter:
            api, llm = limiter.bucket("api"), limiter.bucket("llm")
            limiter.overrides.set("api", "k", "2/h")
            assert [bool(await api.acquire("k")) for _ in range(3)] == [True, True, False]
            calls = [asyncio.create_task(api.wait("k")) for _ in range(3)]
            limiter.overrides.set("llm", "k", "one")
            first = await llm.slot("k").__aenter__()
            slots = [
                asyncio.create_task(llm.slot("k", timeout=None).__aenter__()) for _ in range(4)
            ]
            await asyncio.sleep(0.1)
            assert not any(one.done() for one in calls + slots)
            limiter.overrides.set("api", "k", "1000/s")
            limiter.overrides.set("llm", "k", "many")
            await asyncio.wait_for(asyncio.gather(*calls), WITHIN_S)
            held = await asyncio.wait_for(asyncio.gather(*slots[:3]), WITHIN_S)
            assert {one.bucket for one in held} == {llm.of("k")}
            first.release()  # it counts under the limit of one, for which nobody waits any more
            assert not slots[3].done()
            held[0].release()
            for one in (*held[1:], await slots[3]):
                one.release()
            await eventually(lambda: llm.of("k").open_slots == 0)


async def test_a_slot_entered_after_its_key_got_another_limit_is_free_once_it_ends() -> None:
    with Server() as server:
        longer = BucketSpec.concurrency("longer", 3, ttl="1h", consistency="strong")
        async with Limiter([LLM, longer], node="eu-1", **server.patient()) as limiter:
            llm = limiter.bucket("llm")
            slot, short = llm.slot("k"), llm.slot("k", ttl=5)
            limiter.overrides.set("llm", "k", "longer")
            async with slot, short:
                assert {one.bucket for one in (slot, short)} == {llm.of("k")}
                assert [one.ttl_ns for one in (slot, short)] == [3_600 * 10**9, 5 * 10**9]
                assert (llm.of("k").open_slots, llm.held("k"), llm.open_slots) == (2, 2, 0)
            assert (llm.of("k").open_slots, llm.held("k")) == (0, 0)
