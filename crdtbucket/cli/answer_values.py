"""Reads values out of the answer of a node, which may be malformed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from crdtbucket.base.setting_checks import types_of
from crdtbucket.cli.terminal_text import printable

R = TypeVar("R")
LARGEST = 1e300
"""From here on, a number may not fit into a float once it is divided or multiplied."""


def mapping_of(value: Any) -> Mapping[str, Any]:
    """The mapping that a node sent; an empty one in place of anything else."""
    return value if isinstance(value, Mapping) else {}


def list_of(answer: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The objects in the list that a node sent under this name; none in place of anything else."""
    value = answer.get(name)
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def text_of(value: Any) -> str:
    """The text that a node sent, safe to show; "" in place of anything else."""
    return printable(value) if isinstance(value, str) else ""


def number_of(value: Any) -> float | None:
    """The number that a node sent; None in place of anything else, and of what is infinite or too
    large to be counted with."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if known and abs(value) < LARGEST else None  # nan is not below


def count_of(value: Any) -> int:
    """The whole number that a node sent; 0 in place of anything else."""
    return int(value) if isinstance(value, int) and abs(value) < LARGEST else 0


READERS: dict[Any, Callable[[Any], Any]] = {
    str: text_of,
    int: count_of,
    float: lambda value: number_of(value) or 0.0,
    float | None: number_of,
    bool: lambda value: value is True,
}


def report_of(kind: type[R], answer: Any, **known: Any) -> R:
    """A dataclass whose fields are named as in the answer of a node: those in `known` as they are
    there, each other one as `READERS` reads what the node sent."""
    sent = mapping_of(answer)
    read = {
        name: READERS[wanted](sent.get(name))
        for name, wanted in types_of(cast("Any", kind)).items()
        if name not in known
    }
    return kind(**read, **known)
