"""A limit as one would write it down, for comparison: so many tokens for each key, refilled by one
a second."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class NaiveLimit:
    """One bucket; time passes in whole seconds, so nothing is ever rounded."""

    capacity: int
    debts: dict[str, int] = field(default_factory=dict)
    """Tokens that are missing, of each key."""

    def left(self, key: str) -> int:
        return self.capacity - self.debts.get(key, 0)

    def wait(self, key: str, cost: int) -> int:
        """Seconds until `cost` would pass."""
        return max(0, cost - self.left(key))

    def take(self, key: str, cost: int) -> bool:
        if self.wait(key, cost):
            return False
        self.debts[key] = self.debts.get(key, 0) + cost
        return True

    def settle(self, key: str, tokens: int) -> None:
        self.debts[key] = min(self.debts.get(key, 0) + tokens, 2 * self.capacity)

    def pass_time(self, seconds: int) -> None:
        self.debts = {key: debt - seconds for key, debt in self.debts.items() if debt > seconds}
