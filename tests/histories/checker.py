"""Checks whether a history is one of a limiter that loses no take and invents none.

At each pause every node must have the same columns, and for each key and epoch

    definite takes  <=  counted  <=  definite takes + those whose callers got no answer

A process that is killed takes with it what it had sent to nobody: for its epoch the lower bound is
what any process that is still running has been seen to count, or what all had at the last pause.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.histories.calm import SETTLED_S, calm, longest, tight
from tests.histories.history import (
    ADMITTED,
    CLOSED,
    DENIED,
    WIDE,
    Finding,
    History,
    Life,
    Pause,
    Read,
)

Place = tuple[str, str]
"""A key and an epoch."""
SERVE_S = 60.0
"""Seconds after the last fault within which every node serves again, and all agree."""
ROUNDING = 0.01
"""Tokens by which a debt may be off, since time passes between two looks."""


@dataclass(frozen=True)
class Verdict:
    """What the checker found in a run."""

    findings: tuple[Finding, ...]
    admitted: int
    denied: int
    indeterminate: int
    died: int
    """Tokens of definite takes that died with the process that was killed."""
    over: float
    """The most tokens by which the tight bucket was exceeded while nothing was wrong."""
    bound: float
    """The bound for that."""
    serve_s: float
    """The longest time until all were linked and agreed after the last fault."""

    @property
    def valid(self) -> bool:
        """Whether no rule is broken."""
        return not self.findings


def check(history: History) -> Verdict:
    """Judges a whole run. It is a pure function: the same history has the same verdict."""
    columns = _Columns(history)
    over, bound, beyond = tight(history)
    findings = [
        *_epochs(history),
        *columns.findings,
        *_levels(history),
        *_served(history),
        *_denied(history),
        *beyond,
    ]
    outcomes = Counter(call.outcome for call in history.calls)
    return Verdict(
        findings=tuple(sorted(findings)),
        admitted=outcomes[ADMITTED],
        denied=outcomes[DENIED],
        indeterminate=len(history.calls) - outcomes[ADMITTED] - outcomes[DENIED],
        died=columns.died,
        over=over,
        bound=bound,
        serve_s=max(
            (p.agreed - p.healed for p in history.pauses if p.agreed is not None), default=0
        ),
    )


def smallest(findings: tuple[Finding, ...]) -> list[Finding]:
    """Of each rule the finding that is the easiest to look into."""
    first: dict[str, Finding] = {}
    for one in sorted(findings):
        first.setdefault(one.rule, one)
    return list(first.values())


def _epochs(history: History) -> Iterator[Finding]:
    owners: dict[str, Life] = {}
    for life in history.lives:
        other = owners.setdefault(life.epoch, life)
        if other is not life:
            yield Finding(
                "an epoch is used again", life.begin,
                f"node {life.node} began at {life.begin:.2f} s under the epoch {life.epoch}, under "
                f"which node {other.node} had begun at {other.begin:.2f} s",
            )  # fmt: skip


class _Columns:
    """Compares what is counted with what was taken, pause by pause."""

    def __init__(self, history: History) -> None:
        self.findings: list[Finding] = []
        self.died = 0
        self._history = history
        self._owner = {life.epoch: life for life in history.lives}
        for call in history.calls:  # a running process may give its epoch up
            if call.epoch not in self._owner:
                mine = [one for one in history.lives if one.node == call.node]
                began = [one for one in mine if one.begin <= call.begin]
                if began:
                    self._owner[call.epoch] = began[-1]
        agreed: Counter[Place] = Counter()
        before = 0.0
        for pause in history.pauses:
            agreed = self._pause(pause, before, agreed)
            before = pause.healed

    def _pause(self, pause: Pause, before: float, agreed: Counter[Place]) -> Counter[Place]:
        if pause.agreed is None:
            self._disagree(pause)
            return agreed
        definite, possible = self._taken(pause.agreed)
        floor = self._floor(pause, before, agreed)
        counted = _counts(pause.reads[0])
        for place in sorted(definite | possible | counted):
            found, most = counted[place], definite[place] + possible[place]
            least = definite[place] if self._kept(place, pause.agreed) else floor[place]
            if found < least:
                self._find(
                    "tokens are lost", least - found, place,
                    f"counts {found} at the pause of {pause.agreed:.2f} s, of {least} that must be",
                )  # fmt: skip
            if found > most:
                self._find(
                    "tokens are counted that nobody took", found - most, place,
                    f"counts {found} at the pause of {pause.agreed:.2f} s, of {most} at most",
                )  # fmt: skip
            if self._ended(place, before, pause.agreed):
                self.died += max(0, definite[place] - found)
        return counted

    def _taken(self, until: float) -> tuple[Counter[Place], Counter[Place]]:
        definite: Counter[Place] = Counter()
        possible: Counter[Place] = Counter()
        for call in self._history.calls:
            if call.bucket != WIDE or call.begin > until:
                continue
            if call.outcome == ADMITTED:
                definite[call.key, call.epoch] += call.cost
            elif call.outcome != DENIED:
                possible[call.key, call.epoch] += call.cost
        return definite, possible

    def _floor(self, pause: Pause, before: float, agreed: Counter[Place]) -> Counter[Place]:
        """What must still be counted of processes that were killed: all that was agreed on, all
        that a running process was seen to count, and what was taken in a calm that was long enough
        for others to merge it. A process that finds a snapshot of another boot drops what no peer
        confirms, so it counts nothing for certain before all have agreed; nor does the next process
        of its node, if the first was killed before it kept a snapshot of its own."""
        floor = agreed + self._merged_in_calm(before, pause.healed)
        begun = [self._running(node, pause.healed) for node in range(self._history.nodes)]
        for read in self._history.reads:
            life = begun[read.node]
            if life is None or not max(before, life.begin) <= read.at <= pause.healed:
                continue
            if not self._booted(life, before):
                floor |= _counts(read)
        return floor

    def _booted(self, life: Life, since: float) -> bool:
        """Whether this process, or an earlier one of its node, began with another clock since then:
        its snapshot may be older than the boot."""
        return any(
            one.rebooted and one.node == life.node and since < one.begin <= life.begin
            for one in self._history.lives
        )

    def _merged_in_calm(self, begin: float, end: float) -> Counter[Place]:
        merged: Counter[Place] = Counter()
        calms = [(one, until) for one, until in calm(self._history) if begin < one < end]
        for start, until in calms:
            told = until - SETTLED_S - longest(self._history.calls, start, until)
            for call in self._history.calls:
                known = call.begin >= start and call.end is not None and call.end <= told
                if call.bucket == WIDE and known and call.outcome == ADMITTED:
                    merged[call.key, call.epoch] += call.cost
        return merged

    def _running(self, node: int, at: float) -> Life | None:
        for life in self._history.lives:
            if life.node == node and life.begin <= at and (life.end is None or life.end > at):
                return life
        return None

    def _kept(self, place: Place, at: float) -> bool:
        """Whether nothing of an epoch may be missing: its process runs, or had time to send it."""
        life = self._owner.get(place[1])
        return life is not None and (life.how == CLOSED or life.end is None or life.end > at)

    def _ended(self, place: Place, begin: float, end: float) -> bool:
        life = self._owner.get(place[1])
        return life is not None and life.end is not None and begin <= life.end <= end

    def _disagree(self, pause: Pause) -> None:
        known = [_counts(read) for read in pause.reads]
        for place in sorted(set().union(*known)):
            values = [one[place] for one in known]
            if max(values) > min(values):
                self._find(
                    "nodes disagree", max(values) - min(values), place,
                    f"is counted as {values} by the nodes {[one.node for one in pause.reads]}, "
                    f"{SERVE_S:g} s after the faults ended at {pause.healed:.2f} s",
                )  # fmt: skip

    def _find(self, rule: str, size: float, place: Place, what: str) -> None:
        key, epoch = place
        life = self._owner.get(epoch)
        who = "of nobody" if life is None else f"of node {life.node}, which is {life.how}"
        if life is not None and life.end is not None:
            who += f" since {life.end:.2f} s"
        self.findings.append(Finding(rule, size, f"key {key!r}, epoch {epoch} {who}: {what}"))


def _counts(read: Read) -> Counter[Place]:
    return Counter(
        {(key, epoch): n for key, row in read.columns.items() for epoch, n in row.items() if n}
    )


def _levels(history: History) -> Iterator[Finding]:
    """A debt is what was counted, less what has been refilled since the run began."""
    for pause in history.pauses:
        refill = history.limits.wide_refill_per_second * (pause.agreed or pause.healed)
        for read in pause.reads if pause.agreed is not None else ():
            for key, row in read.columns.items():
                taken, debt = sum(row.values()), read.debts[key]
                off = max(debt - taken, taken - refill - debt)
                if off > ROUNDING:
                    yield Finding(
                        "a level is not what was counted", off,
                        f"key {key!r}: node {read.node} owes {debt:.3f} of the {taken} tokens that "
                        f"it counts, at {read.at:.2f} s",
                    )  # fmt: skip


def _served(history: History) -> Iterator[Finding]:
    for pause in history.pauses:
        if pause.served is None:
            yield Finding(
                "a node does not serve again", SERVE_S,
                f"{SERVE_S:g} s after the faults ended at {pause.healed:.2f} s the nodes are not "
                "all linked, or one admits nothing",
            )  # fmt: skip
        elif pause.agreed is None and _same(pause):
            yield Finding(
                "levels disagree", SERVE_S,
                f"{SERVE_S:g} s after the faults ended at {pause.healed:.2f} s the columns are "
                "equal, but not the levels",
            )  # fmt: skip


def _same(pause: Pause) -> bool:
    return all(read.columns == pause.reads[0].columns for read in pause.reads)


def _denied(history: History) -> Iterator[Finding]:
    for call in history.calls:
        if call.bucket == WIDE and call.outcome == DENIED:
            yield Finding(
                "a call is denied though there is room", call.begin,
                f"node {call.node} denied {call.cost} of key {call.key!r} at {call.begin:.2f} s",
            )  # fmt: skip
