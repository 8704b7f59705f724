"""The heaviest keys of a stream, in bounded memory.

The Space-Saving sketch (Metwally, Agrawal, El Abbadi, 2005): a key without a counter takes over the
lowest of the `size` counters together with its count, which becomes that key's `error`. No count is
too low, none is too high by more than its error, and every key above total / size has a counter.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass


@dataclass
class KeyCounter:
    """Tokens counted for a key: at most `error` too many; `denied` are those of refused calls."""

    tokens: int
    error: int
    denied: int = 0


class HeavyKeys:
    """Counters for the keys of one bucket, halved every half-life so that old weight fades."""

    def __init__(self, size: int, half_life_ns: int, now: int) -> None:
        """Times are ns of one clock."""
        self._size = size
        self._half_life = half_life_ns
        self._next = now + half_life_ns
        self._counters: dict[str, KeyCounter] = {}
        # Lowest first; a pair with an outdated count is corrected when it comes to the top.
        self._heap: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._counters)

    def add(self, key: str, tokens: int, allowed: bool, now: int) -> None:
        """Counts a call that asked for `tokens`."""
        if now >= self._next:
            self._fade(now)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counter(key)
        counter.tokens += tokens
        if not allowed:
            counter.denied += tokens

    def top(self, count: int, now: int) -> list[tuple[str, KeyCounter]]:
        """The `count` heaviest keys, heaviest first."""
        if now >= self._next:
            self._fade(now)
        return heapq.nlargest(count, self._counters.items(), key=lambda item: item[1].tokens)

    def of(self, key: str, now: int) -> KeyCounter | None:
        """What is counted for a key; None where it has no counter."""
        if now >= self._next:
            self._fade(now)
        return self._counters.get(key)

    def _counter(self, key: str) -> KeyCounter:
        if len(self._counters) < self._size:
            least = 0
            heapq.heappush(self._heap, (0, key))
        else:
            least, gone = self._least()
            del self._counters[gone]
            heapq.heapreplace(self._heap, (least, key))
        self._counters[key] = counter = KeyCounter(least, least)
        return counter

    def _least(self) -> tuple[int, str]:
        while True:
            count, key = self._heap[0]
            real = self._counters[key].tokens
            if real == count:
                return count, key
            heapq.heapreplace(self._heap, (real, key))

    def _fade(self, now: int) -> None:
        halvings = 1 + (now - self._next) // self._half_life
        self._next += halvings * self._half_life
        for key, counter in list(self._counters.items()):
            counter.tokens >>= halvings
            counter.error = min(counter.tokens, -(-counter.error >> halvings))
            counter.denied >>= halvings
            if not counter.tokens:
                del self._counters[key]
        self._heap = [(counter.tokens, key) for key, counter in self._counters.items()]
        heapq.heapify(self._heap)
