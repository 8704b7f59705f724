"""The subjects of a mesh on an engine, the names of nodes as parts of them, and the rights of each
node: it alone publishes under its name.

`<prefix>.<mesh>.f.<to>.<from>` carries what `from` sends to `to`: only `from` may publish there.
At `<prefix>.<mesh>.a.<from>` it announces itself to all. Each node subscribes to `f.<itself>.*` and
`a.*`. Further forms get letters of their own beside `f` and `a`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
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
    """The name from which `encode_name` made this text; None if there is none, or if it cannot be
    logged."""
    if _ENCODED.fullmatch(text) is None:
        return None
    data = re.sub(r"_(..)", lambda match: chr(int(match[1], 16)), text).encode("latin-1")
    try:
        name = data.decode()
    except UnicodeDecodeError:
        return None
    return name if name.isprintable() and encode_name(name) == text else None


@dataclass(frozen=True)
class Subjects:
    """The subjects that one node uses."""

    prefix: str
    mesh: str
    node: str
    """The name of this node, not encoded."""

    @property
    def announcement(self) -> str:
        """The subject under which this node announces itself."""
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
        """The only node that may publish there, as named by the last part; None without a name."""
        return decode_name(subject.rpartition(".")[2])

    def is_announcement(self, subject: str) -> bool:
        """Whether a subject is that of an announcement."""
        return subject.startswith(f"{self.prefix}.{self.mesh}.a.")


def nats_rules(nodes: Sequence[Subjects]) -> str:
    """A block for the configuration of a NATS server: one user for each node, called as it is
    (encoded), whose password is taken from the server's environment."""
    lines = ["authorization {", "  users = ["]
    for one in nodes:
        user = encode_name(one.node)
        publish = json.dumps([one.outbox, one.announcement])
        subscribe = json.dumps([one.inbox, one.announcements])
        lines += [
            f"    {{ user: {json.dumps(user)}, password: ${password_variable(one.node)},",
            f"      permissions: {{ publish: {publish},",
            f"                     subscribe: {subscribe} }} }}",
        ]
    return "\n".join([*lines, "  ]", "}"])


def password_variable(node: str) -> str:
    """The variable of the environment that has the password of a node's user."""
    return f"CB_PASSWORD_{re.sub('-', '_', encode_name(node)).upper()}"


def redis_rules(nodes: Sequence[Subjects]) -> str:
    """Lines for the ACL file of a Redis 7 or newer, without passwords: a node may do nothing but
    publish under its name and receive what is sent to it."""
    return "\n".join(
        f"user {encode_name(one.node)} on >PASSWORD_OF_{encode_name(one.node)} "
        "resetkeys resetchannels -@all +ping +info +client|setname "
        f"+psubscribe &{one.inbox} &{one.announcements} "
        f"(+publish resetchannels &{one.outbox} &{one.announcement})"
        for one in nodes
    )
