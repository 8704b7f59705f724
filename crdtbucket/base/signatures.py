"""Looks whether a function can be called with some arguments, without calling it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def misfit(
    function: Callable[..., Any], /, *args: object, **kwargs: object
) -> tuple[inspect.Signature, TypeError] | None:
    """The signature of a function that cannot be called with these arguments, and why not. None
    where it can be, or where that is not known: some functions in C have no signature."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        return None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        return signature, error
    return None
