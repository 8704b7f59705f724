"""Defines the metrics of a limiter about others: its peers, Redis, and the regions of a replicated
Redis."""

from __future__ import annotations

from operator import itemgetter

from crdtbucket.metrics import metric as read
from crdtbucket.metrics.metric import MetricSpec, StatsPart

MESH = StatsPart("mesh")
ENDPOINT = StatsPart("redis", "endpoint")
STRONG = StatsPart("strong")
REGION = StatsPart("regions", "region")
PEER = StatsPart("lag", "peer")
CERTIFICATE = StatsPart("certificates", "use")

FLEET: tuple[MetricSpec, ...] = (
    StatsPart("peers").by(
        "peers", "Known nodes, by state: alive, suspect, dead or left.", "state", read.peers
    ),
    PEER.one(
        "replication_lag_seconds",
        "Age of the newest complete update from a peer, its travel time included.",
        lambda lag: lag,
    ),
    MESH.one(
        "mesh_unreached_peers",
        "Addresses in mesh.peers at which no node is linked, except nodes that said goodbye.",
        read.unreached,
    ),
    MESH.one(
        "mesh_snapshot_age_seconds",
        "Age of the last complete snapshot in mesh.state_dir; no sample without a state_dir.",
        lambda mesh: mesh.get("snapshot_age"),
    ),
    CERTIFICATE.one(
        "certificate_left_seconds",
        "Time until a certificate of this process expires, below 0 once it has: that of the mesh, "
        "for redis, or of serve.",
        itemgetter("left"),
    ),
    CERTIFICATE.one(
        "certificate_validity_seconds",
        "For how long that certificate was issued.",
        itemgetter("validity"),
    ),
    MESH.by(
        "mesh_frames_total",
        "Sealed frames on all links, in or out.",
        "direction",
        read.fields(**{"in": "frames_in", "out": "frames_out"}),
    ),
    MESH.by(
        "mesh_bytes_total",
        "Bytes of those frames.",
        "direction",
        read.fields(**{"in": "bytes_in", "out": "bytes_out"}),
    ),
    MESH.by(
        "mesh_refused_total",
        "Connections and frames that were refused, by reason.",
        "reason",
        lambda mesh: mesh.get("refused", {}),
    ),
    MetricSpec(
        "mesh_bounded_total",
        "Statements of a peer that exceeded a bound and were believed only up to it.",
        read.bounded,
        ("peer", "bound"),
    ),
    MESH.by(
        "mesh_adopted_tokens_total",
        "Tokens by which debts fell because a peer advertised less debt (refunds not included).",
        "peer",
        lambda mesh: mesh.get("adopted", {}),
    ),
    MESH.by(
        "mesh_entries_total",
        "Entries received: merged, ignored (full there, unknown here), or of an unknown bucket.",
        "result",
        read.fields(merged="merged", ignored="ignored", unknown_bucket="unknown_bucket"),
    ),
    *MESH.plain(
        (
            "mesh_frames_dropped_total",
            "frames_dropped",
            "Frames not sent because a peer read too slowly; later ones bring the same updates.",
        ),
        ("mesh_frames_read_total", "frames", "Valid frames received from peers."),
        ("mesh_frames_duplicate_total", "duplicates", "Of those, frames that came a second time."),
        (
            "mesh_frames_stale_total",
            "stale",
            "Of those, frames that came too late to say anything about the present.",
        ),
        ("mesh_connections_total", "connections", "Links made with peers."),
        ("mesh_dials_failed_total", "dials_failed", "Dials to peers that failed."),
        (
            "mesh_engine_connections_total",
            "engine_connections",
            "Connections made with the message engine of the mesh.",
        ),
        ("mesh_engine_losses_total", "engine_losses", "Of those, connections that were lost."),
        ("mesh_entries_sent_total", "entries_sent", "Entries sent, counted once for each peer."),
        (
            "mesh_refused_columns_total",
            "refused_columns",
            "Columns relayed by peers of which only the plausible part was believed.",
        ),
        (
            "mesh_capped_columns_total",
            "capped_columns",
            "Columns of peers that took more than any limit known here allows.",
        ),
        (
            "mesh_no_room_total",
            "dropped",
            "Entries, or columns in them, for which there was no room.",
        ),
        (
            "mesh_learned_tokens",
            "gained",
            "Takes that peers reported, less their refunds, in tokens.",
        ),
        (
            "mesh_wall_clock_moved_seconds",
            "wall_clock_moved",
            "Correction of the wall clock for calendar quotas, by the clocks of most peers.",
        ),
    ),
    ENDPOINT.by(
        "redis_mode",
        "1 for the mode of the endpoint (strong, eventual, fallback), else 0.",
        "mode",
        read.mode,
    ),
    ENDPOINT.by(
        "redis_mode_seconds_total",
        "Seconds spent in each mode.",
        "mode",
        itemgetter("mode_seconds"),
    ),
    ENDPOINT.by(
        "redis_failures_total",
        "Calls that ended with an error or a lost connection, by kind.",
        "kind",
        itemgetter("failed"),
    ),
    ENDPOINT.one(
        "redis_latency_seconds",
        "Time until Redis answered, late answers included.",
        itemgetter("latency", "latency_sum"),
        histogram=True,
    ),
    *ENDPOINT.plain(
        ("redis_mode_switches_total", "switches", "Changes of the endpoint's mode."),
        ("redis_answered_total", "answered", "Calls that were answered in time."),
        (
            "redis_timed_out_total",
            "timed_out",
            "Calls that were not answered in time and were decided by this node.",
        ),
        ("redis_late_total", "late", "Answers that came after the call was decided by this node."),
        (
            "redis_indeterminate_total",
            "indeterminate",
            "Calls that Redis may have run or not; the next call for the key makes it exact.",
        ),
        (
            "redis_cancelled_total",
            "cancelled",
            "Calls whose caller was cancelled before the answer.",
        ),
        (
            "redis_evicts",
            "evicts",
            "1 if this Redis is set to evict keys when its memory is full, else 0.",
        ),
        (
            "redis_evicted_keys_total",
            "evicted",
            "Keys that this Redis has evicted, of all programs.",
        ),
        ("redis_open_calls", "open_calls", "Calls in flight, and those that wait to be sent."),
        ("redis_slow", "slow", "1 while answers take longer than latency_limit, else 0."),
    ),
    *STRONG.plain(
        (
            "strong_settled_keys_total",
            "settled_keys",
            "Keys whose missing counts were settled with Redis.",
        ),
        ("strong_settled_tokens_total", "settled_tokens", "Tokens that were settled with Redis."),
        ("strong_unsettled_keys", "unsettled", "Keys with charges that Redis does not have yet."),
        (
            "strong_denied_here_total",
            "denied_here",
            "Denials by this node without asking Redis again.",
        ),
        (
            "strong_unclaimed_charges_total",
            "unclaimed_charges",
            "Charges that no caller received and that were given back.",
        ),
        (
            "strong_sharing_nodes",
            "sharing_nodes",
            "Processes that share the limits, this one included.",
        ),
        (
            "strong_refused",
            "refused",
            "1 while Redis is not used because others hash keys differently.",
        ),
    ),
    REGION.by(
        "region_state",
        "1 for the state of another region of a replicated Redis (seen, silent, unknown), else 0.",
        "state",
        read.region_state,
    ),
    *REGION.plain(
        (
            "region_late_seconds",
            "late",
            "How late the updates of another region are; no sample before its first beat.",
        ),
        ("region_nodes", "nodes", "Processes of other regions."),
    ),
    STRONG.one(
        "region_conflict",
        "1 while two servers have the name of one region, or regions hash keys differently.",
        lambda strong: strong.get("region_conflict"),
    ),
)
"""A part of `crdtbucket.metrics.catalogue.METRICS`."""
