"""Calls under way over several connections of one process, by key. No I/O here.

On one connection answers come in the order in which the server ran the calls, so what is booked
here never runs behind the server's record. A thread that asks over a connection of its own breaks
that order: the record in its answer may hold tokens of calls whose answers are not booked yet.
Which tokens these may be, and whether an answer was alone with its key, is known here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crdtbucket.strong.store_request import Ask, Item


class Flight:
    """The calls under way on one key."""

    __slots__ = ("begun", "begun_by_threads", "by_threads", "calls", "thread_tokens", "tokens")

    def __init__(self) -> None:
        self.calls = 0
        self.by_threads = 0
        self.tokens = 0
        self.thread_tokens = 0
        self.begun = 0
        self.begun_by_threads = 0


class Flights:
    """All of them, of one node. Calls of the event loop are not looked at by key until a thread is
    about to ask. Under the lock of the books."""

    def __init__(self) -> None:
        self.by_key = False
        """Whether calls are looked at by key."""
        self.unseen = 0
        """Calls under way that began before that."""
        self._flights: dict[Item, Flight] = {}

    def began(self, ask: Ask) -> None:
        """A call is about to be written."""
        ask.under_way = True
        if not self.by_key:
            self.unseen += 1
            return
        flight = self._flights.get(ask.item)
        if flight is None:
            flight = self._flights[ask.item] = Flight()
        ask.flight = flight
        flight.calls += 1
        flight.begun += 1
        if ask.threaded:
            flight.by_threads += 1
            flight.begun_by_threads += 1
            flight.thread_tokens += ask.cost
            ask.mark = flight.begun if flight.calls == 1 else -1
        else:
            flight.tokens += ask.cost
            ask.mark = flight.begun_by_threads if not flight.by_threads else -1

    def ended(self, ask: Ask) -> None:
        """Its answer is booked, or it was given up and is counted here. It may be told again."""
        if not ask.under_way:
            return
        ask.under_way = False
        flight, ask.flight = ask.flight, None
        if flight is None:
            self.unseen -= 1
            return
        flight.calls -= 1
        if ask.threaded:
            flight.by_threads -= 1
            flight.thread_tokens -= ask.cost
        else:
            flight.tokens -= ask.cost
        if not flight.calls:
            del self._flights[ask.item]

    def unbooked(self, ask: Ask) -> int:
        """Tokens of calls on other connections that the server may have charged before this one,
        and that are not booked here."""
        flight = ask.flight
        if flight is not None and ask.threaded:
            return flight.thread_tokens - ask.cost + flight.tokens
        flight = flight or self._flights.get(ask.item)  # of one that was given up, answered late
        return 0 if flight is None else flight.thread_tokens

    def alone(self, ask: Ask) -> bool:
        """Whether no call on another connection was under way at the same time on its key, so that
        the record of its answer can be compared with what is counted here."""
        flight = ask.flight
        if flight is None:
            return not self.by_key
        return ask.mark == (flight.begun if ask.threaded else flight.begun_by_threads)


__all__ = ["Flight", "Flights"]
