"""Every error that crdtbucket raises, in one tree under `CrdtbucketError`.

A denied call is a value (`Decision`), not an error: the errors here are misuse, a broken
configuration, or a peer or process that cannot go on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crdtbucket.base.clipped import clipped

if TYPE_CHECKING:
    from crdtbucket._core import Decision


class CrdtbucketError(Exception):
    """The root: `except CrdtbucketError` catches every error that this library raises on
    purpose."""


class InvalidSpec(CrdtbucketError, ValueError):
    """A bucket's definition cannot be used: `message` is the fault, `fix` what to write instead."""

    def __init__(self, message: str, fix: str = "", field: str = "") -> None:
        super().__init__(message, fix, field)
        self.message = message
        self.fix = fix
        self.field = field

    def __str__(self) -> str:
        return f"{self.message}: {self.fix}" if self.fix else self.message


class InvalidCost(CrdtbucketError, ValueError):
    """A cost is not a whole number of tokens in the range that the call allows."""


class InvalidKey(CrdtbucketError, ValueError):
    """A key is not a `str` or `bytes` of 1 to 512 bytes."""


class CostExceedsCapacity(CrdtbucketError, ValueError):
    """One call asks for more tokens or slots than a key can ever have, so waiting cannot help.

    `bucket` is its name. `capacity` is the most that can pass at once: the tokens of a full bucket,
    less the `floor` that the call leaves to others. `unit`: "tokens" or "slots".
    """

    def __init__(
        self, bucket: str, cost: int, capacity: int, floor: int = 0, unit: str = "tokens"
    ) -> None:
        super().__init__(bucket, cost, capacity, floor, unit)
        self.bucket = bucket
        self.cost = cost
        self.capacity = capacity
        self.floor = floor
        self.unit = unit

    def __str__(self) -> str:
        if self.unit == "slots":
            return (
                f"a request for {self.cost} slots of bucket {self.bucket!r}, which has "
                f"{self.capacity}, could never pass; ask for fewer or give the bucket more"
            )
        if self.floor:
            return (
                f"cost {self.cost} leaves less than the floor of {self.floor} tokens even in a "
                f"full bucket {self.bucket!r} of {self.capacity + self.floor}: split the call, or "
                "lower the floor"
            )
        return (
            f"cost {self.cost} is above the capacity of {self.capacity} of bucket {self.bucket!r} "
            "and could never pass; split the call or raise the capacity"
        )


class SharedTableError(CrdtbucketError):
    """The file of a shared table cannot be used: `fault` says why, `fix` what to do."""

    def __init__(self, path: str, fault: str, fix: str) -> None:
        super().__init__(path, fault, fix)
        self.path = path
        self.fault = fault
        self.fix = fix

    def __str__(self) -> str:
        return f"the shared table {self.path} {self.fault}: {self.fix}"


class UnknownBucket(CrdtbucketError, KeyError):
    """No bucket has this name; `names` are the existing ones."""

    def __init__(self, name: str, names: Iterable[str] = ()) -> None:
        self.name = name
        self.names = tuple(names)
        super().__init__(name, self.names)

    def __str__(self) -> str:
        if not self.names:
            return f"no bucket {clipped(self.name)}: none is defined"
        hint = ""
        if f"{self.name}:1" in self.names:
            call = f"take_all([({self.name!r}, key)])"
            hint = f"; each rate of {self.name!r} is one, and {call} takes from all of them"
        return f"no bucket {clipped(self.name)}; there are: {', '.join(self.names)}{hint}"


@dataclass(frozen=True)
class Problem:
    """One fault of a configuration: where it stands, what is wrong, and what to write instead.

    `line` and `column` count from 1 and are 0 where the value did not come from a file.
    """

    message: str
    fix: str = ""
    path: str = ""
    file: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        where = ":".join([self.file, *(str(n) for n in (self.line, self.column) if n)]).strip(":")
        text = ": ".join(part for part in (where, self.path, self.message) if part)
        return f"{text} ({self.fix})" if self.fix else text


class ConfigError(CrdtbucketError, ValueError):
    """A configuration cannot be used; `problems` holds every fault that was found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        return f"{len(self.problems)} problems in the configuration:{lines}"


class WireError(CrdtbucketError, ValueError):
    """Bytes from a peer are not a frame of this protocol; nothing of them was applied."""


class RedisReplyError(CrdtbucketError):
    """The answer of Redis is not one that the script can give; nothing of it was applied."""


class MeshError(CrdtbucketError):
    """The mesh cannot start or go on as it is set up; the message says what to set."""


class NodeConflict(MeshError):
    """Two running processes use one node name; the newer one refuses to serve."""


class RedisUnavailable(CrdtbucketError):
    """The shared Redis cannot be used now; the message names the server and what to do.

    `kind` says how it failed: "refused", "lost", "timed_out", "auth", "readonly", "loading", "oom",
    "down" (the server says so itself) or "script" (a wrong answer).
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message, kind)
        self.message = message
        self.kind = kind

    def __str__(self) -> str:
        return self.message


class LimiterClosed(CrdtbucketError):
    """A limiter was used after it was closed, when it no longer knows what the others take."""


class LimiterNotOpen(CrdtbucketError):
    """A limiter was used while nothing connects it with the other nodes, so that it would limit
    alone: before it was opened, or in a process that was forked since. The message says what to
    do."""


class AcquireRequired(CrdtbucketError, TypeError):
    """A strong bucket was asked for a decision without I/O; the message says what to call."""

    def __init__(self, bucket: str, called: str, instead: str) -> None:
        super().__init__(bucket, called, instead)
        self.bucket = bucket
        self.called = called
        self.instead = instead

    def __str__(self) -> str:
        threads = ", or acquire_sync in a thread" if self.called == "take" else ""
        return (
            f"bucket {self.bucket!r} has strong consistency, so a decision asks Redis: "
            f"`{self.instead}` instead of {self.called}{threads}"
        )


class WrongKind(CrdtbucketError, TypeError):
    """A bucket of slots was asked for tokens, or a bucket of tokens for a slot; the message says
    what to call."""

    @classmethod
    def of_slots(cls, bucket: str, called: str) -> WrongKind:
        """The error for a call that wants tokens of a bucket of kind `concurrency`."""
        instead = "`async with bucket.slot(key)` holds a slot"
        if called == "peek":
            instead = "`bucket.held(key)` counts the slots that are held"
        return cls(
            f"bucket {bucket!r} limits what is in flight and has no tokens for {called}: {instead}"
        )


class Denied(CrdtbucketError):
    """A call was denied, and the caller had asked for an error; `decision` is the denial."""

    def __init__(self, message: str, decision: Decision) -> None:
        super().__init__(message)
        self.decision = decision

    def __reduce__(self) -> tuple[Any, ...]:
        # The decision crosses to another process, too, without its bucket.
        return type(self), (*self.args, self.decision)


class WaitTimeout(Denied, TimeoutError):
    """The tokens did not become available within the time that the caller allowed.

    `decision` is the last denial: that of this waiter, or of the earlier waiter that it stood
    behind.
    """


class LimitExceeded(Denied):
    """A call of a function that `limited` guards was denied; `decision` is the denial."""


class ReservationError(CrdtbucketError):
    """A reservation was used in a wrong order, for example committed with two different costs."""


class ReservationDenied(Denied, ReservationError):
    """The estimate could not be set aside; `decision` is the denial, with its `retry_after`."""


class SlotDenied(Denied):
    """All slots of the key are held; the first of them is free after `decision.retry_after` at the
    latest, or earlier if its holder releases it."""
