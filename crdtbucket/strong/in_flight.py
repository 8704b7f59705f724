"""Calls under way over several connections of one process, by key. No I/O here.

On one connection answers come in the order in which the server ran the calls, so what is booked
here never runs behind the server's record. A thread that asks over a connection of its own breaks
that order: the record in its answer may hold tokens of calls whose answers are not booked yet.
Which tokens these may be, and whether an answer was alone with its key, is known here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crdtbucket.strong.store_request import Item, StoreRequest


class KeyInFlight:
    """The calls under way on one key."""

    __slots__ = ("begun", "begun_by_threads", "by_threads", "calls", "thread_tokens", "tokens")

    def __init__(self) -> None:
        self.calls = 0
        self.by_threads = 0
        self.tokens = 0
        self.thread_tokens = 0
        self.begun = 0
        self.begun_by_threads = 0


class InFlight:
    """All of them, of one node. Calls of the event loop are not looked at by key until a thread is
    about to ask. Under the lock of the books."""

    def __init__(self) -> None:
        self.by_key = False
        """Whether calls are looked at by key."""
        self.unseen = 0
        """Calls under way that began before that."""
        self._by_key: dict[Item, KeyInFlight] = {}

    def began(self, request: StoreRequest) -> None:
        """A call is about to be written."""
        request.under_way = True
        if not self.by_key:
            self.unseen += 1
            return
        key = self._by_key.get(request.item)
        if key is None:
            key = self._by_key[request.item] = KeyInFlight()
        request.in_flight = key
        key.calls += 1
        key.begun += 1
        if request.threaded:
            key.by_threads += 1
            key.begun_by_threads += 1
            key.thread_tokens += request.cost
            request.mark = key.begun if key.calls == 1 else -1
        else:
            key.tokens += request.cost
            request.mark = key.begun_by_threads if not key.by_threads else -1

    def ended(self, request: StoreRequest) -> None:
        """Its answer is booked, or it was given up and is counted here. It may be told again."""
        if not request.under_way:
            return
        request.under_way = False
        key, request.in_flight = request.in_flight, None
        if key is None:
            self.unseen -= 1
            return
        key.calls -= 1
        if request.threaded:
            key.by_threads -= 1
            key.thread_tokens -= request.cost
        else:
            key.tokens -= request.cost
        if not key.calls:
            del self._by_key[request.item]

    def unbooked(self, request: StoreRequest) -> int:
        """Tokens of calls on other connections that the server may have charged before this one,
        and that are not booked here."""
        key = request.in_flight
        if key is not None and request.threaded:
            return key.thread_tokens - request.cost + key.tokens
        key = key or self._by_key.get(request.item)  # of one that was given up, answered late
        return 0 if key is None else key.thread_tokens

    def alone(self, request: StoreRequest) -> bool:
        """Whether no call on another connection was under way at the same time on its key, so that
        the record of its answer can be compared with what is counted here."""
        key = request.in_flight
        if key is None:
            return not self.by_key
        return request.mark == (key.begun if request.threaded else key.begun_by_threads)


__all__ = ["KeyInFlight", "InFlight"]
