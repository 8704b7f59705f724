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
        "The node's name and region, as labels; always 1.",
        lambda stats: [((stats["node"], stats["region"]), 1)],
        ("node", "region"),
    ),
    MetricSpec(
        "warming_up",
        "1 while this node has no update from a peer yet, and serves only a part of its share.",
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
        "1 while the bucket decides by the rule for an outage of Redis (mode fallback).",
        lambda one: int(one["mode"] == Mode.FALLBACK),
    ),
    BUCKET.one("capacity_tokens", "Tokens of a full bucket.", lambda one: one["spec"].capacity),
    BUCKET.one(
        "refill_tokens_per_second",
        "Tokens that refill in a second.",
        lambda one: one["spec"].rate_per_second,
    ),
    BUCKET.one(
        "fill_ratio",
        "Average level of the keys in the table, as a part of the capacity; 1: all are full.",
        lambda one: 1 - read.share(one["debt"], one) / max(one["keys"], 1),
    ),
    BUCKET.one(
        "lowest_fill_ratio",
        "Level of the emptiest key, as a part of the capacity; below 0 if it owes more than that.",
        lambda one: 1 - read.share(one["highest_debt"], one),
    ),
    MetricSpec(
        "over_admission_bound_tokens",
        "Largest over-admission that lag explains: for each peer the capacity, and the refill since"
        " it was seen.",
        read.lag_bound,
        ("bucket",),
    ),
    BUCKET.one(
        "slots",
        "Slots of each key, if the bucket limits calls in flight; else 0.",
        lambda one: one["spec"].slots or 0,
    ),
    *BUCKET.plain(
        (
            "tokens_granted_total",
            "granted",
            "Tokens taken on this node, those that settle or a commit charged later included.",
        ),
        ("tokens_refunded_total", "refunded", "Tokens refunded on this node."),
        (
            "guaranteed_total",
            "guaranteed",
            "Calls that passed only by the guaranteed share, as peers state that nothing is left.",
        ),
        (
            "tokens_forgiven_total",
            "forgiven",
            "Tokens of debt that were forgiven, as they were beyond the capacity and max_debt.",
        ),
        ("tokens_reserved", "reserved", "Tokens set aside by open reservations."),
        (
            "debt_tokens",
            "debt",
            "Debt of all keys in the table: the tokens that they lack to be full.",
        ),
        ("highest_debt_tokens", "highest_debt", "Debt of the emptiest key."),
        (
            "over_admission_tokens",
            "over_admission",
            "Largest recent over-admission of a key, by updates of peers or an outage's rule.",
        ),
        ("keys", "keys", "Keys of the bucket in the table."),
        ("empty_keys", "empty", "Of those, keys with less than one token."),
        (
            "refused_keys_total",
            "refused_full",
            "Times that there was no room for a new key of the bucket.",
        ),
        ("waiting_callers", "waiting", "Callers that are waiting for tokens."),
        ("reservations_held", "reservations_held", "Open reservations."),
        (
            "reservations_expired_total",
            "reservations_expired",
            "Reservations whose ttl passed before a commit.",
        ),
        (
            "late_commits_total",
            "late_commits",
            "Commits that came after the end of their reservation.",
        ),
        ("slots_held", "slots_held", "Slots that this process holds, over all keys."),
        (
            "slots_expired_total",
            "slots_expired",
            "Slots that this process held and that were freed only by their ttl.",
        ),
    ),
    TABLE.by(
        "table_evictions_total",
        "Keys evicted from the table. Full ones lose nothing; indebted ones start full again.",
        "state",
        read.fields(full="evicted_full", indebted="evicted_indebted"),
    ),
    *TABLE.plain(
        ("table_keys", "keys", "Keys in the table, of all buckets."),
        ("table_keys_limit", "max_keys", "Most keys that the table can hold (max_keys)."),
        ("table_bytes", "bytes", "Bytes of memory in use for keys."),
        ("table_inserted_total", "inserted", "Keys added to the table."),
        (
            "table_refused_keys_total",
            "refused_full",
            "Times that the table had no room for a new key.",
        ),
        (
            "table_forgotten_nodes_total",
            "forgotten",
            "Nodes that were given up, as they were silent for too long or have ended.",
        ),
        (
            "table_changes_total",
            "version",
            "Changes of keys that were recorded to be sent to peers.",
        ),
        (
            "table_unlogged_changes_total",
            "unlogged",
            "Changes that there was no memory to record: peers learn of them by anti-entropy.",
        ),
    ),
    *OVERRIDES.plain(
        ("overrides", "given", "Keys to which operators have given a limit of their own."),
        (
            "overrides_limits",
            "limits",
            "Different limits that single keys have, from operators or from a function.",
        ),
        (
            "overrides_failed_total",
            "failed",
            "Failures of a function that gives limits of keys; the earlier limit stays in force.",
        ),
    ),
    *SHARED.plain(
        ("shared_processes", "processes", "Processes that use the shared table."),
        (
            "shared_leading",
            "leading",
            "1 in the process that is linked with the peers for all processes of the host, else 0.",
        ),
        (
            "shared_repairs_total",
            "repairs",
            "Repairs of the table, after a process died while it changed it.",
        ),
    ),
    *FLEET,
    MetricSpec(
        "config_info",
        "The configuration in force, as labels: version, hash, stage of its roll-out; always 1.",
        read.config_info,
        read.CONFIG_LABELS,
    ),
    CONFIG.by(
        "config_reloads_total",
        "Reloads of the configuration: applied, or refused for its faults.",
        "result",
        read.fields(applied="reloads", refused="refused"),
    ),
    CONFIG.one(
        "config_refused",
        "1 while the newest configuration is refused and an earlier one stays in force, else 0.",
        lambda config: int(bool(config.get("fault"))),
    ),
    *CONFIG.plain(("config_version", "version", "Version of the configuration in force.")),
    ROLLOUT.by(
        "rollout_status",
        "1 for the state of the newest roll-out (running, done, halted, rolled_back), else 0.",
        "status",
        read.rollout_status,
    ),
    *ROLLOUT.plain(
        ("rollout_stage", "stage", "The stage that the roll-out has reached, from 1."),
        ("rollout_stages", "stages", "How many stages the roll-out has."),
        (
            "rollout_percent",
            "percent",
            "Keys of this node that are under the new version, in percent.",
        ),
        (
            "rollout_halts_total",
            "halts",
            "Times that this node halted the roll-out because the new version denied too much.",
        ),
    ),
    MetricSpec(
        "rollout_decisions_total",
        "Calls under the old and the new version, of buckets with keys of both, by decision.",
        read.rollout_decisions,
        ("bucket", "version", "decision"),
    ),
)
"""All metrics; the name of each gets `PREFIX`."""
PREFIX = "crdtbucket_"
