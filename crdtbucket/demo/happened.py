"""Records what was done to the regions in a run of the demo, as far as the verdict depends on
it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.demo.accounts import DecidedCall
from crdtbucket.spec.mode import Mode

LINKED, PARTED = "limit, links up", "limit in the cut"


class Happened:
    """The base: nothing was done to Redis."""

    note: str
    parts: tuple[str, ...]
    """Names of the parts of the run; each has a limit of its own."""
    acts_ns: Mapping[str, int] = MappingProxyType({})
    """When Redis was made slow, gone and back; it came back empty."""
    records: Sequence[Mapping[str, int]] | None = None
    """Tokens by epoch, as each Redis holds them at the end; None in a run without one."""
    ratio: float | None = None
    """A node's share of the limit while the one Redis is gone, which all nodes ask that are in
    strong mode; None in a run without one."""

    def part(self, call: DecidedCall) -> str:
        """The part of the run that a call belongs to."""
        raise NotImplementedError


class RegionCut(Happened):
    """A region was cut off from the others for a while."""

    note = """\
The limit: capacity + rate x time, in any window. The bound: what the best informed
region did not know of when it admitted."""
    parts = (LINKED, PARTED)

    def __init__(
        self, start_ns: int, end_ns: int, records: Sequence[Mapping[str, int]] | None = None
    ) -> None:
        """`records`: of the Redis of each region, where there is one."""
        self._start_ns, self._end_ns, self.records = start_ns, end_ns, records

    def part(self, call: DecidedCall) -> str:
        """The part of the run: in the cut, or with all links up; updates are under way for a moment
        after the cut."""
        apart = self._start_ns <= call.at_ns < self._end_ns + NS_PER_SECOND
        return PARTED if apart else LINKED


class RedisOutage(Happened):
    """Redis was made slow, gone and back."""

    note = """\
Admitted: outside of fallback. The limit: capacity + rate x time, in any window that ends
in that mode; in fallback, in any window, the shares of all regions together. The bound:
what neither the region that admitted nor, in strong mode, Redis knew of."""
    parts = tuple(f"limit, {mode}" for mode in Mode)

    def __init__(
        self, acts_ns: Mapping[str, int], records: Mapping[str, int], ratio: float
    ) -> None:
        self.acts_ns, self.records, self.ratio = acts_ns, [records], ratio

    def part(self, call: DecidedCall) -> str:
        """The mode in which it was decided."""
        return f"limit, {call.mode}"
