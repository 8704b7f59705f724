"""The Lua scripts of the package, put together from their parts."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from textwrap import indent

_PART = re.compile(r"^( *)--@ (\w+\.lua)$", re.MULTILINE)


@dataclass(frozen=True)
class LuaScript:
    """A script that Redis runs by its hash once it has seen the source."""

    source: str
    sha: str

    @classmethod
    def load(cls, name: str) -> LuaScript:
        """The script of that file. A line "--@ part.lua" is replaced by the lines of another file,
        with its own indentation: shared code then costs no function call."""
        return cls.of(_assembled(name))

    @classmethod
    def of(cls, source: str) -> LuaScript:
        """Makes the script of this text."""
        return cls(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def _assembled(name: str) -> str:
    text = files("crdtbucket.strong.redis").joinpath(name).read_text(encoding="utf-8")
    return _PART.sub(lambda line: indent(_assembled(line[2]).rstrip("\n"), line[1]), text)
