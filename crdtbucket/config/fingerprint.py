"""Computes a hash of all settings that decide about limits: nodes with the same hash decide
alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from crdtbucket.spec.bucket_spec import BucketSpec, OnOutage
from crdtbucket.spec.mode import Mode

Defaults = tuple[Mode, OnOutage]
"""The defaults of a bucket: its consistency, and its rule in an outage."""


def fingerprint(
    buckets: Iterable[BucketSpec], defaults: Defaults, rules: dict[str, Any] | None = None
) -> str:
    """16 hex digits over the buckets, in whatever order, and the rules that hold for all."""
    parts = sorted((spec_content(spec, defaults) for spec in buckets), key=lambda one: one["name"])
    content = {"format": 1, "buckets": parts, "rules": rules or {}}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def spec_content(spec: BucketSpec, defaults: Defaults) -> dict[str, Any]:
    """The limits of a bucket in canonical form: defaults filled in, the rate as a reduced
    fraction."""
    consistency, on_outage = spec.consistency or defaults[0], spec.on_outage or defaults[1]
    return {
        "name": spec.key,
        "capacity": spec.capacity,
        "emission": spec.emission,
        "max_debt": spec.max_debt,
        "max_keys": spec.max_keys,
        "on_table_full": spec.on_table_full,
        "consistency": consistency.value,
        "on_outage": on_outage,
        "shadow": spec.shadow,
        # Not for other buckets: their hashes are older than slots and calendars, and must not
        # change.
        **({} if spec.slots is None else {"slots": spec.slots}),
        **({} if spec.period is None else {"period": str(spec.period)}),
        # In their order, since the first that matches decides.
        "overrides": [
            (glob, spec_content(override, (consistency, on_outage)))
            for glob, override in spec.overrides
        ],
    }
