"""One thread's own connection to one Redis: it sends a command and waits for the reply.

No event loop and no other thread is woken for a decision. A call without an answer in time ends the
connection, so no reply is ever read by a later call.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct

from crdtbucket._core import ask_store
from crdtbucket.base.address import Address
from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.errors import CrdtbucketError
from crdtbucket.strong.redis.access import Access
from crdtbucket.strong.redis.lateness import Newest
from crdtbucket.strong.redis.login import (
    check,
    ended,
    garbled,
    handshake,
    resolving,
    silent,
    unreachable,
)
from crdtbucket.strong.redis.redis_connection import RedisConnectionLost
from crdtbucket.strong.redis.resp import NOTHING, GarbledReply, ReplyReader, encode

READ = 65_536
COARSE_NS = 10_000_000
"""The system gives the age of what was received in ticks of its clock; none is longer than this."""


class AnswerTooLate(CrdtbucketError):
    """No answer came in time. It is not an `OSError`, since a signal handler may raise one of
    those."""


class BlockingConnection:
    """A connection that one thread at a time uses. It ends by `close`, or when the last reference
    to it is gone."""

    def __init__(self, address: Address, access: Access, timeout: float) -> None:
        """Connects and logs in, within `timeout` seconds for each step. Raises
        `RedisUnavailable`."""
        self.address = address
        self.latency_ns = 0
        """How long the last answer took (ns), without the time for which it lay unread here."""
        self.asked_ns = 0
        """When the last command was sent (`clock.now_ns`)."""
        self.used_ns = now_ns()
        """When it was last known to be open."""
        self.asking = False
        """Whether a command was sent, and its reply is not read yet."""
        self.requests = 0
        """Requests that its thread has begun and not ended; belongs to `Threads`."""
        self._reader = ReplyReader()
        self._newest: Newest | None = None
        self._socket: socket.socket | None = None
        self._patience_ns = 0
        try:
            self._socket = self._connected(access, timeout)
            self._newest = Newest(self._socket)
            self._log_in(access, timeout)
        except (AnswerTooLate, TimeoutError) as error:
            self.close()
            raise silent(address, access, timeout) from error
        except OSError as error:
            self.close()
            raise unreachable(address, error) from error
        except BaseException:
            self.close()
            raise

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; may be repeated."""
        found, self._socket = getattr(self, "_socket", None), None
        if found is not None:
            found.close()
        newest = getattr(self, "_newest", None)
        if newest is not None:
            newest.close()

    @property
    def closed(self) -> bool:
        """Whether it was ended here, by the server as far as is known, or by the system."""
        return self._socket is None

    def ask(self, command: bytes, patience_ns: int) -> object:
        """The reply to one command, an error as a value. `AnswerTooLate` when none is here after
        `patience_ns`, `RedisConnectionLost` when the connection ended: it is closed then, and it is
        not known whether the command ran."""
        try:
            if patience_ns != self._patience_ns or self._socket is None:
                self._wait_at_most(patience_ns)
            self.asking, self.asked_ns = True, (sent := now_ns())
            reply = self._exchange(command, sent + patience_ns)
            self.asking = False
        except BaseException:
            self.close()
            raise
        self.used_ns = now = now_ns()
        self.latency_ns = max(0, now - sent)
        if self.latency_ns > COARSE_NS:
            # This thread may have waited for the interpreter, with the answer before it.
            age = None if self._newest is None else self._newest.age_ns()
            self.latency_ns = max(0, self.latency_ns - max(0, (age or 0) - COARSE_NS))
        return reply

    def alive(self) -> bool:
        """Whether the server has kept the connection open since the last call; nothing is sent."""
        if self._socket is None:
            return False
        if isinstance(self._socket, ssl.SSLSocket):
            return True  # the bytes that a peek finds may be messages of TLS itself
        try:
            self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            pass  # the connection has ended, as one has that gives no bytes
        self.close()  # so is one with an answer that nobody asked for
        return False

    def _connected(self, access: Access, timeout: float) -> socket.socket:
        address = self.address
        if address.path:
            made = socket.socket(socket.AF_UNIX)
        else:
            with resolving():
                made = socket.create_connection((address.host, address.port), timeout)
        try:
            if address.path:
                made.settimeout(timeout)
                made.connect(address.path)
                return made
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if access.tls is None:
                return made
            return access.tls.wrap_socket(made, server_hostname=address.host)
        except BaseException:
            made.close()
            raise

    def _log_in(self, access: Access, timeout: float) -> None:
        steps = handshake(access)
        patience = round(timeout * NS_PER_SECOND)
        self._wait_at_most(patience)
        self._send(b"".join(encode(*step) for step in steps))
        for step in steps:
            try:
                reply = self._next()
                if reply is NOTHING:
                    reply = self._read(now_ns() + patience)
            except RedisConnectionLost as lost:
                reply = lost
            check(self.address, access, step, reply)

    def _wait_at_most(self, patience_ns: int) -> None:
        """Makes the system end a wait on the socket after this time."""
        found = self._socket
        if found is None:
            raise RedisConnectionLost(f"the connection to Redis at {self.address} was closed here")
        self._patience_ns = patience_ns
        if isinstance(found, ssl.SSLSocket):
            found.settimeout(patience_ns / NS_PER_SECOND)
            return
        # A time-out of Python's own would look at the socket before each read and write.
        found.settimeout(None)
        value = struct.pack("ll", *divmod(max(1_000, patience_ns) // 1_000, 1_000_000))
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)

    def _exchange(self, command: bytes, until_ns: int) -> object:
        found = self._socket
        if type(found) is not socket.socket:  # TLS
            self._send(command)
            return self._read(until_ns)
        came = ask_store(found.fileno(), command, until_ns, self._patience_ns)
        if type(came) is int:
            raise self._failed(OSError(came, os.strerror(came)))
        return self._read(until_ns, came) if isinstance(came, bytes) else came

    def _send(self, data: bytes) -> None:
        assert self._socket is not None
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._failed(error) from error

    def _read(self, until_ns: int, came: bytes | None = None) -> object:
        """The next reply. A part of it has still to come from the socket, or is what `came`."""
        while True:
            data = self._receive(until_ns) if came is None else came
            if not data:
                raise RedisConnectionLost(ended(self.address, None))
            if (reply := self._next(data)) is not NOTHING:
                return reply
            came = None

    def _receive(self, until_ns: int) -> bytes:
        """More bytes. Python's own time-out goes on as it was after a signal, the system's one
        begins anew."""
        found, rest_ns = self._socket, until_ns - now_ns()
        assert found is not None
        if rest_ns <= 0:
            raise AnswerTooLate("half an answer in time")
        before = found.gettimeout()
        try:
            found.settimeout(rest_ns / NS_PER_SECOND)
            data = found.recv(READ)
            found.settimeout(before)
        except OSError as error:
            raise self._failed(error) from error
        return data

    def _next(self, data: bytes = b"") -> object:
        """The next reply after these bytes have come; `NOTHING` where it is not complete."""
        try:
            if data:
                self._reader.feed(data)
            return self._reader.next()
        except GarbledReply as error:
            raise RedisConnectionLost(garbled(self.address, error), "script") from error

    def _failed(self, error: OSError) -> Exception:
        """The error for the caller, when the system ended a wait or the connection."""
        if isinstance(error, (BlockingIOError, TimeoutError)):
            return AnswerTooLate("no answer in time")
        return RedisConnectionLost(ended(self.address, error))
