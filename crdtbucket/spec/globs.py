"""The globs of overrides: which one a key matches.

A glob is as in `fnmatch`, case-sensitive and on the whole key: `*`, `?`, `[a-z]`, `[!a-z]`; `[[]`,
`[*]` and `[?]` stand for the characters themselves. A key given as bytes is matched as UTF-8, so
that it has the override of the same key given as text; a byte that is not valid UTF-8 counts as one
character.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Generic, TypeVar

from crdtbucket.errors import InvalidSpec

MAX_OVERRIDES = 1_000
REMEMBERED_KEYS = 65_536
MAX_KEY_LENGTH = 512
"""The core refuses longer keys, so no override is looked up for them and none is remembered."""

T = TypeVar("T")


def checked_globs(overrides: object) -> tuple[tuple[str, Any], ...]:
    """Checks what was passed as overrides: pairs of a glob and the definition for the keys that
    match it.

    Raises `InvalidSpec`.
    """
    pairs = (
        tuple(overrides)
        if isinstance(overrides, Iterable) and not isinstance(overrides, str)
        else None
    )
    if pairs is None or not all(isinstance(p, Sequence) and len(p) == 2 for p in pairs):
        raise refused(f"overrides is {overrides!r}", "write [(glob, BucketSpec(...)), ...]")
    if len(pairs) > MAX_OVERRIDES:
        raise refused(
            f"{len(pairs)} overrides", f"at most {MAX_OVERRIDES}; a glob can stand for a group"
        )
    seen: set[str] = set()
    taken: tuple[str, ...] = ()  # "text" of all earlier globs of the form "text*"
    for glob, _ in pairs:
        check_glob(glob)
        if glob in seen:
            raise refused(f"two overrides are for {glob!r}", "remove one; the first match wins")
        if glob.startswith(taken):
            first = next(f"{start}*" for start in taken if glob.startswith(start))
            raise refused(
                f"the override for {glob!r} comes after {first!r}",
                f"put it before: {first!r} takes all such keys",
            )
        seen.add(glob)
        if glob.endswith("*") and not re.search(r"[*?[]", glob[:-1]):
            taken += (glob[:-1],)
    return pairs


def check_glob(glob: str) -> None:
    """Raises `InvalidSpec` unless this is a glob."""
    if not isinstance(glob, str) or not glob:
        raise refused(f"glob is {glob!r}", 'write text such as "premium-*" or a key itself')
    at = 0
    while (at := glob.find("[", at)) >= 0:
        # As in fnmatch, a "]" in the first place is one of the characters.
        first = at + 2 if glob[at + 1 : at + 2] == "!" else at + 1
        at = glob.find("]", first + 1)
        if at < 0:
            raise refused(f"glob {glob!r} has a '[' without a ']'", "write '[[]' for a '['")


def refused(message: str, fix: str) -> InvalidSpec:
    """The error for overrides that cannot be used."""
    return InvalidSpec(message, fix, "overrides")


def key_text(key: str | bytes) -> str:
    """The text by which the override of a key is looked up."""
    return key if isinstance(key, str) else key.decode("utf-8", "surrogateescape")


class Choice(Generic[T]):
    """Finds the first glob that matches a key, and returns what was given for that glob. It
    remembers its answers."""

    def __init__(self, choices: Iterable[tuple[str, T]], otherwise: T) -> None:
        """`otherwise`: the choice for a key that no glob matches, and for a value that is not a
        key."""
        self._otherwise = otherwise
        # Remembered answers do not refer to this object: otherwise, after a reload has replaced it,
        # up to 65,536 keys would stay in memory until Python's garbage collector runs.
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
