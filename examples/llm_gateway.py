"""A gateway before a model that streams: prompt and completion tokens are two budgets per tenant.

The prompt's length is known, the answer's is not: both are reserved, so that neither is taken
without the other, and settled when the stream ends, or when the client hangs up. It speaks the
protocol of OpenAI's chat completions, so that its clients are those of OpenAI.

pip install -e .
python examples/llm_gateway.py         a burst of five times the usual traffic, and its account
python examples/llm_gateway.py 8000    the gateway: POST /v1/chat/completions, for
                                       OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="acme")
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import ClientSession, web

from crdtbucket import (
    AllReservation,
    BucketSpec,
    CostExceedsCapacity,
    Limiter,
    ReservationDenied,
)
from crdtbucket.http.fields import problem, rate_limit_fields
from crdtbucket.http.middleware.aiohttp import limiter_context

PROMPTS = BucketSpec("prompt-tokens", capacity=2_000, refill_rate=1_000)
COMPLETIONS = BucketSpec("completion-tokens", capacity=800, refill_rate=400)
LONGEST_ANSWER = 30
WORD_S = 0.002
USUAL = 12
"""Requests a second; a burst has five times as many."""


class Model:
    """Stands for the real one, whose operator bills each token that it makes."""

    def __init__(self) -> None:
        self.billed = 0
        self._dice = random.Random(1)

    async def answer(self, max_tokens: int) -> AsyncIterator[str]:
        """Tokens, one at a time."""
        for _ in range(self._dice.randint(max_tokens // 3, max_tokens)):
            await asyncio.sleep(WORD_S)
            self.billed += 1
            yield "word "


class Gateway:
    """Admits by the budgets, and passes the stream on."""

    def __init__(self, limiter: Limiter, model: Model) -> None:
        self.limiter = limiter
        self.model = model
        self.charged = 0

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """One request: both estimates are set aside while the model answers."""
        asked = await request.json()
        # A real gateway looks the key up; what a client writes freely limits nobody.
        tenant = request.headers.get("Authorization", "").removeprefix("Bearer ") or "nobody"
        texts = (str(message.get("content")) for message in asked["messages"])
        prompt = max(sum(len(text.split()) for text in texts), 1)
        longest = max(1, min(asked.get("max_tokens") or LONGEST_ANSWER, LONGEST_ANSWER))
        estimates = [(PROMPTS.name, tenant, prompt), (COMPLETIONS.name, tenant, longest)]
        answer = self.stream if asked.get("stream") else self.whole
        try:
            async with self.limiter.reserve_all(estimates, ttl=60) as held:
                return await answer(request, held, prompt, longest)
        except CostExceedsCapacity as error:
            raise web.HTTPRequestEntityTooLarge(error.capacity, error.cost) from None
        except ReservationDenied as denied:
            return refusal(denied)

    async def stream(
        self, request: web.Request, held: AllReservation, prompt: int, longest: int
    ) -> web.StreamResponse:
        """The answer as it is made, as server-sent events. What was made is charged, whatever
        ends it."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        used = 0
        try:
            async for word in self.model.answer(longest):
                used += 1
                if used == 1:
                    await response.prepare(request)
                await response.write(
                    event(completion("chat.completion.chunk", {"delta": said(word)}))
                )
            await response.prepare(request)
            last = completion("chat.completion.chunk", {"delta": {}, "finish_reason": "stop"})
            await response.write(event(last | {"usage": usage(prompt, used)}) + b"data: [DONE]\n\n")
        except ConnectionResetError:
            pass  # the client hung up, so the model is not asked for more
        finally:
            self.charge(held, prompt, used)
        return response

    async def whole(
        self, request: web.Request, held: AllReservation, prompt: int, longest: int
    ) -> web.StreamResponse:
        """The answer when it is complete."""
        text, used = "", 0
        try:
            async for word in self.model.answer(longest):
                text, used = text + word, used + 1
        finally:
            self.charge(held, prompt, used)
        choice = {"message": said(text), "finish_reason": "stop"}
        document = completion("chat.completion", choice)
        return web.json_response(document | {"usage": usage(prompt, used)})

    def charge(self, held: AllReservation, prompt: int, used: int) -> None:
        """Commits what was used; of nothing, both estimates go back."""
        if used:
            held.commit(prompt, used)
            self.charged += used


