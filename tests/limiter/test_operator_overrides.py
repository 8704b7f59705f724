"""Limits that operators give to keys while a limiter works: which hold, on which nodes, and for how
long."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from crdtbucket import (
    AskedOverrides,
    Bucket,
    BucketSpec,
    InvalidKey,
    InvalidSpec,
    Limiter,
    MeshConfig,
    MeshError,
    RedisConfig,
    UnknownBucket,
)
from crdtbucket.base.clock import WallClock
from crdtbucket.config import Config
from crdtbucket.limiter import facade
from crdtbucket.limiter.outside_limits import MAX_LIMITS
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.mesh.links.override_book import no_room
from crdtbucket.mesh.links.override_orders import OverrideOrder
from tests.base.test_fork_lock import Holder
from tests.virtual_loop import VirtualTime

API = BucketSpec("api", 10, 1, overrides=[("gold-*", BucketSpec("x", 20, 1))])
PREMIUM = BucketSpec("premium", 40, 2)
SEND = {"send": False}
BOUND_S = 20.0


@pytest.fixture
def limiter(time: VirtualTime) -> Limiter:
    return Limiter([API, PREMIUM], _table=time.table)


@pytest.fixture
def bucket(limiter: Limiter) -> Bucket:
    return limiter.bucket("api")


def test_a_key_has_the_limit_that_an_operator_gives(limiter: Limiter, bucket: Bucket) -> None:
    given = limiter.overrides
    assert given.set("api", "a", "30/minute")
    assert given.set("api", "gold-1", "premium")
    assert not given.set("api", "a", "30/minute")  # it has that already
    assert [bucket.take(key).limit for key in ("a", b"a", "gold-1", "gold-2", "b")] == [
        30, 30, 40, 20, 10,
    ]  # fmt: skip
    assert [(one.bucket, one.key, one.limit) for one in given.listed()] == [
        ("api", "a", "30/minute"), ("api", "gold-1", "premium"),
    ]  # fmt: skip
    assert limiter.stats()["overrides"] == {"given": 2, "limits": 2, "failed": 0}
    assert given.remove("api", "gold-1")
    assert not given.remove("api", "gold-1")
    assert not given.remove("api", "never")
    assert bucket.take("gold-1").limit == 20  # that of its glob again
    assert [one.key for one in given.listed("api")] == ["a"]
    assert given.count == limiter.stats()["overrides"]["given"] == 1  # none that was taken away


def test_what_a_key_has_consumed_stays(time: VirtualTime, limiter: Limiter, bucket: Bucket) -> None:
    assert bucket.take("a", 8)
    limiter.overrides.set("api", "a", "20/20s")
    assert bucket.peek("a").remaining == 12
    assert bucket.take("a", 12)
    limiter.overrides.set("api", "a", "5/5s")
    assert not bucket.take("a")  # it owes 10 now: no bucket of 5 can owe more
    time.advance(6)
    assert bucket.peek("a").remaining == 1
    limiter.overrides.remove("api", "a")
    assert bucket.peek("a").remaining == 6
    limiter.overrides.set("api", "a", "20/20s")
    assert bucket.peek("a").remaining == 6  # what was forgiven meanwhile it owes here still
    limiter.overrides.set("api", "a", "30/30s")
    assert bucket.peek("a").remaining == 16
    limiter.overrides.set("api", "a", "20/20s")
    assert bucket.peek("a").remaining == 6


def test_what_operators_give_goes_before_globs_and_functions_and_over_reloads(
    time: VirtualTime,
) -> None:
    asked = BucketSpec("api", 10, 1, overrides=AskedOverrides({"a": "7/s", "b": "8/s"}.get))
    limiter = Limiter([asked, PREMIUM], _table=time.table)
    bucket = limiter.bucket("api")
    limiter.overrides.set("api", "a", "premium")
    assert [bucket.peek(key).limit for key in "ab"] == [40, 8]
    assert bucket.take("a", 30)

    globs = BucketSpec("api", 10, 1, overrides=[("?", BucketSpec("x", 20, 1))])
    limiter.reload(Config("file", (globs, BucketSpec("premium", 50, 2))))
    assert [bucket.peek(key).limit for key in "ab"] == [50, 20]
    assert bucket.peek("a").remaining == 20  # what it owes, owes it still
    limiter.reload(Config("file", (globs,)))  # nobody knows what premium is any more
    assert bucket.peek("a").limit == 20
    limiter.reload(Config("file", (BucketSpec("other", 1, 1), PREMIUM)))
    assert set(limiter.buckets) == {"other", "premium"}
    limiter.reload(Config("file", (globs, PREMIUM)))
    assert bucket.peek("a").limit == 40
    limiter.overrides.remove("api", "a")
    assert bucket.peek("a").limit == 20


@pytest.mark.parametrize(
    ("bucket", "key", "limit", "error", "said"),
    [
        ("nope", "a", "5/s", UnknownBucket, "no bucket 'nope'; there are: api"),
        ("api", "a", "gold", InvalidSpec, "neither a bucket nor a rate: write"),
        ("api", "a", "5/month", InvalidSpec, "a month has no fixed length"),
        ("api", "", "5/s", InvalidKey, "a text of 1 to 512 bytes"),
        ("api", "x" * 513, "5/s", InvalidKey, "a text of 1 to 512 bytes"),
        ("api", b"a", "5/s", InvalidKey, "a text of 1 to 512 bytes"),
        ("api", "a", "5/s" + " " * 300, MeshError, "an impossible limit"),
        ("api", "a", "slots", InvalidSpec, "another kind"),
        ("api[gold-*]", "a", "5/s", InvalidSpec, "name the bucket itself"),
    ],
)
def test_what_cannot_be_given_is_refused_and_changes_nothing(
    time: VirtualTime, bucket: str, key: str, limit: str, error: type[Exception], said: str
) -> None:
    slots = BucketSpec.concurrency("slots", 3)
    limiter = Limiter([API, slots], _table=time.table)
    with pytest.raises(error, match=said.replace("[", "\\[")):
        limiter.overrides.set(bucket, key, limit)
    assert limiter.overrides.listed() == []
    assert limiter.stats()["overrides"]["limits"] == 0
    with limiter.bucket("slots").slot("a"):
        pass


def test_slots_have_given_limits_too_and_what_is_held_stays(time: VirtualTime) -> None:
    specs = [BucketSpec.concurrency("work", 1), BucketSpec.concurrency("many", 3)]
    limiter = Limiter(specs, _table=time.table)
    work = limiter.bucket("work")
    with work.slot("a"):
        limiter.overrides.set("work", "a", "many")
        with work.slot("a"), work.slot("a"), work.slot("a"):
            assert work.of("a").spec.slots == 3


def test_calendar_quotas_have_given_limits_of_their_period(
    time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facade, "WallClock", lambda: WallClock(lambda: 10**18))
    specs = [
        BucketSpec.calendar("api", 10, per="month"),
        BucketSpec.calendar("big", 20, per="month"),
    ]
    limiter = Limiter(specs, _table=time.table)
    bucket = limiter.bucket("api")
    assert bucket.take("a", 6)
    limiter.overrides.set("api", "a", "big")
    assert (bucket.peek("a").limit, bucket.peek("a").remaining) == (20, 14)
    with pytest.raises(InvalidSpec, match="another period"):
        limiter.overrides.set("api", "a", "5/s")


def test_a_function_that_is_slow_stops_no_order_of_a_peer(time: VirtualTime) -> None:
    """The function waits until an order of a peer was taken, on which the event loop would wait."""
    ended = []

    def ask(key: str) -> None:
        merge = threading.Thread(target=limiter.overrides.book.recall, args=((),), kwargs=SEND)
        merge.start()
        merge.join(BOUND_S)
        ended.append(not merge.is_alive())

    limiter = Limiter([BucketSpec("api", 10, 1, overrides=ask)], _table=time.table)
    assert limiter.overrides.set("api", "a", "30/minute")
    time.advance(100)
    assert limiter.overrides.remove("api", "a")
    assert ended == [True, True]


def test_a_function_that_is_slow_stops_no_other_order(time: VirtualTime) -> None:
    """The function waits until another thread's order is done."""
    ended = []

    def ask(key: str) -> None:
        other = threading.Thread(target=limiter.overrides.set, args=("plain", key, "30/minute"))
        other.start()
        other.join(BOUND_S)
        ended.append(not other.is_alive())

    asked, plain = BucketSpec("api", 10, 1, overrides=ask), BucketSpec("plain", 10, 1)
    limiter = Limiter([asked, plain], _table=time.table)
    assert limiter.overrides.set("api", "a", "30/minute")
    assert limiter.bucket("plain").peek("a").limit == 30
    assert limiter.overrides.set("api", "a", "40/minute")  # asks nobody
    assert ended == [True]


