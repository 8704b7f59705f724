"""Bounds how many names that no key is bound to are linked in an hour."""

from __future__ import annotations

from collections import Counter

from crdtbucket.base.address import source_of

AN_HOUR = 128
"""So many such names of one IPv4 address or IPv6 /64."""
IN_ALL = 512
"""And of all addresses together, but for those in `mesh.peers`; on an engine nobody has one."""
HOUR_NS = 3600 * 10**9


class NewNames:
    """The names that were linked first in the last hour. Times are local ns."""

    def __init__(self) -> None:
        self._met: dict[str, tuple[int, str, bool]] = {}
        """By name: when it was linked, its source, and whether it is configured; in that order."""

    def refuses(self, name: str, host: str, *, configured: bool, now: int) -> str:
        """Why a name is one too many, "" where it is not. `host`: where it is met; `configured`: at
        an address that the file names."""
        while self._met and now - (oldest := next(iter(self._met.items())))[1][0] >= HOUR_NS:
            del self._met[oldest[0]]
        source = source_of(host)
        if name in self._met:
            return ""
        here = Counter(met for _, met, _ in self._met.values())[source]
        if source and here >= AN_HOUR:
            return f"{here} new names came from {source} in an hour"
        others = sum(not one for _, _, one in self._met.values())
        if not configured and others >= IN_ALL:
            return f"{others} new names came in an hour"
        return ""

    def linked(self, name: str, host: str, *, configured: bool, now: int) -> None:
        """A name that was not refused is linked: from now on it counts for an hour. The same
        arguments."""
        self._met.setdefault(name, (now, source_of(host), configured))
