"""How many switches of mode there may be, whatever an endpoint does."""

from __future__ import annotations


class SwitchBudget:
    """At most 2 k + 1 switches in any time of k gaps, for every k; so at most 3 in one gap.

    That is: of any 2 k + 2 in a row, the first and the last are at least k gaps apart. So each
    switch bounds those at odd distances after it, and two times carry that of all switches there
    ever were: one for the next switch and, before the next is known, one for that after it.
    """

    def __init__(self, gap_ns: int, now: int) -> None:
        self.one_at = now - gap_ns
        """When there is room for one switch (local ns)."""
        self._after_at = now - gap_ns
        self._gap_ns = gap_ns

    @property
    def two_at(self) -> int:
        """When there is room for one, and for a second at any time after it (local ns)."""
        return max(self.one_at, self._after_at)

    def spend(self, now: int) -> None:
        """There was a switch."""
        self.one_at, self._after_at = max(now, self._after_at), self.one_at + self._gap_ns
