"""The copies under way from one member of a replicated Redis to another: order, delay, damage."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

NS = 1_000_000_000
REMEMBERED = 32
"""Versions of a key that may be delivered again."""


@dataclass(frozen=True)
class KeyVersion:
    """All fields of one key as they stood at one moment, and its time to live then, ms.

    `whole` is false for a torn delivery: these fields have arrived, the others not yet.
    """

    key: bytes
    fields: Mapping[bytes, bytes]
    expires_ms: int
    whole: bool = True


@dataclass
class ReplicationFaults:
    """The faults that a copy may suffer on its way. Shares are probabilities for each copy."""

    lag: float = 0.04
    """Mean seconds on the way."""
    jitter: float = 0.5
    """The fraction by which a copy may be earlier or later; the order stays."""
    torn: float = 0.0
    """The share of copies of which some fields arrive first, and all of them a lag later."""
    older: float = 0.0
    """The share of copies after which an older version arrives once more, and a lag later the
    newest again."""
    repeated: float = 0.0
    """The share of copies that arrive twice."""


class CopyQueue:
    """The way from one member to another. Times are ns of one clock, and never go back."""

    def __init__(self, faults: ReplicationFaults, seed: str) -> None:
        self.passing = True
        """False in a cut: nothing arrives."""
        self._recorded = True
        self._unsent = False
        self._faults, self._dice = faults, random.Random(seed)
        self._waiting: list[tuple[int, int, KeyVersion]] = []
        """A heap: the copies by the time of their arrival, and at the same time by the order of
        sending."""
        self._numbers = itertools.count()
        self._last = 0
        """When the newest version arrives, without the faults that follow."""
        self._settles: dict[bytes, int] = {}
        """By key: when the last copy arrives of those that the last fault has added."""
        self._sent: dict[bytes, deque[KeyVersion]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def send(self, version: KeyVersion, now: int) -> None:
        """Sends a version."""
        before = self._sent.setdefault(version.key, deque(maxlen=REMEMBERED))
        if self.passing or self._recorded:
            self._push(version, now, before)
        else:
            self._unsent = True
        before.append(version)

    def _push(self, version: KeyVersion, now: int, before: deque[KeyVersion]) -> None:
        faults, dice = self._faults, self._dice
        spread = faults.jitter * (2.0 * dice.random() - 1.0)
        lag = round(faults.lag * NS)
        due = self._last = max(self._last, now + round(lag * (1.0 + spread)))
        settles = self._settles.get(version.key, 0)
        if settles > due:  # with a fault for each version none would ever arrive whole
            self._add(settles, version)
            return
        arriving = [(due, version)]
        if before and dice.random() < faults.torn:
            arriving = [(due, self._part(version, before[-1])), (due + lag, version)]
        if dice.random() < faults.repeated:
            arriving.append((arriving[-1][0], version))
        if before and dice.random() < faults.older:
            end = arriving[-1][0]
            arriving += [(end, dice.choice(before)), (end + lag, version)]
        for at, one in arriving:
            self._add(at, one)
        self._settles[version.key] = arriving[-1][0]

    def _add(self, due: int, version: KeyVersion) -> None:
        heapq.heappush(self._waiting, (due, next(self._numbers), version))

    def _part(self, version: KeyVersion, before: KeyVersion) -> KeyVersion:
        """Some of the fields that changed: at least one, but not all if there are several."""
        changed = [name for name, text in version.fields.items() if before.fields.get(name) != text]
        count = self._dice.randint(1, max(1, len(changed) - 1))
        names = self._dice.sample(changed, min(count, len(changed)))
        part = {name: version.fields[name] for name in names}
        return KeyVersion(version.key, part, version.expires_ms, whole=False)

    def due(self) -> int | None:
        """When the next copy arrives; None when nothing is on its way, and during a cut."""
        return self._waiting[0][0] if self.passing and self._waiting else None

    def arrived(self, now: int) -> list[KeyVersion]:
        """Everything that has arrived by now, in its order; it is gone from the queue."""
        out: list[KeyVersion] = []
        while self.passing and self._waiting and self._waiting[0][0] <= now:
            out.append(heapq.heappop(self._waiting)[2])
        return out

    def cut(self, *, recorded: bool = True) -> None:
        """Nothing arrives from now on. With `recorded` it arrives after the heal, in its order."""
        self.passing, self._recorded = False, recorded
        if not recorded:
            self._unsent = self._unsent or len(self._waiting) > 0
            self._waiting.clear()

    def heal(self, now: int) -> None:
        """Everything arrives again. What was not recorded arrives as it stands now."""
        self.passing = self._recorded = True
        if self._unsent:
            self.resend(now)

    def resend(self, now: int) -> None:
        """Sends the newest version of every key again, and nothing else."""
        self._waiting.clear()
        self._settles.clear()
        self._unsent = False
        self._last = now + round(self._faults.lag * NS)
        for versions in self._sent.values():
            self._add(self._last, versions[-1])
