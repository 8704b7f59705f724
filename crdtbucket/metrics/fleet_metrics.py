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
    StatsPart("peers").by("peers", "Nodes known, by what is known of them.", "state", read.peers),
    PEER.one(
        "replication_lag_seconds",
        "How old the newest complete round of a peer is, the time that it travelled included.",
        lambda lag: lag,
    ),
    MESH.one(
        "mesh_unreached_peers",
        "Entries of mesh.peers that no node is linked at, but for nodes that have left.",
        read.unreached,
    ),
    MESH.one(
        "mesh_snapshot_age_seconds",
        "How old the last complete snapshot in mesh.state_dir is; none where none is kept.",
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
        "Sealed frames on the sockets: in or out.",
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
        "Connections and frames turned away, by reason.",
        "reason",
        lambda mesh: mesh.get("refused", {}),
    ),
    MetricSpec(
        "mesh_bounded_total",
        "Statements of a peer that went beyond a bound, of which the part within it is believed.",
        read.bounded,
        ("peer", "bound"),
    ),
    MESH.by(
        "mesh_adopted_tokens_total",
        "Tokens by which debts fell because a peer owes less, without refunds.",
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
            "Frames not sent, as a peer read too slowly; later ones carry the same updates.",
        ),
        ("mesh_frames_read_total", "frames", "Frames of peers that the protocol took."),
        ("mesh_frames_duplicate_total", "duplicates", "Of those, frames that had come before."),
        ("mesh_frames_stale_total", "stale", "Of those, frames too long under way."),
        ("mesh_connections_total", "connections", "Links made with peers."),
        ("mesh_dials_failed_total", "dials_failed", "Calls to peers that failed."),
        (
            "mesh_engine_connections_total",
            "engine_connections",
            "Connections made with the message engine of the mesh.",
        ),
        ("mesh_engine_losses_total", "engine_losses", "Of those, connections that were lost."),
        ("mesh_entries_sent_total", "entries_sent", "Entries sent, counted once a peer."),
        (
            "mesh_refused_columns_total",
            "refused_columns",
            "Counts relayed by peers of which only the plausible part is believed.",
        ),
        (
            "mesh_capped_columns_total",
            "capped_columns",
            "Counts by which peers took more than any limit known here allows.",
        ),
        ("mesh_no_room_total", "dropped", "Entries, or counts in them, that found no room."),
        ("mesh_learned_tokens", "gained", "Tokens learned from peers, less what they refunded."),
        (
            "mesh_wall_clock_moved_seconds",
            "wall_clock_moved",
            "How far the wall clock is moved for calendar quotas, as most peers' differ.",
        ),
    ),
    ENDPOINT.by(
        "redis_mode",
        "1 for the mode in which the endpoint is (strong, eventual, fallback), else 0.",
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
        "Calls that failed for certain, by kind.",
        "kind",
        itemgetter("failed"),
    ),
    ENDPOINT.one(
        "redis_latency_seconds",
        "Time to an answer, late ones included.",
        itemgetter("latency", "latency_sum"),
        histogram=True,
    ),
    *ENDPOINT.plain(
        ("redis_mode_switches_total", "switches", "Changes of mode."),
        ("redis_answered_total", "answered", "Calls that were answered in time."),
        ("redis_timed_out_total", "timed_out", "Calls not answered in time: decided locally."),
        ("redis_late_total", "late", "Answers that came after that."),
        (
            "redis_indeterminate_total",
            "indeterminate",
            "Calls of which nobody knows whether Redis ran them; a later call makes it exact.",
        ),
        ("redis_cancelled_total", "cancelled", "Calls whose caller was cancelled meanwhile."),
        ("redis_evicts", "evicts", "1 when this Redis forgets keys as its memory is full, else 0."),
        ("redis_evicted_keys_total", "evicted", "Keys that it has forgotten, of all programs."),
        ("redis_open_calls", "open_calls", "Calls under way, those that wait for room included."),
        ("redis_slow", "slow", "1 while answers take longer than latency_limit, else 0."),
    ),
    *STRONG.plain(
        ("strong_settled_keys_total", "settled_keys", "Keys settled after they were cut off."),
        ("strong_settled_tokens_total", "settled_tokens", "Tokens that settling brought."),
        ("strong_unsettled_keys", "unsettled", "Keys with charges that Redis has not got yet."),
        ("strong_denied_here_total", "denied_here", "Denials without asking Redis again."),
        (
            "strong_unclaimed_charges_total",
            "unclaimed_charges",
            "Charges that no caller got, given back.",
        ),
        ("strong_sharing_nodes", "sharing_nodes", "Processes that share the limits, this one too."),
        ("strong_refused", "refused", "1 while Redis is not used, as others hash keys otherwise."),
    ),
    REGION.by(
        "region_state",
        "1 for how the other regions of a replicated Redis are (seen, silent, unknown), else 0.",
        "state",
        read.region_state,
    ),
    *REGION.plain(
        (
            "region_late_seconds",
            "late",
            "How far the updates of another region are behind; none before its first beat.",
        ),
        ("region_nodes", "nodes", "Processes of other regions."),
    ),
    STRONG.one(
        "region_conflict",
        "1 while two servers have one region's name, or regions hash keys otherwise.",
        lambda strong: strong.get("region_conflict"),
    ),
)
"""A part of `crdtbucket.metrics.catalogue.METRICS`."""
