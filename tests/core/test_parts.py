"""The parts of a table: each works without the table, and the last one frees the memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crdtbucket._core import (
    BucketCore,
    BucketReplica,
    Table,
    TableDefinitions,
    TableEpochs,
    TableInbox,
    TableNodes,
    TableOutbox,
    TableSharing,
)
from crdtbucket.spec.bucket_spec import BucketSpec

KEYS = 1 << 22
PARTS = ["definitions", "epochs", "inbox", "nodes", "outbox", "sharing"]


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def mapped() -> int:
    """Pages of memory that this process has mapped."""
    return int(Path("/proc/self/statm").read_text().split()[0])


def small() -> Table:
    return Table(max_keys=16, hash_key=bytes(16), virtual=True, epoch=5)


def test_no_cycle_keeps_a_table() -> None:
    table = small()
    bucket = BucketCore(table, BucketSpec("b", 10, 1))
    BucketReplica(bucket).open_call("k")
    gone = weakref.ref(table)
    del table, bucket
    assert gone() is None


@pytest.mark.parametrize("name", PARTS)
def test_a_part_keeps_the_memory_and_the_last_one_frees_it(name: str) -> None:
    before = mapped()
    table = Table(max_keys=KEYS)
    whole = mapped() - before
    assert whole > 10_000
    part = getattr(table, name)
    gone = weakref.ref(table)
    del table
    assert gone() is None
    assert mapped() - before > whole // 2
    del part
    assert mapped() - before < whole // 2


def test_what_a_part_counts_outlives_the_table() -> None:
    table = small()
    BucketCore(table, BucketSpec("b", 10, 1)).take("k")
    epochs, outbox, definitions = table.epochs, table.outbox, table.definitions
    del table
    assert epochs.running == 5
    assert outbox.collect() == 1
    assert definitions.made == 1


@pytest.mark.parametrize(
    "kind", [TableDefinitions, TableEpochs, TableInbox, TableNodes, TableOutbox, TableSharing]
)
@pytest.mark.parametrize("arguments", [(), (None,), (1, 2, 3)])
def test_a_part_is_made_by_its_table_alone(
    kind: Callable[..., object], arguments: tuple[object, ...]
) -> None:
    with pytest.raises(TypeError):
        kind(*arguments)
