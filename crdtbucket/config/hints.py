"""What to write instead: for an unknown key or word, and for text that is not YAML."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from ruamel.yaml.error import MarkedYAMLError, YAMLError

from crdtbucket.base.clipped import clipped
from crdtbucket.errors import Problem

BELOW = "write keys and values, indented below it"
"""What to do with a value in the place of a section."""
_UNCLOSED = {
    "unexpected end of stream": "close the quotes that are opened here",
    "<stream end>": "close the bracket that is opened here",
}
_FIXES = {
    **_UNCLOSED,
    "'\\t' that cannot start": "indent with spaces: YAML has no tabs there",
    "that cannot start": "put the value in quotes",
    "mapping values are not": "put a space after each colon, here and just above; a value with "
    "a colon and a space needs quotes",
}
"""What to do, by a part of what the parser says; the first that matches."""


def unknown_key(
    name: str, known: Iterable[str], right: str | None, otherwise: str = ""
) -> tuple[str, str]:
    """The fault and the fix for a key that is not among `known`. `right`: the place where it
    belongs, with dots; None if that is not known. `otherwise`: the fix if none of `known` is
    near."""
    known = tuple(known)
    if right is None and name.partition(".")[0] in known:  # as these messages name a place
        right = name
    if right is None:
        return f"unknown key {clipped(name)}", did_you_mean(name, known, otherwise)
    outer, *inner = right.split(".")
    below = "".join(f": {{{key}" for key in inner)
    return f"unknown key {clipped(name)}", f"write it as {outer}{below}: ...{'}' * len(inner)}"


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """The nearest of the `known` words; when none is near, `otherwise`, or all of them."""
    words, word = sorted(known), word.lower().replace("-", "_")
    holders = [one for one in words if word in one.split("_")]
    near = difflib.get_close_matches(word, words, n=1) or holders[: len(holders) == 1]
    if near:
        return f"did you mean {near[0]!r}?"
    return otherwise or f"known here: {', '.join(words)}"


def fix_of_no_mapping(value: object) -> str | None:
    """The fix for a value in the place of a section if it is a list, or a key without a space after
    its colon, which is one text in YAML."""
    if isinstance(value, list):
        return f"{BELOW}, in place of the list"
    glued = isinstance(value, str) and re.match(r"[a-z_]+:\S", value)
    return "put a space after the colon" if glued else None


def syntax_problem(error: YAMLError, text: str, file: str) -> Problem:
    """The fault of a text that is not YAML. What is never closed is placed where it begins."""
    line = column = 0
    what = str(error).splitlines()[0] if str(error) else "cannot be parsed"
    position = getattr(error, "position", None)
    if isinstance(error, MarkedYAMLError):
        what = " ".join(part for part in (error.context, error.problem) if part)
        mark = error.problem_mark or error.context_mark
        if error.context_mark is not None and any(part in what for part in _UNCLOSED):
            mark = error.context_mark
        if mark is not None:
            line, column = mark.line + 1, mark.column + 1
    elif isinstance(position, int):  # a character that YAML does not allow
        before = text[:position]
        line, column = before.count("\n") + 1, position - before.rfind("\n")
        what = "holds a control character"
    fixes = (fix for part, fix in _FIXES.items() if part in what)
    fix = next(fixes, "correct the YAML here or just above")
    return Problem(f"not valid YAML: {what}", fix, "", file, line, column)
