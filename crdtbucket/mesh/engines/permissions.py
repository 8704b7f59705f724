"""The rights of each node at an engine: it alone publishes under its name."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from crdtbucket.mesh.engines.subjects import Subjects, encode_name


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
