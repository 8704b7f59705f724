"""The messages of Envoy's rate limit quota service, version 3: the fields that are used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.message import DecodeError

from crdtbucket.http.server.descriptor_limits import text_of
from crdtbucket.http.server.envoy_messages import DURATION, ENTRY, Field, message_classes
from crdtbucket.http.server.quota_subscription import (
    ASSIGNED_S,
    AT_ONCE,
    BucketId,
    QuotaAction,
    QuotaUsage,
)
from crdtbucket.http.server.refusal import Refusal

PACKAGE = "envoy.service.rate_limit_quota.v3"
QUOTA_SERVICE, QUOTA_METHOD = f"{PACKAGE}.RateLimitQuotaService", "StreamRateLimitQuotas"
ADMIT_ALL, DENY_ALL = 0, 1
YEAR_S = 365 * 86_400
"""The seconds in which an assigned bucket refills by one token: Envoy knows none that does not
refill."""
PART_BYTES, MOST_BYTES = 2**16, 2**17
"""About how many bytes of reports are read at a time, and the most bytes of one report. Envoy takes
60 KiB of headers."""
VARINT, LENGTH, FIXED = 0, 2, {1: 8, 5: 4}
"""How fields begin, and the bytes of those that have as many."""
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


def read_reports(raw: bytes) -> Iterator[tuple[str, list[QuotaUsage]]]:
    """Domain and reports, some at a time, so that other calls can be answered in between. Raises
    `Refusal`."""
    for part in _parts(raw):
        try:
            reports = QUOTA_CLASSES["RateLimitQuotaUsageReports"].FromString(part)
        except DecodeError as error:
            raise _none() from error
        usages = [
            QuotaUsage(_id(one.bucket_id), one.num_requests_allowed, one.num_requests_denied)
            for one in reports.bucket_quota_usages
        ]
        yield text_of(reports.domain), usages


def _parts(raw: bytes) -> Iterator[bytes]:
    """Cuts a message between its fields: each part is a message of some of them."""
    begin = at = fields = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        kind = tag & 7
        if kind == VARINT:
            _, at = _varint(raw, at)
        elif kind == LENGTH:
            size, at = _varint(raw, at)
            if at + size <= len(raw) and size > MOST_BYTES:
                raise Refusal(400, f"a report of {size} bytes, of which {MOST_BYTES} are read")
            at += size
        elif kind in FIXED:
            at += FIXED[kind]
        else:
            raise _none()
        fields += 1
        if fields == AT_ONCE or at - begin >= PART_BYTES:
            yield raw[begin:at]
            begin, fields = at, 0
    if fields or not raw:
        yield raw[begin:]


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    number = 0
    for place, byte in enumerate(raw[at : at + 10]):
        number |= (byte & 127) << 7 * place
        if byte < 128:
            return number, at + place + 1
    raise _none()


def _none() -> Refusal:
    return Refusal(400, "this is no RateLimitQuotaUsageReports")


def write_actions(actions: Sequence[QuotaAction]) -> bytes:
    """Writes assignments as a RateLimitQuotaResponse."""
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
            # When one bucket follows another, Envoy keeps what was left in the earlier one, or the
            # same part of it. So both actions are sent together: Envoy sees them at once, and the
            # first one denies no request.
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