def test_a_frame_of_new_limits_costs_little_though_there_are_as_many_as_may_be(
    time: VirtualTime,
) -> None:
    limiter = Limiter([API], _table=time.table)
    book = limiter.overrides.book

    def give(first: int, count: int, counter: int = 1, keys: int = 0) -> None:
        numbers = range(first, first + count)
        orders = [
            OverrideOrder("api", f"k{n % (keys or n + 1)}", counter, f"{n + 1}/h", b"", b"")
            for n in numbers
        ]
        book.recall(orders, send=False)

    def cost(first: int, counter: int, keys: int = 0) -> int:
        """Calls of Python for a frame of eight."""
        calls: list[str] = []
        sys.setprofile(lambda _, event, __: calls.append(event))
        try:
            give(first, 8, counter, keys)
        finally:
            sys.setprofile(None)
        return calls.count("call")

    give(0, MAX_LIMITS - 8)
    assert cost(1_000, 1) < 9_000  # the last ones that there is room for
    assert limiter.stats()["overrides"]["limits"] == MAX_LIMITS
    assert cost(2_000, 1) < 10_000  # there is none
    assert limiter.stats()["overrides"]["limits"] == MAX_LIMITS
    time.advance(2)
    # Keys that change their limit make room for the new ones.
    assert cost(3_000, 2, 8) < 10_000
    assert limiter.stats()["overrides"] == {"given": MAX_LIMITS + 8, "limits": 500, "failed": 0}
    assert limiter.bucket("api").peek("k0").limit == 3_001


