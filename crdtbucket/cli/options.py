"""Tools for the options of commands: a range of numbers, options in groups, and output as JSON or
as lines."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class FiniteRange(click.FloatRange):
    """Numbers of a range. Not-a-number is refused, which a comparison with the bounds would let
    pass."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def with_options(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Adds these options to a command, in this order in its help."""

    def decorated(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


def say(document: Any, json_: bool, lines: Iterable[str]) -> None:
    """Prints the document as JSON, or the lines for people."""
    for line in [json.dumps(document)] if json_ else lines:
        click.echo(line)


def gathered(kind: type, name: str) -> Callable[[F], F]:
    """Passes the options that are named like the fields of a dataclass as one object of it."""

    def decorated(command: F) -> F:
        @functools.wraps(command)
        def called(**given: Any) -> Any:
            parts = {field.name: given.pop(field.name) for field in dataclasses.fields(kind)}
            return command(**{name: kind(**parts)}, **given)

        return called  # type: ignore[return-value] # click calls by keywords alone

    return decorated
