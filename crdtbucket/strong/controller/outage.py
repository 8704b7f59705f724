"""Decides whether an endpoint is unreachable: silence while calls are open, or only failures."""

from __future__ import annotations

from enum import Enum

from crdtbucket.base.clock import NS_PER_SECOND

REFUSALS = 3
REFUSAL_SPACING_NS = 50_000_000
"""Refusals that are closer together than this (ns) count as one: all callers that wait for one
connection are refused together."""


class Failure(Enum):
    """Why a call definitely got no good answer."""

    REFUSED = "refused"
    """No process listens at the address."""
    LOST = "lost"
    """The connection ended while the call was open."""
    TIMED_OUT = "timed_out"
    """A connection could not be made in time, so the call was not sent."""
    READONLY = "readonly"
    """A replica, or a server that has lost its quorum."""
    LOADING = "loading"
    """The server is still reading its data."""
    OOM = "oom"
    """The server is at its limit of memory and writes nothing."""
    SCRIPT = "script"
    """The script ended with an error, or its answer made no sense."""
    AUTH = "auth"
    """The user or password is wrong, or may not do this."""
    DOWN = "down"
    """The server is up, its cluster or primary is not (CLUSTERDOWN, MASTERDOWN, TRYAGAIN)."""


WRITES = (Failure.READONLY, Failure.OOM, Failure.SCRIPT, Failure.AUTH)
"""Failures that may concern writes alone: an answer for which the server wrote nothing does not
refute them."""


class OutageWatch:
    """Remembers how long no answer came, and the failures since the last good answer. Times are
    local ns."""

    def __init__(self, outage_after_ns: int) -> None:
        self.silent_since: int | None = None
        """When the first call was sent, or passed its deadline, since which no answer has come."""
        self._outage_after_ns = outage_after_ns
        self._forget_failures()

    def clear(self) -> None:
        """Forgets all failures, as a good answer came, or the server is another one."""
        self.silent_since = None
        if self._bad:  # mostly there is nothing else to forget
            self._forget_failures()

    def _forget_failures(self) -> None:
        self._bad = self._failing_since = self._last_bad = 0
        self._refusals = self._last_refusal = 0
        self._last_failure: Failure | None = None
        self._why = ""

    def answered_without_write(self) -> None:
        """An answer came for which the server wrote nothing."""
        self.silent_since = None
        if self._last_failure not in WRITES:
            self.clear()

    def asked(self, now: int) -> None:
        """A call went out."""
        if self.silent_since is None:
            self.silent_since = now

    def timed_out(self, now: int) -> None:
        """A call passed its deadline without an answer."""
        self.asked(now)
        # A time-out alone may be a slow answer; after a failure it counts as one more failure.
        if self._bad:
            self._bad += 1
            self._last_bad = now

    def failed(self, now: int, failure: Failure, why: str = "") -> None:
        """A call definitely failed; `why` is for people."""
        if not self._bad:
            self._failing_since = now if self.silent_since is None else self.silent_since
        if failure is not Failure.REFUSED:
            self._refusals = 0
        elif self._refusals == 0 or now - self._last_refusal >= REFUSAL_SPACING_NS:
            self._refusals += 1
            self._last_refusal = now
        self._bad += 1
        self._last_bad, self._last_failure, self._why = now, failure, why
        self.silent_since = None

    def silence_ns(self, now: int) -> int:
        """The time for which calls have been without any answer, once that makes an outage; else
        0."""
        silence = 0 if self.silent_since is None else now - self.silent_since
        return silence if silence >= self._outage_after_ns else 0

    def found(self, now: int) -> str:
        """The present outage as a sentence; empty if there is none."""
        silence = self.silence_ns(now)
        if silence:
            return f"no answer for {_seconds(silence)} to the calls made"
        if self._refusals >= REFUSALS:
            return f"refused {self._refusals} times in a row{self._cause}"
        # Only the span between failures counts: time in which no call was made is no evidence.
        span = self._last_bad - self._failing_since
        if self._bad >= 2 and self._last_failure and span >= self._outage_after_ns:
            return (
                f"{self._bad} failures and no good answer for {_seconds(span)}, "
                f"last: {self._last_failure.value}{self._cause}"
            )
        return ""

    @property
    def _cause(self) -> str:
        return f": {self._why}" if self._why else ""


def _seconds(span_ns: int) -> str:
    return f"{span_ns / NS_PER_SECOND:.2f} s"
