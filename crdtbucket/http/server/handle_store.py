"""A bounded store of items that clients refer to by an id, each for a limited time."""

from __future__ import annotations

import heapq
import secrets
from typing import Generic, TypeVar

T = TypeVar("T")


class HandleStore(Generic[T]):
    """Items by unguessable ids, each until its own time. Times are ns of one clock."""

    def __init__(self, limit: int, prefix: str = "") -> None:
        """At most `limit` items are held at once. All ids begin with `prefix`."""
        self._prefix = prefix
        self.limit = limit
        self._items: dict[str, T] = {}
        self._ends: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._items)

    def full(self, now: int) -> bool:
        """Whether one more item would replace another one."""
        self._expire(now)
        return len(self._items) >= self.limit

    def put(self, item: T, end: int, now: int) -> str:
        """Adds an item, and returns the id under which it is found until `end`. Where there is no
        room, the item that would end first is dropped."""
        if self.full(now):
            del self._items[heapq.heappop(self._ends)[1]]
        name = self._prefix + secrets.token_urlsafe(16)
        self._items[name] = item
        heapq.heappush(self._ends, (end, name))
        return name

    def get(self, name: str, now: int) -> T | None:
        """The item; None when there is none, or its time is over."""
        self._expire(now)
        return self._items.get(name)

    def _expire(self, now: int) -> None:
        while self._ends and self._ends[0][0] <= now:
            del self._items[heapq.heappop(self._ends)[1]]