def test_a_limit_that_found_no_room_holds_for_its_first_key_too_once_there_is(
    time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crdtbucket.limiter.outside_limits.MAX_LIMITS", 1)
    limiter = Limiter([API], _table=time.table)
    rows = (("a", "30/minute"), ("b", "40/minute"))
    orders = [OverrideOrder("api", key, 1, limit, b"", b"") for key, limit in rows]
    limiter.overrides.book.recall(orders, send=False)
    bucket = limiter.bucket("api")
    assert [bucket.peek(key).limit for key in "abc"] == [30, 10, 10]
    time.advance(2)
    limiter.overrides.remove("api", "a")
    limiter.overrides.set("api", "c", "40/minute")
    assert [bucket.peek(key).limit for key in "abc"] == [10, 40, 40]


def test_strong_buckets_have_given_limits(time: VirtualTime) -> None:
    redis = RedisConfig(url="redis://127.0.0.1:1")
    limiter = Limiter([API], node="n", redis=redis, consistency="strong", _table=time.table)
    limiter.overrides.set("api", "a", "30/minute")
    found = limiter.bucket("api").of("a")
    assert (found.spec.capacity, found.immediate) == (30, False)
    assert limiter.bucket("api").peek("a").limit == 30


def test_in_a_mesh_only_what_an_operator_has_signed_holds(time: VirtualTime) -> None:
    operator, stranger = NodeKey.make(), NodeKey.make()
    mesh = MeshConfig(operator_keys=(operator.fingerprint,), secret="x" * 16)
    limiter = Limiter([API], node="n", mesh=mesh, _table=time.table)

    def order(signer: NodeKey, counter: int, limit: str | None, bucket: str = "api") -> str:
        return OverrideOrder.sign(signer, "mesh", bucket, "a", counter, limit).as_text()

    with pytest.raises(MeshError, match="an operator has to sign this"):
        limiter.overrides.set("api", "a", "30/minute")
    with pytest.raises(MeshError, match=r"list it in mesh\.operator_keys"):
        limiter.overrides.give(order(stranger, 1, "30/minute"))
    with pytest.raises(UnknownBucket):
        limiter.overrides.give(order(operator, 1, "30/minute", "nope"))
    assert "api[=30/60s]" not in limiter.buckets  # what is refused leaves nothing behind
    assert limiter.overrides.give(order(operator, 2, "30/minute"))
    assert not limiter.overrides.give(order(operator, 2, "30/minute"))
    with pytest.raises(MeshError, match="a later order holds"):
        limiter.overrides.give(order(operator, 1, "90/minute"))
    assert limiter.bucket("api").of("a").spec.capacity == 30
    assert limiter.overrides.give(order(operator, 3, None))
    assert limiter.bucket("api").of("a").spec.capacity == 10


def test_a_reload_does_not_wait_for_a_thread_that_reads_the_orders(time: VirtualTime) -> None:
    old, new = (NodeKey.make() for _ in range(2))
    mesh = MeshConfig(operator_keys=(old.fingerprint,), secret="x" * 16)
    given = Limiter([API], node="n", mesh=mesh, _table=time.table).overrides
    with Holder(given._making):
        changed = replace(mesh, operator_keys=(new.fingerprint,))
        change = threading.Thread(target=given.change, args=(changed,), daemon=True)
        change.start()
        change.join(BOUND_S)
        assert not change.is_alive()
    assert given.give(OverrideOrder.sign(new, "mesh", "api", "a", 1, "30/minute").as_text())


def test_a_limit_holds_again_when_a_reload_lists_its_operator(tmp_path: Path) -> None:
    operator, other = NodeKey.make(), NodeKey.make()
    nobody = MeshConfig(state_dir=str(tmp_path))
    both = replace(nobody, operator_keys=(operator.fingerprint, other.fingerprint))

    def held(node: Limiter) -> list[str]:
        node.overrides.beat()
        return [one.key for one in node.overrides.listed()]

    before = Limiter([API], node="n", mesh=both)
    for key, signer in (("a", operator), ("b", other)):
        order = OverrideOrder.sign(signer, "mesh", "api", key, 1, "30/minute")
        assert before.overrides.give(order.as_text())
    node = Limiter([API], node="n", mesh=nobody)
    assert not held(node)
    node.overrides.change(replace(nobody, operator_keys=(other.fingerprint,)))
    assert held(node) == ["b"]
    node.overrides.change(both)
    assert held(node) == ["a", "b"]
    assert node.bucket("api").of("a").spec.capacity == 30


def test_workers_of_a_host_have_what_one_of_them_was_given(tmp_path: Path) -> None:
    path, slow = tmp_path / "table", BucketSpec("api", 10, 1, "1h")
    with Limiter([slow], shared=path) as one, Limiter([slow], shared=path) as two:
        assert one.bucket("api").take("a", 6)
        assert one.overrides.set("api", "a", "30/h")
        two.overrides.beat()
        found = two.bucket("api").take("a", 4)
        assert (found.limit, found.remaining) == (30, 20)  # charged once
        assert two.overrides.set("api", "b", "7/s")
        assert two.overrides.remove("api", "a")
        one.overrides.beat()
        assert one.bucket("api").peek("a").remaining == 0
        assert one.bucket("api").peek("b").limit == 7
    again = Limiter([slow], shared=path)  # the file beside the table outlives them
    assert again.bucket("api").peek("b").limit == 7
    again.close()


def test_given_limits_outlive_the_process_in_the_state_directory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    operator = NodeKey.make()
    mesh = MeshConfig(operator_keys=(operator.fingerprint,), state_dir=str(tmp_path / "state"))

    def limiter() -> Limiter:
        return Limiter([API], node="n", mesh=mesh)

    order = OverrideOrder.sign(operator, "mesh", "api", "a", 1, "30/minute")
    assert limiter().overrides.give(order.as_text())
    assert (tmp_path / "state" / "n.overrides").stat().st_mode & 0o777 == 0o600
    assert limiter().bucket("api").of("a").spec.capacity == 30
    told = limiter()
    row = OverrideOrder.sign(operator, "mesh", "api", "b", 1, "7/s").row()
    told.overrides.book.merge_rows((row,), no_room)
    told.overrides.beat()  # what a peer sent is kept, too
    assert [one.key for one in limiter().overrides.listed()] == ["a", "b"]
    (tmp_path / "state" / "n.overrides").chmod(0o666)
    assert told.overrides.give(OverrideOrder.sign(operator, "mesh", "api", "c", 1, "7/s").as_text())
    assert "limits of keys are not kept over a restart" in caplog.text
    assert told.bucket("api").of("c").spec.capacity == 7
