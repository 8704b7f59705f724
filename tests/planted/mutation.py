"""One bug that is planted in a copy of the package, and the test that must find it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    name: str
    folder: str
    old: str
    new: str
    check: tuple[str, ...]
    """Arguments of `python -m`: what must fail."""


PYTEST = ("pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:budget")


def suite(module: str, words: str) -> tuple[str, ...]:
    """The tests of one module under `tests` whose names match."""
    return (*PYTEST, f"tests/{module}.py", "-k", words)


HISTORIES = suite("strong/test_script_histories", "redis-server")
