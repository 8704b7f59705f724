"""Explains why a key is denied, or would be: what this node knows of its level, in numbers and
sentences."""

from __future__ import annotations

from collections import Counter
from typing import Any

from crdtbucket.base.clock import now_ns
from crdtbucket.base.counted import counted
from crdtbucket.http.server.calls import Calls, decision_json
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.facade import Limiter
from crdtbucket.spec.mode import Mode


def explain(limiter: Limiter, calls: Calls, name: str, key: str, cost: int) -> dict[str, Any]:
    """As JSON: the decision that a take of `cost` would get now, the level behind it, and the
    reasons. Changes nothing. Raises as `peek` and `bucket`."""
    asked = limiter.bucket(name)
    bucket = asked.of(key)
    spec = bucket.spec_of(key)
    decision = bucket.peek(key, cost)
    level = spec.capacity - decision.reset_after * spec.rate_per_second
    passes = _passes(bucket, key, decision.remaining)
    silent = sorted(one["node"] for one in limiter.fleet() if one["state"] in ("suspect", "dead"))
    found = {
        **decision_json(decision),
        "bucket": asked.spec.name,
        "limited_by": bucket.spec.name,
        "cost": cost,
        "level": level,
        "passes": passes,
        "kept_back": decision.remaining - passes,
        "refill_per_second": spec.rate_per_second,
        "taken": _taken(limiter, bucket, key),
        "asked": _asked(calls, asked, key),
        "silent": silent,
    }
    return {**found, "reasons": _reasons(limiter, decision.mode, found)}


def _passes(bucket: Bucket, key: str, most: int) -> int:
    """The largest cost that would pass now, up to `most`: a node holds back a part of the remaining
    tokens for what others are predicted to take."""
    least = 0
    while least < most:
        middle = (least + most + 1) // 2
        if bucket.peek(key, middle):
            least = middle
        else:
            most = middle - 1
    return least


def _taken(limiter: Limiter, bucket: Bucket, key: str) -> list[dict[str, Any]]:
    """Tokens that each node has taken of the key, less what it gave back, the most first."""
    names, own = bucket.table.nodes.node_names(), bucket.table.epochs.running
    tokens: Counter[str] = Counter()
    for (node, epoch), (_, taken, refunded) in bucket.columns(key).items():
        who = limiter.node if epoch == own else names.get(node, "a node that is gone")
        tokens[who] += taken - refunded
    return [{"node": who, "tokens": count} for who, count in tokens.most_common()]


def _asked(calls: Calls, bucket: Bucket, key: str) -> dict[str, int] | None:
    """The tokens that were lately asked for the key through this server; None where nothing is
    counted."""
    heavy = calls.heavy.get(bucket.spec.name)
    one = None if heavy is None else heavy.of(key, now_ns())
    return None if one is None else {"tokens": one.tokens, "denied": one.denied}


def _reasons(limiter: Limiter, mode: Mode, found: dict[str, Any]) -> list[str]:
    cost, left, level = found["cost"], found["remaining"], found["level"]
    passes, wait = found["passes"], found["retry_after"]
    said = []
    if not found["taken"]:
        said.append("Nothing is charged to this key here: it is full, or was never asked for.")
    if found["allowed"]:
        said.append(f"A take of {cost:,} is admitted now; at most {passes:,} are.")
    else:
        said.append(
            f"A take of {cost:,} is denied: at most {passes:,} pass now. Wait {wait:,.1f} s."
        )
    if level < 0:
        said.append(
            f"The key is in debt by {counted(round(-level), 'token')}: nodes that did not know of "
            "each other admitted more than the capacity, or more was charged afterwards. The "
            "refill pays the debt first."
        )
    if found["kept_back"]:
        said.append(
            f"By what this node knows {counted(left, 'token')} would be left, of which "
            f"{found['kept_back']:,} must be kept back for what other nodes are predicted to take."
        )
    if found["limited_by"] != found["bucket"]:
        said.append(f"The override {found['limited_by']} limits this key, not the bucket's own.")
    if mode is Mode.FALLBACK:
        said.append("The bucket is in fallback: the rule for an outage decides.")
    if found["silent"]:
        who = ", ".join(found["silent"])
        said.append(f"Without an update now: {who}. What is taken there is not counted here.")
    if limiter.stats()["warming_up"]:
        said.append(
            "This node has no answer from the mesh yet and serves only a part of its share."
        )
    return said
