"""One bucket of one Envoy: what it was assigned, what it has reported of that, and what it wants.

An assignment is paid for before it is sent: its tokens are taken from the bucket. So nothing that
an Envoy admits by an assignment is more than the limit, whether it is ever reported or not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from math import ceil, sqrt

from crdtbucket._core import Decision
from crdtbucket.base.clock import NS_PER_SECOND

ASSIGNED_S = 30
"""How long an assignment is in force at an Envoy that is sent nothing more."""
APPLIED_NS = NS_PER_SECOND
"""An assignment that was sent at least this long (ns) before a report came is in force at the Envoy
by then, and has replaced earlier ones."""
IDLE_NS = 60 * NS_PER_SECOND
"""A bucket id without a request for this long (ns) is abandoned."""
LEAST_RATE = 1e-6
AT_ONCE = 200
"""Bucket ids or keys that are handled in one go: other calls are answered in between."""
OLDEST, NEWEST = 0, -1

BucketId = tuple[tuple[bytes, bytes], ...]
"""Names and values, in the order of their bytes."""


def bytes_of(bucket_id: BucketId) -> int:
    """The length of all names and values of a bucket id (bytes)."""
    return sum(len(name) + len(value) for name, value in bucket_id)


@dataclass(frozen=True)
class QuotaUsage:
    """The report of an Envoy about one bucket: its requests since the last report."""

    bucket_id: BucketId
    allowed: int = 0
    denied: int = 0


@dataclass(frozen=True)
class QuotaAction:
    """The assignment that an Envoy is sent for one bucket."""

    bucket_id: BucketId
    tokens: int | None = None
    """The tokens of the assigned bucket, which does not refill; 0 denies all requests, None admits
    all."""
    extends: bool = False
    """Go on with the bucket of the last assignment, which had as many."""
    abandon: bool = False
    """Forget the bucket, and report it as new when a request comes."""


@dataclass
class _Paid:
    """Tokens of one take that are neither reported as used nor given back."""

    decision: Decision
    tokens: int


class QuotaStream:
    """One Envoy, as long as it is connected."""

    def __init__(self) -> None:
        self.domain = ""
        self.ids: dict[BucketId, QuotaSubscription] = {}
        self.id_bytes = 0
        self.unsent: dict[BucketId, QuotaAction] = {}
        """The actions that are to be sent: at most one for each bucket id, the newest."""
        self.ready = asyncio.Event()
        """Set while there is something to send."""

    def put(self, action: QuotaAction) -> None:
        """Adds an assignment that is sent as soon as the Envoy reads."""
        self.unsent[action.bucket_id] = action
        self.ready.set()

    def sent(self, most: int | None = None) -> list[QuotaAction]:
        """Hands over what is to be sent, the first `most` of it; None: all."""
        actions = [self.unsent.pop(one) for one in list(islice(self.unsent, most))]
        if not self.unsent:
            self.ready.clear()
        return actions


@dataclass(eq=False)
class QuotaSubscription:
    """One bucket id of one stream. Times are ns of the server's clock."""

    stream: QuotaStream
    bucket_id: BucketId
    reported_at: int
    """When the last report came."""
    used_at: int
    """When the last report of a request came."""
    rate: float = 0.0
    """Requests a second that come to this Envoy, those that it denied too."""
    guessed: bool = True
    """Whether no report has shown the rate yet."""
    version: int = 0
    """The version of the configuration by which the key was found."""
    action: QuotaAction | None = None
    """The assignment that was sent last."""
    sent_at: int = 0
    _paid: deque[_Paid] = field(default_factory=deque)
    _sent: deque[tuple[int, int]] = field(default_factory=deque)
    """When assignments were sent that may still be in force, and their tokens."""
    _left: float = 0.0
    _left_at: int = 0

    @property
    def size(self) -> int:
        """Tokens of the last assignment; the Envoy may still have all of them."""
        return self.action.tokens or 0 if self.action is not None else 0

    @property
    def unreported(self) -> int:
        """Tokens that are paid for and not reported as used."""
        return sum(one.tokens for one in self._paid)

    def report(self, usage: QuotaUsage, now: int) -> int:
        """Books a report. Returns the tokens that it used without an assignment: they are not paid.

        Gives back tokens of replaced assignments that are paid for and can no longer be used."""
        elapsed = max(now - self.reported_at, NS_PER_SECOND) / NS_PER_SECOND
        requests = usage.allowed + usage.denied
        seen = requests / elapsed
        self.rate = max(seen, 0.0 if self.guessed else self.rate / 2)
        self.guessed = False
        self.reported_at = now
        if requests:
            self.used_at = now
        # Oldest first, as they were used.
        unpaid = usage.allowed - sum(one.tokens for one in self._taken_out(usage.allowed, OLDEST))
        self._give_back(self.unreported - self._usable(now))
        if self._sent:
            since, tokens = self._sent[-1]
            left = max(0.0, tokens - seen * (now - since) / NS_PER_SECOND)
            self._left, self._left_at = min(left, self.unreported), now
        return unpaid

    def left(self, now: int) -> float:
        """Tokens that the Envoy is likely to have left."""
        return max(0.0, self._left - self.rate * (now - self._left_at) / NS_PER_SECOND)

    def wanted(self, now: int, pace: int, spare: int, *, anew: bool = False) -> int:
        """Tokens for a new assignment; 0 when the present one is enough, unless `anew`.

        `pace`: how long it is to last (ns). `spare`: tokens for requests beyond the expected
        ones."""
        want, low = self._target(pace, spare)
        if not anew and self.left(now) > low and self.size <= 2 * want:
            return 0
        return want

    def lasts_until(self, pace: int, spare: int) -> int:
        """When a new assignment will be wanted, if requests come as before."""
        _, low = self._target(pace, spare)
        more = max(0.0, self._left - low) / max(self.rate, LEAST_RATE)
        return self._left_at + ceil(more * NS_PER_SECOND)

    def silent(self, now: int) -> bool:
        """Whether reports are missing, so that nothing more is assigned."""
        return now - self.reported_at >= IDLE_NS

    def ended(self, now: int) -> bool:
        """Whether to abandon it: its Envoy reports that no requests come, or nothing."""
        return self.reported_at - self.used_at >= IDLE_NS or now - self.reported_at >= 2 * IDLE_NS

    def _target(self, pace: int, spare: int) -> tuple[int, float]:
        foreseen = self.rate * pace / NS_PER_SECOND
        # Requests that come independently of each other: two deviations more than on average.
        wanted = ceil(foreseen + 2 * sqrt(foreseen))
        want = max(wanted, spare, 1)
        return want, min(want / 2, want - foreseen)

    def assign(self, tokens: int | None, decision: Decision | None, now: int) -> None:
        """Sends the next assignment, of tokens that `decision` has taken."""
        self.action = QuotaAction(self.bucket_id, tokens)
        self.sent_at = now
        if decision is not None and tokens:
            self._paid.append(_Paid(decision, tokens))
        self._sent.append((now, tokens or 0))
        self._left, self._left_at = float(tokens or 0), now
        self.stream.put(self.action)

    def extend(self, now: int) -> None:
        """Sends the assignment once more, which then goes on for longer."""
        if self.action is not None and self.bucket_id not in self.stream.unsent:
            self.sent_at = now
            self.stream.put(replace(self.action, extends=True))

    def start_again(self) -> None:
        """Begins anew, as if nothing had been assigned. What was assigned stays charged."""
        self.action = None
        self._paid.clear()
        self._sent.clear()
        self._left = 0.0

    def _usable(self, now: int) -> int:
        """The most that the Envoy may use, unreported, from now on without a new assignment."""
        while len(self._sent) > 1 and self._sent[1][0] <= now - APPLIED_NS:
            self._sent.popleft()
        return sum(tokens for _, tokens in self._sent)

    def _give_back(self, tokens: int) -> None:
        for one in self._taken_out(tokens, NEWEST):
            one.decision.bucket.refund(one.decision, one.tokens)

    def _taken_out(self, tokens: int, end: int) -> Iterator[_Paid]:
        """Removes up to `tokens` tokens from those that are paid for, beginning with the oldest or
        the newest take."""
        while tokens > 0 and self._paid:
            paid = self._paid[end]
            part = min(tokens, paid.tokens)
            paid.tokens -= part
            tokens -= part
            if not paid.tokens:
                del self._paid[end]
            yield _Paid(paid.decision, part)
