"""What nodes take while they are apart, beyond the credit that the others keep for them."""

from __future__ import annotations

from collections import defaultdict

from tests.simulated.view import View

SECOND = 10**9


class Parted:
    """Is given every take and every event, and says what arrives unexpectedly when parts of the
    mesh are connected again.

    A node keeps credit for a silent node by the rate of its calls when it was last seen, without
    the first ones and over a second at least, since a rate is hardly known soon after the first
    call. A member that only relays show is not predicted at all before they have shown it for the
    near horizon, since it may have just ended. What the silent node took beyond that arrives at
    once, and no node can know when it was taken, so it is charged as if taken now.

    So is all that was taken while a node stood still, where tables are asked for more keys than
    they hold. That node reads at once what came from several sides, none of which knows what the
    others took, and it may evict the key in between. Then it owes what each side lacks of the
    others, since no frame says that this has refilled, and sends that debt to them.
    """

    def __init__(self, view: View, learns: float) -> None:
        """`learns`: seconds after the first take of a node by which all others can predict it, by
        relays as well."""
        self._view, self._learns_ns = view, round(learns * SECOND)
        self._tokens: dict[str, int] = defaultdict(int)
        """Tokens admitted by each node so far."""
        self._first: dict[str, tuple[int, int]] = {}
        """When each node first admitted tokens (ns), and how many."""
        self._moved: int | None = None
        """When something has happened since the last take, ns; None: nothing has."""
        self._since = 0
        """While the mesh is in parts: since when, ns."""
        self._parts: list[list[str]] = []
        self._before: dict[str, int] = {}
        """Tokens admitted by each node before that."""
        self._unread: list[tuple[int, int]] = []
        """Until when nodes read nothing (ns), and how many tokens had been admitted before."""

    def happens(self, now: int) -> None:
        """An event happens, which may cut or mend."""
        self._moved = now

    def stands_still(self, until: int) -> None:
        """A node reads nothing until that time (ns), and its table is asked for too many keys."""
        self._unread.append((until, sum(self._tokens.values())))

    def took(self, name: str, tokens: int, now: int) -> int:
        """A node has admitted so many tokens. Returns how many tokens of earlier takes have arrived
        unexpectedly since the last call, at the node for which these are most."""
        unexpected = 0 if self._moved is None else self._look(self._moved, now)
        all_tokens = sum(self._tokens.values())
        unexpected += sum(all_tokens - before for until, before in self._unread if until <= now)
        self._unread = [(until, before) for until, before in self._unread if until > now]
        if tokens:
            self._first.setdefault(name, (now, tokens))
            self._tokens[name] += tokens
        return unexpected

    def _look(self, moved: int, now: int) -> int:
        self._moved = None
        parts, were = self._view.components(), self._parts
        if len(parts) > 1:
            if not were:
                self._since, self._parts, self._before = moved, parts, dict(self._tokens)
            return 0
        self._parts = []
        more = [sum(self._beyond(n, p, now) for n in self._tokens if n not in p) for p in were]
        return round(max(more, default=0.0))

    def _beyond(self, name: str, part: list[str], now: int) -> float:
        """Tokens that a node took since the mesh is in parts, beyond the credit that each node of
        another part keeps for it."""
        before = self._before.get(name, 0)
        first, tokens = self._first.get(name, (now, 0))
        rate = max(0, before - tokens) / max(SECOND, self._since - first)
        if self._since - first < self._learns_ns and not {*part} <= {*self._view.mesh.peers(name)}:
            rate = 0.0
        return max(0.0, self._tokens[name] - before - rate * (now - self._since))
