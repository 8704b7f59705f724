"""Every metric of a limiter: its name, kind, help, labels, and how it is read from the stats.

No label is ever a key of a bucket: there may be millions of those. docs/metrics.md is this table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from crdtbucket.mode import Mode

Stats = Mapping[str, Any]
"""`Limiter.stats()`, where each bucket's numbers have its `spec` and `mode` among them."""
Sample = tuple[tuple[str, ...], Any]
"""Values of the labels and the number; of a histogram, ([(bound, count), ...], sum)."""
Read = Callable[[Stats], Iterable[Sample]]

PEER_STATES = ("alive", "suspect", "dead", "left")


@dataclass(frozen=True)
class Figure:
    """One metric; `read` gives no sample where the limiter has no such part."""

    name: str
    help: str
    read: Read
    labels: tuple[str, ...] = ()
    histogram: bool = False

    @property
    def kind(self) -> str:
        """counter, gauge or histogram."""
        if self.histogram:
            return "histogram"
        return "counter" if self.name.endswith("_total") else "gauge"


def _number(part: str, field: str) -> Read:
    return lambda stats: [((), stats[part][field])] if part in stats else []


def _numbers(part: str, **fields: str) -> Read:
    """Several numbers of a part, each under the label that tells it apart."""
    return lambda stats: (
        [((label,), stats[part][field]) for label, field in fields.items()] if part in stats else []
    )


def _each(part: str, of: Callable[[Any], Any]) -> Read:
    """One number of every bucket, or of every endpoint of Redis."""
    return lambda stats: [((name,), of(one)) for name, one in stats.get(part, {}).items()]


def _each_by(part: str, of: Callable[[Any], Mapping[str, Any]]) -> Read:
    """Several numbers of every bucket or endpoint, by a second label."""
    return lambda stats: [
        ((name, label), value)
        for name, one in stats.get(part, {}).items()
        for label, value in of(one).items()
    ]


def _plain(part: str, labels: tuple[str, ...], *rows: tuple[str, str, str]) -> Iterable[Figure]:
    """Figures that are one field as it is: of each bucket or endpoint with labels, else of the
    part. A row: name, field, help."""
    for name, field, text in rows:
        read = _each(part, itemgetter(field)) if labels else _number(part, field)
        yield Figure(name, text, read, labels)


def _mode(one: Mapping[str, Any]) -> dict[str, int]:
    return {mode.value: int(mode == one["mode"]) for mode in Mode}


def _peers(stats: Stats) -> Iterable[Sample]:
    states = Counter(stats["peers"].values()) if "peers" in stats else None
    return [((state,), states[state]) for state in PEER_STATES] if states is not None else []


def _refused(stats: Stats) -> Iterable[Sample]:
    return [((reason,), n) for reason, n in stats.get("mesh", {}).get("refused", {}).items()]


BUCKET = ("bucket",)
ENDPOINT = ("endpoint",)

