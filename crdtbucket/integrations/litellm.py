"""A budget of tokens in the proxy of LiteLLM: an estimate is charged before each call, the true use
after it, and nothing for a call that failed.

The proxy finds it by its configuration: `litellm_settings: {callbacks: budgets.hook}`, where
`budgets.py` has `hook = BudgetHook(limiter.bucket("tokens"))`.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from crdtbucket._core import Decision
from crdtbucket.base.extras import extra
from crdtbucket.http.fields import problem, rate_limit_fields
from crdtbucket.limiter.bucket import Bucket, check_bucket
from crdtbucket.spec.field_checks import check_listed

with extra("litellm"):
    from fastapi import HTTPException
    from litellm.integrations.custom_logger import CustomLogger

MAX_OPEN = 10_000
"""Ids of calls that are remembered until their use is known; what the oldest was charged stays
charged."""
MAX_SAME_ID = 100
"""Calls of one id that are remembered, as clients may choose the id."""
ANSWER_TOKENS = 1_000
"""Estimate of an answer whose request names no longest one."""
CALL_TYPES = (
    *("completion", "acompletion", "text_completion", "atext_completion"),
    *("embedding", "aembedding", "embeddings"),
    *("responses", "aresponses", "anthropic_messages"),
)
"""Calls that use tokens, by the proxy's names."""


class BudgetDenied(HTTPException):
    """The answer to a call that is over its budget."""


@dataclass
class OpenCall:
    """A call whose use is not known yet."""

    decision: Decision
    charged: int


class BudgetHook(CustomLogger):  # type: ignore[misc]
    """Charges a bucket with the tokens that calls of the proxy use.

    A call whose use never becomes known, as when the process ends, stays charged with its estimate.
    """

    def __init__(
        self,
        bucket: Bucket,
        *,
        key: Callable[[Any, Mapping[str, Any]], str] | None = None,
        estimate: Callable[[Mapping[str, Any]], int] | None = None,
        call_types: Collection[str] = CALL_TYPES,
    ) -> None:
        """key: of the proxy's `UserAPIKeyAuth` and the request's data; without it each API key has
        its own budget. estimate: tokens that a request may use; without it a third of its
        characters, and its `max_tokens` or 1,000. More than the capacity counts as the capacity.
        """
        super().__init__()
        check_bucket(bucket, "BudgetHook")
        self._bucket = bucket
        self._key = key or by_api_key
        self._estimate = estimate or estimate_tokens
        self._call_types = frozenset(check_listed("call_types", call_types))
        self._open: OrderedDict[str, list[OpenCall]] = OrderedDict()

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> None:
        """Charges the estimate, or answers 429."""
        if call_type not in self._call_types:
            return
        key = self._key(user_api_key_dict, data)
        capacity = self._bucket.spec_of(key).capacity
        cost = min(max(self._estimate(data), 1), capacity)
        decision = await self._bucket.acquire(key, cost)
        if not decision.allowed:
            document = problem(decision, decision.spec, reduced_capacity=False)
            headers = rate_limit_fields(decision, decision.spec)
            raise BudgetDenied(429, document, headers)
        # Clients may choose the id of a call, so that one id may stand for several.
        calls = self._open.setdefault(str(data.get("litellm_call_id")), [])
        calls.append(OpenCall(decision, cost))
        del calls[:-MAX_SAME_ID]
        if len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)

    async def async_log_success_event(
        self, kwargs: Mapping[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Charges what the call used in place of what it was charged."""
        call_id = str(kwargs.get("litellm_call_id"))
        calls = self._open.get(call_id)
        used = used_tokens(response_obj)
        if not calls or used is None:
            return
        call = calls.pop()
        if not calls:
            del self._open[call_id]
        self._charge(call, used)

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> None:
        """Gives the estimate back. The call is remembered: where the client left a stream, its use
        is reported afterwards."""
        if isinstance(original_exception, BudgetDenied):
            return  # nothing was charged, and another call may have the same id
        for call in self._open.get(str(request_data.get("litellm_call_id")), ())[-1:]:
            self._charge(call, 0)

    def _charge(self, call: OpenCall, used: int) -> None:
        more, call.charged = used - call.charged, used
        if more > 0:
            self._bucket.settle(call.decision.key, more)
        elif more < 0:
            call.decision.bucket.refund(call.decision, -more)


def by_api_key(user: Any, data: Mapping[str, Any]) -> str:
    """The hash of the API key, as the proxy keeps it; all calls without one share a budget."""
    return user.api_key or "nobody"


def estimate_tokens(data: Mapping[str, Any]) -> int:
    """Tokens that a request may use: of its texts, a third of their characters, and of its answer
    the longest that it allows. Images and sounds count for nothing."""
    texts = (data.get(name) for name in ("messages", "prompt", "input", "system", "instructions"))
    characters = sum(len(text) for one in texts for text in _texts(one))
    tools = data.get("tools")
    characters += len(json.dumps(tools, default=str)) if tools else 0
    names = ("max_completion_tokens", "max_tokens", "max_output_tokens")
    longest = next((data[name] for name in names if isinstance(data.get(name), int)), ANSWER_TOKENS)
    return characters // 3 + max(longest, 0)


def used_tokens(response: Any) -> int | None:
    """All tokens of a response; None where it does not say."""
    usage = response.get("usage") if isinstance(response, Mapping) else None
    usage = usage if usage is not None else getattr(response, "usage", None)
    counts = usage if isinstance(usage, Mapping) else getattr(usage, "__dict__", {})
    total = counts.get("total_tokens")
    if total is None and "output_tokens" in counts:
        total = (counts.get("input_tokens") or 0) + (counts["output_tokens"] or 0)
    return total if isinstance(total, int) and total >= 0 else None


def _texts(part: Any) -> Iterator[str]:
    """The texts in a message, in one of its parts, or in a list of these."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, Mapping):
        yield from _texts(part.get("content", part.get("text")))
    elif isinstance(part, list):
        for one in part:
            yield from _texts(one)
