"""Reads the limits of buckets in the answers of nodes, and says which differ between nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from crdtbucket.cli.answer_values import list_of, number_of, text_of

MOST_BUCKETS = 10
"""Most buckets whose differences are listed."""


def read_limits(answer: Mapping[str, Any]) -> Mapping[str, str]:
    """The limits of a node's buckets in words, by their names; none if the node sent no numbers."""
    found = {}
    for bucket in list_of(answer, "buckets"):
        capacity, slots = number_of(bucket.get("capacity")), number_of(bucket.get("slots"))
        rate = number_of(bucket.get("refill_per_second"))
        if slots is not None:
            found[text_of(bucket.get("name"))] = f"{slots:,} in flight"
        elif capacity is not None and rate is not None:
            found[text_of(bucket.get("name"))] = f"{rate:,.6g}/s, at most {capacity:,}"
    return found


def differing(limits: Iterable[tuple[str, Mapping[str, str]]]) -> Iterable[str]:
    """The buckets whose limits differ, in sentences. `limits`: those of each node, by its name."""
    told = [(node, buckets) for node, buckets in limits if buckets]
    found = []
    for bucket in dict.fromkeys(bucket for _, buckets in told for bucket in buckets):
        held: dict[str, list[str]] = {}
        for node, buckets in told:
            held.setdefault(buckets.get(bucket, "missing"), []).append(node)
        if len(held) > 1:
            parts = [f"{limit} on {', '.join(names)}" for limit, names in held.items()]
            found.append(f"bucket {bucket} differs: {'; '.join(parts)}")
    yield from found[:MOST_BUCKETS]
    more = len(found) - MOST_BUCKETS
    if more > 0:
        yield f"{more} more buckets differ: compare by `crdtbucket config diff`"
