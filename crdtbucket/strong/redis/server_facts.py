"""Reads facts about a server: whether it is another one than before, whether it evicts, and its
time."""

from __future__ import annotations

import re
from dataclasses import dataclass

from crdtbucket.errors import RedisReplyError
from crdtbucket.strong.redis.redis_connection import RedisConnection, ask, good
from crdtbucket.strong.redis.resp import RedisErrorReply

SECTIONS = ("server", "memory", "stats")
_LINE = re.compile(
    rb"^(run_id|maxmemory|maxmemory_policy|evicted_keys):([\w-]{1,64})\r?$", re.MULTILINE
)


@dataclass(frozen=True)
class ServerFacts:
    """Facts about one server at the moment. A field is None or empty where the server does not
    say."""

    run_id: str | None = None
    """A text that identifies the server until it is restarted."""
    max_memory: int | None = None
    """Bytes that it may use; 0: no bound."""
    policy: str = ""
    """The maxmemory-policy of the server."""
    evicted: int | None = None
    """Keys that it has evicted since it was started."""

    @property
    def evicts(self) -> bool:
        """Whether it forgets keys when its memory is full. All of ours have a time to live, so the
        policies that evict only such keys hit them, too."""
        return bool(self.max_memory) and self.policy not in ("", "noeviction")

    @property
    def warning(self) -> str:
        """A warning that the server evicts keys, and what to do; empty when it does not evict."""
        if not self.evicts:
            return ""
        return (
            f"its maxmemory-policy is {self.policy}, so it forgets keys when its memory "
            f"({self.max_memory} bytes) is full: what was taken of them may be granted again, "
            "until a node that took some of it settles with Redis. Set maxmemory-policy "
            "noeviction, and let no other program fill this Redis"
        )


async def facts(connection: RedisConnection) -> ServerFacts:
    """Asks a server for its facts. Raises `RedisConnectionLost`."""
    try:
        reply = await ask(connection, "INFO", *SECTIONS)
    except RedisErrorReply:
        return ServerFacts()  # not allowed to this user
    return read_facts(reply)


def read_facts(reply: object) -> ServerFacts:
    """Reads the facts from an answer to INFO."""
    if not isinstance(reply, bytes):
        return ServerFacts()
    found = {name.decode(): value.decode() for name, value in _LINE.findall(reply)}
    return ServerFacts(
        found.get("run_id"),
        _number(found.get("maxmemory", "")),
        found.get("maxmemory_policy", ""),
        _number(found.get("evicted_keys", "")),
    )


def read_time(reply: object) -> int:
    """Reads the server's clock (us) from an answer to TIME. Raises an error that it answered, and
    `RedisReplyError` for anything else."""
    words = good(reply)
    if isinstance(words, list) and len(words) == 2 and all(map(_is_number, words)):
        return int(words[0]) * 1_000_000 + int(words[1])
    raise RedisReplyError("TIME was answered with something else: is it really a Redis?")


def _is_number(word: object) -> bool:
    return isinstance(word, bytes) and word.isdigit() and len(word) < 20


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
