"""The table of keys: finding, removing, the limit, quotas, the order of eviction, sweeping."""

from __future__ import annotations

import random
import time
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtbucket._core import BucketCore, Table
from crdtbucket.spec.bucket_spec import BucketSpec, OnTableFull
from tests.core.pair import Peer, send
from tests.core.specs import SECOND, bucket_of, virtual_table

SPEC = BucketSpec("b", 100, 100)


def clean(table: Table) -> None:
    """Makes the table clean, as after a round that every peer acknowledged."""
    table.outbox.collect()
    table.outbox.trim(table.outbox.version)


class TestIndex:
    def test_two_hundred_thousand_inserts_and_removals(self) -> None:
        """Beside a dict of when each key will be gone; the table is nearly full all the time."""
        size = 2_000
        bucket = BucketCore(virtual_table(size, grace=0.0), SPEC)
        table, rng = bucket.table, random.Random(1)
        full_at: dict[str, int] = {}
        now, made = 0, 0
        while made < 200_000:
            now += SECOND // 20
            table.set_time(now)
            for key in [k for k, t in full_at.items() if t <= now]:
                del full_at[key]
            fresh = [f"{rng.getrandbits(40)}" for _ in range(size - len(full_at))]
            costs = [rng.randint(1, 100) for _ in fresh]
            assert all(bucket.take_many(fresh, costs).allowed)
            full_at.update({k: now + c * SECOND // 100 for k, c in zip(fresh, costs, strict=True)})
            made += len(fresh)
            assert len(table) == size == len(full_at)
            clean(table)
            table.set_time(now + SECOND // 20)
            gone = {k for k, t in full_at.items() if t <= now + SECOND // 20}
            assert table.sweep() == len(gone)
            probes = rng.sample(sorted(full_at), 50)
            assert [bucket.debt(k) is None for k in probes] == [k in gone for k in probes]
        assert made == table.stats()["inserted"]
        for key, at in full_at.items():
            left = bucket.debt(key)
            assert (left is None) == (at <= table.now())
            assert left is None or left == at - table.now()

    @settings(max_examples=60)
    @given(
        steps=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 100)), max_size=150),
        seed=st.integers(0, 2**32),
    )
    def test_a_small_table_keeps_every_key_apart(
        self, steps: list[tuple[int, int]], seed: int
    ) -> None:
        """Runs of neighbours and the wrap at the end: 36 slots, up to 16 keys in them."""
        bucket = BucketCore(virtual_table(16, grace=0.0), SPEC)
        model: dict[str, int] = {}
        now = 0
        for which, cost in steps:
            now += SECOND // 10
            bucket.table.set_time(now)
            bucket.table.sweep()
            model = {k: t for k, t in model.items() if t > now}
            assert len(bucket.table) == len(model)
            key = f"{seed} {which}"
            if len(model) < 16 and bucket.take(key, cost):
                model[key] = max(model.get(key, 0), now) + cost * SECOND // 100
            clean(bucket.table)
            for other in range(31):
                left = bucket.debt(f"{seed} {other}")
                until = model.get(f"{seed} {other}")
                assert left == (None if until is None else until - now)

    def test_a_hash_of_another_table_finds_nothing(self) -> None:
        bucket = bucket_of(SPEC)
        bucket.take("k")
        lo, hi = bucket.hash("k")
        assert bucket.table.find(lo, hi) == 0
        assert bucket.table.find(lo ^ 1, hi) == bucket.table.find(lo, hi ^ 1) == -1
        other = BucketCore(Table(max_keys=16, virtual=True, hash_key=bytes(15) + b"\x01"), SPEC)
        assert other.hash("k") != bucket.hash("k")


class TestAtTheLimit:
    def test_full_and_sent_go_first_then_full_then_the_least_debt(self) -> None:
        bucket = bucket_of(SPEC, 16)
        table = bucket.table
        bucket.take("full, sent", 1)
        clean(table)
        bucket.take("full, not sent", 1)
        table.outbox.collect()
        for i in range(14):
            bucket.take(f"debt {i}", 60 + i)
        table.set_time(SECOND // 10)
        gone = []
        for i in range(6):
            before = set(table.names.values())
            assert bucket.take(f"new {i}", 100)
            gone += [key for _, key in before - set(table.names.values())]
        assert gone == ["full, sent", "full, not sent", "debt 0", "debt 1", "debt 2", "debt 3"]
        stats = table.stats()
        assert (stats["evicted_full"], stats["evicted_indebted"], stats["keys"]) == (2, 4, 16)

    def test_the_key_with_the_least_time_to_full_is_evicted_first(self) -> None:
        table = virtual_table(16)
        fast, slow = BucketCore(table, SPEC), BucketCore(table, BucketSpec("slow", 100, 1))
        slow.take("slow", 2)  # 2 s
        for i in range(15):
            fast.take(f"fast {i}", 100 - i)  # at most 1 s
        fast.take("new", 1)
        assert slow.debt("slow") is not None
        assert fast.debt("fast 14") is None

    def test_a_flood_makes_no_indebted_bucket_forget(self) -> None:
        """Ten thousand new keys beside ten that owe: the flood's own go, oldest debts stay."""
        bucket = bucket_of(BucketSpec("b", 100, 1), 200)
        victims = [f"victim {i}" for i in range(10)]
        for key in victims:
            bucket.take(key, 100)
        for i in range(10_000):
            bucket.take(f"flood {i}", 1)
            if i % 100 == 0:
                bucket.table.outbox.collect()
        for key in victims:
            assert bucket.debt(key) == 100 * SECOND
            assert not bucket.take(key)
        assert len(bucket.table) == 200

    def test_quotas_of_all_buckets_within_the_limit_keep_every_debt(self) -> None:
        """The flood owes as much as the victim. Beside a bucket without a quota it is forgotten."""
        logins = BucketSpec("logins", 5, 1, refill_interval="1h", max_keys=100)
        for quota, forgotten in [(100, 0), (None, 3_800)]:
            table = virtual_table(200)
            bucket = BucketCore(table, logins)
            other = BucketCore(table, BucketSpec("other", 5, 1, "1h", max_keys=quota))
            for i in range(100):
                bucket.take(f"victim {i}", 5)
            for i in range(3_900):
                other.take(f"flood {i}", 5)
            assert table.stats()["evicted_indebted"] == forgotten
            denied = [not bucket.take(f"victim {i}") for i in range(100)]
            assert all(denied) is not bool(forgotten)
            assert not bucket.take("new") or forgotten

    def test_no_indebted_key_is_evicted_while_a_full_one_is_left(self) -> None:
        bucket = bucket_of(SPEC, 250)
        rng = random.Random(2)
        now = 0
        for step in range(3_000):
            now += SECOND // 300
            bucket.table.set_time(now)
            if step % 30 == 0:
                bucket.table.outbox.collect()
            full = sum((bucket.debt(k) or 0) <= 0 for _, k in list(bucket.table.names.values()))
            before = bucket.table.stats()
            bucket.take(f"{step}", rng.randint(1, 100))
            after = bucket.table.stats()
            if after["evicted_indebted"] > before["evicted_indebted"]:
                assert full == 0
        assert after["evicted_full"] > 0

    @pytest.mark.parametrize("who", ["here", "elsewhere"])
    def test_of_full_keys_one_that_is_asked_for_stays(self, who: str) -> None:
        """There is a flood of other keys that are asked for once, in a small table."""
        here, elsewhere = Peer(0, SPEC, max_keys=16), Peer(1, SPEC)
        for i in range(400):
            (here if who == "here" else elsewhere).bucket.take("hot", 1)
            send(elsewhere, here)
            clean(here.table)
            clean(elsewhere.table)
            for one in (here, elsewhere):
                one.table.set_time((i + 1) * SECOND)
            here.bucket.take(f"flood {i}", 1)
            assert here.bucket.debt("hot") is not None
        assert here.table.stats()["evicted_full"] > 300

    def test_an_evicted_key_that_comes_back_is_new(self) -> None:
        bucket = bucket_of(SPEC, 16)
        bucket.take("low", 1)
        for i in range(16):
            bucket.take(f"{i}", 50)
        assert bucket.debt("low") is None
        bucket.take("low", 7)
        assert bucket.columns("low").popitem()[1] == (18, 7, 0)

    def test_attempts_and_flushes_of_the_evicted_vanish(self) -> None:
        bucket = bucket_of(SPEC, 16)
        for i in range(100):
            bucket.take(f"{i}", 5 + i % 90)  # each asks for an early flush
        bucket.table.outbox.collect(True)
        bucket.table.outbox.collect()
        peer = Peer(1, SPEC)
        sender = Peer(0, SPEC, max_keys=16)
        for i in range(100):
            sender.bucket.take(f"{i}", 5 + i % 90)
        assert send(sender, peer).merged == 16


class TestQuota:
    @pytest.mark.parametrize("policy", ["deny", "allow"])
    def test_new_keys_beyond_it_get_the_policy(self, policy: OnTableFull) -> None:
        spec = BucketSpec("b", 100, 100, max_keys=3, on_table_full=policy)
        bucket = bucket_of(spec)
        for i in range(3):
            bucket.take(f"{i}", 10)
        decision = bucket.take("new")
        assert decision.allowed == (policy == "allow")
        assert decision.retry_after == (15.0 if policy == "deny" else 0.0)
        assert list(bucket.take_many(["new", "0"]).allowed) == [int(policy == "allow"), 1]
        assert bucket.settle("new", 5) == 0
        assert bucket.counters()["refused_full"] == bucket.table.stats()["refused_full"] == 3
        assert bucket.debt("new") is None
        assert bucket.take("2", 10)
        assert bucket.refund(decision) == 0 if decision else True

    def test_a_full_key_makes_room_for_a_new_one(self) -> None:
        bucket = bucket_of(BucketSpec("b", 100, 100, max_keys=3))
        for i in range(3):
            bucket.take(f"{i}", 10 * (i + 1))
        bucket.table.set_time(SECOND // 10)
        assert bucket.take("new", 50)
        assert bucket.debt("0") is None
        assert not bucket.take("newer")

    def test_it_is_of_one_bucket_alone(self) -> None:
        table = virtual_table()
        one = BucketCore(table, BucketSpec("b", 100, 100, max_keys=1))
        two = BucketCore(table, BucketSpec("c", 100, 100))
        one.take("a")
        assert not one.take("b")
        for i in range(20):
            assert two.take(f"{i}")
        assert one.counters()["keys"] == 1
        assert two.counters()["keys"] == 20

    def test_few_keys_among_many_others_make_room_at_once(self) -> None:
        """A walk over the whole table for each new key would take longer than a test may."""
        table = virtual_table(300_000)
        few = BucketCore(table, BucketSpec("few", 100, 100, max_keys=3))
        many = BucketCore(table, BucketSpec("many", 100, 1))
        many.take_many([f"{i}" for i in range(300_000 - 3)], 50)
        for i in range(6_000):
            assert few.take(f"{i}", 10)
            table.set_time(table.now() + SECOND // 10)
        assert few.counters()["keys"] == 3
        assert len(table) == 300_000
        table.verify()

    def test_keys_come_under_a_limit_of_their_own_and_leave_it(self) -> None:
        """Those of a definition that was replaced follow one by one."""
        table = virtual_table()
        for turn in range(6):
            most = 4 if turn % 2 else None
            bucket = BucketCore(table, BucketSpec("b", 100 + turn, 100, max_keys=most))
            for i in range(8):
                bucket.take(f"{turn // 2} {i}", 10)
                table.verify()
            table.outbox.collect()
            table.outbox.trim(table.outbox.version)
            table.set_time(table.now() + (60 if turn == 3 else 1) * SECOND)
            for _ in range(len(table)):
                table.sweep(1)
                table.verify()
        assert len(table) == 8

    def test_peers_cannot_fill_it_over(self) -> None:
        spec = BucketSpec("b", 100, 100, max_keys=3)
        a, b = Peer(0, SPEC), Peer(1, spec)
        for i in range(10):
            a.bucket.take(f"{i}", 10)
        merged = send(a, b)
        assert (merged.merged, merged.dropped) == (3, 7)
        assert len(b.table) == 3


class TestSweep:
    def test_only_full_sent_and_idle_keys_go(self) -> None:
        bucket = bucket_of(SPEC)
        table = bucket.table
        bucket.take("k", 10)
        table.set_time(60 * SECOND)
        assert table.sweep() == 0  # an attempt that no round has taken up
        table.outbox.collect()
        table.set_time(120 * SECOND)
        assert table.sweep() == 0  # not acknowledged
        table.outbox.trim(table.outbox.version)
        table.set_time(60 * SECOND + 14 * SECOND)
        assert table.sweep() == 0  # not idle for the grace
        table.set_time(60 * SECOND + 16 * SECOND)
        assert table.sweep() == 1
        assert bucket.columns("k") == {}

    def test_an_indebted_key_is_not_evicted(self) -> None:
        bucket = bucket_of(BucketSpec("b", 100, 1))
        bucket.take("k", 100)
        clean(bucket.table)
        bucket.table.set_time(99 * SECOND)
        assert bucket.table.sweep() == 0
        bucket.table.set_time(100 * SECOND)
        assert bucket.table.sweep() == 1

    def test_it_goes_on_where_it_stopped(self) -> None:
        bucket = bucket_of(SPEC)
        for i in range(30):
            bucket.take(f"{i}")
        clean(bucket.table)
        bucket.table.set_time(60 * SECOND)
        assert [bucket.table.sweep(8) for _ in range(5)] == [8, 8, 8, 6, 0]
        assert len(bucket.table) == 0
        assert bucket.counters()["keys"] == 0

    def test_memory_is_used_again(self) -> None:
        bucket = bucket_of(SPEC)
        for life in range(10):
            bucket.table.set_time(life * 100 * SECOND)
            for i in range(50):
                bucket.take(f"{life} {i}")
            clean(bucket.table)
            bucket.table.set_time(life * 100 * SECOND + 50 * SECOND)
            assert bucket.table.sweep() == 50
        assert bucket.table.places == 50


def test_the_time_is_the_system_s_to_a_millisecond() -> None:
    """However long this process is kept waiting between two instructions."""
    table, asked, last = Table(max_keys=100), 0, 0
    now = partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME)
    end = now() + 300_000_000
    while now() < end:
        before, told, after = now(), table.now(), now()
        assert before - 1_000_000 <= told <= after + 1_000_000
        assert last <= told
        last = told
        asked += 1
    assert asked > 100
