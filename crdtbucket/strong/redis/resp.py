"""The Redis protocol (RESP2): commands as bytes, bytes as replies, and bounds on what a server may
send."""

from __future__ import annotations

import re

import hiredis

from crdtbucket.errors import CrdtbucketError

NOTHING = object()
"""No complete reply has come yet. (None is a reply.)"""
MAX_REPLY = 1 << 20
"""Most bytes of one reply; the largest that is asked for is the record of a key with its
columns."""
MAX_ITEMS = 9_999
"""Most items of one list."""
MAX_DEPTH = 5
"""Lists within lists: CLUSTER SLOTS with the nodes' metadata needs four."""

# hiredis allocates as many items as the head of a list claims: a head of ten bytes may claim
# gigabytes. A head begins a line, and no text that we request has a line which begins like one.
_LARGE_HEAD = re.compile(rb"\n[*%~>|]\+?\d{5}")
_HEAD_BYTES = 7
_LIST = ord("*")
_NUMBERS = b"-0123456789:\r\n"
_SHOWN = 200
_KINDS = {
    "auth": "NOAUTH WRONGPASS DENIED",
    "readonly": "READONLY MISCONF NOREPLICAS",
    "loading": "LOADING",
    "oom": "OOM",
    "down": "CLUSTERDOWN MASTERDOWN TRYAGAIN BUSY MOVED ASK",
}
_KIND_OF = {code: kind for kind, codes in _KINDS.items() for code in codes.split()}


class GarbledReply(CrdtbucketError):
    """The bytes that came are no Redis protocol, or are beyond the bounds. The rest of the stream
    cannot be trusted."""


class RedisErrorReply(CrdtbucketError):
    """Redis answered a command with an error."""

    # Both are read from the arguments, for a list may hold a hundred thousand errors.
    @property
    def message(self) -> str:
        """The whole text of the error."""
        return str(self.args[0])

    @property
    def code(self) -> str:
        """The first word of the error, such as "NOSCRIPT"."""
        return self.message.partition(" ")[0]

    @property
    def denied(self) -> bool:
        """Whether the user may not do something; from within a script, too."""
        return self.code == "NOPERM" or "ACL failure in script" in self.message[:80]

    @property
    def kind(self) -> str:
        """The outage this is evidence of: "auth", "loading" ...; "script" for all others."""
        return "auth" if self.denied else _KIND_OF.get(self.code, "script")

    def __str__(self) -> str:
        # The text may repeat what was sent, and it is logged: so its length is bounded.
        return self.message[:_SHOWN]


class ReplyReader:
    """Reads replies, in order, from the bytes of one connection."""

    __slots__ = ("_gets", "_numbers", "_reader", "_tail", "_unread")

    def __init__(self) -> None:
        self._reader = hiredis.Reader(replyError=RedisErrorReply, notEnoughData=NOTHING)
        self._gets = self._reader.gets
        self._tail = b"\n"
        self._unread = 0
        self._numbers = False

    def feed(self, data: bytes) -> None:
        """Take what the socket gave. Raises `GarbledReply` for a reply beyond the bounds."""
        # Nearly all answers of a script are one list of numbers, with a single head.
        self._numbers = (
            data.translate(None, _NUMBERS) == b"*"
            and data[0] == _LIST
            and 0 < data.find(b"\r") < _HEAD_BYTES - 1
            and not self._unread
        )
        if not self._numbers and _LARGE_HEAD.search(self._tail + data):
            raise GarbledReply(f"a list of more than {MAX_ITEMS} items")
        self._tail = data[-_HEAD_BYTES:] if len(data) >= _HEAD_BYTES else self._tail + data
        self._unread += len(data)
        if self._unread > MAX_REPLY + len(data):
            raise GarbledReply(f"a reply of more than {MAX_REPLY} bytes")
        self._reader.feed(data)

    def next(self) -> object:
        """The next reply, `NOTHING` when it is not complete. Raises `GarbledReply`."""
        try:
            reply: object = self._gets()
        except (hiredis.HiredisError, TypeError, MemoryError) as error:
            # TypeError: a map whose key is a list, which only a hostile server sends.
            raise GarbledReply(f"no Redis protocol ({error})") from error
        if reply is not NOTHING:
            self._unread = 0
            if self._numbers:
                return reply
            if type(reply) is list and list in map(type, reply) and too_deep(reply):
                raise GarbledReply(f"lists nested to more than {MAX_DEPTH}")
        return reply


def encode(*words: bytes | str | int) -> bytes:
    """The bytes of one command, as they are sent."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def too_deep(reply: object) -> bool:
    """Whether lists stand within lists to more than `MAX_DEPTH`; hiredis reads a thousand."""
    level = [reply] if type(reply) is list else []
    for _ in range(MAX_DEPTH):
        if not level:
            return False
        level = [item for part in level for item in part if isinstance(item, list)]
    return bool(level)
