"""The calls of clients: takes and reservations, and the refunds and commits that follow them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from crdtbucket._core import Decision, Reservation
from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.errors import CrdtbucketError, ReservationDenied
from crdtbucket.http.fields import problem, rate_limit_fields
from crdtbucket.http.server import bodies, replies
from crdtbucket.http.server.handle_store import HandleStore
from crdtbucket.http.server.heavy_keys import HeavyKeys
from crdtbucket.http.server.json_answer import JsonAnswer, json_text
from crdtbucket.http.server.refusal import (
    Refusal,
    amount_in,
    in_words,
    known,
    problem_response,
    read,
    refusal_of,
)
from crdtbucket.http.server.routes import Route
from crdtbucket.http.server.serve_settings import ServeSettings
from crdtbucket.http.server.siblings import Siblings
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.facade import Limiter

MAX_HANDLES = 100_000
"""Most takes that can be refunded, and most reservations."""
REFUNDABLE_S = 600
LATE_S = 600
"""A reservation can be found for this long (s) after its ttl."""
COUNTED_KEYS = 1_024
HALF_LIFE_S = 60
ONE_OF_MANY = ("allowed", "remaining", "retry_after")


@dataclass
class RefundableTake:
    """An admitted take that may be refunded, once."""

    bucket: Bucket
    decision: Decision
    tokens: int | None = None
    """The tokens that the refund asked for."""
    refunded: int = 0
    done: bool = False


@dataclass
class OpenReservation:
    """An open reservation; `late` says whether its commit came after its end."""

    bucket: Bucket
    reservation: Reservation
    late: bool | None = None


class Calls:
    """Answers the requests under /v1/ that decide on calls."""

    def __init__(self, limiter: Limiter, settings: ServeSettings, siblings: Siblings) -> None:
        self.takes: HandleStore[RefundableTake] = HandleStore(MAX_HANDLES, siblings.prefix)
        self.reservations: HandleStore[OpenReservation] = HandleStore(MAX_HANDLES, siblings.prefix)
        self._siblings = siblings
        self.heavy: dict[str, HeavyKeys] = {}
        self._limiter = limiter
        self._settings = settings

    def routes(self) -> list[Route]:
        """The routes that this part of the server answers."""
        decides = (429, 503) if self._settings.fallback_503 else (429,)
        asks = (400, 404, 413, 415)
        post = "POST"
        return [
            Route(post, "/v1/take", "Take tokens", self.take, replies.TakeReply, bodies.Take,
                  decides, asks),
            Route(post, "/v1/peek", "Ask what a take would get", self.peek, replies.DecisionReply,
                  bodies.Peek, (), asks),
            Route(post, "/v1/refund", "Give a take back", self.refund, replies.RefundReply,
                  bodies.Refund, (), (*asks, 409)),
            Route(post, "/v1/reserve", "Set an estimate aside", self.reserve, replies.ReserveReply,
                  bodies.Reserve, decides, asks),
            Route(post, "/v1/commit", "Replace an estimate by the true cost", self.commit,
                  replies.CommitReply, bodies.Commit, (), (*asks, 409)),
            Route(post, "/v1/take-many", "Take from several keys", self.take_many,
                  replies.TakeManyReply, bodies.TakeMany, decides, asks),
        ]  # fmt: skip

    async def take(self, request: web.BaseRequest) -> web.StreamResponse:
        """Takes tokens; answers 429 when there are too few."""
        body = await read(request, bodies.Take)
        bucket = self._limiter.bucket(body.bucket)
        place = bucket.of(body.key)
        if place.immediate:
            decision = place.take(body.key, body.cost, body.floor or 0)
        else:
            decision = await place.acquire(body.key, body.cost, body.floor or 0)
        self.weigh(bucket, body.key, body.cost, decision.allowed)
        if not decision.allowed:
            return self._denied(decision, request.path)
        extra = {}
        if body.refundable:
            now = now_ns()
            end = now + REFUNDABLE_S * NS_PER_SECOND
            extra["id"] = self.takes.put(RefundableTake(bucket, decision), end, now)
        return self._answer(decision, extra)

    async def peek(self, request: web.BaseRequest) -> web.StreamResponse:
        """The decision that a take would get; the status is 200 in any case."""
        body = await read(request, bodies.Peek)
        bucket = self._limiter.bucket(body.bucket)
        return self._answer(bucket.peek(body.key, body.cost, body.floor or 0), {})

    async def refund(self, request: web.BaseRequest) -> web.StreamResponse:
        """Gives a take back. The same call again changes nothing and gets the same answer."""
        body = await read(request, bodies.Refund)
        if (answer := await self._siblings.answer_of_owner(body.id, request)) is not None:
            return answer
        take = known(
            self.takes.get(body.id, now_ns()),
            f"no take has this id: it was not made refundable, is over {REFUNDABLE_S} s old, the "
            "process that made it was restarted, which forgets all ids, or another node made it",
        )
        if take.done and take.tokens != body.tokens:
            raise Refusal(409, "this take was refunded before, with other tokens")
        if not take.done:
            with amount_in("tokens"):
                take.refunded = take.bucket.refund(take.decision, body.tokens)
            take.done, take.tokens = True, body.tokens
        return respond({"refunded": take.refunded})

    async def reserve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Takes an estimate until it is committed, or its time is over."""
        body = await read(request, bodies.Reserve)
        bucket = self._limiter.bucket(body.bucket)
        now = now_ns()
        self._check_room(now)
        reservation = bucket.reserve(body.key, body.estimate, body.ttl, body.floor or 0)
        with amount_in("estimate"), contextlib.suppress(ReservationDenied):
            await reservation.__aenter__()  # it ends by its commit or its ttl
        decision = reservation.decision
        assert decision is not None
        self.weigh(bucket, body.key, body.estimate, decision.allowed)
        if not decision.allowed:
            return self._denied(decision, request.path)
        try:
            self._check_room(now)  # others may have come while Redis was asked
        except Refusal:
            reservation.commit(0)
            raise
        end = now + round((body.ttl + LATE_S) * NS_PER_SECOND)
        name = self.reservations.put(OpenReservation(bucket, reservation), end, now)
        return self._answer(decision, {"id": name})

    def _check_room(self, now: int) -> None:
        if self.reservations.full(now):
            said = f"{self.reservations.limit:,} reservations are known: use a shorter ttl"
            raise Refusal(503, said, headers={"Retry-After": "1"})

    async def commit(self, request: web.BaseRequest) -> web.StreamResponse:
        """Charges the true cost. The same call again changes nothing and gets the same answer."""
        body = await read(request, bodies.Commit)
        if (answer := await self._siblings.answer_of_owner(body.id, request)) is not None:
            return answer
        held = known(
            self.reservations.get(body.id, now_ns()),
            f"no reservation has this id: it ended over {LATE_S} s ago, the process that made it "
            "was restarted, which forgets all ids, or another node made it",
        )
        if held.late is None:
            held.late = held.bucket.table.now() >= held.reservation.deadline_ns
        held.reservation.commit(body.actual)
        return respond({"actual": body.actual, "late": held.late})

    async def take_many(self, request: web.BaseRequest) -> web.StreamResponse:
        """Decides on each take on its own, or on all together; checks all before any is made."""
        body = await read(request, bodies.TakeMany)
        groups: dict[Bucket, list[int]] = {}
        refusals: dict[int, Refusal] = {}
        for place, one in enumerate(body.takes):
            bucket = self._checked(one, place, refusals)
            if bucket is not None:
                groups.setdefault(bucket, []).append(place)
        if refusals:
            faults = [
                (f"takes.{place}.{name}", text)
                for place, refusal in refusals.items()
                for name, text in refusal.errors
            ]
            raise Refusal(max(one.status for one in refusals.values()), in_words(faults), faults)
        if body.together:
            return await self._take_together(body.takes, request.path)
        results: list[dict[str, Any]] = [{}] * len(body.takes)
        for bucket, places in groups.items():
            takes = [body.takes[place] for place in places]
            for place, one, answer in zip(
                places, takes, await _decided(bucket, takes), strict=True
            ):
                results[place] = dict(zip(ONE_OF_MANY, answer, strict=True))
                results[place]["allowed"] = allowed = bool(results[place]["allowed"])
                self.weigh(bucket, one.key, one.cost, allowed)
        return respond({"results": results})

    async def _take_together(self, takes: list[bodies.Peek], path: str) -> web.StreamResponse:
        buckets = [self._limiter.bucket(one.bucket) for one in takes]  # a reload may remove some
        answer = await self._limiter.acquire_all(
            (one.bucket, one.key, one.cost, one.floor or 0) for one in takes
        )
        results = [
            {name: getattr(decision, name) for name in ONE_OF_MANY} for decision in answer.decisions
        ]
        for bucket, one in zip(buckets, takes, strict=True):
            self.weigh(bucket, one.key, one.cost, answer.allowed)
        if not answer:
            return self._denied(answer.binding, path, {"results": results})
        return respond({"results": results}, self._fields(answer.binding))

    def _checked(self, one: bodies.Peek, place: int, refusals: dict[int, Refusal]) -> Bucket | None:
        """The bucket of one take of many; None when this take is impossible."""
        try:
            bucket = self._limiter.bucket(one.bucket)
            bucket.peek(one.key, one.cost, one.floor or 0)
            return bucket
        except CrdtbucketError as error:
            refusal = refusal_of(error)
            if refusal is None or not refusal.errors:
                raise
            refusals[place] = refusal
            return None

    def weigh(self, bucket: Bucket, key: str, cost: int, allowed: bool) -> None:
        """Counts what a key asked for."""
        now = now_ns()
        name = bucket.spec.name
        heavy = self.heavy.get(name)
        if heavy is None:
            half_life = HALF_LIFE_S * NS_PER_SECOND
            heavy = self.heavy[name] = HeavyKeys(COUNTED_KEYS, half_life, now)
        heavy.add(key, cost, allowed, now)

    def _answer(self, decision: Decision, extra: dict[str, Any]) -> web.StreamResponse:
        return respond({**decision_json(decision), **extra}, self._fields(decision))

    def _denied(
        self, decision: Decision, path: str, extra: dict[str, Any] | None = None
    ) -> web.StreamResponse:
        document = problem(
            decision,
            decision.spec,
            instance=path,
            reduced_capacity=self._settings.fallback_503,
        )
        return problem_response(
            {**document, **decision_json(decision), **(extra or {})}, self._fields(decision)
        )

    def _fields(self, decision: Decision) -> dict[str, str]:
        return rate_limit_fields(
            decision,
            decision.spec,
            legacy=self._settings.legacy_fields,
            jitter_s=self._settings.retry_jitter,
        )


async def _decided(bucket: Bucket, takes: list[bodies.Peek]) -> list[tuple[Any, ...]]:
    """The decisions on many takes of one bucket, in their order, as of `ONE_OF_MANY`."""
    if not any(one.floor for one in takes):
        keys, costs = [one.key for one in takes], [one.cost for one in takes]
        return list(zip(*await bucket.acquire_many(keys, costs), strict=True))
    decisions = [await bucket.acquire(one.key, one.cost, one.floor or 0) for one in takes]
    return [tuple(getattr(one, name) for name in ONE_OF_MANY) for one in decisions]


def decision_json(decision: Decision) -> dict[str, Any]:
    """A decision as JSON."""
    return {
        "allowed": decision.allowed,
        "limit": decision.limit,
        "remaining": decision.remaining,
        "retry_after": decision.retry_after,
        "reset_after": decision.reset_after,
        "mode": decision.mode.value,
    }


def respond(document: dict[str, Any], headers: dict[str, str] | None = None) -> JsonAnswer:
    """Answers with success."""
    return JsonAnswer(json_text(document), headers or {})
