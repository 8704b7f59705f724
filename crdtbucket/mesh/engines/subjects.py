"""The subjects of a mesh on an engine, and the names of nodes as parts of them.

`<prefix>.<mesh>.f.<to>.<from>` carries what `from` sends to `to`: only `from` may publish there.
At `<prefix>.<mesh>.a.<from>` it announces itself to all. Each node subscribes to `f.<itself>.*` and
`a.*`. Further forms get letters of their own beside `f` and `a`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_OTHER = re.compile(r"[^A-Za-z0-9-]+")
_ENCODED = re.compile(r"(?:[A-Za-z0-9-]|_[0-9A-F]{2})+")


def encode_name(name: str) -> str:
    """A node's name in letters, digits, `-` and `_`: every other byte of it as `_` and two hex
    digits, so that no two names share a subject."""
    return _OTHER.sub(_in_hex, name)


def _in_hex(match: re.Match[str]) -> str:
    return "".join(f"_{byte:02X}" for byte in match[0].encode())


def decode_name(text: str) -> str | None:
    """The name that `encode_name` made this of; None when it made it of none."""
    if _ENCODED.fullmatch(text) is None:
        return None
    data = re.sub(r"_(..)", lambda match: chr(int(match[1], 16)), text).encode("latin-1")
    try:
        name = data.decode()
    except UnicodeDecodeError:
        return None
    return name if encode_name(name) == text else None


@dataclass(frozen=True)
class Subjects:
    """The subjects that one node uses."""

    prefix: str
    mesh: str
    node: str
    """The name of this node, not encoded."""

    @property
    def announcement(self) -> str:
        """Where this node announces itself."""
        return f"{self.prefix}.{self.mesh}.a.{encode_name(self.node)}"

    @property
    def announcements(self) -> str:
        """The pattern of all announcements."""
        return f"{self.prefix}.{self.mesh}.a.*"

    @property
    def inbox(self) -> str:
        """The pattern of all that is sent to this node."""
        return f"{self.prefix}.{self.mesh}.f.{encode_name(self.node)}.*"

    @property
    def outbox(self) -> str:
        """The pattern of all that this node sends to others."""
        return f"{self.prefix}.{self.mesh}.f.*.{encode_name(self.node)}"

    def to(self, name: str) -> str:
        """What this node sends to node `name`."""
        return f"{self.prefix}.{self.mesh}.f.{encode_name(name)}.{encode_name(self.node)}"

    def reply_of(self, name: str) -> str:
        """What node `name` sends to this one."""
        return f"{self.prefix}.{self.mesh}.f.{encode_name(self.node)}.{encode_name(name)}"

    def sender(self, subject: str) -> str | None:
        """The node that alone may publish there, by the last part; None without a name."""
        return decode_name(subject.rpartition(".")[2])

    def is_announcement(self, subject: str) -> bool:
        """Whether it announces somebody."""
        return subject.startswith(f"{self.prefix}.{self.mesh}.a.")
