"""Reads the text below each field of a class out of its source."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from itertools import pairwise


def field_texts(kind: type, base: type = object) -> dict[str, str]:
    """The text below each field in the source of a class and its bases, but not of `base` and the
    bases of that; none where modules are installed without their source. It parses the modules in
    which they are defined, so it takes some ms.

    Pydantic can do this as well, but reads the source of all models at each start, though only
    documents need it.
    """
    found: dict[str, str] = {}
    # A class that is made from another one, with its name, has no source of its own.
    written = {one.__qualname__: one for one in kind.__mro__ if one not in base.__mro__}
    for one in reversed(written.values()):
        for key, below in pairwise(_definitions(one.__module__).get(one.__name__, [])):
            match key, below:
                case ast.AnnAssign(ast.Name(name)), ast.Expr(ast.Constant(str(words))):
                    found[name] = " ".join(words.split())
    return found


@functools.cache
def _definitions(module: str) -> dict[str, list[ast.stmt]]:
    """The source of each class of a module, cached, since a look-up parses the whole module."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except OSError:
        return {}
    return {one.name: one.body for one in tree.body if isinstance(one, ast.ClassDef)}
