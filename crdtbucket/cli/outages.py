"""Describes in words what a node reports about a Redis that does not decide, and what callers get
meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crdtbucket.cli.answer_values import list_of, number_of, report_of, text_of
from crdtbucket.cli.terminal_text import seconds

SILENT = "it does not answer (`crdtbucket doctor FILE` on that host looks why)"
RULES = {
    "deny": "deny, so every call is denied",
    "allow": "allow, so every call is allowed, and charged when Redis is back",
    "eventual": "eventual, so the level that this node knows decides",
}


@dataclass(frozen=True)
class OutageReport:
    """A Redis that does not decide. Times are seconds."""

    seconds: float
    reason: str = ""
    answering: float | None = None
    """For how long it has answered without a failure; None where it does not."""
    steady: float = 0.0
    """For how long it has answered quickly enough."""
    stable_after: float = 0.0
    """For how long it must."""
    gap: float = 0.0
    """How long `least_return_gap` keeps it from a return."""

    @classmethod
    def of(cls, answer: Any) -> OutageReport | None:
        """Reads one of `outages` of the answer of `GET /admin/status`; None where there is none."""
        return report_of(cls, answer) if isinstance(answer, Mapping) else None

    @property
    def words(self) -> str:
        """Since when, why, and until when, as the end of a sentence."""
        why = f", after: {self.reason}" if self.reason else ""
        return f" for {seconds(self.seconds)}{why}; {self._end}"

    @property
    def _end(self) -> str:
        stable, left = seconds(self.stable_after), max(0.0, self.stable_after - self.steady)
        held = f"in {seconds(self.gap)}, as least_return_gap holds it"
        if self.answering is None or not self.steady:
            begun = "it answers" if self.answering is not None else SILENT
            late = f", and no sooner than {held}" if self.gap > self.stable_after else ""
            return f"{begun}, and strong mode returns once it has answered well for {stable}{late}"
        if self.gap > left:
            return f"it answers well, and strong mode returns {held}"
        return f"it answers well, and strong mode returns in {seconds(left)}"


def read_rules(answer: Mapping[str, Any]) -> Mapping[str, str]:
    """`rule_words` of a node's buckets, by their names."""
    buckets = list_of(answer, "buckets")
    return {text_of(one.get("name")): words for one in buckets if (words := rule_words(one))}


def rule_words(bucket: Mapping[str, Any]) -> str:
    """What callers get of a bucket in fallback, as the end of a sentence; "" where the node did not
    say. `bucket`: one of the answer of `GET /v1/buckets`."""
    outage = bucket.get("outage")
    if not isinstance(outage, Mapping):
        return ""
    tokens, back = number_of(outage.get("tokens")), number_of(outage.get("seconds"))
    rule = text_of(outage.get("rule"))
    if tokens is None:
        return f": {RULES.get(rule, rule)}"
    if not tokens:
        return ": a quota of nothing, as more nodes share the limit than it has tokens"
    slots = number_of(bucket.get("slots"))
    whole = number_of(bucket.get("capacity")) if slots is None else slots
    what = f"{tokens:,.0f} of {whole or 0:,.0f} {'tokens' if slots is None else 'slots'}"
    full = "" if back is None else f", full in {seconds(back)}"
    return f": a quota of {what} for each key on this node{full}"
