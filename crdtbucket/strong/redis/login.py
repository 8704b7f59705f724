"""The handshake of a connection to Redis, and the meaning of its refusals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from crdtbucket.base.address import Address, is_literal, why_distrusted, why_unreachable
from crdtbucket.base.file_shortage import fix_of
from crdtbucket.errors import RedisUnavailable
from crdtbucket.strong.redis.access import Access
from crdtbucket.strong.redis.resp import GarbledReply, RedisErrorReply

NEXT_ADDRESS_S = 0.1
"""Seconds after which the next address of a name is tried in parallel with one that does not
answer, which would otherwise use up all the time."""
LOG = logging.getLogger("crdtbucket.strong")
SendCommand = Callable[..., asyncio.Future[object]]
Step = tuple[str | int, ...]

_AUTH, _NAME = "AUTH", "CLIENT"
NEEDED = (
    "EVALSHA, EVAL, SCRIPT LOAD, HGETALL, HMGET, HLEN, HSET, HDEL, PEXPIRE, TIME, INFO and PING, "
    "with a Redis in each region also GET, SET and HGET"
)
"""The commands that a limiter needs; a command that a script runs needs a right of its own, too."""
_COMMAND = re.compile(r"run the '([A-Za-z|_-]{1,40})' command")
_USER = re.compile(r"[Uu]ser (\S{1,64}) has no permissions")


async def dial(make: Callable[[], asyncio.Protocol], address: Address, access: Access) -> None:
    """Opens a transport to the server for the protocol that `make` returns. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    if address.path:
        await loop.create_unix_connection(make, address.path)
        return
    patience: dict[str, Any] = {}
    # uvloop has no such option. A single address needs none, and asyncio's race of addresses leaves
    # the socket of a dial that is cancelled to the garbage collector.
    if isinstance(loop, asyncio.BaseEventLoop) and not is_literal(address.host):
        patience["happy_eyeballs_delay"] = NEXT_ADDRESS_S
    with resolving():
        await loop.create_connection(make, address.host, address.port, ssl=access.tls, **patience)


@contextlib.contextmanager
def resolving() -> Iterator[None]:
    """A name that the DNS cannot even be asked for, such as one with two dots in a row, is one that
    does not resolve: raises `socket.gaierror` for it."""
    try:
        yield
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, "it is no name of the DNS") from error


async def shake_hands(
    address: Address, access: Access, scripts: Sequence[str], ask: SendCommand
) -> None:
    """Logs in, chooses the database, checks that the server serves, and only then loads scripts: a
    server ends a connection that sends a long argument before it has logged in, and does not say
    why.

    `ask` sends a command and returns its reply to come. Raises `RedisUnavailable`.
    """
    loads: list[Step] = [("SCRIPT", "LOAD", source) for source in scripts]
    for steps in (handshake(access), loads):
        replies = [ask(*step) for step in steps]  # all are sent before the first is awaited
        for step, coming in zip(steps, replies, strict=True):
            check(address, access, step, await coming)


def check(address: Address, access: Access, step: Step, reply: object) -> None:
    """Raises `RedisUnavailable` when the reply to a handshake's step refuses the connection."""
    if isinstance(reply, RedisUnavailable):
        if reply.kind != "lost":
            raise reply
        text = f"{reply} before the handshake ended: does its port want TLS (rediss://)?"
        raise RedisUnavailable(text, reply.kind) from reply
    if not isinstance(reply, RedisErrorReply):
        return
    if step[0] == _NAME:
        # The name helps people who look at CLIENT LIST; a user without that right works as well.
        LOG.debug("Redis at %s does not take a client name: %s", address, reply)
        return
    raise _refusal(address, access, step, reply)


def handshake(access: Access) -> list[Step]:
    """The commands that log in, choose the database, and see that it serves."""
    steps: list[Step] = []
    if access.password is not None:
        user = () if access.username is None else (access.username,)
        steps.append((_AUTH, *user, access.password))
    if access.db:
        steps.append(("SELECT", access.db))
    # It is not sent first: a server without room for this connection answers the first command with
    # its refusal.
    return [*steps, ("PING",), (_NAME, "SETNAME", access.client_name)]


def _refusal(
    address: Address, access: Access, step: Step, reply: RedisErrorReply
) -> RedisUnavailable:
    who = "the default user" if access.username is None else f"user {access.username!r}"
    if "max number of clients" in reply.message:
        text = f"Redis at {address} has no room for more clients: raise its maxclients"
        return RedisUnavailable(text, "refused")
    if step[0] == _AUTH:
        # Redis' own text is left out: of an unknown command it repeats the arguments.
        return RedisUnavailable(
            f"Redis at {address} does not let {who} in ({reply.code}: check password and "
            "username of the connection, or leave them out where it asks for none)",
            "auth" if reply.kind == "script" else reply.kind,
        )
    if reply.code == "NOAUTH":
        text = f"Redis at {address} asks for a password (NOAUTH: set password of the connection)"
        return RedisUnavailable(text, "auth")
    if reply.code == "NOPERM":
        return RedisUnavailable(explained(address, reply), "auth")
    if step[0] == "SELECT":
        text = f"Redis at {address} has no database {access.db} ({reply}): correct db"
        return RedisUnavailable(text, reply.kind)
    return RedisUnavailable(f"Redis at {address} does not serve: {reply}", reply.kind)


def silent(address: Address, access: Access, timeout: float) -> RedisUnavailable:
    """The error for a server that does not answer for `timeout` seconds, with the possible
    causes."""
    causes = "is it overloaded, or a firewall between?"
    if access.tls is not None:
        causes += " Does its port speak TLS?"
    text = f"Redis at {address} did not answer within {timeout:g} s (connect_timeout): {causes}"
    return RedisUnavailable(text, "timed_out")


def unreachable(address: Address, error: OSError) -> RedisUnavailable:
    """The error for a failure to connect, with its meaning and what to do about it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        fix = "give its authority as tls_ca, in a file as ca of its tls, and call it by its name"
        why = why_distrusted(error, fix)
        return RedisUnavailable(f"Redis at {address} is not trusted {why}", "auth")
    if isinstance(error, ssl.SSLError):
        why = f"does not agree on TLS ({error.reason or error})"
        fix = "is TLS on at that port, and does it want tls_cert and tls_key?"
        return RedisUnavailable(f"Redis at {address} {why}: {fix}", "auth")
    if isinstance(error, socket.gaierror):
        text = f"the host name of {address} does not resolve ({error.strerror}): correct host"
        return RedisUnavailable(text, "refused")
    if isinstance(error, ConnectionResetError):
        text = f"Redis at {address} ended the connection: does it want TLS (rediss://), or not?"
        return RedisUnavailable(text, "lost")
    where = "path" if address.path else "host and port"
    fix = fix_of(error, f"start it, or correct {where}")
    text = f"Redis at {address} cannot be reached ({why_unreachable(error)}): {fix}"
    return RedisUnavailable(text, "refused")


def ended(address: Address, error: Exception | None) -> str:
    """The server, or the system, has ended a connection, with this error where there is one."""
    return f"Redis at {address} closed the connection{f' ({error})' if error else ''}"


def garbled(address: Address, error: GarbledReply) -> str:
    """What came over a connection is no Redis protocol."""
    return f"Redis at {address} sent {error}: is it really a Redis, and without TLS?"


def explained(address: Address, error: RedisErrorReply) -> str:
    """The error in one sentence, with what to do where that is known."""
    if not error.denied:
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
