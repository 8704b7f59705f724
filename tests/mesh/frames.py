"""One frame of every kind, as their bytes are kept in `golden/`.

    python -m tests.mesh.frames

writes files for kinds that have none yet; it replaces none, since old bytes must stay readable.
"""

from __future__ import annotations

from array import array
from pathlib import Path

from crdtbucket._core import BucketCore, Table
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.wire import AnnouncedTables, Frame
from crdtbucket.spec.bucket_spec import BucketSpec

GOLDEN = Path(__file__).parent / "golden"
TABLES = AnnouncedTables(
    3, (("eu", 17), ("us", 2**64 - 1)), ((5, 6, 10_000_000, 1), (7, 2**64 - 1, 10**9, 7))
)


def entries() -> bytes:
    """Two entries of a table: one with refunds, one without."""
    table = Table(max_keys=16, hash_key=bytes(16), virtual=True, epoch=17)
    bucket = BucketCore(table, BucketSpec("api", 100, 100))
    bucket.refund(bucket.take("refunded", 60), 10)
    bucket.take("plain", 20)
    positions = array("H", [0xFFFF]) * 512
    positions[1] = 0
    payload, _, _ = table.outbox.encode_entries(array("I", [0, 1]), 0, positions, 1000)
    return payload


def relayed() -> bytes:
    """An entry with the rates of a node that some peer does not see."""
    epochs, spec = (17, 2**64 - 1), BucketSpec("api", 100, 100)
    relay, owner = (Table(max_keys=16, hash_key=bytes(16), virtual=True, epoch=e) for e in epochs)
    BucketCore(relay, spec)
    bucket = BucketCore(owner, spec)
    places = array("H", [0xFFFF]) * 512
    places[1] = 0
    for table, now in ((owner, 10**9), (owner, 2 * 10**9), (relay, 2 * 10**9)):
        bucket.take("k", 60)
        table.set_time(now)
    owner.outbox.collect()
    stated, _, _ = owner.outbox.encode_entries(array("I", [0]), 0, places, 1000)
    relay.nodes.set_node(1, epochs[1], True)
    ((slot, _, _, q, p),) = relay.definitions.current()
    origins = array("H", [relay.epochs.origin(1, epochs[1])])
    relay.inbox.merge(stated, [(slot, 1, q, p)], origins, node=1, epoch=epochs[1], at=2 * 10**9)
    relay.nodes.relay(1, True)
    relay.set_time(2 * 10**9 + 123_456_789)
    places[2] = 1
    payload, _, _ = relay.outbox.encode_entries(array("I", [0]), 0, places, 1000)
    return payload


def kinds() -> dict[str, Frame]:
    base = {"epoch": 17, "to_epoch": 2**64 - 1, "sent": -5}
    items = bytes(range(64))
    return {
        "empty-round": Frame(**base, seq=1, round=1, part=0, parts=1),
        "acknowledgements": Frame(
            **base,
            seq=2**62,
            echo=10**18,
            hold=99,
            ack=300,
            ack_bits=2**255 + 1,
            round=7,
            part=1,
            parts=3,
        ),
        "entries-with-tables": Frame(
            **base, seq=3, flags=wire.JOINING, tables_version=3, tables=TABLES, payload=entries()
        ),
        "entries": Frame(**base, seq=4, tables_version=3, payload=entries()),
        "members": Frame(
            **base,
            seq=5,
            members=(("eu", "Europe", 17, "10.0.0.1:7946"), ("us", "", 18, "")),
            unseen=("us",),
            tombstones=(4, 2**64 - 1),
        ),
        "goodbye": Frame(**base, seq=6, flags=wire.LEAVING, round=9, part=0, parts=1),
        "digest": Frame(**base, seq=7, digest=(0, 2**64 - 1, 12, 2**63, 10**12)),
        "items": Frame(**base, seq=8, items=(5, 2**64 - 1), payload_kind=wire.ITEMS, payload=items),
        "want": Frame(**base, seq=9, payload_kind=wire.WANT, payload=items[:32]),
        "range": Frame(**base, seq=10, payload_kind=wire.RANGE, items=(5, 2**64 - 1)),
        "config": Frame(**base, seq=12, config=(7, 2**64 - 1, 2)),
        "rollout": Frame(**base, seq=13, config=(7, 5, 2), rollout=(7, 5, 2**63 - 1, 3, 1)),
        "merge_result": Frame(**base, seq=11, ack=10, merge_result=(1, 0, 2**62)),
        "ages": Frame(**base, seq=14, round=8, parts=1, ages=((5, 0), (2**64 - 1, 65_535))),
        "mode": Frame(**base, seq=17, mode=2),
        "silent": Frame(**base, seq=18, silent=((5, 0), (2**64 - 1, 2**32 - 1))),
        "wall": Frame(**base, seq=16, wall=1_800_000_000 * 10**9),
        "relayed": Frame(**base, seq=15, tables_version=3, payload=relayed()),
    }


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for kind, frame in kinds().items():
        path = GOLDEN / f"{kind}.v{wire.VERSION}.bin"
        if not path.exists():
            path.write_bytes(wire.encode(frame))
            print(path)
