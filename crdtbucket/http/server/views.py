"""Answers that change nothing: buckets, heavy keys, peers, health, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from crdtbucket.base.clock import now_ns
from crdtbucket.errors import CrdtbucketError
from crdtbucket.http.server import bodies, node_replies
from crdtbucket.http.server.calls import Calls, respond
from crdtbucket.http.server.refusal import Refusal, check_query, whole_parameter
from crdtbucket.http.server.routes import Route
from crdtbucket.http.server.server_metrics import COUNTS, ServerMetrics
from crdtbucket.http.server.siblings import Siblings
from crdtbucket.limiter.facade import Limiter
from crdtbucket.limiter.slots import SlotBucket
from crdtbucket.metrics.metric import unreached
from crdtbucket.strong.strong_bucket import AskingBucket

TOP = 20
DRAINING = "this node is about to end"
COUNTED = (
    "tokens asked for through this server, admitted and denied; a minute ago counts half, "
    "two minutes ago a quarter"
)


class Views:
    """Answers requests that only read."""

    def __init__(
        self,
        limiter: Limiter,
        calls: Calls,
        registry: CollectorRegistry,
        server_metrics: ServerMetrics,
        siblings: Siblings,
    ) -> None:
        self._draining = False
        self._server_metrics = server_metrics
        self._siblings = siblings
        self._limiter = limiter
        self._calls = calls
        self._registry = registry

    def drain(self) -> None:
        """The server is about to end: from now on it is not ready."""
        self._draining = True

    def routes(self) -> list[Route]:
        """The routes that this part of the server answers."""
        top = {"type": "integer", "minimum": 1, "maximum": bodies.MAX_TOP, "default": TOP}
        return [
            Route("GET", "/v1/buckets", "All buckets", self.buckets, node_replies.BucketsReply),
            Route("GET", "/v1/buckets/{bucket}/keys", "The heaviest keys of a bucket", self.keys,
                  node_replies.HeavyKeysReply, refusals=(400, 404), query={"top": top}),
            Route("GET", "/v1/peers", "The nodes that this one knows", self.peers,
                  node_replies.PeersReply),
            Route("GET", "/healthz", "Whether the process answers", self.health,
                  node_replies.HealthReply, always=True),
            Route("GET", "/readyz", "Whether to send traffic here", self.ready,
                  node_replies.HealthReply, denials=(503,), always=True),
            Route("GET", "/metrics", "For Prometheus", self.metrics, None, media="text/plain",
                  always=True),
        ]  # fmt: skip

    async def buckets(self, _: web.BaseRequest) -> web.StreamResponse:
        """Every bucket with its mode and counts."""
        return respond({"buckets": self.buckets_now()})

    def buckets_now(self) -> list[dict[str, Any]]:
        """The answer as a dict for JSON."""
        found = []
        for name, bucket in self._limiter.buckets.items():
            counters = bucket.counters()
            found.append(
                {
                    "name": name,
                    "capacity": bucket.spec.capacity,
                    "slots": bucket.spec.slots,
                    "refill_per_second": bucket.spec.rate_per_second,
                    "mode": bucket.mode.value,
                    "outage": bucket.outage() if isinstance(bucket, AskingBucket) else None,
                    **{
                        field: counters[field]
                        for field in ("keys", "allowed", "denied", "granted", "refunded")
                    },
                }
            )
        return found

    async def keys(self, request: web.BaseRequest, bucket: str) -> web.StreamResponse:
        """The keys for which most tokens were asked here."""
        found = self._limiter.bucket(bucket)
        check_query(request, ("top",))
        count = whole_parameter(request, "top", TOP, bodies.MAX_TOP)
        heavy = self._calls.heavy.get(found.spec.name)
        top = [] if heavy is None else heavy.top(count, now_ns())
        rows = [(key, one.tokens, one.error, one.denied) for key, one in top]
        if not self._siblings.asked_by_one(request):
            path = f"/v1/buckets/{quote(bucket, safe='')}/keys?top={bodies.MAX_TOP}"
            for answer in await self._siblings.gather(path):
                rows += [(k["key"], k["tokens"], k["error"], k["denied"]) for k in answer["keys"]]
            rows = _added_up(rows)[:count]
        names = ("key", "tokens", "error", "denied")
        keys = [
            {**dict(zip(names, row, strict=True)), "remaining": found.peek(row[0]).remaining}
            for row in rows
        ]
        return respond({"bucket": found.spec.name, "counted": COUNTED, "keys": keys})

    async def peers(self, _: web.BaseRequest) -> web.StreamResponse:
        """The nodes of the mesh, none without one."""
        return respond(self.peers_now())

    def peers_now(self) -> dict[str, Any]:
        """The answer as a dict for JSON."""
        me = self._limiter.node
        stats = self._limiter.stats()
        lags, keys = stats.get("lag", {}), stats.get("keys", {})
        peers = [
            {
                "name": one["node"],
                "region": one["region"],
                "state": one["state"],
                "lag": lags.get(one["node"]),
                "fingerprint": keys.get(one["node"]),
                "config": None if one["hash"] is None else running(one),
                "rollout": one["rollout"],
                "unseen": one["unseen"],
                "mode": one["mode"],
            }
            for one in self._limiter.fleet()
            if one["node"] != me
        ]
        return {
            "node": me,
            "region": self._limiter.region,
            "identity": stats.get("identity"),
            "peers": peers,
            "unreached": unreached(stats.get("mesh", {})),
            "alone": not peers and bool(stats.get("mesh", {}).get("last_failure")),
        }

    async def health(self, _: web.BaseRequest) -> web.StreamResponse:
        """Answers that the process is alive: its event loop runs."""
        return respond({"status": "ok"})

    async def ready(self, _: web.BaseRequest) -> web.StreamResponse:
        """Answers whether the node is ready: 503 while it drains, may not serve, or has no answer
        from the mesh yet."""
        reason = self.not_ready()
        if reason:
            raise Refusal(503, reason, headers={"Retry-After": "1"})
        return respond({"status": "ok"})

    def not_ready(self) -> str:
        """The reason why no traffic should be sent here; "" if there is none."""
        if self._draining:
            return DRAINING
        if self._limiter.stats()["warming_up"]:
            return "this node has no answer from the mesh yet, and serves only a part of its share"
        for bucket in self._limiter.buckets.values():
            try:
                # A bucket of slots has no tokens to peek at.
                (bucket.held if isinstance(bucket, SlotBucket) else bucket.peek)("ready?")
            except CrdtbucketError as error:
                return str(error)
            break
        return ""

    async def metrics(self, _: web.BaseRequest) -> web.StreamResponse:
        """Answers with the metrics in the text format of Prometheus."""
        self._server_metrics.add_up(await self._siblings.gather(COUNTS))
        # In a thread, as it looks at all keys of a table, which may be large.
        text = await asyncio.to_thread(generate_latest, self._registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})


def running(row: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that a node runs."""
    return {"version": row["version"], "hash": row["hash"], "stage": str(row["stage"] or "")}


def _added_up(rows: list[tuple[str, int, int, int]]) -> list[tuple[str, int, int, int]]:
    """Sums the counts of all workers: one row for each key, the heaviest first."""
    sums: dict[str, list[int]] = {}
    for key, *numbers in rows:
        sums[key] = [a + b for a, b in zip(sums.get(key, (0, 0, 0)), numbers, strict=True)]
    added = ((key, tokens, error, denied) for key, (tokens, error, denied) in sums.items())
    return sorted(added, key=lambda row: -row[1])
