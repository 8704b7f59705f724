"""The parts of a limiter's `stats` and `fleet`, as plain dicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.slots import SlotBucket
from crdtbucket.rollout.staged import Status
from crdtbucket.spec.mode import MODES

if TYPE_CHECKING:
    from crdtbucket.limiter.saved_state import SavedState
    from crdtbucket.mesh.protocol.mesh_node import MeshNode
    from crdtbucket.mesh.transport.mesh_network import MeshNetwork


def bucket_stats(bucket: Bucket) -> dict[str, Any]:
    """Counters of one bucket, its waiters and reservations."""
    books = [one.reservations for one in (bucket, *bucket.parts)]
    return {
        **bucket.counters(),
        "waiting": len(bucket.waiters),
        "reservations_held": sum(book.held for book in books),
        "reserved": sum(book.reserved for book in books),
        "reservations_expired": sum(book.expired for book in books),
        "late_commits": sum(book.late_commits for book in books),
        "slots_held": bucket.open_slots if isinstance(bucket, SlotBucket) else 0,
        "slots_expired": bucket.expired if isinstance(bucket, SlotBucket) else 0,
    }


def mesh_stats(mesh: MeshNetwork, machine: MeshNode, saved: SavedState, now: int) -> dict[str, Any]:
    """States, lags (s) and keys of the peers, counters of the mesh, and how old the snapshot is.
    `now`: local ns. Safe from any thread."""
    shown = [(link.peer.name, link.identity.fingerprint) for link in mesh.links.all()]
    unreached = [
        {
            "address": one.address,
            "node": one.node,
            "seconds": max(0, now_ns() - one.since) / NS_PER_SECOND,
            "reason": one.reason,
            "left": one.left,
        }
        for one in mesh.unreached()
    ]
    links, lags = sorted(machine.links.items()), sorted(machine.members.lags(now).items())
    return {
        "peers": {name: machine.members.status(link, now) for name, link in links},
        "lag": {name: ns / NS_PER_SECOND for name, (ns, _) in lags},
        "longest_lag": {name: ns / NS_PER_SECOND for name, (_, ns) in lags},
        "keys": {name: key for name, key in shown if key is not None},
        "identity": mesh.peer_keys.described(),
        "mesh": {
            **vars(mesh.counters),
            "refused": dict(mesh.counters.refused),
            **machine.counters,
            "unreached": unreached,
            "entries_sent": machine.entries_sent,
            "bounded": machine.members.bounded.counts(),
            "adopted": machine.members.bounded.adopted(),
            "wall_clock_moved": machine.wall_moved_ns / NS_PER_SECOND,
            **saved.stats(),
        },
    }


def fleet_row(
    node: str,
    region: str,
    state: str,
    config: tuple[int, int, int] | None,
    rollout: tuple[int, int, int, int, int] | None,
    unseen: Sequence[str] = (),
    mode: int | None = None,
) -> dict[str, Any]:
    """The row of one node: its configuration and the state of the newest one (None if it advertised
    none), the members that it says it does not see, and the mode in which it decides."""
    version, content, stage = (None, None, None) if config is None else config
    newest = None
    if rollout is not None:
        names = {"version": rollout[0], "hash": f"{rollout[1]:016x}"}
        newest = {**names, "status": str(Status(rollout[3]))}
    return {
        "node": node,
        "region": region,
        "state": state,
        "version": version,
        "hash": None if content is None else f"{content:016x}",
        "stage": stage,
        "rollout": newest,
        "unseen": list(unseen),
        "mode": MODES[mode].value if mode is not None and mode < len(MODES) else None,
    }
