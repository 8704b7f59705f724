"""One table and many threads: nothing is lost, nothing is granted twice."""

from __future__ import annotations

import random
import threading
from array import array
from collections import Counter
from collections.abc import Callable

import pytest

from crdtbucket._core import BucketCore
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.core.pair import NOWHERE, ORIGINS, Peer
from tests.core.specs import SECOND, bucket_of, virtual_table
from tests.threads import running

NOTHING = array("H", [NOWHERE]) * ORIGINS
KEYS = [f"key {i}" for i in range(40)]
ROUNDS = 30


class Totals:
    """Tokens granted by key, from any thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.granted: Counter[str] = Counter()

    def add(self, granted: Counter[str]) -> None:
        with self.lock:
            self.granted += granted


def taking(bucket: BucketCore, totals: Totals, seed: int, many: bool) -> Callable[[], None]:
    def work() -> None:
        rng, mine = random.Random(seed), Counter[str]()
        for _ in range(ROUNDS):
            keys = [rng.choice(KEYS) for _ in range(1_000)]
            costs = [rng.randint(1, 9) for _ in keys]
            if many:
                allowed = list(bucket.take_many(keys, costs).allowed)
            else:
                allowed = [bool(bucket.take(k, c)) for k, c in zip(keys, costs, strict=True)]
            for key, cost, passed in zip(keys, costs, allowed, strict=True):
                mine[key] += cost * passed
        totals.add(mine)

    return work


@pytest.mark.parametrize("rate", ["1", "3"])
def test_all_that_is_granted_is_counted_and_no_more_than_there_is(rate: str) -> None:
    """With p = 3 every take goes the exact way, with p = 1 the short one."""
    spec = BucketSpec("b", 12_000, int(rate), "1h", max_debt=0)
    bucket, totals = bucket_of(spec), Totals()
    work = [taking(bucket, totals, seed, many=seed < 4) for seed in range(6)]
    with running(*work):
        pass
    for key in KEYS:
        ((_, taken, refunded),) = bucket.columns(key).values()
        assert (taken, refunded) == (totals.granted[key], 0)
        assert taken <= 12_000
        assert bucket.debt(key) == -(-taken * 3_600 * SECOND // int(rate))
    assert bucket.counters()["granted"] == totals.granted.total()
    assert bucket.counters()["allowed"] + bucket.counters()["denied"] == 6 * ROUNDS * 1_000
    assert totals.granted.total() > 39 * 11_900  # most were emptied


def test_takes_beside_merges_rounds_refunds_and_sweeps() -> None:
    spec = BucketSpec("b", 1_000_000, 1, "1m")
    here, there = Peer(0, spec, grace=0.0), Peer(1, spec)
    bucket, table, totals = here.bucket, here.table, Totals()
    rng = random.Random(9)
    for key in KEYS + [f"theirs {i}" for i in range(24)]:
        there.bucket.take(key, 100)
    there.table.outbox.collect()
    frames, after = [], 0
    for _ in range(20):
        frames.append(there.payload(after))
        there.bucket.take_many(KEYS, [rng.randint(1, 5) for _ in KEYS])
        after = there.table.outbox.version
        there.table.outbox.collect()
    frames.append(there.payload())
    _, places = there.announced()
    ids, definitions = here.understood(places), there.definitions_for(here)
    given = Counter[str]()

    def merging() -> None:
        for _ in range(10):
            for frame in frames:
                table.inbox.merge(frame, definitions, ids, node=2, epoch=there.epoch, at=0)

    def housekeeping() -> None:
        for _ in range(200):
            table.outbox.collect()
            table.outbox.encode_log(0, table.outbox.version, here.announced()[0], 1 << 18)
            table.outbox.digest(0, 2**64 - 1, all_entries=True)
            table.outbox.trim(table.outbox.version)
            assert table.sweep() == 0

    def refunding() -> None:
        for i in range(2_000):
            key = KEYS[i % 40]
            back = bucket.refund(bucket.take(key, 7), 3)
            assert back == 3
            totals.add(Counter({key: 7}))
            given[key] += back

    work = [taking(bucket, totals, seed, many=True) for seed in range(2)]
    with running(*work, merging, housekeeping, refunding):
        pass
    for key in KEYS:
        found = {epoch: (p, n) for (_, epoch), (_, p, n) in bucket.columns(key).items()}
        mine, theirs = found[here.epoch], found[there.epoch]
        assert mine == (totals.granted[key], given[key])
        ((_, known, _),) = there.bucket.columns(key).values()
        assert theirs == (known, 0)
        net = mine[0] - mine[1] + theirs[0]
        # What a peer states and what is counted lie on either side of takes in between.
        assert bucket.peek(key).remaining == 1_000_000 - net
    assert {len(bucket.columns(f"theirs {i}")) for i in range(24)} == {1}


def test_new_keys_at_the_limit_from_many_threads() -> None:
    """Entries come and go under bulk calls; a key that is held is always found."""
    spec = BucketSpec("b", 100, 100)
    bucket = BucketCore(virtual_table(64, grace=0.0), spec)
    table = bucket.table
    bucket.settle("owes", 200)

    def flooding(seed: int) -> Callable[[], None]:
        def work() -> None:
            rng = random.Random(seed)
            for _ in range(100):
                keys = ["owes", *(f"{rng.getrandbits(30)}" for _ in range(50))]
                allowed = bucket.take_many(keys).allowed
                assert not allowed[0]
                assert all(allowed[1:])

        return work

    def sweeping() -> None:
        for _ in range(300):
            table.outbox.collect()
            table.outbox.encode_log(0, table.outbox.version, NOTHING, 1 << 16)
            table.outbox.trim(table.outbox.version)
            table.sweep()

    with running(*(flooding(seed) for seed in range(3)), sweeping):
        pass
    assert len(table) == 64
    assert bucket.debt("owes") == 2 * SECOND
    held = [key for _, key in table.names.values()]
    assert len(held) == len(set(held)) == 64
    assert all(table.find(*bucket.hash(key)) >= 0 for key in held)


def test_definitions_and_epochs_change_under_takes() -> None:
    spec = BucketSpec("b", 1_000_000, 1, "1m")
    bucket, totals = bucket_of(spec), Totals()

    def changing() -> None:
        for i in range(100):
            bucket.table.epochs.open(1_000 + i)
            bucket.define(BucketSpec("b", 1_000_000 + i, 1, "1m"))

    with running(*(taking(bucket, totals, s, many=s < 2) for s in range(3)), changing):
        pass
    for key in KEYS:
        columns = bucket.columns(key)
        assert sum(p for _, p, _ in columns.values()) == totals.granted[key]
        assert bucket.peek(key).reset_after == totals.granted[key] * 60.0
