"""Every metric of a limiter: its name, kind, help, labels, and how it is read from the stats.

No label is ever a key of a bucket: there may be millions of those. docs/metrics.md is this table.
"""

from __future__ import annotations

from crdtbucket.metrics import metric as read
from crdtbucket.metrics.fleet_metrics import FLEET
from crdtbucket.metrics.metric import MetricSpec, StatsPart
from crdtbucket.spec.mode import Mode

BUCKET = StatsPart("buckets", "bucket")
TABLE = StatsPart("table")
OVERRIDES = StatsPart("overrides")
SHARED = StatsPart("shared")
CONFIG = StatsPart("config")
ROLLOUT = StatsPart("rollout")

METRICS: tuple[MetricSpec, ...] = (
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
    MetricSpec(
        "decisions_total",
        "Decisions by mode: allowed, denied, or shadowed (admitted by a shadow beyond its limit).",
        read.decisions,
        ("bucket", "decision", "mode"),
    ),
    BUCKET.by(
        "mode",
        "1 for the mode in which the bucket decides (strong, eventual, fallback), else 0.",
        "mode",
        read.mode,
    ),
    BUCKET.one(
        "fallback_active",
        "1 while the bucket decides by the rule of an outage.",
        lambda one: int(one["mode"] == Mode.FALLBACK),
    ),
    BUCKET.one("capacity_tokens", "Tokens of a full bucket.", lambda one: one["spec"].capacity),
    BUCKET.one(
        "refill_tokens_per_second",
        "Tokens that come back in a second.",
        lambda one: one["spec"].rate_per_second,
    ),
    BUCKET.one(
        "fill_ratio",
        "Share of their tokens that the held keys have on average; 1: all are full.",
        lambda one: 1 - read.share(one["debt"], one) / max(one["keys"], 1),
    ),
    BUCKET.one(
        "lowest_fill_ratio",
        "Share of its tokens that the emptiest key has; below 0 in debt beyond the capacity.",
        lambda one: 1 - read.share(one["highest_debt"], one),
    ),
    MetricSpec(
        "over_admission_bound_tokens",
        "Most that lag explains of the debt beyond the capacity: of each peer its capacity, and"
        " the refill since it was seen.",
        read.lag_bound,
        ("bucket",),
    ),
    BUCKET.one(
        "slots",
        "Slots of a key, where what is in flight is limited; else 0.",
        lambda one: one["spec"].slots or 0,
    ),
    *BUCKET.plain(
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
    TABLE.by(
        "table_evictions_total",
        "Keys that went: full ones cost nothing, indebted ones forget their debt.",
        "state",
        read.fields(full="evicted_full", indebted="evicted_indebted"),
    ),
    *TABLE.plain(
        ("table_keys", "keys", "Keys held, of all buckets."),
        ("table_keys_limit", "max_keys", "Keys that may be held at once."),
        ("table_bytes", "bytes", "Memory in use for keys."),
        ("table_inserted_total", "inserted", "Keys added."),
        ("table_refused_keys_total", "refused_full", "New keys that found no room."),
        ("table_forgotten_nodes_total", "forgotten", "Nodes given up."),
        ("table_changes_total", "version", "Changes of keys that are sent to peers."),
        (
            "table_unlogged_changes_total",
            "unlogged",
            "Changes that peers learn of by digests alone: there was no memory to list them.",
        ),
    ),
    *OVERRIDES.plain(
        ("overrides", "given", "Keys to which operators have given a limit."),
        ("overrides_limits", "limits", "Different limits that keys have from outside."),
        (
            "overrides_failed_total",
            "failed",
            "Times that a function did not say the limit of a key, so that an earlier one holds.",
        ),
    ),
    *SHARED.plain(
        ("shared_processes", "processes", "Processes that use the shared table."),
        ("shared_leading", "leading", "1 in the process that speaks to the peers for all, else 0."),
        ("shared_repairs_total", "repairs", "Times a process died while it changed the table."),
    ),
    *FLEET,
    MetricSpec(
        "config_info",
        "The configuration that runs: version, hash of its content, stage of its roll-out; 1.",
        read.config_info,
        read.CONFIG_LABELS,
    ),
    CONFIG.by(
        "config_reloads_total",
        "Configurations that were read again: taken over (applied), or refused for their faults.",
        "result",
        read.fields(applied="reloads", refused="refused"),
    ),
    CONFIG.one(
        "config_refused",
        "1 while the newest configuration that was read is refused, else 0.",
        lambda config: int(bool(config.get("fault"))),
    ),
    *CONFIG.plain(("config_version", "version", "Version of the configuration that runs.")),
    ROLLOUT.by(
        "rollout_status",
        "1 for how the newest version stands (running, done, halted, rolled_back), else 0.",
        "status",
        read.rollout_status,
    ),
    *ROLLOUT.plain(
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
"""All metrics; the name of each gets `PREFIX`."""
PREFIX = "crdtbucket_"
