"""The Lua scripts of the package, put together from their parts."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

_PART = re.compile(r"^--@ (\w+\.lua)$", re.MULTILINE)


@dataclass(frozen=True)
class LuaScript:
    """A script that Redis runs by its hash once it has seen the source."""

    source: str
    sha: str

    @classmethod
    def load(cls, name: str) -> LuaScript:
        """The script of that file; a line "--@ part.lua" stands for the text of another file."""
        source = _PART.sub(lambda line: _text(line[1]).rstrip("\n"), _text(name))
        return cls.of(source)

    @classmethod
    def of(cls, source: str) -> LuaScript:
        """The script of that text."""
        return cls(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def _text(name: str) -> str:
    return files("crdtbucket.strong.redis").joinpath(name).read_text(encoding="utf-8")


__all__ = ["LuaScript"]
