"""The lies of a hostile member: each act is a row of the bounds in docs/security.md, or what a
faulty build may send as well."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.entries import Entry
from tests.bad_member import entry

if TYPE_CHECKING:
    from tests.simulated.hostile import HostileMember

ABSURD = (0xFFFF, 0xFFFF)
"""Rates that are as large as they can be packed."""
MOST_DEBT_NS = 10**12
LONG_NS = 5000 * 10**9

Act = Callable[["HostileMember", str, random.Random], None]


def _epochs(bad: HostileMember, name: str, rng: random.Random) -> None:
    owners = [*bad.mesh.nodes, *(f"x{i}" for i in range(8))]
    many = rng.choice([1, 10, 300, 500])
    bad.announce(name, [(rng.choice(owners), rng.getrandbits(62) + 1) for _ in range(many)])


def _own_epochs(bad: HostileMember, name: str, rng: random.Random) -> None:
    for _ in range(20):
        bad.try_to_send(name, epoch=rng.getrandbits(62) + 1)


def _running_epoch(bad: HostileMember, name: str, rng: random.Random) -> None:
    more = rng.choice([1, 10**6, 2**50])
    row = (
        name,
        bad.mesh[name].table.epochs.running,
        rng.choice([1, 2**31]),
        more,
        rng.choice([0, more]),
    )
    bad.state(name, bad.key(name), MOST_DEBT_NS, [row])


def _debts(bad: HostileMember, name: str, rng: random.Random) -> None:
    if shown := bad.columns(bad.key(name)):
        bad.state(name, bad.key(name), 1, shown)


def _large_debts(bad: HostileMember, name: str, rng: random.Random) -> None:
    bad.state(name, bad.key(name), MOST_DEBT_NS, bad.columns(bad.key(name)) or [bad.own()])


def _rates(bad: HostileMember, name: str, rng: random.Random) -> None:
    bad.round(name, rates=rng.choice([ABSURD, (0, 0xFFFF), (0xFFFF, 0), (0, 0)]))


def _takes(bad: HostileMember, name: str, rng: random.Random) -> None:
    bad.taken = min(2**52, bad.taken + rng.choice([1, 50, 10**4, 10**9]))
    bad.round(name, MOST_DEBT_NS)


def _refunds(bad: HostileMember, name: str, rng: random.Random) -> None:
    bad.taken = min(2**52, bad.taken + 10**6)
    for refunded in (bad.taken - 10**6, bad.taken):
        bad.refunded = refunded
        bad.round(name, MOST_DEBT_NS)


def _generations(bad: HostileMember, name: str, rng: random.Random) -> None:
    bad.generation += rng.choice([1, 1, 10**7])
    bad.taken, bad.refunded = rng.choice([0, 10**3, 2**50]), 0
    bad.round(name, MOST_DEBT_NS)


def _columns(bad: HostileMember, name: str, rng: random.Random) -> None:
    more, ahead = rng.choice([1, 50, 2**40]), rng.choice([0, 0, 1, 10**8])
    rows = [
        (owner, epoch, generation + ahead, taken + more, rng.choice([refunded, taken]))
        for owner, epoch, generation, taken, refunded in bad.others(name)
    ]
    if rows:
        bad.state(name, bad.key(name), MOST_DEBT_NS, rows, ABSURD)


def _lower_columns(bad: HostileMember, name: str, rng: random.Random) -> None:
    rows = [
        (owner, epoch, rng.choice([1, generation]), taken // 2, taken)
        for owner, epoch, generation, taken, _ in bad.others(name)
    ]
    if rows:
        bad.state(name, bad.key(name), 1, rows)


def _keys(bad: HostileMember, name: str, rng: random.Random) -> None:
    version = bad.seq.get(name, 0) + 1
    tables = wire.AnnouncedTables(version, ((bad.name, bad.epoch),), bad.definitions(name))
    hashes = [(rng.getrandbits(63), rng.getrandbits(63)) for _ in range(rng.choice([1, 50, 200]))]
    rows = ((0, 1, 500, 0),)
    payload = b"".join(entry(Entry(*one, rng.randrange(2), MOST_DEBT_NS, rows)) for one in hashes)
    bad.send(name, tables=tables, tables_version=version, payload=payload)


def _definitions(bad: HostileMember, name: str, rng: random.Random) -> None:
    """The same buckets under other limits, as large or as small as a frame can say."""
    version, extreme = bad.seq.get(name, 0) + 1, rng.choice([1, 2**62])
    listed = [
        (bucket, rng.getrandbits(64), rng.choice([q, extreme]), rng.choice([p, 2**62]))
        for bucket, _, q, p in bad.definitions(name)
    ]
    tables = wire.AnnouncedTables(version, ((bad.name, bad.epoch),), tuple(listed))
    bad.taken = min(2**52, bad.taken + 10**6)
    rows = ((0, bad.generation, bad.taken, bad.refunded),)
    payload = entry(Entry(*bad.key(name), 0, rng.choice([1, MOST_DEBT_NS]), rows), ABSURD)
    bad.send(name, tables=tables, tables_version=version, payload=payload)


def _members(bad: HostileMember, name: str, rng: random.Random) -> None:
    many, prefix = rng.choice([1, 40, 250]), rng.choice("xyz")
    listed = [(f"{prefix}{i}", "", 10**6 + i, f"{prefix}{i}.example:80") for i in range(many)]
    honest = [(one, "", rng.getrandbits(62) + 1, "elsewhere.example:80") for one in bad.mesh.nodes]
    bad.send(name, members=(*listed, *(honest if rng.random() < 0.5 else ())))


def _unseen(bad: HostileMember, name: str, rng: random.Random) -> None:
    """It says that it sees nobody, or everybody, even nodes that have ended."""
    nodes = bad.mesh.nodes.values()
    members = tuple((node.name, "", node.table.epochs.running, "") for node in nodes)
    bad.send(name, members=members, unseen=tuple(bad.mesh.nodes) if rng.random() < 0.5 else ())


def _ages(bad: HostileMember, name: str, rng: random.Random) -> None:
    epochs = [node.table.epochs.running for node in bad.mesh.nodes.values()]
    ages = tuple((one, rng.choice([0, 1, 5000, wire.MAX_AGE_MS])) for one in epochs)
    bad.round(name, ages=ages)
    if rng.random() < 0.5:
        _invented(bad, name, rng)


def _invented(bad: HostileMember, name: str, rng: random.Random) -> None:
    """Members that it alone sees, and their demand and takes."""
    taken, many = rng.choice([0, 1, 10**3]), rng.choice([1, 5, 60])
    rows = [(f"x{i:02}", bad.epoch + 1000 + i, 1, taken, 0) for i in range(many)]
    bad.rounds += 1
    bad.state(
        name,
        bad.key(name),
        MOST_DEBT_NS,
        [bad.own(), *rows],
        ABSURD,
        rng.choice([ABSURD, (0, 0x4000)]),
        round=bad.rounds,
        parts=1,
        ages=tuple((epoch, rng.choice([0, 500, 3000])) for _, epoch, *_ in rows),
    )


def _digests(bad: HostileMember, name: str, rng: random.Random) -> None:
    last = rng.choice([2**64 - 1, rng.getrandbits(64)])
    bad.send(name, digest=(0, last, rng.getrandbits(16), rng.getrandbits(64), rng.getrandbits(64)))


def _items(bad: HostileMember, name: str, rng: random.Random) -> None:
    many = rng.choice([1, 50, 6000])
    bad.send(name, payload_kind=wire.ITEMS, items=(0, 2**64 - 1), payload=rng.randbytes(32 * many))


def _wants(bad: HostileMember, name: str, rng: random.Random) -> None:
    lo, hi = bad.key(name)
    known = lo.to_bytes(8, "little") + hi.to_bytes(8, "little")
    bad.send(name, payload_kind=wire.WANT, payload=known * 5 + rng.randbytes(16 * 100))


def _tombstones(bad: HostileMember, name: str, rng: random.Random) -> None:
    epochs = [node.table.epochs.running for node in bad.mesh.nodes.values()]
    bad.send(name, tombstones=tuple(rng.sample(epochs, rng.randrange(1, len(epochs) + 1))))


def _clock(bad: HostileMember, name: str, rng: random.Random) -> None:
    moved = rng.choice([-LONG_NS, LONG_NS, 10**9, -(10**9), 2**62])
    bad.send(name, sent=bad.local(name) + moved, wall=rng.choice([None, 0, 2**62]))


def _holds(bad: HostileMember, name: str, rng: random.Random) -> None:
    """Impossible round trips, and acknowledgements of frames that were never sent."""
    echo = rng.choice([None, bad.local(name) + LONG_NS, -(2**62)])
    hold, ack = rng.choice([0, LONG_NS, 2**62]), rng.choice([0, 2**40, 2**62])
    bad.round(name, echo=echo, hold=hold, ack=ack)


def _late(bad: HostileMember, name: str, rng: random.Random) -> None:
    """Frames that claim to have been under way for long."""
    bad.taken = min(2**52, bad.taken + 10**6)
    bad.round(name, MOST_DEBT_NS, echo=bad.local(name) - LONG_NS)


def _flags(bad: HostileMember, name: str, rng: random.Random) -> None:
    flags = rng.choice([wire.JOINING, wire.STORE_UNREACHABLE, wire.LEAVING, 255])
    bad.round(name, rng.choice([1, MOST_DEBT_NS]), flags=flags)


def _rollouts(bad: HostileMember, name: str, rng: random.Random) -> None:
    bad.send(
        name,
        config=(rng.getrandbits(62), rng.getrandbits(64), 3),
        rollout=(rng.getrandbits(62), rng.getrandbits(64), 2**62, rng.randrange(4), 9),
    )


def _name(bad: HostileMember, name: str, rng: random.Random) -> None:
    """It claims the name of the node that it calls, or of another that runs, and to be the older
    process."""
    node, now = bad.mesh[name].node, bad.local(name)
    node.table.set_time(now)
    linked = [one for one in bad.mesh.nodes if one in node.links]
    alive = [one for one in linked if node.members.status(node.links[one], now) == "alive"]
    epoch, established = rng.getrandbits(62) + 1, rng.random() < 0.5
    # Its process began in 1970.
    info = NodeInfo(rng.choice([name, *alive]), "", epoch, "", LONG_NS, established)
    node.connected(info, now)


def _unmet(bad: HostileMember, name: str, rng: random.Random) -> None:
    """More than the running processes of others have taken, also of those that it is told of by
    nobody: they have just begun."""
    generation, taken = rng.choice([1, 2, 1000]), rng.choice([50, 300, 2000, 2**40])
    nodes = [one for one in bad.mesh.nodes.values() if one.up and one.name != name]
    rows = [(one.name, one.table.epochs.running, generation, taken, 0) for one in nodes]
    bad.state(name, bad.key(name), rng.choice([1, 1, MOST_DEBT_NS]), rows)


def _mutual(bad: HostileMember, name: str, rng: random.Random) -> None:
    """A little or much more than others have taken, other counts of each to each node, and that
    next to nothing is owed for it."""
    own = random.Random(f"{name} {rng.getrandbits(32)}")
    rows = [
        (owner, epoch, generation + own.choice([0, 0, 0, 1]), taken + own.choice([1, 50, 300]), 0)
        for owner, epoch, generation, taken, _ in bad.others(name)
        if owner in bad.mesh.nodes and bad.mesh[owner].table.epochs.running == epoch
    ]
    if rows:
        bad.state(name, bad.key(name), own.choice([1, 1, MOST_DEBT_NS]), rows)


def _contradicts(bad: HostileMember, name: str, rng: random.Random) -> None:
    """Its own column, higher and lower, under an earlier and a later generation."""
    generation, taken = rng.choice([1, 5, bad.generation]), rng.choice([1, 100, 10**6])
    row = (bad.name, bad.epoch, generation, taken, rng.choice([0, taken]))
    bad.rounds += 1
    bad.state(name, bad.key(name), rng.choice([1, MOST_DEBT_NS]), [row], round=bad.rounds, parts=1)


def _noise(bad: HostileMember, name: str, rng: random.Random) -> None:
    frame = wire.encode(wire.Frame(bad.epoch, 0, 2**40 + rng.getrandbits(20), 0))
    data = bytearray(frame + rng.randbytes(rng.choice([0, 40])))
    for _ in range(rng.choice([0, 1, 4])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    node, now = bad.mesh[name].node, bad.local(name)
    node.table.set_time(now)
    bad.mesh.send(bad.mesh[name], node.receive(bad.name, bytes(data), now))


ACTS: dict[str, Act] = {
    "epochs": _epochs,
    "own epochs": _own_epochs,
    "running epoch": _running_epoch,
    "debts": _debts,
    "large debts": _large_debts,
    "rates": _rates,
    "takes": _takes,
    "refunds": _refunds,
    "generations": _generations,
    "columns": _columns,
    "lower columns": _lower_columns,
    "keys": _keys,
    "definitions": _definitions,
    "members": _members,
    "unseen": _unseen,
    "ages": _ages,
    "digests": _digests,
    "items": _items,
    "wants": _wants,
    "tombstones": _tombstones,
    "clock": _clock,
    "holds": _holds,
    "late": _late,
    "flags": _flags,
    "rollouts": _rollouts,
    "name": _name,
    "noise": _noise,
}
"""The acts, by the names that a plan uses; each sends to one node."""

APART = {"unmet": _unmet, "contradicts": _contradicts, "mutual": _mutual}
"""Further acts, for times in which nodes do not hear each other."""
