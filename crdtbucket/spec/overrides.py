"""Overrides: other limits for some keys of a bucket, chosen by a glob that the key matches.

A glob is as in `fnmatch`, case-sensitive and on the whole key: `*`, `?`, `[a-z]`, `[!a-z]`; `[[]`,
`[*]` and `[?]` stand for the characters themselves. A key given as bytes is looked at as UTF-8, so
that it has the override of the same key given as text; a byte that is no UTF-8 is one character.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Generic, TypeVar

from crdtbucket.errors import InvalidSpec

if TYPE_CHECKING:
    from crdtbucket.spec.bucket_spec import BucketSpec

MAX_OVERRIDES = 1_000
MAX_BUCKETS = 1_000
"""Overrides included: their definitions travel in one frame."""
FEWER = (
    f"at most {MAX_BUCKETS} buckets and overrides, of which a calendar bucket counts for four; "
    "a glob can stand for a group of keys"
)
REMEMBERED_KEYS = 65_536
MAX_KEY_LENGTH = 512
"""The core refuses longer keys, so no override is looked up for them and none is remembered."""

T = TypeVar("T")
Override = tuple[str, "BucketSpec"]


def checked_overrides(owner: BucketSpec, overrides: Iterable[Override]) -> tuple[Override, ...]:
    """The overrides of `owner`, each with its full name and what it shares with its bucket.

    Raises `InvalidSpec`.
    """
    pairs = (
        tuple(overrides)
        if isinstance(overrides, Iterable) and not isinstance(overrides, str)
        else None
    )
    if pairs is None or not all(isinstance(p, Sequence) and len(p) == 2 for p in pairs):
        raise _refused(f"overrides is {overrides!r}", "write [(glob, BucketSpec(...)), ...]")
    if len(pairs) > MAX_OVERRIDES:
        raise _refused(
            f"{len(pairs)} overrides", f"at most {MAX_OVERRIDES}; a glob can stand for a group"
        )
    seen: set[str] = set()
    taken: tuple[str, ...] = ()  # what the keys of earlier globs of the form "text*" begin with
    for glob, _ in pairs:
        check_glob(glob)
        if glob in seen:
            raise _refused(f"two overrides are for {glob!r}", "remove one; the first match wins")
        if glob.startswith(taken):
            first = next(f"{start}*" for start in taken if glob.startswith(start))
            raise _refused(
                f"the override for {glob!r} comes after {first!r}",
                f"put it before: {first!r} takes all such keys",
            )
        seen.add(glob)
        if glob.endswith("*") and not re.search(r"[*?[]", glob[:-1]):
            taken += (glob[:-1],)
    return tuple((glob, override_of(owner, glob, spec)) for glob, spec in pairs)


def with_overrides(specs: Iterable[BucketSpec]) -> Iterator[tuple[BucketSpec, BucketSpec]]:
    """Every definition and the bucket that it belongs to; a bucket comes before its overrides."""
    for spec in specs:
        yield spec, spec
        for _, override in spec.overrides:
            yield override, spec


def shadowed(specs: Iterable[BucketSpec]) -> tuple[BucketSpec, ...]:
    """The same definitions as shadows, overrides included: they count and deny nobody."""
    return tuple(replace(spec, shadow=True) for spec in specs)


def check_glob(glob: str) -> None:
    """Raises `InvalidSpec` unless this is a glob."""
    if not isinstance(glob, str) or not glob:
        raise _refused(f"glob is {glob!r}", 'write text such as "premium-*" or a key itself')
    at = 0
    while (at := glob.find("[", at)) >= 0:
        # As in fnmatch, a "]" in the first place is one of the characters.
        first = at + 2 if glob[at + 1 : at + 2] == "!" else at + 1
        at = glob.find("]", first + 1)
        if at < 0:
            raise _refused(f"glob {glob!r} has a '[' without a ']'", "write '[[]' for a '['")


def override_of(owner: BucketSpec, glob: str, spec: BucketSpec) -> BucketSpec:
    """`spec` as an override of `owner`: with its full name, and what it shares with its bucket.

    Raises `InvalidSpec`.
    """
    if not isinstance(spec, type(owner)):
        raise _refused(f"the override for {glob!r} is {spec!r}", "make it with BucketSpec(...)")
    if spec.overrides or spec.overrides_from is not None:
        raise _refused(
            f"the override for {glob!r} has overrides", "list them all in the bucket's overrides"
        )
    if (spec.slots is None) != (owner.slots is None):
        fix = "give both slots (BucketSpec.concurrency), or both tokens"
        raise _refused(f"the override for {glob!r} is of another kind than its bucket", fix)
    if spec.period != owner.period:
        fix = "give both the same period (BucketSpec.calendar), or neither"
        raise _refused(f"the override for {glob!r} has another period than its bucket", fix)
    if spec.consistency not in (None, owner.consistency):
        fix = "leave it out: an override has that of its bucket"
        raise _refused(f"the override for {glob!r} sets consistency", fix)
    return replace(
        spec,
        name=f"{owner.name}[{glob}]",
        consistency=None,
        on_outage=spec.on_outage or owner.on_outage,
        shadow=spec.shadow or owner.shadow,
    )


def _refused(message: str, fix: str) -> InvalidSpec:
    return InvalidSpec(message, fix, "overrides")


def key_text(key: str | bytes) -> str:
    """The text by which the override of a key is looked up."""
    return key if isinstance(key, str) else key.decode("utf-8", "surrogateescape")


class Choice(Generic[T]):
    """Finds the first glob that matches a key, and returns what was given for that glob. It
    remembers its answers."""

    def __init__(self, choices: Iterable[tuple[str, T]], otherwise: T) -> None:
        """`otherwise`: for a key that no glob matches, and for what is no key at all."""
        self._otherwise = otherwise
        # What is remembered does not refer to this object: else up to 65,536 keys would stay, when
        # a reload has replaced it, until Python's collector comes.
        self._of = lru_cache(REMEMBERED_KEYS)(_Search(choices, otherwise).of)

    def of(self, key: str | bytes) -> T:
        """The choice for a key. Safe from any thread."""
        if isinstance(key, (str, bytes)) and len(key) <= MAX_KEY_LENGTH:
            return self._of(key)
        return self._otherwise


class _Search(Generic[T]):
    """The same search as `Choice`, without remembering."""

    def __init__(self, choices: Iterable[tuple[str, T]], otherwise: T) -> None:
        self._otherwise = otherwise
        self._globs: list[tuple[re.Pattern[str], int]] = []
        self._keys: dict[str, int] = {}
        self._chosen: list[T] = []
        for glob, what in choices:
            if re.search(r"[*?[]", glob):
                self._globs.append((re.compile(fnmatch.translate(glob)), len(self._chosen)))
            else:
                self._keys[glob] = len(self._chosen)
            self._chosen.append(what)

    def of(self, key: str | bytes) -> T:
        text = key_text(key)
        exact = self._keys.get(text, len(self._chosen))
        for pattern, place in self._globs:
            if place > exact:
                break
            if pattern.match(text):
                return self._chosen[place]
        return self._chosen[exact] if exact < len(self._chosen) else self._otherwise
