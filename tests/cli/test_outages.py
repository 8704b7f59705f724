"""Outages in words: since when, why, what callers get, and when it ends."""

from __future__ import annotations

from typing import Any

import pytest

from crdtbucket.cli.outages import OutageReport, rule_words

OUT = {"seconds": 12.0, "reason": "refused 3 times", "answering": None, "steady": 0.0,
       "stable_after": 5.0, "gap": 0.0}  # fmt: skip
SILENT = "it does not answer (`crdtbucket doctor FILE` on that host looks why)"
ONCE = "strong mode returns once it has answered well for 5 s"


@pytest.mark.parametrize(
    ("what", "end"),
    [
        ({}, f"{SILENT}, and {ONCE}"),
        ({"gap": 4.0}, f"{SILENT}, and {ONCE}"),  # which is over by then
        (
            {"gap": 51.0},
            f"{SILENT}, and {ONCE}, and no sooner than in 51 s, as least_return_gap holds it",
        ),
        ({"answering": 2.0}, f"it answers, and {ONCE}"),  # too slowly
        ({"answering": 2.0, "steady": 2.0}, "it answers well, and strong mode returns in 3 s"),
        (
            {"answering": 8.0, "steady": 8.0, "gap": 41.0},
            "it answers well, and strong mode returns in 41 s, as least_return_gap holds it",
        ),
    ],
)
def test_a_redis_that_does_not_decide(what: dict[str, Any], end: str) -> None:
    found = OutageReport.of({**OUT, **what})
    assert found is not None
    assert found.words == f" for 12 s, after: refused 3 times; {end}"


@pytest.mark.parametrize("answer", [None, 7, "x", []])
def test_what_is_no_outage(answer: Any) -> None:
    assert OutageReport.of(answer) is None
    assert rule_words({"outage": answer}) == ""


def test_an_outage_without_figures() -> None:
    found = OutageReport.of({"seconds": "?", "reason": 7, "gap": None})
    assert found is not None
    assert found.words.startswith(" for 0 ms; it does not answer")


@pytest.mark.parametrize(
    ("outage", "more", "words"),
    [
        ({"rule": "deny"}, {}, ": deny, so every call is denied"),
        ({"rule": "allow"}, {}, ": allow, so every call is allowed, and charged when Redis is bac"),
        ({"rule": "eventual"}, {}, ": eventual, so the level that this node knows decides"),
        ({"rule": "of a later version"}, {}, ": of a later version"),
        (
            {"rule": "quota", "tokens": 100, "seconds": 5.0},
            {},

            ": a quota of 100 of 1,000 tokens for each key on this node, full in 5 s",
        ),
        (
            {"rule": "quota", "tokens": 2, "seconds": None},
            {"slots": 20, "capacity": 20_000},
            ": a quota of 2 of 20 slots for each key on this node",
        ),
        ({"rule": "quota", "tokens": 0, "seconds": 0.0}, {}, ": a quota of nothing, a"),
    ],
)  # fmt: skip
def test_what_callers_get(outage: dict[str, Any], more: dict[str, Any], words: str) -> None:
    found = rule_words({"capacity": 1_000, "slots": None, **more, "outage": outage})
    assert found.startswith(words)
