"""The sessions of the console: each browser that has signed in has a random id for some hours.

An id is 256 random bits that only the browser has, in a cookie that no script can read; here its
digest is kept. A request that changes something also needs a second random text of the session,
which a page of another origin cannot read: the browser would send the cookie for any page of this
host.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.http.server.token_digest import digest_of

LIFE_S = 8 * 3_600
MAX_SESSIONS = 32
"""Most sessions; one more ends the oldest."""


@dataclass(frozen=True)
class ConsoleSession:
    """One browser that has shown the token."""

    proof: str
    """The text that a request which changes something must repeat."""
    ends: int
    """The end of the session (local ns)."""

    def proven(self, given: str) -> bool:
        """Whether a request comes from a page that could read the proof."""
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self.proof.encode())


class ConsoleSessions:
    """The sessions of one process. Times are local ns."""

    def __init__(self, prefix: str = "") -> None:
        """`prefix`: the beginning of each id, which shows the worker that has the session."""
        self._prefix = prefix
        self._open: dict[bytes, ConsoleSession] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, now: int) -> tuple[str, ConsoleSession]:
        """A new session and its id."""
        for digest in [one for one, session in self._open.items() if session.ends <= now]:
            del self._open[digest]
        while len(self._open) >= MAX_SESSIONS:
            del self._open[next(iter(self._open))]
        name = self._prefix + secrets.token_urlsafe(32)
        session = ConsoleSession(secrets.token_urlsafe(32), now + LIFE_S * NS_PER_SECOND)
        self._open[digest_of(name)] = session
        return name, session

    def find(self, name: str, now: int) -> ConsoleSession | None:
        """The session with this id; None where there is none, or it has ended."""
        session = self._open.get(digest_of(name))
        return session if session is not None and session.ends > now else None

    def end(self, name: str) -> None:
        """The session is over."""
        self._open.pop(digest_of(name), None)
