"""The results of a run: what it found and did. docs/reconcile.md defines them. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from crdtbucket.base.counted import counted
from crdtbucket.reconcile.merging import Lack, MergedKey


@dataclass(eq=False)
class Holder:
    """One node, or Redis: what it had not counted, and the result of sending it that."""

    name: str
    kind: str
    """"node" or "redis"."""
    address: str = ""
    keys: int = 0
    """Keys with a debt that it holds."""
    behind_keys: int = 0
    behind_tokens: int = 0
    """Tokens taken that it had not counted."""
    behind_refunds: int = 0
    """Tokens refunded that it had not counted."""
    charged: int = 0
    """Tokens by which its debt rises, up to the ceiling, rounded for each key."""
    left_tokens: int = 0
    """Tokens that it still has not counted: the mesh, or the next run, will send them."""
    refused: int = 0
    """Columns that it did not believe, and keys that are defined otherwise there."""
    dropped: int = 0
    """Keys and columns for which its table had no room, and keys that owe something and were
    evicted for these: `max_keys` is too low there."""
    error: str | None = None
    """Why it was not read, or not to the end."""

    def behind(self, lack: Lack, charge: int) -> None:
        """Counts one key of which this holder lacks something."""
        self.behind_keys += 1
        self.behind_tokens += lack.taken
        self.behind_refunds += lack.refunded
        self.charged += charge


@dataclass
class Report:
    """One run. Tokens of over-admission and forgiveness are counted once a key, not once a node."""

    dry_run: bool = False
    done: float = 0.0
    """The part of all keys that was gone over, 0 to 1."""
    seconds: float = 0.0
    keys: int = 0
    """Keys with a debt, seen anywhere."""
    differing_keys: int = 0
    """Those of them of which some holder lacks something."""
    over_admitted: int = 0
    """Tokens that differing keys owe below an empty bucket, at most."""
    forgiven: int = 0
    """Tokens of these beyond the ceiling of debt, which are not charged anywhere."""
    unknown_keys: int = 0
    """Keys of buckets that the file does not define: not looked at."""
    holders: list[Holder] = field(default_factory=list)

    def differs(self, merged: MergedKey) -> None:
        """Counts one key of which some holder lacks something."""
        self.differing_keys += 1
        self.over_admitted += merged.over
        self.forgiven += merged.forgiven

    @property
    def complete(self) -> bool:
        """Whether all keys were read, all holders answered, none refused anything, and all had
        room."""
        failed = (one.error or one.refused or one.dropped for one in self.holders)
        return self.done >= 1.0 and not any(failed)

    def lines(self) -> list[str]:
        """The sums, for people."""
        verb = "would be brought" if self.dry_run else "were brought"
        out = [f"Keys that owe something: {self.keys:,}. Differed: {self.differing_keys:,}."]
        if self.differing_keys:
            out.append(
                f"Over-admission found: {counted(self.over_admitted, 'token')} at most, "
                f"of which {self.forgiven:,} are forgiven."
            )
        if self.unknown_keys:
            out.append(
                f"{counted(self.unknown_keys, 'key')} of buckets that the file does not define."
            )
        if self.done < 1:
            out.append(f"Ended after {self.done:.0%} of the keys; the others are as they were.")
        full = [one.name for one in self.holders if one.dropped]
        if full:
            said = "the table has no room for all keys: raise max_keys there"
            out.append(f"{', '.join(full)}: {said}.")
        elif not self.differing_keys and self.complete:
            out.append("Nothing to do.")
        elif self.differing_keys:
            out.append(f"All who answered {verb} up to date.")
        return out

    def as_dict(self) -> dict[str, Any]:
        """The findings as a dict for JSON."""
        return {"complete": self.complete, **asdict(self)}
