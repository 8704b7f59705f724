"""Checks a key and a cost that are given once, for all calls of a decorator or a client."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from operator import index
from typing import SupportsIndex

from crdtbucket._core import MAX_KEY_BYTES
from crdtbucket.base.setting_checks import is_unicode
from crdtbucket.errors import InvalidSpec

EARLIER = "do the slow part before the call"


def check_key(key: object, asks: str = "") -> None:
    """Raises `InvalidSpec` for what no call can have as its key. `asks`: what a function may be
    called with that gives the key; "": it may be no function."""
    if asks and callable(key):
        check_sync("key", key, EARLIER)
    elif not isinstance(key, (str, bytes)):
        raise InvalidSpec(f"key is {key!r}", f"pass text{_or_function(asks)}", "key")
    elif isinstance(key, str) and not is_unicode(key):
        raise InvalidSpec(f"key is {key!r}, which is not UTF-8", "pass bytes", "key")
    elif not 0 < (size := len(key.encode() if isinstance(key, str) else key)) <= MAX_KEY_BYTES:
        raise InvalidSpec(f"key has {size} bytes", f"pass 1 to {MAX_KEY_BYTES}", "key")


def check_tokens(cost: object, asks: str = "") -> None:
    """Raises `InvalidSpec` for what no call can cost; `asks` as of `check_key`."""
    if asks and callable(cost):
        check_sync("cost", cost, EARLIER)
    elif isinstance(cost, (bool, type)) or not isinstance(cost, SupportsIndex) or index(cost) < 1:
        fix = f"pass 1 or more tokens{_or_function(asks)}"
        raise InvalidSpec(f"cost is {cost!r}", fix, "cost")


def check_sync(name: str, ask: Callable[..., object], fix: str) -> None:
    """Raises `InvalidSpec` for a coroutine function, whose result nobody would await."""
    if inspect.iscoroutinefunction(ask):
        raise InvalidSpec(f"{name} is a coroutine function", fix, name)


def _or_function(asks: str) -> str:
    return f", or a function of {asks}" if asks else ""
