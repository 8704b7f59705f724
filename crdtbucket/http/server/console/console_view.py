"""Collects the state of a node that the console shows from its stats and metrics; nothing is
counted only for the console. The `public` part is public elsewhere: `/v1/peers`, `/v1/buckets`,
`/readyz`, `/metrics`. It contains no key. `private` is what `/admin/status` adds, for those who
have signed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.http.server.admin import Admin
from crdtbucket.http.server.views import Views
from crdtbucket.limiter.facade import Limiter
from crdtbucket.metrics.collector import surveyed
from crdtbucket.metrics.metric import lag_bound, share

COUNTS = ("keys", "allowed", "denied", "shadowed", "granted", "refunded", "waiting", "empty")


async def look_at(
    limiter: Limiter, views: Views, admin: Admin
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The public and the private part, as JSON. Goes over all keys in a thread, as a scrape of the
    metrics does: some 4 ms for a million."""
    stats = await asyncio.to_thread(surveyed, limiter)
    public = {
        "at": now_ns() / NS_PER_SECOND,
        **views.peers_now(),
        "mesh": "mesh" in stats,
        "not_ready": views.not_ready(),
        "warming_up": stats["warming_up"],
        "buckets": _buckets(stats),
    }
    return public, admin.private(stats)


def _buckets(stats: Mapping[str, Any]) -> list[dict[str, Any]]:
    bounds = {name: tokens for (name,), tokens in lag_bound(stats)}
    return [
        {
            "name": name,
            "mode": one["mode"].value,
            "capacity": one["spec"].capacity,
            "slots": one["spec"].slots,
            "slots_held": one["slots_held"],
            "refill_per_second": one["spec"].rate_per_second,
            **{field: one[field] for field in COUNTS},
            "fill": 1 - share(one["debt"], one) / max(one["keys"], 1),
            "lowest": 1 - share(one["highest_debt"], one),
            "over_admission": one["over_admission"],
            "bound": bounds[name],
        }
        for name, one in stats["buckets"].items()
    ]