NODE = (
    Figure(
        "node_info",
        "Who this is; always 1.",
        lambda stats: [((stats["node"], stats["region"]), 1)],
        ("node", "region"),
    ),
    Figure(
        "cautious",
        "1 while this node has not heard the mesh yet and serves only a part of its share.",
        lambda stats: [((), int(stats["cautious"]))],
    ),
)
BUCKETS = (
    Figure(
        "decisions_total",
        "Decisions: allowed, denied, or shadowed: allowed by a shadow though the limit denies it.",
        _each_by(
            "buckets", lambda one: {key: one[key] for key in ("allowed", "denied", "shadowed")}
        ),
        ("bucket", "result"),
    ),
    Figure(
        "mode",
        "1 for the mode in which the bucket decides (strong, eventual, fallback), else 0.",
        _each_by("buckets", _mode),
        ("bucket", "mode"),
    ),
    Figure(
        "fallback_active",
        "1 while the bucket decides by the rule of an outage.",
        _each("buckets", lambda one: int(one["mode"] == Mode.FALLBACK)),
        BUCKET,
    ),
    Figure(
        "capacity_tokens",
        "Tokens of a full bucket.",
        _each("buckets", lambda one: one["spec"].capacity),
        BUCKET,
    ),
    Figure(
        "refill_tokens_per_second",
        "Tokens that come back in a second.",
        _each("buckets", lambda one: one["spec"].rate_per_second),
        BUCKET,
    ),
    *_plain(
        "buckets",
        BUCKET,
        ("tokens_granted_total", "granted", "Tokens taken here, settled ones included."),
        ("tokens_refunded_total", "refunded", "Tokens given back here."),
        ("tokens_forgiven_total", "forgiven", "Tokens of debt dropped at the ceiling."),
        ("keys", "keys", "Keys of the bucket that are held."),
        ("refused_keys_total", "refused_full", "New keys of the bucket that found no room."),
        ("waiting_callers", "waiting", "Callers that wait for tokens."),
        ("reservations_held", "reservations_held", "Reservations that are open."),
        (
            "reservations_expired_total",
            "reservations_expired",
            "Reservations that were ended by their time to live.",
        ),
        ("late_commits_total", "late_commits", "Commits of reservations that had ended."),
    ),
)
TABLE = (
    Figure(
        "table_evictions_total",
        "Keys that went: full ones cost nothing, indebted ones forget their debt.",
        _numbers("table", full="evicted_full", indebted="evicted_indebted"),
        ("state",),
    ),
    *_plain(
        "table",
        (),
        ("table_keys", "keys", "Keys held, of all buckets."),
        ("table_keys_limit", "max_keys", "Keys that may be held at once."),
        ("table_bytes", "bytes", "Memory in use for keys."),
        ("table_inserted_total", "inserted", "Keys added."),
        ("table_refused_keys_total", "refused_full", "New keys that found no room."),
        ("table_forgotten_nodes_total", "forgotten", "Nodes given up."),
        ("table_changes_total", "version", "Changes of keys that peers are told of."),
    ),
)
MESH = (
    Figure("peers", "Nodes known, by what is known of them.", _peers, ("state",)),
    Figure(
        "mesh_frames_total",
        "Sealed frames on the sockets: in or out.",
        _numbers("mesh", **{"in": "frames_in", "out": "frames_out"}),
        ("direction",),
    ),
    Figure(
        "mesh_bytes_total",
        "Bytes of those frames.",
        _numbers("mesh", **{"in": "bytes_in", "out": "bytes_out"}),
        ("direction",),
    ),
    Figure(
        "mesh_refused_total",
        "Connections and frames turned away, by reason.",
        _refused,
        ("reason",),
    ),
    Figure(
        "mesh_entries_total",
        "Entries received: merged, ignored (full there, unknown here), or of an unknown bucket.",
        _numbers("mesh", merged="merged", ignored="ignored", unknown_bucket="unknown_bucket"),
        ("result",),
    ),
    *_plain(
        "mesh",
        (),
        (
            "mesh_frames_dropped_total",
            "frames_dropped",
            "Frames not sent, as a peer read too slowly; later ones carry the same news.",
        ),
        ("mesh_frames_read_total", "frames", "Frames of peers that the protocol took."),
        ("mesh_frames_duplicate_total", "duplicates", "Of those, frames that had come before."),
        ("mesh_frames_stale_total", "stale", "Of those, frames too long under way."),
        ("mesh_connections_total", "connections", "Links made with peers."),
        ("mesh_dials_failed_total", "dials_failed", "Calls to peers that failed."),
        ("mesh_entries_sent_total", "entries_sent", "Entries sent, counted once a peer."),
        ("mesh_refused_columns_total", "refused_columns", "Counts of peers not believed."),
        ("mesh_no_room_total", "dropped", "Entries, or counts in them, that found no room."),
        ("mesh_learned_tokens", "gained", "Tokens learned from peers, less what they refunded."),
    ),
)
REDIS = (
    Figure(
        "redis_mode",
        "1 for the mode in which the endpoint is (strong, eventual, fallback), else 0.",
        _each_by("redis", _mode),
        ("endpoint", "mode"),
    ),
    Figure(
        "redis_mode_seconds_total",
        "Seconds spent in each mode.",
        _each_by("redis", lambda one: one["mode_seconds"]),
        ("endpoint", "mode"),
    ),
    Figure(
        "redis_failures_total",
        "Calls that failed for certain, by kind.",
        _each_by("redis", lambda one: one["failed"]),
        ("endpoint", "kind"),
    ),
    Figure(
        "redis_latency_seconds",
        "Time to an answer, late ones included.",
        _each("redis", lambda one: (one["latency"], one["latency_sum"])),
        ENDPOINT,
        histogram=True,
    ),
    *_plain(
        "redis",
        ENDPOINT,
        ("redis_mode_switches_total", "switches", "Changes of mode."),
        ("redis_answered_total", "answered", "Calls that were answered in time."),
        ("redis_timed_out_total", "timed_out", "Calls not answered in time: decided locally."),
        ("redis_late_total", "late", "Answers that came after that."),
        ("redis_cancelled_total", "cancelled", "Calls whose caller was cancelled meanwhile."),
        ("redis_open_calls", "open_calls", "Calls under way."),
    ),
    *_plain(
        "strong",
        (),
        ("strong_settled_keys_total", "settled_keys", "Keys settled after they were cut off."),
        ("strong_settled_tokens_total", "settled_tokens", "Tokens that settling brought."),
        ("strong_unsettled_keys", "unsettled", "Keys that Redis is still to be told of."),
        ("strong_denied_here_total", "denied_here", "Denials without asking Redis again."),
        ("strong_returned_calls_total", "ghosts", "Calls found charged to nobody, and returned."),
        ("strong_sharing_nodes", "sharing_nodes", "Nodes that share the limits, this one too."),
    ),
)

FIGURES: tuple[Figure, ...] = (*NODE, *BUCKETS, *TABLE, *MESH, *REDIS)
"""All of them; every name gets `PREFIX`."""
PREFIX = "crdtbucket_"

__all__ = ["FIGURES", "PEER_STATES", "PREFIX", "Figure", "Sample", "Stats"]
