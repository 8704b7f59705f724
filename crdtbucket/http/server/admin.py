"""The admin side: it changes a running node, needs the admin token, and logs each change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aiohttp import web

from crdtbucket.base.counted import counted
from crdtbucket.errors import ConfigError, CrdtbucketError
from crdtbucket.http.server import bodies, node_replies, replies
from crdtbucket.http.server.calls import respond
from crdtbucket.http.server.refusal import Refusal, read
from crdtbucket.http.server.routes import Route
from crdtbucket.http.server.serve_settings import ServeSettings
from crdtbucket.http.server.siblings import CANNOT, Siblings
from crdtbucket.http.server.tokens import ADMIN, asker
from crdtbucket.http.server.views import Views
from crdtbucket.limiter.facade import Limiter

AUDIT = logging.getLogger("crdtbucket.audit")
DOCTOR_STEP_S = 1.5
"""Seconds for each step, so that the examination ends within the deadline of a request."""


class Admin:
    """Answers all requests under /admin/."""

    def __init__(
        self,
        limiter: Limiter,
        views: Views,
        settings: ServeSettings,
        siblings: Siblings,
    ) -> None:
        """`siblings`: the other workers of this server."""
        self._siblings = siblings
        self._limiter = limiter
        self._views = views
        self._config = settings.config

    def routes(self) -> list[Route]:
        """The routes that this part of the server answers."""
        refusals = (401, 403)
        return [
            Route("GET", ADMIN + "status", "This node, its buckets and its peers", self.status,
                  node_replies.StatusReply, refusals=refusals, admin=True),
            Route("GET", ADMIN + "doctor", "Whether what this node depends on is in order",
                  self.doctor, node_replies.DoctorReply, refusals=(*refusals, 409), admin=True),
            Route("POST", ADMIN + "reset", "Fill a key", self.reset, replies.ResetReply,
                  bodies.Reset, refusals=(400, *refusals, 404, 409, 413, 415), admin=True),
            Route("POST", ADMIN + "reload", "Read the configuration file again", self.reload,
                  node_replies.ReloadReply, refusals=(*refusals, 409), admin=True),
            Route("POST", ADMIN + "rollout", "Advance, halt or roll back a version", self.rollout,
                  node_replies.RolloutReply, bodies.Steer, refusals=(400, *refusals, 409, 413, 415),
                  admin=True),
            Route("POST", ADMIN + "order", "Take an operator's order", self.order,
                  replies.OrderReply, bodies.Order, refusals=(400, *refusals, 409, 413, 415),
                  admin=True),
        ]  # fmt: skip

    async def status(self, _: web.BaseRequest) -> web.StreamResponse:
        """Answers with the state of the node, which an operator looks at first."""
        stats = self._limiter.stats()
        return respond(
            {
                **self._views.peers_now(),
                "ready": not (reason := self._views.not_ready()),
                "not_ready": reason,
                "warming_up": stats["warming_up"],
                "buckets": self._views.buckets_now(),
                **self.private(stats),
            }
        )

    def private(self, stats: Mapping[str, Any]) -> dict[str, Any]:
        """The part of the limiter's stats that only the holder of the token gets."""
        mesh, strong = stats.get("mesh", {}), stats.get("strong", {})
        age = mesh.get("snapshot_age")
        return {
            "redis": {name: str(one["mode"]) for name, one in stats.get("redis", {}).items()},
            "outages": strong.get("outages", {}),
            "redis_fault": strong.get("fault", ""),
            "regions": {
                name: {"state": one["state"], "late": one["late"]}
                for name, one in stats.get("regions", {}).items()
            },
            "region_conflict": bool(strong.get("region_conflict")),
            "last_failure": mesh.get("last_failure", ""),
            "unreached_peers": mesh.get("unreached", []),
            "snapshot": None if age is None else {"age": age, "fault": mesh["snapshot_fault"]},
            "certificates": stats["certificates"],
            "config": stats["config"],
            "rollout": stats.get("rollout"),
        }

    async def doctor(self, _: web.BaseRequest) -> web.StreamResponse:
        """Examines the node's file, and from here everything that the file names."""
        from crdtbucket.doctor.examination import examine  # imported when it is asked for

        if self._config is None:
            raise Refusal(409, "this node was not started from a configuration file")
        found = await examine(
            self._config,
            node=self._limiter.node,
            region=self._limiter.region or None,
            timeout=DOCTOR_STEP_S,
            running=True,
            max_keys=self._limiter.in_force.tables.main.max_keys,
        )
        checks = [asdict(one) for one in found]
        return respond({"ok": all(one.level != "wrong" for one in found), "checks": checks})

    async def reset(self, request: web.BaseRequest) -> web.StreamResponse:
        """Gives back to a key what this node has charged to it."""
        body = await read(request, bodies.Reset)
        if self._limiter.signs:
            AUDIT.warning("reset from %s: refused: not signed", asker(request))
            raise Refusal(
                409,
                "mesh.operator_keys is set, so an operator has to sign this: "
                "`crdtbucket reset BUCKET KEY --key FILE` does",
            )
        bucket = self._limiter.bucket(body.bucket)
        given_back = bucket.reset(body.key)
        now = bucket.peek(body.key)
        AUDIT.warning(
            "reset of key %r in bucket %r from %s: %s given back, %d of %d left",
            body.key,
            bucket.spec.name,
            asker(request),
            counted(given_back, "token"),
            now.remaining,
            now.limit,
        )
        return respond({"given_back": given_back, "remaining": now.remaining, "limit": now.limit})

    async def rollout(self, request: web.BaseRequest) -> web.StreamResponse:
        """Moves the roll-out of the newest version, here and at all nodes that have it."""
        body = await read(request, bodies.Steer)
        who = asker(request)
        try:
            await asyncio.to_thread(getattr(self._limiter.rollout, body.action))
        except CrdtbucketError as error:
            fault = self._limiter.stats()["config"]["fault"]
            why = f"{error}; the newest file was refused: {fault}" if fault else str(error)
            AUDIT.warning("rollout from %s: %s refused: %s", who, body.action, why)
            raise Refusal(409, why) from error
        state = self._limiter.rollout.state
        assert state is not None, "a command goes to a roll-out"
        AUDIT.warning(
            "rollout from %s: %s of version %d, which is %s at stage %d of %d",
            who,
            body.action,
            state["version"],
            state["status"],
            state["stage"],
            state["stages"],
        )
        return respond(state)

    async def order(self, request: web.BaseRequest) -> web.StreamResponse:
        """Takes an operator's order. With several workers, the one that talks to the peers does
        so."""
        body = await read(request, bodies.Order)
        who = asker(request)
        try:
            new = await asyncio.to_thread(self._limiter.order, body.order)
        except CrdtbucketError as error:
            siblings = self._siblings
            if siblings.address and not self._limiter.stats()["shared"]["leading"]:
                if siblings.asked_by_one(request):
                    raise Refusal(CANNOT, str(error)) from error
                answer = await siblings.forward_to_any(request)
                if answer is not None:
                    return answer
            AUDIT.warning("order from %s: refused: %s", who, error)
            raise Refusal(409, str(error)) from error
        AUDIT.warning("order from %s: %s", who, "taken" if new else "it held already")
        return respond({"new": new})

    async def reload(self, request: web.BaseRequest) -> web.StreamResponse:
        """Brings the present content of the file into force, all of it or nothing."""
        who = asker(request)
        try:
            await asyncio.to_thread(self._limiter.reload)
        except ConfigError as error:
            AUDIT.warning(
                "reload from %s: refused with %s", who, counted(len(error.problems), "fault")
            )
            faults = [(problem.path, str(problem)) for problem in error.problems]
            raise Refusal(409, f"{error}; the configuration in force stays", faults) from error
        except CrdtbucketError as error:
            raise Refusal(409, str(error)) from error
        config = self._limiter.stats()["config"]
        AUDIT.warning("reload from %s: version %d, hash %s", who, config["version"], config["hash"])
        return respond({"config": config})
