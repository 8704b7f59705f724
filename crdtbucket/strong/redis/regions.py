"""The regions of a replicated Redis: their names, and what strong mode assumes of the engine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial

from crdtbucket.base.clipped import clipped
from crdtbucket.base.setting_checks import section_problem
from crdtbucket.errors import InvalidSpec, Problem

_problem = partial(section_problem, "redis")
MOST_REGIONS = 16
"""A call reads a key of every region."""
_NAME = re.compile(r"(?!-$)[A-Za-z0-9._-]{1,32}")  # a - alone stands for a region not known

ASSUMPTIONS = (
    (
        "A1: a script is atomic on the server that runs it, and what it writes is replicated; "
        "nothing is assumed of the lag, the order or the completeness of replication"
    ),
    (
        "A2: one field's value is never a mixture of two writes; an engine that merges inside "
        "values, or makes counters of numbers, is not served"
    ),
    (
        "A3: a key that is written on one server only becomes the same on all once replication "
        "has caught up; nobody repairs keys by deleting copies"
    ),
    "A4: clocks of servers may have any offset, and run equally fast to 1,000 ppm",
    (
        "A5: own keys that were deleted may come back with old fields; maxmemory-policy is "
        "noeviction, and copies that are deleted are only not seen"
    ),
    (
        "A6: in a cluster keys with equal hash tags are in one slot, and a script may read copies "
        "beside keys of its own"
    ),
)
"""The assumptions of strong mode about a replicated Redis, a sentence each."""


def others(own: str, regions: Sequence[str]) -> tuple[str, ...]:
    """The regions whose keys a node of `own` reads and never writes."""
    return tuple(one for one in regions if one != own)


def check_region(own: str, regions: Sequence[str]) -> None:
    """Raises `InvalidSpec` when `own` is none of `regions`."""
    told = ", ".join(regions)
    if not own:
        raise InvalidSpec(
            "region is missing, and with active_active a node writes the keys of its own region",
            f"give region, one of {told}, in the file or as an argument",
            "region",
        )
    if own not in regions:
        raise InvalidSpec(
            f"region is {own!r}, which is none of regions ({told})",
            "correct it, or add it to regions on all nodes",
            "region",
        )


class Regions:
    """The regions that share a limit, each with a member of one replicated Redis."""

    def __init__(self, own: str, names: Sequence[str]) -> None:
        """`names`: of all regions, as `RedisConfig` has checked them, in any order. Raises
        `InvalidSpec` when `own` is none of them."""
        check_region(own, names)
        self.own = own.encode()
        self.others = tuple(name.encode() for name in others(own, names))

    def key(self, name: bytes) -> bytes:
        """The key of the own region, which is written here and read by the others."""
        return b"%b@%b" % (name, self.own)

    def keys(self, name: bytes) -> tuple[bytes, ...]:
        """The own region's key, and those of the others in their order."""
        return tuple(b"%b@%b" % (name, region) for region in (self.own, *self.others))


def regions_problems(active_active: object, regions: Sequence[object]) -> Iterator[Problem]:
    """What is wrong with the names of all regions."""
    if not active_active:
        if regions:
            fix = "set active_active=True where each region has a Redis of its own, or leave "
            yield _problem("regions", "are given without active_active", f"{fix}them out")
        return
    if not regions:
        fix = "name all regions, the own one too, such as [eu, us]"
        yield _problem("regions", "are missing beside active_active", fix)
    if len(regions) > MOST_REGIONS:
        yield _problem("regions", f"are {len(regions)}", f"name at most {MOST_REGIONS}")
    for number, name in enumerate(regions):
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            fix = "write 1 to 32 of A-Z, a-z, 0-9, dot, _ and -, as it ends the names of keys"
            yield _problem(f"regions[{number}]", f"is {clipped(name)}", fix)
        elif name in regions[:number]:
            yield _problem(f"regions[{number}]", f"is {name!r} once more", "name each region once")
