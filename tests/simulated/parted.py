"""What nodes take while they do not hear each other, beyond what the others keep for them."""

from __future__ import annotations

from collections import defaultdict

from tests.simulated.view import View

SECOND = 10**9


class Parted:
    """Told of every take and of every event; says what comes as news when parts of the mesh hear
    each other again.

    A node keeps room for what a silent one took when it was heard last, by the rate of its calls
    after the first ones, over a second at least: soon after its first call a node's rate is hardly
    known. What it took beyond that comes at once, and nobody is told when it was taken, so it is
    charged as of now.

    So is all that was taken while a node stood still, where tables are asked for more keys than
    they hold. That node reads at once what came from several sides, of which none knows what the
    others took. It may evict the key in between. Then it owes what each side lacks of the others,
    as nothing there says that it has been refilled, and tells them.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._tokens: dict[str, int] = defaultdict(int)
        """Tokens given out by each node so far."""
        self._first: dict[str, tuple[int, int]] = {}
        """When each node first gave some, ns, and how many."""
        self._moved: int | None = None
        """When something has happened since the last take, ns."""
        self._since = 0
        """Since when the mesh is in parts, ns, while it is."""
        self._parts: list[list[str]] = []
        self._before: dict[str, int] = {}
        """Tokens given out by each node before that."""
        self._unread: list[tuple[int, int]] = []
        """Until when nodes read nothing, ns, and how many tokens were given out before."""

    def happens(self, now: int) -> None:
        """An event may cut or mend."""
        self._moved = now

    def stands_still(self, until: int) -> None:
        """A node reads nothing until that time (ns), and its table is asked for too many keys."""
        self._unread.append((until, sum(self._tokens.values())))

    def took(self, name: str, tokens: int, now: int) -> int:
        """A node has given out so many. Returns how many tokens of earlier takes are unexpected
        news since the last call, at the node to which most are."""
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
        more = {name: self._beyond(name, now) for name in self._tokens}
        return round(max((sum(more[n] for n in more if n not in p) for p in were), default=0.0))

    def _beyond(self, name: str, now: int) -> float:
        """Tokens that a node took since the mesh is in parts, beyond those that are kept for it."""
        before = self._before.get(name, 0)
        first, tokens = self._first.get(name, (now, 0))
        rate = max(0, before - tokens) / max(SECOND, self._since - first)
        return max(0.0, self._tokens[name] - before - rate * (now - self._since))