def said(text: str) -> dict[str, str]:
    """What the model says."""
    return {"role": "assistant", "content": text}


def completion(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    """A document of OpenAI's protocol."""
    choices = [{"index": 0, "finish_reason": None, **choice}]
    times = {"created": int(time.time())}
    return {"id": "chatcmpl-1", "object": kind, **times, "model": "example", "choices": choices}


def usage(prompt: int, used: int) -> dict[str, int]:
    """What a call has cost, in tokens."""
    return {"prompt_tokens": prompt, "completion_tokens": used, "total_tokens": prompt + used}


def event(document: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return f"data: {json.dumps(document)}\n\n".encode()


def refusal(denied: ReservationDenied) -> web.Response:
    """429, with the budget that said no."""
    decision = denied.decision
    spec = decision.bucket.spec
    told = problem(decision, spec, reduced_capacity=False)
    error = {"message": told["detail"], "type": "rate_limit_exceeded", "param": None, "code": None}
    fields = rate_limit_fields(decision, spec, jitter_s=1)
    return web.json_response({"error": error}, status=429, headers=fields)


def application(model: Model) -> tuple[web.Application, Gateway]:
    """The gateway as an aiohttp application."""
    limiter = Limiter([PROMPTS, COMPLETIONS])
    gateway = Gateway(limiter, model)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", gateway.chat)
    app.cleanup_ctx.append(limiter_context(limiter))
    return app, gateway


# -- traffic


async def ask(session: ClientSession, url: str, hang_up_after: int | None = None) -> int:
    """A client's call: the status. May hang up after so many events of an answer."""
    messages = [{"role": "user", "content": "Tell me of buckets"}]
    call = {"messages": messages, "max_tokens": LONGEST_ANSWER, "stream": True}
    async with session.post(url, json=call, headers={"Authorization": "Bearer acme"}) as answer:
        if answer.status == 200 and hang_up_after is not None:
            for _ in range(hang_up_after):
                await answer.content.readuntil(b"\n\n")
            answer.close()
        else:
            await answer.read()
        return answer.status


async def traffic(session: ClientSession, url: str) -> None:
    """A second as usual, two of a burst, and one as usual again; some clients hang up."""
    for phase, seconds, times in [("usual", 1, 1), ("burst", 2, 5), ("usual", 1, 1)]:
        calls, begin = [], time.monotonic()
        for n in range(USUAL * times * seconds):
            calls.append(asyncio.ensure_future(ask(session, url, 5 if n % 10 == 9 else None)))
            await asyncio.sleep(begin + (n + 1) / (USUAL * times) - time.monotonic())
        statuses = Counter(await asyncio.gather(*calls))
        print(f"{phase}: {len(calls)} asked, {statuses[200]} answered, {statuses[429]} denied")


async def main() -> None:
    """The gateway on a free port, the traffic, and the account."""
    app, gateway = application(Model())
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    begin = time.monotonic()
    async with ClientSession() as session:
        host, port = runner.addresses[0][:2]
        await traffic(session, f"http://{host}:{port}/v1/chat/completions")
    await runner.cleanup()
    limit = COMPLETIONS.capacity + COMPLETIONS.refill_rate * (time.monotonic() - begin)
    print(f"completion tokens: {gateway.charged} charged, {gateway.model.billed} billed")
    print(f"the budget of this time: {limit:.0f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        web.run_app(application(Model())[0], host="127.0.0.1", port=int(sys.argv[1]), print=None)
    else:
        asyncio.run(main())
