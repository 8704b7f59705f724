"""Requests in flight over several connections of one process, by key. No I/O here.

On one connection answers come in the order in which the server ran the requests, so the ledger is
never behind the server's record. A thread that sends requests over its own connection breaks that
order: the record in its answer may hold tokens of requests whose answers are not booked yet. This
module computes how many tokens that may be, and whether a request was the only one on its key.
"""

from __future__ import annotations

from crdtbucket.strong.store_request import Item, KeyInFlight, StoreRequest


class RequestsInFlight:
    """All requests in flight of one node, under the lock of the ledger. Those of the event loop are
    counted by key only once a thread is about to send a request."""

    def __init__(self) -> None:
        self.unseen = 0
        """Requests in flight that began before they were counted by key."""
        self._counted = False
        self._by_key: dict[Item, KeyInFlight] = {}

    @property
    def ready_for_threads(self) -> bool:
        """Whether every request in flight is counted by key."""
        return self._counted and not self.unseen

    def count_by_key(self) -> None:
        """From now on requests are counted by key."""
        self._counted = True

    def began(self, request: StoreRequest) -> None:
        """A request is about to be written."""
        request.is_in_flight = True
        if not self._counted:
            self.unseen += 1
            return
        key = self._by_key.get(request.item)
        if key is None:
            key = self._by_key[request.item] = KeyInFlight()
        request.key_in_flight = key
        key.requests += 1
        key.begun += 1
        if request.threaded:
            key.by_threads += 1
            key.begun_by_threads += 1
            key.thread_tokens += request.cost
            request.mark = key.begun if key.requests == 1 else -1
        else:
            key.tokens += request.cost
            request.mark = key.begun_by_threads if not key.by_threads else -1

    def ended(self, request: StoreRequest) -> None:
        """The answer is booked, or the request was given up and is counted here. A second call for
        the same request does nothing."""
        if not request.is_in_flight:
            return
        request.is_in_flight = False
        key, request.key_in_flight = request.key_in_flight, None
        if key is None:
            self.unseen -= 1
            return
        key.requests -= 1
        if request.threaded:
            key.by_threads -= 1
            key.thread_tokens -= request.cost
        else:
            key.tokens -= request.cost
        if not key.requests:
            del self._by_key[request.item]

    def unbooked(self, request: StoreRequest) -> int:
        """Tokens of requests on other connections that the server may have charged before this one
        and that are not booked here."""
        key = request.key_in_flight
        if key is not None and request.threaded:
            return key.thread_tokens - request.cost + key.tokens
        key = key or self._by_key.get(request.item)  # it was given up, and answered late
        return 0 if key is None else key.thread_tokens

    def alone(self, request: StoreRequest) -> bool:
        """Whether no request on another connection was in flight at the same time on its key, so
        that the record in its answer can be compared with what is counted here."""
        key = request.key_in_flight
        if key is None:
            return not self._counted
        return request.mark == (key.begun if request.threaded else key.begun_by_threads)
