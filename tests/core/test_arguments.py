"""What the core refuses before anything is changed."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
from array import array
from collections.abc import Callable
from typing import Any

import pytest

from crdtbucket import Bucket, Limiter
from crdtbucket._core import (
    AllReservation,
    BucketCore,
    BucketReplica,
    Decision,
    Reservation,
    ReservationBook,
    SlotCore,
    SlotSearch,
    Table,
)
from crdtbucket.errors import (
    CrdtbucketError,
    InvalidCost,
    InvalidKey,
    ReservationError,
    WireError,
)
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.core.pair import ORIGINS, Peer, snapshot
from tests.core.specs import bucket_of

SPEC = BucketSpec("b", 100, 100)
NOWHERE = array("H", [0xFFFF]) * ORIGINS


class Own:
    """An object whose index is itself: it is no number at all."""

    def __index__(self) -> Any:
        return self


class Seven:
    def __index__(self) -> int:
        return 7


class Whole(int):
    """A subclass of int that lies about itself."""

    def __index__(self) -> int:
        return -5

    def __int__(self) -> int:
        return -5


@pytest.fixture
def bucket() -> BucketCore:
    made = bucket_of(SPEC)
    made.take("k", 10)
    return made


@pytest.mark.parametrize(
    "cost",
    [0, -1, -(2**70), 2**53 + 1, 2**70, 1.0, 1.5, True, False, None, "1", b"1", [1], 1j],
)
def test_costs_that_are_none(bucket: BucketCore, cost: Any) -> None:
    before = snapshot(bucket.table, bucket, ["k"])
    decision = bucket.peek("k")
    calls: list[Callable[[], object]] = [
        lambda: bucket.take("k", cost),
        lambda: bucket.peek("k", cost),
        lambda: bucket.take_burst("k", 2, cost),
        lambda: bucket.take_many(["k"], [cost]),
        lambda: bucket.take("new", cost),
    ]
    for call in calls:
        with pytest.raises(InvalidCost):
            call()
    if cost is not None:
        with pytest.raises(InvalidCost):
            bucket.refund(decision, cost)
    if not isinstance(cost, int) or cost < 1 or cost > 2**62 or isinstance(cost, bool):
        with pytest.raises(InvalidCost):
            bucket.settle("k", cost)
    assert snapshot(bucket.table, bucket, ["k"])[:2] == before[:2]


def test_whole_numbers_of_other_types(bucket: BucketCore) -> None:
    assert bucket.take("k", Seven()).remaining == 83
    assert bucket.take("k", Whole(3)).remaining == 80
    with pytest.raises(TypeError):
        bucket.take("k", Own())


@pytest.mark.parametrize(
    "key", ["", b"", "x" * 513, b"x" * 513, "é" * 257, 5, None, ("k",), "\ud800"]
)
def test_what_is_no_key_is_refused_and_changes_nothing(bucket: BucketCore, key: Any) -> None:
    before = snapshot(bucket.table, bucket, ["k"])
    for call in (bucket.take, bucket.peek, bucket.columns, bucket.debt, bucket.hash):
        with pytest.raises(InvalidKey):
            call(key)
    with pytest.raises(InvalidKey):
        bucket.settle(key, 5)
    with pytest.raises(InvalidKey):
        bucket.take_many(["k", key])
    assert snapshot(bucket.table, bucket, ["k"]) == before


def test_no_error_advises_one_key_for_all_who_have_none(bucket: BucketCore) -> None:
    with pytest.raises(InvalidKey, match="key is None: name what is limited"):
        bucket.take(None)  # type: ignore[arg-type]
    with pytest.raises(InvalidKey, match=r"not int: pass str\(key\)"):
        bucket.take(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["k", "x" * 512, b"x" * 512, "é" * 256, "\x00", b"\x00", b"\xff"])
def test_texts_and_bytes_of_every_kind_are_keys(bucket: BucketCore, key: Any) -> None:
    assert bucket.take(key)


def test_keys_of_every_length_differ() -> None:
    bucket = bucket_of(SPEC, 1_000)
    for length in range(1, 513):
        bucket.take("x" * length)
    assert len(bucket.table) == 512


def test_refunds_of_no_decision(bucket: BucketCore) -> None:
    what: Any
    for what in (None, 5, "k"):
        with pytest.raises(InvalidCost, match="pass what take returned"):
            bucket.refund(what)


@pytest.mark.parametrize(
    "options",
    [
        {"max_keys": 0},
        {"max_keys": -1},
        {"max_keys": 2**31},
        {"hash_key": b"short"},
        {"hash_key": bytes(17)},
        {"grace": -1.0},
        {"grace": float("nan")},
        {"grace": 1e10},
    ],
)
def test_tables_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(CrdtbucketError):
        Table(**options)


def test_a_real_table_keeps_its_own_time() -> None:
    table = Table(max_keys=16)
    with pytest.raises(CrdtbucketError):
        table.set_time(5)
    assert table.now() > 0


REFUSED: dict[str, Callable[[Table], object]] = {
    "node of an origin": lambda t: t.epochs.origin(1024, 5),
    "node that was heard": lambda t: t.nodes.set_last_seen(1024, 5),
    "node that is given up": lambda t: t.nodes.forget(2**31),
    "place from which a node is given up": lambda t: t.nodes.forget(1, -1),
    "place from which columns are removed": lambda t: t.epochs.prune(-1),
    "node that is set": lambda t: t.nodes.set_node(1024, 5, True),
    "entry that is touched": lambda t: t.outbox.touch([0, 64]),
    "entry that is encoded": lambda t: t.outbox.encode_entries(
        array("I", [0, 64]), 0, NOWHERE, 1000
    ),
    "start of the entries": lambda t: t.outbox.encode_entries(array("I", [0]), -1, NOWHERE, 1000),
    "start of the indebted": lambda t: t.outbox.encode_table(-1, NOWHERE, 1000),
    "too few positions": lambda t: t.outbox.encode_log(0, 5, array("H", [0]), 1000),
    "positions that are bytes": lambda t: t.outbox.encode_log(0, 5, bytes(2 * ORIGINS), 1000),
    "a position too high": lambda t: t.outbox.encode_log(0, 5, array("H", [512]) * ORIGINS, 1000),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED.keys())
def test_numbers_out_of_range(bucket: BucketCore, call: Callable[[Table], object]) -> None:
    bucket.table.outbox.collect()
    before = snapshot(bucket.table, bucket, ["k"])
    with pytest.raises(CrdtbucketError):
        call(bucket.table)
    assert snapshot(bucket.table, bucket, ["k"]) == before


@pytest.mark.parametrize(
    ("definitions", "origins"),
    [
        ([(1, True, 10, 1)], [1]),  # no such definition here
        ([(2**31, True, 10, 1)], [1]),
        ([(0, True, 0, 1)], [1]),
        ([(0, False, 10, 0)], [1]),
        ([(0, False, -10, 1)], [1]),
        ([(0, False, 2**64, 1)], [1]),
        ([(0, True, 10, 1)], [9]),  # no such origin
        ([(0, True, 10, 1)], [512]),
        ([(0, True, 10, 1)], [0xFFFF]),
    ],
)
def test_a_frame_understood_wrongly(definitions: Any, origins: list[int]) -> None:
    a, b = Peer(0, SPEC), Peer(1, SPEC)
    a.bucket.take("k", 10)
    b.bucket.take("k", 5)
    a.table.outbox.collect()
    before = snapshot(b.table, b.bucket, ["k"])
    payload, ids = a.payload(), array("H", origins)
    with pytest.raises(CrdtbucketError):
        b.table.inbox.merge(payload, definitions, ids, node=1, epoch=a.epoch, at=0)
    with pytest.raises(CrdtbucketError):
        b.table.inbox.restore(payload, definitions, ids)
    assert snapshot(b.table, b.bucket, ["k"]) == before


def test_a_buffer_stays_while_it_is_read_and_no_longer(bucket: BucketCore) -> None:
    positions = array("H", NOWHERE)
    with pytest.raises(TypeError):
        bucket.table.outbox.encode_log(0, 5, 7, 1000)  # type: ignore[arg-type]
    bucket.table.outbox.encode_log(0, 5, positions, 1000)
    positions.append(0)  # a BufferError while somebody holds it


@pytest.mark.parametrize("name", ["take", "acquire", "peek", "refund", "reserve", "take_many"])
def test_a_method_of_the_core_tells_its_arguments(name: str) -> None:
    first, key, *_ = inspect.signature(getattr(Bucket, name)).parameters
    assert first == "self"
    assert key in ("key", "keys", "decision")


@pytest.mark.parametrize("most", [-5, 0, 2**62])
def test_upkeep_takes_any_number_of_places(bucket: BucketCore, most: int) -> None:
    assert bucket.table.sweep(most) == 0
    assert len(bucket.table.outbox.digest_items(0, 2**64 - 1, most)) in (0, 32)


@pytest.mark.parametrize("calls", [-1, -(2**70), 1_000_001, 2**63 - 1, 2**70, 1.0, True, None, "1"])
def test_a_wrong_number_of_calls_is_refused_and_changes_nothing(
    bucket: BucketCore, calls: Any
) -> None:
    """2^63 takes would never end."""
    before = snapshot(bucket.table, bucket, ["k"])
    with pytest.raises(InvalidCost, match="calls must be"):
        bucket.take_burst("k", calls)
    assert snapshot(bucket.table, bucket, ["k"])[:2] == before[:2]
    assert bucket.take_burst("k", 0) == 0
    assert bucket.take_burst("k", 1_000_000) == 90


def forged() -> Decision:
    return Decision.__new__(Decision)


STATES: list[Any] = [(), (1,), None, [], (1,) * 40, (None,) * 12, {}]
FORGERIES: dict[str, Callable[[], object]] = {
    "a decision of nothing": lambda: repr(forged()),
    "its bucket": lambda: forged().bucket,
    "its key": lambda: forged().key,
    "its plain values": lambda: forged().as_dict(),
    "pickled": lambda: pickle.dumps(forged()),
    "its limit": lambda: forged().limit,
    "its rest": lambda: forged().remaining,
    "given back": lambda: bucket_of(SPEC).refund(forged()),
    "a bucket of nothing": lambda: BucketCore.__new__(BucketCore).take("k"),  # type: ignore[call-arg]
    "a bucket of a number": lambda: BucketCore(7, SPEC).take("k"),  # type: ignore[arg-type]
    "the bucket copied": lambda: copy.copy(made().bucket),
    "the bucket pickled": lambda: pickle.dumps(made().bucket),
    "a user's bucket of nothing": lambda: Bucket.__new__(Bucket).take("k"),  # type: ignore[call-arg]
    "a user's bucket copied": lambda: copy.copy(Limiter([SPEC]).bucket("b")),
    **{
        f"{part.__name__} alone": lambda part=part: part.__new__(part)
        for part in (*Table.__mro__[1:-1], *BucketCore.__mro__[1:-1])
    },
    **{
        f"{part.__name__} made without arguments": lambda part=part: part.__new__(part)
        for part in (AllReservation, BucketReplica, ReservationBook, SlotSearch)
    },
    "a reservation of nothing is entered": lambda: Reservation(),
    "a reservation of nothing is left": lambda: unmade(Reservation).__exit__(None, None, None),
    "a reservation of nothing is committed": lambda: unmade(Reservation).commit(1),
    "a slot of nothing is held": lambda: unmade(SlotCore).hold(made()),
    "a take that is no decision": lambda: TakesNothing(Table(max_keys=16), SPEC).reserved(),
    "a take of all that is no decision": lambda: asyncio.run(all_of_nothing()),
    "the table copied": lambda: copy.copy(made().bucket.table),
    "the table pickled": lambda: pickle.dumps(made().bucket.table),
    **{
        f"{kind} set to {state!r}": lambda kind=kind, state=state: kinds()[kind].__setstate__(state)
        for kind in ("decision", "bucket", "table")
        for state in STATES
    },
}


def unmade(kind: Any) -> Any:
    return kind.__new__(kind)


class TakesNothing(BucketCore):
    def take(self, *_: object) -> Any:
        """Returns no decision."""

    def reserved(self) -> None:
        self.reservations = ReservationBook(self)
        with self.reserve("k", 1):
            pass


async def all_of_nothing() -> None:
    async def acquire(_: object) -> None:
        """Returns no decision."""

    async with AllReservation(Limiter([SPEC]), acquire, [("b", "k")], 60.0):
        pass


def made() -> Decision:
    return bucket_of(SPEC).take("k")


def kinds() -> dict[str, Any]:
    decision = made()
    return {"decision": decision, "bucket": decision.bucket, "table": decision.bucket.table}


@pytest.mark.parametrize("kind", FORGERIES)
def test_what_no_bucket_has_made_raises(kind: str) -> None:
    """Each of these once read memory that was not there."""
    with pytest.raises((TypeError, AttributeError)):
        FORGERIES[kind]()


def test_a_slot_that_was_never_held_ends_nothing() -> None:
    assert not unmade(SlotCore).release()


@pytest.mark.parametrize("call", ["stage", "unstage"])
def test_a_candidate_of_an_unknown_bucket_is_refused(bucket: BucketCore, call: str) -> None:
    definitions = bucket.table.definitions
    before = definitions.all()
    with pytest.raises(CrdtbucketError, match="bucket 'unknown' has no definition in this table"):
        getattr(definitions, call)(BucketSpec("unknown", 1, 1), 1)
    assert definitions.all() == before
    bucket.table.verify()


@pytest.mark.parametrize("generation", [-1, 2**32, 2**70])
def test_a_column_whose_generation_has_no_room_is_refused(
    bucket: BucketCore, generation: int
) -> None:
    before = snapshot(bucket.table, bucket, ["k"])
    with pytest.raises(WireError, match=f"1, {generation}, 5, 0.* is no column"):
        BucketReplica(bucket).adopt(*bucket.hash("k"), 0, True, [(1, generation, 5, 0)])
    assert snapshot(bucket.table, bucket, ["k"]) == before


def test_a_table_that_nobody_has_given_anything_is_one() -> None:
    table = Table.__new__(Table)
    assert table.stats()["keys"] == 0
    table.__init__()  # type: ignore[misc]
    assert table.now() > 0


def test_a_bucket_without_a_book_reserves_nothing(bucket: BucketCore) -> None:
    with pytest.raises(ReservationError, match="reservations"):
        bucket.reserve("k", 1)


@pytest.mark.parametrize("keys", [None, 3, 3.5])
def test_keys_that_are_no_sequence(bucket: BucketCore, keys: Any) -> None:
    with pytest.raises(TypeError, match=f"keys is {keys}"):
        bucket.take_many(keys)
