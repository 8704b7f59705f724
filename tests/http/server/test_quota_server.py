"""The tokens that Envoys are assigned, and what they admit with these, in virtual time."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.http.server.quota_subscription import QuotaUsage
from crdtbucket.spec.descriptor_rule import DescriptorRule
from crdtbucket.spec.priority import Floor
from tests.http.server.envoys import (
    RULES,
    SimulatedEnvoy,
    VirtualNode,
    api,
    assigned,
    bucket_id,
    most_above,
    run,
)

# -- the bound of docs/proxies.md


@given(
    st.integers(4, 120),
    st.integers(1, 30),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80)), min_size=1, max_size=4),
    st.sampled_from([1.0, 5.0, 7.3]),
    st.integers(0, 2**32),
)
async def test_envoys_admit_the_capacity_the_refill_and_half_a_capacity_at_most(
    capacity: int, rate: int, demands: list[tuple[int, int]], interval: float, seed: int
) -> None:
    """Each Envoy has one demand for some seconds, then another; one of them loses its stream."""
    node = VirtualNode(api(capacity, rate))
    envoys = [
        SimulatedEnvoy(
            node,
            rate=lambda t, two=two: two[t > 6],
            interval=interval,
            seed=seed + number,  # type: ignore[misc]
        )
        for number, two in enumerate(demands)
    ]
    passed = await run(node, envoys, 9)
    held = envoys[0].action.tokens or 0 if envoys[0].action is not None else 0
    envoys[0].disconnect()
    passed += await run(node, envoys, 2)
    envoys[0].reconnect()
    passed += await run(node, envoys, 4)
    unassigned = sum(one.unassigned for one in envoys)
    assert sum(passed) <= capacity + rate * 15 + unassigned
    assert most_above(passed, rate) <= capacity + max(capacity // 2, 1) + held + unassigned


async def test_an_envoy_in_need_gets_what_others_do_not_hold_of_half_the_capacity() -> None:
    node = VirtualNode(api(100, 10))
    idle, hot = SimulatedEnvoy(node), SimulatedEnvoy(node)
    await assigned(node, idle)
    node.table.set_time(node.now + 10**9)
    await assigned(node, hot)
    hot.denied = 1_000
    hot.report()
    await node.tick(1)
    idle.read()
    hot.read()
    assert idle.action is not None
    assert hot.action is not None
    held = idle.action.tokens or 0
    assert (held > 1, hot.action.tokens) == (True, 50 - held)


async def test_what_idle_envoys_hold_is_half_the_capacity_in_all() -> None:
    node = VirtualNode(api(100, 100))
    envoys = [SimulatedEnvoy(node, interval=1_000, seed=seed) for seed in range(30)]
    for coming in envoys:  # the bucket is full again whenever one comes
        coming.request()
        await node.tick(1)
        for one in envoys:
            one.read()
    node.table.set_time(node.now + 10**9)
    assert node.left() == 100
    assert sum(one.action.tokens or 0 for one in envoys if one.action is not None) == 50
    before = sum(one.total for one in envoys)
    for one in envoys:
        while one.request():
            pass
    assert sum(one.total for one in envoys) - before == 50


@pytest.mark.parametrize(("capacity", "idle"), [(10, 5), (10, 8), (100, 40)])
async def test_idle_envoys_do_not_starve_one_in_need(capacity: int, idle: int) -> None:
    node = VirtualNode(api(capacity, capacity))
    envoys = [SimulatedEnvoy(node, seed=seed) for seed in range(idle)]
    for coming in envoys:  # each is assigned some of a full bucket
        coming.request()
        await run(node, envoys, 1)
    hot = SimulatedEnvoy(node, rate=lambda _: 10 * capacity)
    await run(node, [*envoys, hot], 6)
    before, refill = hot.total, 20 * capacity
    await run(node, [*envoys, hot], 20)
    assert hot.total - before >= 0.3 * refill


@pytest.mark.parametrize(
    ("capacity", "demands"), [(100, (200, 200)), (1_000, (300, 100)), (40, (90, 20))]
)
async def test_envoys_in_need_get_all_that_there_is_by_what_each_asks_for(
    capacity: int, demands: tuple[int, int]
) -> None:
    node = VirtualNode(api(capacity, 100))
    pair = [SimulatedEnvoy(node, rate=lambda _, one=one: one) for one in demands]  # type: ignore[misc]
    await run(node, pair, 10)
    before = [one.total for one in pair]
    passed = await run(node, pair, 30)
    assert sum(passed) >= 0.95 * 30 * 100
    got = [one.total - past for one, past in zip(pair, before, strict=True)]
    assert got[0] / sum(got) == pytest.approx(demands[0] / sum(demands), abs=0.05)


async def test_envoys_under_the_limit_are_denied_next_to_nothing() -> None:
    node = VirtualNode(api(100, 100))
    pair = [SimulatedEnvoy(node, rate=lambda _: 30, seed=seed) for seed in (1, 2)]
    await run(node, pair, 60)
    assert sum(one.refused for one in pair) <= 0.01 * sum(one.total for one in pair)


# -- what is charged


async def test_an_assignment_is_paid_for_and_what_it_leaves_comes_back() -> None:
    node = VirtualNode(api(100, 1))
    envoy = SimulatedEnvoy(node)
    tokens = await assigned(node, envoy)
    assert tokens > 1
    assert node.left() == 100 - 1 - tokens  # the first request, too
    for _ in range(3):
        assert envoy.request()
    node.table.set_time(node.now + 2 * 10**9)
    envoy.report()
    assert node.left() == 100 + 2 - 1 - tokens  # the rest may still be used
    assert node.weighed == [("u", 1, True), ("u", 3, True)]
    node.server.report(envoy.stream, "", [QuotaUsage(envoy.id, 0, 400)])
    await node.tick(1)
    envoy.read()
    assert envoy.action is not None
    more = envoy.action.tokens
    assert more is not None
    await node.tick(2)
    before = node.left()
    envoy.report()
    assert node.left() == before + tokens - 3  # of the one that was replaced


async def test_what_passes_without_an_assignment_is_charged_into_debt() -> None:
    node = VirtualNode(api(10, 1))
    envoy = SimulatedEnvoy(node)
    for _ in range(14):
        assert envoy.request()
    envoy.report()
    assert node.left() == 0
    assert node.limiter.bucket("api").peek("u").retry_after == pytest.approx(5)
    await node.tick()
    envoy.read()
    assert not envoy.request()  # nothing is left, which the server sends at once


async def test_what_a_lost_stream_has_not_reported_stays_charged() -> None:
    node = VirtualNode(api(100, 1))
    envoy = SimulatedEnvoy(node, fallback=4)
    tokens = await assigned(node, envoy)
    envoy.disconnect()
    assert node.left() == 100 - 1 - tokens
    assert node.server.subscriptions == 0
    assert [envoy.request() for _ in range(tokens + 1)] == [True] * tokens + [False]
    await node.tick(31)  # then Envoy goes by expired_assignment_behavior
    assert [envoy.request() for _ in range(6)] == [True] * 4 + [False] * 2
    envoy.reconnect()
    before = node.left()
    envoy.report()  # nobody can know that a part of this is paid
    assert node.left() == before - tokens - 4
    await node.tick()
    envoy.read()
    assert envoy.request()


async def test_a_node_that_was_restarted_goes_on_with_envoys_that_have_assignments() -> None:
    node = VirtualNode(api(100, 1))
    envoy = SimulatedEnvoy(node)
    tokens = await assigned(node, envoy)
    assert envoy.request()
    again = VirtualNode(api(100, 1))
    envoy.node, envoy.stream = again, again.server.open()
    envoy.report()
    await again.tick()
    assert again.left() <= 100 - 1 - tokens
    action = envoy.stream.sent()[0]
    assert not action.extends


# -- rules


async def test_a_bucket_id_is_what_a_descriptor_is_in_any_order() -> None:
    rule = DescriptorRule("api", (("user", None), ("route", "api"), ("tenant", None)))
    node = VirtualNode(api(), rules=[rule])
    stream = node.server.open()
    names = {b"tenant": b"t/1", b"user": b"\xff", b"route": b"api"}
    node.server.report(stream, "any", [QuotaUsage(tuple(sorted(names.items())), 7)])
    assert node.left("\\xff/t%2F1") == 93
    assert rule.key_of("any", {"user": "u", "route": "api"}) is None
    assert rule.key_of("any", {"user": "u", "route": "web", "tenant": "t"}) is None
    twice = DescriptorRule("api", (("user", None), ("user", None)))
    assert twice.key_of("any", {"user": "u", "route": "api"}) is None


async def test_what_no_rule_is_about_is_not_limited_until_one_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = VirtualNode(api(10, 1), rules=())
    envoy = SimulatedEnvoy(node)
    with caplog.at_level(logging.WARNING):
        envoy.request()
        await node.tick()
    assert "[route, user] of the domain 'edge'" in caplog.text
    envoy.read()
    assert all(envoy.request() for _ in range(50))
    assert node.left() == 10
    assert node.server.requests["", "OK"] == 1
    node.rules(RULES)  # a reload, with the stream open
    await node.tick(1)
    envoy.read()
    envoy.report()
    assert node.left() == 0
    assert node.server.requests["api", "OK"] == 50
    node.rules(())
    await node.tick(1)
    envoy.read()
    assert all(envoy.request() for _ in range(50))


async def test_a_shadow_admits_all_and_is_charged() -> None:
    node = VirtualNode(api(10, 1, shadow=True))
    envoy = SimulatedEnvoy(node)
    envoy.request()
    await node.tick()
    envoy.read()
    assert all(envoy.request() for _ in range(50))
    envoy.report()
    assert node.left() == 0


# -- floors


@pytest.mark.parametrize(("floor", "kept"), [("batch", 50), (0.9, 90), ("smooth", 0)])
async def test_a_floor_is_left_to_more_important_callers(floor: Floor, kept: int) -> None:
    rules = [DescriptorRule("api", RULES[0].entries, "edge", floor=floor)]
    node = VirtualNode(api(100, 20), rules=rules)
    pair = [SimulatedEnvoy(node, rate=lambda _: 100, seed=seed) for seed in (1, 2)]
    for _ in range(20):
        await run(node, pair, 0.5)
        # Not what came before the first answer: an Envoy admits that by itself.
        assert node.left() >= kept - sum(one.unassigned for one in pair)
    assert sum(one.total for one in pair) >= 0.8 * 10 * 20  # of the refill


async def test_a_floor_that_leaves_nothing_is_an_assignment_of_nothing() -> None:
    node = VirtualNode(
        api(1, 1), rules=[DescriptorRule("api", RULES[0].entries, "edge", floor="batch")]
    )
    envoy = SimulatedEnvoy(node, rate=lambda _: 10)
    await run(node, [envoy], 8)
    assert envoy.total == envoy.unassigned


async def test_one_key_with_two_floors_is_two_priorities() -> None:
    entries = RULES[0].entries
    batch = (("route", "batch"), entries[1])
    rules = [*RULES, DescriptorRule("api", batch, "edge", floor="batch")]
    node = VirtualNode(api(100, 1), rules=rules)
    first, second = SimulatedEnvoy(node, rate=lambda _: 20), SimulatedEnvoy(node, rate=lambda _: 20)
    second.id = bucket_id(route="batch")
    await run(node, [first, second], 20)
    assert first.total > 2 * second.total
    assert first.total + second.total <= 100 + 20 + 2
