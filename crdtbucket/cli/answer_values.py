"""Reads values out of the answer of a node, which may be malformed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crdtbucket.cli.terminal_text import printable


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
    """The number that a node sent; None in place of anything else."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
