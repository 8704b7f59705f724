"""The bugs that are planted in copies of the package, in texts by where they stand in it.

After `==` a bug has its name, the folder of the package that it is in, and the tests that must find
it, as `tests/FILE.py -k WORDS` without what all have in common. Lines with `-` are the text that is
replaced, which stands in the folder exactly once, those with `+` what takes its place; they begin
and end anywhere in a line of the code. Lines with `#` are comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PYTEST = ("pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:budget")
HEAD = re.compile(r"(?P<name>\w+) in (?P<folder>[\w/.]+) by (?P<tests>\S+)(?: -k (?P<words>.+))?")


@dataclass(frozen=True)
class Mutation:
    """One bug, and the test that must find it."""

    name: str
    folder: str
    old: str
    new: str
    check: tuple[str, ...]
    """Arguments of `python -m`: what must fail."""


def _read(text: str) -> Iterator[Mutation]:
    for one in re.split("^== ", text, flags=re.MULTILINE)[1:]:
        head, *lines = one.split("\n")
        found = HEAD.fullmatch(head)
        assert found is not None, head
        old, new = (
            "\n".join(line[2:] for line in lines if line[:1] == sign) for sign in ("-", "+")
        )
        words = () if found["words"] is None else ("-k", found["words"])
        check = (*PYTEST, f"tests/{found['tests']}.py", *words)
        yield Mutation(found["name"], found["folder"], old, new, check)


MUTATIONS: tuple[Mutation, ...] = tuple(
    mutation
    for path in sorted(Path(__file__).parent.glob("*.txt"))
    for mutation in _read(path.read_text())
)
