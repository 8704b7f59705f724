"""One line of the table: the bound, and what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[str], None]
"""Is called with a line for people about what goes on."""


@dataclass(frozen=True)
class Figure:
    """A figure with the bound that it must keep."""

    name: str
    wanted: str
    measured: str
    ok: bool


def at_most(name: str, bound: float, measured: float, unit: str = "", note: str = "") -> Figure:
    """A figure that must not pass a bound."""
    told = f"{measured:.4g}{unit}" + (f" ({note})" if note else "")
    return Figure(name, f"<= {bound:.4g}{unit}", told, measured <= bound)


def exactly(name: str, wanted: object, measured: object, note: str = "") -> Figure:
    """A figure that must be one value."""
    told = f"{measured}" + (f" ({note})" if note else "")
    return Figure(name, f"{wanted}", told, wanted == measured)
