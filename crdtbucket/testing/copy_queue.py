"""What one member of a replicated Redis sends to another: in which order, how late, how broken."""

from __future__ import annotations

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
    """What befalls the versions on their way. Shares are probabilities for each version."""

    lag: float = 0.04
    """Mean seconds on the way."""
    jitter: float = 0.5
    """The fraction by which one may be earlier or later; the order stays."""
    torn: float = 0.0
    """Share of which some fields arrive first, and all of it a lag later."""
    older: float = 0.0
    """Share after which an older version arrives once more, and a lag later the newest again."""
    repeated: float = 0.0
    """Share that arrives twice."""


class CopyQueue:
    """The way from one member to another. Times are ns of one clock, and never go back."""

    def __init__(self, faults: ReplicationFaults, seed: str) -> None:
        self.passing = True
        """False in a cut: nothing arrives."""
        self._recorded = True
        self._unsent = False
        self._faults, self._dice = faults, random.Random(seed)
        self._waiting: deque[tuple[int, KeyVersion]] = deque()
        self._last = 0
        self._sent: dict[bytes, deque[KeyVersion]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def send(self, version: KeyVersion, now: int) -> None:
        """A version begins its way."""
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
        due = max(self._last, now + round(lag * (1.0 + spread)))
        arriving = [(due, version)]
        if before and dice.random() < faults.torn:
            arriving = [(due, self._part(version, before[-1])), (due + lag, version)]
        if dice.random() < faults.repeated:
            arriving.append((arriving[-1][0], version))
        if before and dice.random() < faults.older:
            end = arriving[-1][0]
            arriving += [(end, dice.choice(before)), (end + lag, version)]
        self._waiting += arriving
        self._last = arriving[-1][0]

    def _part(self, version: KeyVersion, before: KeyVersion) -> KeyVersion:
        """At least one of the fields that changed, and where it can be not all of them."""
        changed = [name for name, text in version.fields.items() if before.fields.get(name) != text]
        count = self._dice.randint(1, max(1, len(changed) - 1))
        names = self._dice.sample(changed, min(count, len(changed)))
        part = {name: version.fields[name] for name in names}
        return KeyVersion(version.key, part, version.expires_ms, whole=False)

    def due(self) -> int | None:
        """When the next one arrives; None when nothing is on its way, or in a cut."""
        return self._waiting[0][0] if self.passing and self._waiting else None

    def arrived(self, now: int) -> list[KeyVersion]:
        """Everything that has arrived by now, in its order; it is gone from the queue."""
        out: list[KeyVersion] = []
        while self.passing and self._waiting and self._waiting[0][0] <= now:
            out.append(self._waiting.popleft()[1])
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
        """The newest version of every key begins its way again, and nothing else."""
        self._waiting.clear()
        self._unsent = False
        self._last = now + round(self._faults.lag * NS)
        self._waiting += [(self._last, versions[-1]) for versions in self._sent.values()]


__all__ = ["CopyQueue", "KeyVersion", "ReplicationFaults"]
