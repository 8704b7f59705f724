"""Every metric of a limiter: its name, kind, help, labels, and how it is read from the stats.

No label is ever a key of a bucket: there may be millions of those. docs/metrics.md is this table.
"""

from __future__ import annotations

from crdtbucket.metrics import metric as read
from crdtbucket.metrics.metric import PEER_STATES, MetricSpec, Sample, Stats
from crdtbucket.spec.mode import Mode

BUCKET = ("bucket",)
ENDPOINT = ("endpoint",)
CONFIG_LABELS = ("version", "hash", "stage")

NODE = (
    MetricSpec(
        "node_info",
        "Who this is; always 1.",
        lambda stats: [((stats["node"], stats["region"]), 1)],
        ("node", "region"),
    ),
    MetricSpec(
        "warming_up",
        "1 while this node has no answer from the mesh yet and serves only a part of its share.",
        lambda stats: [((), int(stats["warming_up"]))],
    ),
)
BUCKETS = (
    MetricSpec(
        "decisions_total",
        "Decisions by mode: allowed, denied, or shadowed (admitted by a shadow beyond its limit).",
        read.decisions,
        ("bucket", "decision", "mode"),
    ),
    MetricSpec(
        "mode",
        "1 for the mode in which the bucket decides (strong, eventual, fallback), else 0.",
        read.each_by("buckets", read.mode),
        ("bucket", "mode"),
    ),
    MetricSpec(
        "fallback_active",
        "1 while the bucket decides by the rule of an outage.",
        read.each("buckets", lambda one: int(one["mode"] == Mode.FALLBACK)),
        BUCKET,
    ),
    MetricSpec(
        "capacity_tokens",
        "Tokens of a full bucket.",
        read.each("buckets", lambda one: one["spec"].capacity),
        BUCKET,
    ),
    MetricSpec(
        "refill_tokens_per_second",
        "Tokens that come back in a second.",
        read.each("buckets", lambda one: one["spec"].rate_per_second),
        BUCKET,
    ),
    MetricSpec(
        "fill_ratio",
        "Share of their tokens that the held keys have on average; 1: all are full.",
        read.each("buckets", lambda one: 1 - read.share(one["debt"], one) / max(one["keys"], 1)),
        BUCKET,
    ),
    MetricSpec(
        "lowest_fill_ratio",
        "Share of its tokens that the emptiest key has; below 0 in debt beyond the capacity.",
        read.each("buckets", lambda one: 1 - read.share(one["highest_debt"], one)),
        BUCKET,
    ),
    MetricSpec(
        "over_admission_bound_tokens",
        "Most that lag explains of the debt beyond the capacity: of each peer its capacity, and"
        " the refill since it was seen.",
        read.lag_bound,
        BUCKET,
    ),
    MetricSpec(
        "slots",
        "Slots of a key, where what is in flight is limited; else 0.",
        read.each("buckets", lambda one: one["spec"].slots or 0),
        BUCKET,
    ),
    *read.plain(
        "buckets",
        BUCKET,
        ("tokens_granted_total", "granted", "Tokens taken here, settled ones included."),
        ("tokens_refunded_total", "refunded", "Tokens given back here."),
        (
            "guaranteed_total",
            "guaranteed",
            "Calls that passed by the guaranteed share alone, as peers state that nothing is left.",
        ),
        ("tokens_forgiven_total", "forgiven", "Tokens of debt dropped at the ceiling."),
        ("tokens_reserved", "reserved", "Tokens set aside by the reservations that are open."),
        ("debt_tokens", "debt", "Tokens that the held keys lack to full, of all keys."),
        ("highest_debt_tokens", "highest_debt", "Tokens that the emptiest key lacks to full."),
        (
            "over_admission_tokens",
            "over_admission",
            "Most debt beyond the capacity that an update, or an outage's rule, lately gave a key.",
        ),
        ("keys", "keys", "Keys of the bucket that are held."),
        ("empty_keys", "empty", "Of those, keys without a whole token."),
        ("refused_keys_total", "refused_full", "New keys of the bucket that found no room."),
        ("waiting_callers", "waiting", "Callers that wait for tokens."),
        ("reservations_held", "reservations_held", "Reservations that are open."),
        (
            "reservations_expired_total",
            "reservations_expired",
            "Reservations that were ended by their time to live.",
        ),
        ("late_commits_total", "late_commits", "Commits of reservations that had ended."),
        ("slots_held", "slots_held", "Slots that this process holds, of all keys."),
        ("slots_expired_total", "slots_expired", "Slots held here that only their ttl has freed."),
    ),
)
TABLE = (
    MetricSpec(
        "table_evictions_total",
        "Keys that went: full ones cost nothing, indebted ones forget their debt.",
        read.numbers("table", full="evicted_full", indebted="evicted_indebted"),
        ("state",),
    ),
    *read.plain(
        "table",
        (),
        ("table_keys", "keys", "Keys held, of all buckets."),
        ("table_keys_limit", "max_keys", "Keys that may be held at once."),
        ("table_bytes", "bytes", "Memory in use for keys."),
        ("table_inserted_total", "inserted", "Keys added."),
        ("table_refused_keys_total", "refused_full", "New keys that found no room."),
        ("table_forgotten_nodes_total", "forgotten", "Nodes given up."),
        ("table_changes_total", "version", "Changes of keys that peers are told of."),
        (
            "table_unlogged_changes_total",
            "unlogged",
            "Changes that peers learn of by digests alone: there was no memory to list them.",
        ),
    ),
)
OVERRIDES = read.plain(
    "overrides",
    (),
    ("overrides", "given", "Keys to which operators have given a limit."),
    ("overrides_limits", "limits", "Different limits that keys have from outside."),
    (
        "overrides_failed_total",
        "failed",
        "Times that a function did not say the limit of a key, so that an earlier one holds.",
    ),
)
SHARED = read.plain(
    "shared",
    (),
    ("shared_processes", "processes", "Processes that use the shared table."),
    ("shared_leading", "leading", "1 in the process that speaks to the peers for all, else 0."),
    ("shared_repairs_total", "repairs", "Times a process died while it changed the table."),
)
MESH = (
    MetricSpec("peers", "Nodes known, by what is known of them.", read.peers, ("state",)),
    MetricSpec(
        "replication_lag_seconds",
        "How old the newest complete round of a peer is, the time that it travelled included.",
        lambda stats: [((name,), lag) for name, lag in stats.get("lag", {}).items()],
        ("peer",),
    ),
    MetricSpec(
        "mesh_frames_total",
        "Sealed frames on the sockets: in or out.",
        read.numbers("mesh", **{"in": "frames_in", "out": "frames_out"}),
        ("direction",),
    ),
    MetricSpec(
        "mesh_bytes_total",
        "Bytes of those frames.",
        read.numbers("mesh", **{"in": "bytes_in", "out": "bytes_out"}),
        ("direction",),
    ),
    MetricSpec(
        "mesh_refused_total",
        "Connections and frames turned away, by reason.",
        read.refused,
        ("reason",),
    ),
    MetricSpec(
        "mesh_bounded_total",
        "Statements of a peer that went beyond a bound, of which the part within it is believed.",
        read.bounded,
        ("peer", "bound"),
    ),
    MetricSpec(
        "mesh_entries_total",
        "Entries received: merged, ignored (full there, unknown here), or of an unknown bucket.",
        read.numbers("mesh", merged="merged", ignored="ignored", unknown_bucket="unknown_bucket"),
        ("result",),
    ),
    *read.plain(
        "mesh",
        (),
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
        (
            "mesh_learned_tokens",
            "gained",
            "Tokens learned from peers, less what they refunded.",
        ),
        (
            "mesh_wall_clock_moved_seconds",
            "wall_clock_moved",
            "How far the wall clock is moved for calendar quotas, as most peers' differ.",
        ),
    ),
)
REDIS = (
    MetricSpec(
        "redis_mode",
        "1 for the mode in which the endpoint is (strong, eventual, fallback), else 0.",
        read.each_by("redis", read.mode),
        ("endpoint", "mode"),
    ),
    MetricSpec(
        "redis_mode_seconds_total",
        "Seconds spent in each mode.",
        read.each_by("redis", lambda one: one["mode_seconds"]),
        ("endpoint", "mode"),
    ),
    MetricSpec(
        "redis_failures_total",
        "Calls that failed for certain, by kind.",
        read.each_by("redis", lambda one: one["failed"]),
        ("endpoint", "kind"),
    ),
    MetricSpec(
        "redis_latency_seconds",
        "Time to an answer, late ones included.",
        read.each("redis", lambda one: (one["latency"], one["latency_sum"])),
        ENDPOINT,
        histogram=True,
    ),
    *read.plain(
        "redis",
        ENDPOINT,
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
    *read.plain(
        "strong",
        (),
        ("strong_settled_keys_total", "settled_keys", "Keys settled after they were cut off."),
        ("strong_settled_tokens_total", "settled_tokens", "Tokens that settling brought."),
        ("strong_unsettled_keys", "unsettled", "Keys that Redis is still to be told of."),
        ("strong_denied_here_total", "denied_here", "Denials without asking Redis again."),
        (
            "strong_unclaimed_charges_total",
            "unclaimed_charges",
            "Charges that no caller got, given back.",
        ),
        ("strong_sharing_nodes", "sharing_nodes", "Processes that share the limits, this one too."),
        ("strong_refused", "refused", "1 while Redis is not used, as others hash keys otherwise."),
    ),
)
REGION = (
    MetricSpec(
        "region_state",
        "1 for how the other regions of a replicated Redis are (seen, silent, unknown), else 0.",
        read.each_by("regions", read.region_state),
        ("region", "state"),
    ),
    MetricSpec(
        "region_late_seconds",
        "How far the updates of another region are behind; none before its first beat.",
        read.region_late,
        ("region",),
    ),
    *read.plain("regions", ("region",), ("region_nodes", "nodes", "Processes of other regions.")),
    MetricSpec(
        "region_conflict",
        "1 while two servers have one region's name, or regions hash keys otherwise.",
        lambda stats: (
            [((), stats["strong"]["region_conflict"])]
            if "region_conflict" in stats.get("strong", {})
            else []
        ),
    ),
)

CONFIG = (
    MetricSpec(
        "config_info",
        "The configuration that runs: version, hash of its content, stage of its roll-out; 1.",
        lambda stats: (
            [(tuple(str(stats["config"][field]) for field in CONFIG_LABELS), 1)]
            if "config" in stats
            else []
        ),
        CONFIG_LABELS,
    ),
    MetricSpec(
        "config_reloads_total",
        "Configurations that were read again: taken over (applied), or refused for their faults.",
        read.numbers("config", applied="reloads", refused="refused"),
        ("result",),
    ),
    MetricSpec(
        "config_version",
        "Version of the configuration that runs.",
        read.number("config", "version"),
    ),
)

ROLLOUT = (
    MetricSpec(
        "rollout_status",
        "1 for how the newest version stands (running, done, halted, rolled_back), else 0.",
        read.rollout_status,
        ("status",),
    ),
    *read.plain(
        "rollout",
        (),
        ("rollout_stage", "stage", "The stage that its roll-out is at, from 1."),
        ("rollout_stages", "stages", "How many stages it has."),
        ("rollout_percent", "percent", "Share of the keys of this node that it has, in percent."),
        ("rollout_halts_total", "halts", "Times that this node halted it for what it denied."),
    ),
    MetricSpec(
        "rollout_decisions_total",
        "Calls under the old and the new version, of buckets that have keys of both: admitted or"
        " denied.",
        read.rollout_decisions,
        ("bucket", "version", "decision"),
    ),
)

METRICS: tuple[MetricSpec, ...] = (
    *NODE,
    *BUCKETS,
    *TABLE,
    *OVERRIDES,
    *SHARED,
    *MESH,
    *REDIS,
    *REGION,
    *CONFIG,
    *ROLLOUT,
)
"""All of them; every name gets `PREFIX`."""
PREFIX = "crdtbucket_"

__all__ = ["METRICS", "PEER_STATES", "PREFIX", "MetricSpec", "Sample", "Stats"]
