"""Names of files that are made of the names of nodes."""

from __future__ import annotations

import re

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


def file_stem(node: str) -> str:
    """The name of a node as the beginning of a file's name: what may not stand there is escaped."""
    return _UNSAFE.sub(lambda match: f"%{ord(match[0]):02x}", node)
