"""Envoys that leave, are idle, do not read, or report what no Envoy does."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from crdtbucket import BucketSpec
from crdtbucket._core import Decision
from crdtbucket.errors import CrdtbucketError
from crdtbucket.http.server import quota_group, quota_schedule, quota_server
from crdtbucket.http.server.quota_server import MAX_STREAMS
from crdtbucket.http.server.quota_subscription import (
    AT_ONCE,
    QuotaAction,
    QuotaStream,
    QuotaUsage,
)
from crdtbucket.http.server.refusal import Refusal
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.spec.descriptor_rule import DescriptorRule
from tests.http.server.envoys import (
    RULES,
    SimulatedEnvoy,
    VirtualNode,
    api,
    assigned,
    bucket_id,
    run,
)


async def test_assignments_are_extended_and_idle_ones_abandoned() -> None:
    node = VirtualNode(api())
    envoy = SimulatedEnvoy(node)
    tokens = await assigned(node, envoy)
    await run(node, [envoy], 45)
    assert envoy.request()  # it is still in force, after more than 30 s
    assert envoy.action is not None
    await run(node, [envoy], 75)
    assert (envoy.action, envoy.known) == (None, False)
    assert node.server.subscriptions == 0
    assert node.due is None
    assert tokens <= 25


async def test_an_envoy_that_reports_nothing_is_assigned_nothing_more() -> None:
    node = VirtualNode(api(100, 10))
    envoy = SimulatedEnvoy(node, rate=lambda t: 40 * (t < 118), interval=1_000)
    await run(node, [envoy], 60)
    before = envoy.total
    await run(node, [envoy], 58)
    assert envoy.total - before <= 10
    await run(node, [envoy], 5)
    assert node.server.subscriptions == 0


async def test_an_envoy_that_does_not_read_is_assigned_once() -> None:
    node = VirtualNode(api(100, 10))
    stream = node.server.open()
    node.server.report(stream, "edge", [QuotaUsage(bucket_id())])
    await node.tick()
    action = stream.unsent[bucket_id()]
    for _ in range(50):
        node.server.report(stream, "edge", [QuotaUsage(bucket_id(), 0, 1_000)])
        await node.tick(1)
    assert stream.unsent == {bucket_id(): action}
    assert node.left() == 100


async def test_tokens_for_an_envoy_that_has_gone_meanwhile_come_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    node = VirtualNode(api(100, 1))
    envoy = SimulatedEnvoy(node)
    taken, begun, go_on = quota_group._taken, asyncio.Event(), asyncio.Event()

    async def slow(bucket: Bucket, key: str, tokens: int, *floor: Any) -> Decision:
        decision = await taken(bucket, key, tokens, *floor)
        begun.set()
        await go_on.wait()
        return decision

    monkeypatch.setattr(quota_group, "_taken", slow)
    envoy.request()
    ticking = asyncio.ensure_future(node.tick())
    await begun.wait()
    assert node.left() < 99
    envoy.disconnect()
    go_on.set()
    await ticking
    assert node.left() == 99
    assert not caplog.records


async def test_tokens_for_a_bucket_id_that_is_of_another_key_meanwhile_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = VirtualNode(api(100, 1))
    envoy = SimulatedEnvoy(node)
    taken = quota_group._taken

    async def slow(bucket: Bucket, key: str, tokens: int, *floor: Any) -> Decision:
        decision = await taken(bucket, key, tokens, *floor)
        node.rules(())  # a reload
        envoy.report()
        return decision

    monkeypatch.setattr(quota_group, "_taken", slow)
    envoy.request()
    await node.tick()
    assert node.left() == 99
    await node.tick(1)
    (action,) = envoy.stream.sent()
    assert action.tokens is None


async def test_an_assignment_replaces_the_last_one_only_once_it_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = VirtualNode(api(100, 1))
    envoy = SimulatedEnvoy(node)
    tokens = await assigned(node, envoy)
    taken = quota_group._taken

    async def slow(bucket: Bucket, key: str, cost: int, *floor: Any) -> Decision:
        node.table.set_time(node.now + 2 * 10**9)
        return await taken(bucket, key, cost, *floor)

    monkeypatch.setattr(quota_group, "_taken", slow)
    envoy.denied = 400
    envoy.report()
    await node.tick(1)
    before = node.left()
    envoy.report()  # the Envoy has not read the new one
    assert node.left() == before
    envoy.read()
    node.table.set_time(node.now + 10**9)
    before = node.left()
    envoy.report()
    assert node.left() == before + tokens


async def test_a_key_that_cannot_be_decided_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    node = VirtualNode(api(100, 1))
    taken = quota_group._taken

    async def fails(bucket: Bucket, key: str, tokens: int, *floor: Any) -> Decision:
        if key == "bad":
            raise CrdtbucketError("planted")
        return await taken(bucket, key, tokens, *floor)

    monkeypatch.setattr(quota_group, "_taken", fails)
    stream = node.server.open()
    usages = [QuotaUsage(bucket_id(user)) for user in ("bad", "good")]
    node.server.report(stream, "edge", usages)
    for _ in range(3):
        await node.tick(1)
    assert [one.getMessage() for one in caplog.records] == [
        "nothing can be assigned of bucket api now: planted"
    ]
    assert list(stream.unsent) == [bucket_id("good")]
    monkeypatch.undo()
    await node.tick(2)
    assert len(stream.unsent) == 2


async def test_a_store_that_never_answers_about_one_key_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = VirtualNode(api(100, 1))
    taken, asked, answer = quota_group._taken, [], asyncio.Event()

    async def slow(bucket: Bucket, key: str, tokens: int, *floor: Any) -> Decision:
        asked.append(key)
        if key == "slow":
            await answer.wait()
        return await taken(bucket, key, tokens, *floor)

    monkeypatch.setattr(quota_group, "_taken", slow)
    stream = node.server.open()
    usages = [QuotaUsage(bucket_id(user)) for user in ("slow", "good", "other")]
    node.server.report(stream, "edge", usages[:2])
    for _ in range(3):
        node.server.report(stream, "edge", usages)
        node.table.set_time(node.now + 10**9)
        node.server.tick()
        for _ in range(10):
            await asyncio.sleep(0)
    assert list(stream.unsent) == [bucket_id("good"), bucket_id("other")]
    assert asked.count("slow") == 1  # it is asked once at a time
    answer.set()
    await node.settle()
    assert stream.unsent[bucket_id("slow")].tokens
    node.server.report(stream, "edge", [QuotaUsage(bucket_id("slow"), 0, 1_000)])
    stream.sent()
    await node.tick(1)
    assert asked.count("slow") == 2  # and again, as what came meanwhile was not forgotten
    stream.sent()
    answer.clear()
    running = asyncio.ensure_future(node.server.run())
    node.server.report(stream, "edge", [QuotaUsage(bucket_id("slow"), 0, 9_000)])
    node.table.set_time(node.now + 10**9)
    for _ in range(100):
        await asyncio.sleep(0)
    assert asked.count("slow") == 3
    running.cancel()
    await asyncio.wait([running], timeout=60)
    assert not node.server.schedule.assigning


async def test_a_store_is_asked_about_so_many_keys_at_a_time_and_other_buckets_do_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quota_schedule, "AT_ONCE", 3)
    rules = (*RULES, DescriptorRule("local", (("route", "web"), ("user", None)), "edge"))
    node = VirtualNode(api(100, 1), BucketSpec("local", 100, 1, "1s"), rules=rules)
    taken, asked, answer = quota_group._taken, [], asyncio.Event()

    async def slow(bucket: Bucket, key: str, tokens: int, *floor: Any) -> Decision:
        asked.append(key)
        if bucket.spec.name == "api":
            await answer.wait()
        return await taken(bucket, key, tokens, *floor)

    async def ticked() -> None:
        for _ in range(4):
            node.server.tick()
            for _ in range(10):
                await asyncio.sleep(0)

    monkeypatch.setattr(quota_group, "_taken", slow)
    stream, users = node.server.open(), [f"u{n}" for n in range(8)]
    node.server.report(stream, "edge", [QuotaUsage(bucket_id(user)) for user in users])
    node.server.report(stream, "edge", [QuotaUsage(bucket_id("w", "web"))])
    await ticked()
    assert asked == ["u0", "u1", "u2", "w"]
    assert list(stream.unsent) == [bucket_id("w", "web")]
    gone = node.server.open()
    node.server.report(gone, "edge", [QuotaUsage(bucket_id("gone"))])
    await ticked()
    node.server.close(gone)
    answer.set()
    await node.settle()
    assert sorted(asked) == [*users, "w"]
    assert len(stream.unsent) == 9


@pytest.mark.parametrize("again", [False, True])
async def test_a_reload_is_followed_some_ids_at_a_time(*, again: bool) -> None:
    node = VirtualNode(api(), BucketSpec("other", 100, 10, "1s"))
    stream, users = node.server.open(), [f"u{n}" for n in range(3 * AT_ONCE)]
    node.server.report(stream, "edge", [QuotaUsage(bucket_id(user)) for user in users])
    while node.due is None or node.due <= node.now:
        await node.tick()

    def places() -> Counter[str]:
        return Counter(group.place.bucket for group in node.server._group_of.values())

    async def moved(bucket: str) -> None:
        node.rules([replace(RULES[0], bucket=bucket)])
        await node.tick()

    await moved("other")
    assert places() == {"api": 2 * AT_ONCE, "other": AT_ONCE}
    if again:
        await moved("api")  # of the next ones, which are there yet
        assert places() == {"api": 2 * AT_ONCE, "other": AT_ONCE}
    # What comes meanwhile, and what is looked at, is followed at once.
    last, bucket = users[-1], "api" if again else "other"
    node.server.report(stream, "edge", [QuotaUsage(bucket_id(last), 7)])
    assert node.limiter.bucket(bucket).peek(last).remaining == (75 if again else 93)
    node.server.report(stream, "edge", [QuotaUsage(bucket_id("new"), 5)])
    assert node.limiter.bucket(bucket).peek("new").remaining == 95
    ticks = 0
    while node.due is None or node.due <= node.now or ticks < 2:
        await node.tick()
        ticks += 1
    assert places() == {bucket: len(users) + 1}
    assert ticks <= 12
    assert all(0 < (action.tokens or 0) <= 25 for action in stream.sent())
    node.server.close(stream)
    assert not places()


async def test_a_key_whose_bucket_is_gone_is_followed_before_it_is_assigned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = VirtualNode(api(), BucketSpec("other", 100, 10, "1s"))
    stream, users = node.server.open(), [f"u{n}" for n in range(2 * AT_ONCE)]
    node.server.report(stream, "edge", [QuotaUsage(bucket_id(user)) for user in users])
    node.seen.bucket = {"other": node.limiter.bucket("other")}.__getitem__
    node.rules([replace(RULES[0], bucket="other")])
    await node.tick()
    await node.tick()
    assert {group.place.bucket for group in node.server._group_of.values()} == {"other"}
    for _ in range(4):
        await node.tick(0.1)
    assert len(stream.unsent) == len(users)
    assert not caplog.records


async def test_a_bug_of_a_tick_is_logged_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    node, ticked = VirtualNode(api()), asyncio.Event()

    def tick() -> int | None:
        if not caplog.records:
            raise ZeroDivisionError
        ticked.set()
        return None

    monkeypatch.setattr(node.server, "tick", tick)
    monkeypatch.setattr(quota_schedule, "LONGEST_NS", 0)
    running = asyncio.ensure_future(node.server.run())
    await asyncio.wait_for(ticked.wait(), 60)
    running.cancel()
    assert "a bug in what is assigned to Envoys" in caplog.text


@pytest.mark.parametrize("turns", range(8))
async def test_ticks_end_when_they_are_cancelled_at_whatever_moment(turns: int) -> None:
    node = VirtualNode(api())
    SimulatedEnvoy(node).request()
    running = asyncio.ensure_future(node.server.run())
    for _ in range(20):
        await asyncio.sleep(0)
    node.server.schedule.sooner.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running], timeout=20)
    assert running.cancelled()


def test_what_is_to_be_sent_is_handed_over_in_parts() -> None:
    stream = QuotaStream()
    actions = [QuotaAction(bucket_id(f"u{n}"), n) for n in range(5)]
    for one in actions:
        stream.put(one)
    assert stream.sent(2) == actions[:2]
    assert stream.ready.is_set()
    assert stream.sent(3) == actions[2:]
    assert (stream.ready.is_set(), stream.sent()) == (False, [])


# -- hostile reports


@pytest.mark.parametrize("allowed", [2**64 - 1, 2**63])
async def test_no_number_of_a_report_breaks_anything(allowed: int) -> None:
    node = VirtualNode(api(100, 10), BucketSpec("other", 5, 1, "1s"))
    bad, good = SimulatedEnvoy(node), SimulatedEnvoy(node, rate=lambda _: 5)
    good.id = bucket_id("v")
    await run(node, [bad, good], 8)
    for denied in (0, allowed):
        node.server.report(bad.stream, "edge", [QuotaUsage(bucket_id(), allowed, denied)] * 2)
        await node.tick(1)
    assert node.limiter.bucket("api").peek("u").retry_after <= 20.1  # max_debt and a token
    await run(node, [good], 22)
    assert node.limiter.bucket("api").peek("u").retry_after == 0
    node.server.report(bad.stream, "edge", [QuotaUsage(bucket_id(), 0, allowed)])
    await run(node, [bad, good], 3)
    assert bad.action is not None
    assert 0 < (bad.action.tokens or 0) <= 50
    assert good.refused <= 2


async def test_bucket_ids_are_bounded_and_further_ones_denied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quota_server, "MAX_BUCKET_IDS", 20)
    monkeypatch.setattr(quota_server, "MAX_ID_BYTES", 4_000)
    node = VirtualNode(api())
    stream, other = node.server.open(), node.server.open()
    node.server.report(stream, "edge", [QuotaUsage(bucket_id(f"u{n}"), 2) for n in range(60)])
    assert (len(stream.ids), node.server.subscriptions) == (20, 20)
    assert node.left("u59") == 98  # what it reports is charged
    assert [(one.tokens, one.abandon) for one in stream.sent()] == [(0, False)] * 20
    node.server.report(stream, "edge", [QuotaUsage(bucket_id("u59"))])
    assert stream.sent()[0].abandon  # no request came, so that Envoy can do without it
    node.server.report(other, "edge", [QuotaUsage(bucket_id("u59"))])
    await node.tick()
    assert other.sent()[0].tokens
    for user in ("", "x" * 2_000, "y" * 2_000):
        node.server.report(other, "edge", [QuotaUsage(bucket_id(user), 0, 1)])
    assert [one.tokens for one in other.sent()] == [0]
    assert len(other.ids) == 3
    node.server.close(stream)
    node.server.close(other)
    assert node.server.subscriptions == 0
    assert (stream.id_bytes, other.id_bytes) == (0, 0)


async def test_reports_that_say_nothing_are_refused_or_passed_over() -> None:
    node = VirtualNode(api())
    stream = node.server.open()
    with pytest.raises(Refusal, match="domain: is empty"):
        node.server.report(stream, "", [])
    node.server.report(stream, "edge", [QuotaUsage((), 5, 5)])
    assert node.server.subscriptions == 0
    for _ in range(MAX_STREAMS - 1):
        node.server.open()
    with pytest.raises(Refusal, match=f"there are {MAX_STREAMS} streams already"):
        node.server.open()
