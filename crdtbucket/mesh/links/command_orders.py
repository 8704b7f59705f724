"""Commands of operators that every node of a mesh obeys: to move a roll-out, and to reset a key.

A command says all that it does: to which stage of which version, or which key. So it does the same
at every node, whatever that has done before, and none can be made to mean something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.mesh.links.ejections import EjectOrder
from crdtbucket.mesh.links.node_key import NodeKey, fingerprint_of
from crdtbucket.mesh.links.order_book import OrderBook
from crdtbucket.mesh.links.signed_orders import SignedOrder, decoded
from crdtbucket.mesh.state_file import CheckedFile
from crdtbucket.rollout.rollout_plan import MAX_STAGES
from crdtbucket.rollout.staged import Position, Status

MAX_COMMANDS = 64
"""Commands that are remembered: those with the highest counters, one about each version and each
key. A node that gets all of them at once checks as many signatures, of some 0.2 ms each."""
MAX_BUCKET, MAX_KEY = 800, 512
"""Bytes of the name of a bucket, and of a key, in UTF-8."""
RESET, ROLLOUT = "reset", "rollout"


@dataclass(frozen=True)
class CommandOrder(SignedOrder):
    """A command of an operator to all nodes."""

    PURPOSE: ClassVar[bytes] = b"crdtbucket command order 1 "
    MOST: ClassVar[int] = MAX_COMMANDS
    subject: tuple[str, str, str]
    """`RESET`, the canonical name of a bucket, and a key; or `ROLLOUT`, the number of a version and
    its hash."""
    counter: int
    said: tuple[int, int] | None
    """The status and the stage (from 0) of a roll-out; None for a reset."""
    public: bytes
    signature: bytes

    @classmethod
    def reset(
        cls, key: NodeKey, mesh_name: str, bucket: str, of: str, counter: int
    ) -> CommandOrder:
        """An order of whoever has `key` to give the key `of` back what is charged to it. `counter`:
        above that of every earlier one about it, up to 2^63 - 1. Raises `MeshError` for what cannot
        be ordered."""
        return cls((RESET, bucket, of), counter, None, b"", b"").signed_with(key, mesh_name)

    @classmethod
    def rollout(cls, key: NodeKey, mesh_name: str, to: Position, counter: int) -> CommandOrder:
        """An order of whoever has `key` that a version is at this position, whose `changes` do not
        count. Otherwise as `reset`."""
        about = (ROLLOUT, str(to.version), f"{to.hash:016x}")
        said = (int(to.status), to.stage)
        return cls(about, counter, said, b"", b"").signed_with(key, mesh_name)

    @property
    def about(self) -> tuple[str, str, str]:
        """The subject of the command: a version, or a key."""
        return self.subject

    @property
    def rank(self) -> tuple[int, tuple[int, int]]:
        """Of two commands about the same subject the one with the higher rank holds."""
        return self.counter, self.said or (0, 0)

    @property
    def position(self) -> Position | None:
        """The position that is ordered, whose `changes` are the counter; None for a reset."""
        if self.said is None:
            return None
        _, version, content = self.subject
        status, stage = self.said
        return Position(int(version), int(content, 16), self.counter, Status(status), stage)

    def in_words(self) -> str:
        """The order in words, for people."""
        _, first, second = self.subject
        at = self.position
        if at is None:
            what = f"key {second!r} of bucket {first!r} is reset"
        else:
            what = f"version {first} ({second}) is {at.status} at stage {at.stage + 1}"
        return f"{what} (operator {fingerprint_of(self.public)}, counter {self.counter})"

    def is_known(self) -> bool:
        """False for a command of a later version."""
        if not _is_known(self.subject):
            return False
        if self.subject[0] == RESET:
            if self.said is not None:
                raise WireError("a reset that says more than what it resets")
        elif not _is_place(self.said):
            raise WireError("a command without a stage of a roll-out")
        return True


class CommandBook(OrderBook[CommandOrder]):
    """The last commands that this node has obeyed. Older ones than these are not obeyed."""

    READS = CommandOrder

    def __init__(
        self,
        operators: Iterable[str] = (),
        mesh_name: str = "",
        kept: CheckedFile | None = None,
        obey: Callable[[Sequence[CommandOrder]], None] = lambda _: None,
    ) -> None:
        """As `OrderBook`; `obey` gets each new command that is to be obeyed here."""
        super().__init__(operators, mesh_name, kept)
        self.obey = obey

    def ordered(self, version: int, content: int) -> CommandOrder | None:
        """The command about a version and its hash."""
        return self.about(ROLLOUT, str(version), f"{content:016x}")

    def _forget(self, kept: CheckedFile) -> None:
        # With an old file the next process would not wait until it has learned which resets are
        # past, and would obey the one that the file lacks once more.
        try:
            kept.remove()
        except MeshError as error:
            LOG.error("after a restart the last reset may be done once more: %s", error)

    def _make_room(self, order: CommandOrder) -> str:
        if len(self) < MAX_COMMANDS:
            return ""
        oldest = min(self.every(), key=_age)
        if _age(order) < _age(oldest):
            return (
                f"it is older than the {MAX_COMMANDS} commands that are remembered: sign one with "
                f"a counter above {oldest.counter}"
            )
        del self._rows[oldest.about]
        return ""


def order_from(text: str) -> EjectOrder | CommandOrder:
    """The order in this word, of either kind. Raises `MeshError`."""
    with suppress(ValueError):  # no order at all: the last line raises, with the reason
        match decoded(text):
            case ((tuple(), *_), *_):  # a command, whose subject has several parts
                return CommandOrder.from_text(text)
    return EjectOrder.from_text(text)


def _age(order: CommandOrder) -> tuple[int, tuple[str, str, str]]:
    return order.counter, order.about


def _is_known(subject: object) -> bool:
    """Whether this version of the program knows such a command; raises `WireError` for one that no
    version can make."""
    if (
        not isinstance(subject, tuple)
        or len(subject) != 3
        or not all(isinstance(one, str) for one in subject)
    ):
        raise WireError("a command about nothing")
    kind, first, second = subject
    try:
        sizes = len(first.encode()), len(second.encode())
    except UnicodeEncodeError as error:
        raise WireError("a command about what is no text") from error
    if kind == RESET:
        if not (1 <= sizes[0] <= MAX_BUCKET and 1 <= sizes[1] <= MAX_KEY):
            raise WireError(f"a reset of an impossible key: give 1 to {MAX_KEY} bytes")
    elif kind == ROLLOUT:
        try:
            version, content = int(first), int(second, 16)
        except ValueError as error:
            raise WireError("a command about no version") from error
        if (str(version), f"{content:016x}") != (first, second) or not (
            0 <= version < 2**63 and 0 <= content < 2**64
        ):
            raise WireError("a command about an impossible version")
    return kind in (RESET, ROLLOUT)


def _is_place(said: object) -> bool:
    if not isinstance(said, tuple) or len(said) != 2 or not all(type(one) is int for one in said):
        return False
    status, stage = said
    return status in tuple(Status) and 0 <= stage < MAX_STAGES
