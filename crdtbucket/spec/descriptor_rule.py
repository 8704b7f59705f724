"""Rules for descriptors, as proxies send them: which bucket and key a descriptor takes from.

A descriptor is a list of entries, each a name and a value, such as route=chat and user=u1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crdtbucket.spec.priority import Floor

ALL = "*"
"""The key of a rule that takes no entry as the key: all descriptors share one limit."""
EMPTY = '""'
"""The key that stands for an empty value, since a key cannot be empty."""
Entry = tuple[str, str]


@dataclass(frozen=True)
class DescriptorRule:
    """A rule for descriptors that have precisely these entries, in this order: which bucket they
    take from."""

    bucket: str
    """The service that it takes from."""
    entries: tuple[tuple[str, str | None], ...]
    """The entries that a descriptor must consist of, in this order: `name=value`, or a `name`
    alone, whose value is the key. With several such names the key has all their values; without
    any, all descriptors share one key."""
    domain: str | None = None
    """The domain that the proxy sends; any, if left out."""
    settle: bool = False
    """Whether every hit is charged, into debt if need be: for costs known only after the answer."""
    floor: Floor = 0
    """The share of the capacity that is left to [more important](api.md#priorities) calls, or
    `critical`, `normal`, `batch` or `smooth`."""

    def key(self, domain: str, entries: Sequence[Entry]) -> str | None:
        """The key of a descriptor; None when the rule does not cover it."""
        if self.domain not in (None, domain) or len(entries) != len(self.entries):
            return None
        values = []
        for (name, value), (wanted, fixed) in zip(entries, self.entries, strict=True):
            if name != wanted or fixed not in (None, value):
                return None
            if fixed is None:
                values.append(value)
        return _joined(values)

    def key_of(self, domain: str, names: Mapping[str, str]) -> str | None:
        """`key` of a descriptor whose entries have no order, and each name once."""
        if len(names) != len(self.entries) or names.keys() != {name for name, _ in self.entries}:
            return None
        return self.key(domain, [(name, names[name]) for name, _ in self.entries])

    def covers(self, other: DescriptorRule) -> bool:
        """Whether this rule covers every descriptor that the other rule covers."""
        return (
            self.domain in (None, other.domain)
            and len(self.entries) == len(other.entries)
            and all(
                mine[0] == its[0] and mine[1] in (None, its[1])
                for mine, its in zip(self.entries, other.entries, strict=True)
            )
        )


def _joined(values: Sequence[str]) -> str:
    if not values:
        return ALL
    if len(values) == 1:
        return values[0] or EMPTY
    # Values may come from clients, and no client may be able to produce the key of another one.
    return "/".join(value.replace("%", "%25").replace("/", "%2F") for value in values)
