"""The calls of clients that hold slots: a limit of what is in flight."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.errors import InvalidSpec, SlotDenied
from crdtbucket.http.answers import SOON
from crdtbucket.http.fields import problem
from crdtbucket.http.server import bodies, replies
from crdtbucket.http.server.calls import LATE_S, MAX_HANDLES, respond
from crdtbucket.http.server.handle_store import HandleStore
from crdtbucket.http.server.refusal import Refusal, known, problem_response, read
from crdtbucket.http.server.routes import Route
from crdtbucket.http.server.siblings import Siblings
from crdtbucket.limiter.facade import Limiter
from crdtbucket.limiter.held_slot import Slot


@dataclass
class HeldSlot:
    """A slot that a client holds, and what its first release answered."""

    slot: Slot
    released: bool | None = None


class SlotCalls:
    """The calls under /v1/ that hold and release slots."""

    def __init__(self, limiter: Limiter, siblings: Siblings) -> None:
        self._limiter = limiter
        self._siblings = siblings
        self._slots: HandleStore[HeldSlot] = HandleStore(MAX_HANDLES, siblings.prefix)

    def routes(self) -> list[Route]:
        """The routes that this part of the server answers."""
        asks = (400, 404, 413, 415)
        return [
            Route("POST", "/v1/hold", "Hold a slot", self.hold, replies.HoldReply, bodies.Hold,
                  (429,), (*asks, 503)),
            Route("POST", "/v1/release", "Release a slot", self.release, replies.ReleaseReply,
                  bodies.Release, (), asks),
        ]  # fmt: skip

    async def hold(self, request: web.BaseRequest) -> web.StreamResponse:
        """Holds a slot until it is released, or its ttl is over; 429 when all are held."""
        body = await read(request, bodies.Hold)
        bucket = self._limiter.bucket(body.bucket)
        try:
            slot = bucket.slot(body.key, body.ttl)
        except InvalidSpec as error:
            raise Refusal(400, str(error), [(error.field, str(error))]) from error
        now = now_ns()
        self._check_room(now)
        try:
            await slot.__aenter__()  # it ends by its release or its ttl
        except SlotDenied as error:
            document = problem(error.decision, bucket.spec_of(body.key), instance=request.path)
            retry = {"retry_after": error.decision.retry_after}
            return problem_response({**document, **retry}, SOON)
        try:
            self._check_room(now)  # others may have come while Redis was asked
        except Refusal:
            slot.release()
            raise
        end = now + slot.ttl_ns + LATE_S * NS_PER_SECOND
        name = self._slots.put(HeldSlot(slot), end, now)
        return respond({"id": name, "ttl": slot.ttl_ns / NS_PER_SECOND})

    def _check_room(self, now: int) -> None:
        if self._slots.full(now):
            said = f"{self._slots.limit:,} slots are known: release them, or use a shorter ttl"
            raise Refusal(503, said, headers=SOON)

    async def release(self, request: web.BaseRequest) -> web.StreamResponse:
        """Releases a slot. The same call again changes nothing and gets the same answer."""
        body = await read(request, bodies.Release)
        if (answer := await self._siblings.answer_of_owner(body.id, request)) is not None:
            return answer
        held = known(
            self._slots.get(body.id, now_ns()),
            f"no slot has this id: it ended over {LATE_S} s ago, the process that made it "
            "was restarted, which forgets all ids, or another node made it",
        )
        if held.released is None:
            held.released = held.slot.release()
        return respond({"released": held.released})
