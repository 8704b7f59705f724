"""Compiles all bugs of the core at once: the environment variable PLANTED chooses one.

A function with bugs becomes several: the sound one, one for each bug, and one with the old name
that calls the one that was chosen. The result is compiled once, while each bug on its own would
need the whole binding again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHOICE = """
extern char *getenv(const char *); extern int atoi(const char *);
static int planted;
__attribute__((constructor)) static void choose_planted(void)
{ const char *name = getenv("PLANTED"); planted = name ? atoi(name) : 0; }
"""
"""C that is included before everything else."""
NO_CODE = re.compile(
    r"/\*.*?\*/"
    r"|//[^\n]*"
    r'|"(?:\\.|[^"\\])*"'
    r"|'(?:\\.|[^'\\])+'"
    r"|^[ \t]*#(?:\\\n|[^\n])*",
    re.DOTALL | re.MULTILINE,
)
"""Matches comments, literals and preprocessor lines, in which braces mean nothing."""
NAME = re.compile(r"(\w+)\s*\(")


@dataclass(frozen=True)
class Function:
    """Where a definition begins, where its body begins, and where it ends."""

    start: int
    body: int
    end: int


def functions(text: str) -> Iterator[Function]:
    """The definitions of functions in a header."""
    code = NO_CODE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    depth = start = body = 0
    for place, char in enumerate(code):
        if char == "{":
            body = body if depth else place
            depth += 1
        elif char == "}":
            depth -= 1
            if not depth:
                if code[start:body].rstrip().endswith(")"):
                    head = len(code[start:body]) - len(code[start:body].lstrip())
                    yield Function(start + head, body, place + 1)
                start = place + 1
        elif char == ";" and not depth:
            start = place + 1


def arguments(head: str) -> list[str]:
    """The names of a function's parameters."""
    inside = head[head.index("(") + 1 : head.rindex(")")]
    names = [
        re.search(r"\(\*\s*(\w+)\)|(\w+)\s*(?:\[\w*\])*\s*$", one) for one in inside.split(",")
    ]
    return [name[1] or name[2] for name in names if name and name[2] != "void"]


def switched(text: str, bugs: dict[int, tuple[str, str]]) -> str:
    """A header with all these bugs in it (number: the text and its replacement), each of which is
    off until it is chosen. Raises `ValueError` when one is not in the body of a function."""
    inside: dict[Function, dict[int, tuple[str, str]]] = {}
    found = list(functions(text))
    for number, (old, new) in bugs.items():
        at = text.index(old)
        holders = [f for f in found if f.body <= at and at + len(old) <= f.end]
        if not holders:
            raise ValueError(f"not in a function: {old!r}")
        inside.setdefault(holders[0], {})[number] = (old, new)
    for function in sorted(inside, key=lambda one: -one.start):
        whole = text[function.start : function.end]
        text = text[: function.start] + _several(
            whole[: function.body - function.start], whole, inside[function]
        ) + text[function.end :]  # fmt: skip
    return text


def _several(head: str, whole: str, bugs: dict[int, tuple[str, str]]) -> str:
    named = NAME.search(head)
    assert named is not None, head
    name, rest = named[1], whole[named.end(1) :]
    before = whole[: named.start(1)]

    def variant(number: int, body: str) -> str:
        return f"{before}{name}_planted_{number}{body}\n"

    parts = [f"{head.rstrip()};\n", variant(0, rest)]
    parts += [variant(number, rest.replace(*bug)) for number, bug in bugs.items()]
    given = ", ".join(arguments(head))
    calls = [f"if (planted == {n}) return {name}_planted_{n}({given});" for n in bugs]
    return "".join([*parts, head, "{ ", *calls, f" return {name}_planted_0({given}); }}\n"])


def switch(package: Path, bugs: dict[int, tuple[Path, str, str]]) -> None:
    """Rewrites the headers of a copy of the package."""
    for path in {path for path, _, _ in bugs.values()}:
        here = {n: (old, new) for n, (where, old, new) in bugs.items() if where == path}
        file = package / path
        file.write_text(switched(file.read_text(), here))
