"""The messages of Envoy's rate limit quota service, version 3: the fields that are used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.message import DecodeError

from crdtbucket.http.server.descriptor_limits import text_of
from crdtbucket.http.server.envoy_messages import DURATION, ENTRY, Field, message_classes
from crdtbucket.http.server.quota_subscription import (
    ASSIGNED_S,
    BucketId,
    QuotaAction,
    QuotaUsage,
)
from crdtbucket.http.server.refusal import Refusal

PACKAGE = "envoy.service.rate_limit_quota.v3"
QUOTA_SERVICE, QUOTA_METHOD = f"{PACKAGE}.RateLimitQuotaService", "StreamRateLimitQuotas"
ADMIT_ALL, DENY_ALL = 0, 1
YEAR_S = 365 * 86_400
"""In which an assigned bucket refills by one token: Envoy knows none that does not refill."""
MESSAGES: dict[str, dict[str, Field]] = {
    "Entry": ENTRY,
    "BucketId": {"bucket": (1, "*Entry")},
    "BucketQuotaUsage": {
        "bucket_id": (1, "BucketId"),
        "num_requests_allowed": (3, "uint64"),
        "num_requests_denied": (4, "uint64"),
    },
    "RateLimitQuotaUsageReports": {
        "domain": (1, "bytes"),
        "bucket_quota_usages": (2, "*BucketQuotaUsage"),
    },
    "Duration": DURATION,
    "UInt32Value": {"value": (1, "uint32")},
    "TokenBucket": {
        "max_tokens": (1, "uint32"),
        "tokens_per_fill": (2, "UInt32Value"),
        "fill_interval": (3, "Duration"),
    },
    "RateLimitStrategy": {"blanket_rule": (1, "?int32"), "token_bucket": (3, "TokenBucket")},
    "QuotaAssignmentAction": {
        "assignment_time_to_live": (2, "Duration"),
        "rate_limit_strategy": (3, "RateLimitStrategy"),
    },
    "AbandonAction": {},
    "BucketAction": {
        "bucket_id": (1, "BucketId"),
        "quota_assignment_action": (2, "QuotaAssignmentAction"),
        "abandon_action": (3, "AbandonAction"),
    },
    "RateLimitQuotaResponse": {"bucket_action": (1, "*BucketAction")},
}
QUOTA_CLASSES = message_classes(PACKAGE, MESSAGES)
"""A class for each message, by its name."""


def read_reports(raw: bytes) -> tuple[str, list[QuotaUsage]]:
    """Domain and reports. Raises `Refusal`."""
    try:
        reports = QUOTA_CLASSES["RateLimitQuotaUsageReports"].FromString(raw)
    except DecodeError as error:
        raise Refusal(400, "this is no RateLimitQuotaUsageReports") from error
    usages = [
        QuotaUsage(_id(one.bucket_id), one.num_requests_allowed, one.num_requests_denied)
        for one in reports.bucket_quota_usages
    ]
    return text_of(reports.domain), usages


def write_actions(actions: Sequence[QuotaAction]) -> bytes:
    """As a RateLimitQuotaResponse."""
    raw: bytes = QUOTA_CLASSES["RateLimitQuotaResponse"](
        bucket_action=[sent for one in actions for sent in _actions(one)]
    ).SerializeToString()
    return raw


def _id(message: Any) -> BucketId:
    # As a map has it: of a name that comes twice the last value counts.
    return tuple(sorted({entry.key: entry.value for entry in message.bucket}.items()))


def _actions(action: QuotaAction) -> Iterator[dict[str, Any]]:
    entries = [{"key": name, "value": text} for name, text in action.bucket_id]
    sent = {"bucket_id": {"bucket": entries}}
    if action.abandon:
        yield {**sent, "abandon_action": {}}
    elif action.tokens is None:
        yield {**sent, **_assignment({"blanket_rule": ADMIT_ALL})}
    else:
        if not (action.extends and action.tokens):
            # Envoy would keep of a bucket that follows another one what was left of that, or the
            # part of it. It sees both of these at once, so that no request is denied by the first.
            yield {**sent, **_assignment({"blanket_rule": DENY_ALL})}
        if action.tokens:
            fill = {"tokens_per_fill": {"value": 1}, "fill_interval": {"seconds": YEAR_S}}
            yield {**sent, **_assignment({"token_bucket": {"max_tokens": action.tokens, **fill}})}


def _assignment(strategy: dict[str, Any]) -> dict[str, Any]:
    return {
        "quota_assignment_action": {
            "assignment_time_to_live": {"seconds": ASSIGNED_S},
            "rate_limit_strategy": strategy,
        }
    }


__all__ = ["QUOTA_METHOD", "QUOTA_SERVICE", "read_reports", "write_actions"]
