"""A rule for requests: which methods and paths it limits, which bucket and key they take from, and
how much."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from crdtbucket._core import MAX_KEY_BYTES
from crdtbucket.base.signatures import misfit
from crdtbucket.errors import InvalidKey, InvalidSpec
from crdtbucket.http.request import Request, by_address
from crdtbucket.limiter.key_and_cost import check_sync
from crdtbucket.spec.priority import Floor, check_floor

Charge: TypeAlias = "tuple[str, str | bytes, int] | tuple[str, str | bytes, int, Floor]"
"""Bucket, key, cost, and the floor if there is one."""
_PATTERN = re.compile(r"(?:([A-Z]+(?:,[A-Z]+)*) )?(/\S*)")
_FOREIGN = re.compile(r"\{[^/]*?\}|<[^/]*?>|\?.*")
"""How other routers write a variable part of a path; and a query."""
_BELOW = "(?:/.*)?"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@dataclass(frozen=True)
class Rule:
    """One limit on requests. An exception in one of its callables is an error of the program: it
    reaches the server, which answers 500; no request passes unlimited because of it."""

    bucket: str
    key: Callable[[Request], str | bytes] = by_address
    """The key that is limited. None or an empty text raises `InvalidKey`; a digest stands for a key
    over 512 bytes."""
    cost: int | Callable[[Request], int] = 1
    """Tokens, 1 or more."""
    match: str | tuple[str, ...] = ()
    """The requests that the rule is about, all of them when empty: patterns of the path, each with
    methods before it if it is about some only, such as "/reports/*" or "POST,PUT /items/**". `*`
    stands for any text within one segment of the path, `/**` at the end for whatever is below. GET
    stands for HEAD, too."""
    exempt: Callable[[Request], bool] | None = None
    """True for requests that match but that the rule does not limit."""
    floor: Floor | Callable[[Request], Floor] = 0
    """The share of the capacity that a request leaves to more important ones, 0 up to 1, or its
    priority: "critical" (0), "normal" (a fifth), "batch" (a half) or "smooth" (up to a fifth)."""
    refund_if: Callable[[int], bool] | None = None
    """Called with the status of the answer, 500 after an exception: True gives the tokens back.
    Without it, and when the client has gone away, the tokens stay spent."""

    def __post_init__(self) -> None:
        """Raises `InvalidSpec` for a bucket that is no name, for something that cannot be called
        where a function is expected, and for a pattern that cannot be matched."""
        if not isinstance(self.bucket, str):
            fix = "write the name of a bucket"
            raise InvalidSpec(f"bucket is {self.bucket!r}", fix, "bucket")
        check_callable("key", self.key, "the request")
        check_cost(self.cost, "the request")
        if callable(self.floor):
            check_callable("floor", self.floor, "the request")
        else:
            check_floor(self.floor)
        for name, argument in (("exempt", "the request"), ("refund_if", "the status")):
            if getattr(self, name) is not None:
                check_callable(name, getattr(self, name), argument)
        if not isinstance(self.match, (str, tuple, list)):
            raise InvalidSpec(f"match is {self.match!r}", "write patterns of paths", "match")
        patterns = (self.match,) if isinstance(self.match, str) else tuple(self.match)
        object.__setattr__(self, "_pattern", _compiled(patterns) if patterns else None)

    @property
    def cost_by_address(self) -> int | None:
        """The tokens that every request takes from its client's address; None if the rule depends
        on anything else."""
        every = self._pattern is None and self.exempt is None  # type: ignore[attr-defined]
        plain = every and self.key is by_address and type(self) is Rule and self.floor == 0
        return self.cost if plain and isinstance(self.cost, int) else None

    def charge(self, request: Request) -> Charge | None:
        """What the request takes by this rule; None when the rule does not cover it."""
        pattern: re.Pattern[str] | None = self._pattern  # type: ignore[attr-defined]
        if pattern is not None and not pattern.fullmatch(f"{request.method} {request.path}"):
            return None
        if self.exempt is not None and self.exempt(request):
            return None
        key = self.key(request)
        if not key:
            raise InvalidKey(
                f"the key of the rule for {self.bucket!r} is {key!r} for {request.method} "
                f"{request.path!r}: return a text; `exempt` says who is not limited"
            )
        if isinstance(key, (str, bytes)) and len(key) * 4 > MAX_KEY_BYTES:  # in UTF-8 at most
            key = shortened(key)
        cost = self.cost
        tokens = cost if isinstance(cost, int) else cost(request)
        if self.floor == 0:
            return self.bucket, key, tokens
        return self.bucket, key, tokens, self.floor(request) if callable(self.floor) else self.floor


def shortened(key: str | bytes, most: int = MAX_KEY_BYTES) -> str | bytes:
    """The key, or a digest that stands for one of more than `most` bytes."""
    raw = key.encode() if isinstance(key, str) else key
    return hashlib.blake2b(raw, digest_size=32).hexdigest() if len(raw) > most else key


def check_cost(cost: Any, argument: str) -> None:
    """Raises `InvalidSpec` for a cost that is neither 1 or more tokens nor a function."""
    if not isinstance(cost, int):
        check_callable("cost", cost, argument)
    elif isinstance(cost, bool) or cost < 1:
        raise InvalidSpec(f"cost is {cost}", "write 1 or more", "cost")


def check_callable(name: str, given: Any, argument: str) -> None:
    """Raises `InvalidSpec` if this is not a function that can be called with one argument."""
    if not callable(given):
        example = f"lambda {argument.removeprefix('the ')}: ..."
        fix = f"pass a function of {argument}, such as `{example}`"
        raise InvalidSpec(f"{name} is {given!r}", fix, name)
    native = ", and read its result from request.native" if argument == "the request" else ""
    check_sync(name, given, f"do the slow part before{native}")
    if found := misfit(given, None):
        fix = f"it is called with one argument, {argument}"
        raise InvalidSpec(f"{name} takes {found[0]}", fix, name)


def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    groups = itertools.count()
    return re.compile("|".join(_expression(pattern, groups) for pattern in patterns), re.DOTALL)


def _expression(pattern: str, groups: Iterator[int]) -> str:
    found = _PATTERN.fullmatch(pattern) if isinstance(pattern, str) else None
    if found is not None and _FOREIGN.search(pattern):
        meant = _FOREIGN.sub(lambda part: "" if part[0].startswith("?") else "*", pattern)
        fix = f"write {meant!r}, as * stands for a part that varies, and queries are not matched"
        raise InvalidSpec(f"match has {pattern!r}", fix, "match")
    if found is None or "**" in found[2].removesuffix("/**"):
        fix = 'write a path, with methods before it or not, such as "POST,PUT /items/*"'
        raise InvalidSpec(f"match has {pattern!r}", fix, "match")
    named = found[1].split(",") if found[1] else []
    for method in named:
        near = difflib.get_close_matches(method, _METHODS, 1, 2 / 3)
        if near and method not in _METHODS and _mistyped(method, near[0]):
            raise InvalidSpec(f"match has {pattern!r}", f"did you mean {near[0]!r}?", "match")
    if "GET" in named:
        named.append("HEAD")  # frameworks answer it with the function for GET
    methods = "|".join(named) or r"\S+"
    stem = found[2].removesuffix("/**")
    path = "/".join(_segment(segment.split("*"), groups) for segment in stem.split("/"))
    # Some routers, such as Flask's, take any number of slashes at the beginning for one.
    return f"(?:{methods}) /*{path}{_BELOW if stem != found[2] else ''}"


def _mistyped(method: str, meant: str) -> bool:
    """Whether the two words differ by two swapped letters, or by one letter that is missing or too
    many."""
    return sorted(method) == sorted(meant) or abs(len(method) - len(meant)) == 1


def _segment(texts: list[str], groups: Iterator[int]) -> str:
    """One segment of a path: these texts with anything between them.

    Each text between two others is matched at the first place where it is found, without
    backtracking: with three such texts backtracking could take hours for a long path from a client.
    """
    first, *others = map(re.escape, texts)
    if not others:
        return first
    *between, last = others
    found = "".join(
        f"(?=(?P<_{group}>[^/]*?{text}))(?P=_{group})"
        for text, group in zip(between, groups, strict=False)
    )
    return f"{first}{found}[^/]*{last}"
