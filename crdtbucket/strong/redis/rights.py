"""What it means that Redis does not allow something, and what to do about it."""

from __future__ import annotations

import re

from crdtbucket.base.address import Address
from crdtbucket.strong.redis.resp import RedisErrorReply

NEEDED = (
    "EVALSHA, EVAL, SCRIPT LOAD, HGETALL, HMGET, HLEN, HSET, HDEL, PEXPIRE, TIME, INFO and PING, "
    "with a Redis in each region also GET, SET and HGET"
)
"""The commands that a limiter needs; one that a script runs needs a right of its own."""
_COMMAND = re.compile(r"run the '([A-Za-z|_-]{1,40})' command")
_USER = re.compile(r"[Uu]ser (\S{1,64}) has no permissions")


def is_denied(message: str) -> bool:
    """Whether an error says that the user may not do something; from within a script, too."""
    return message.startswith("NOPERM") or "ACL failure in script" in message[:80]


def explained(address: Address, error: RedisErrorReply) -> str:
    """The error in one sentence, with what to do where that is known."""
    if not is_denied(error.message):
        return f"Redis at {address} answered {error}"
    command, user = _COMMAND.search(error.message), _USER.search(error.message)
    who = "this user" if user is None else f"user {user[1]!r}"
    if command is None and "key" not in error.message:
        return f"Redis at {address} does not allow it ({error}): a limiter needs {NEEDED}"
    if command is None:
        fix = "allow it the keys that begin with redis.prefix, such as ~crdtbucket:*"
        return f"Redis at {address} does not allow {who} the keys of a limiter: {fix}"
    word = command[1].upper().replace("|", " ")
    right = f"+{command[1].lower()}"
    return (
        f"Redis at {address} does not allow {who} the command {word}: allow it "
        f"(ACL SETUSER ... {right}); a limiter needs {NEEDED}"
    )
