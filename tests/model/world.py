"""A few nodes, their clocks, the messages between them, and what really happened.

The world runs any implementation of `NodeUnderTest`, and two ideal buckets beside it, one on the
slowest and one on the fastest clock of the nodes; without drift the two are the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

from .bucket import Definition, IdealBucket
from .node import NOBODY, Ledger, Ns

SECOND = 10**9
MILLISECOND = 10**6
PLAIN = Definition(capacity=100, emission=10 * MILLISECOND, max_debt=100)  # 100/s
UNEVEN = Definition(capacity=60, emission=Fraction(SECOND, 7), max_debt=90)  # 7/s, no whole ns


class NodeUnderTest(Protocol):
    """One key on one node. `now` is integer ns of the node's own clock; tokens are whole."""

    def take(self, tokens: int, now: int) -> bool: ...
    def settle(self, tokens: int, now: int) -> None: ...
    def mark(self) -> object: ...
    def refund(self, tokens: int, now: int, mark: object) -> int: ...
    def peek(self, now: int) -> Fraction | int: ...
    def debt_ns(self, now: int) -> Ns: ...
    def credit_ns(self, now: int) -> Ns: ...
    def message(self, now: int) -> object | None: ...
    def merge(self, message: object, now: int) -> bool: ...
    def evict(self, now: int) -> bool: ...
    def restart(self, now: int) -> None: ...
    def snapshot(self, now: int) -> object: ...
    def restore(self, snapshot: object, now: int) -> None: ...
    def forget(self, column: tuple[str, int]) -> None: ...
    def change_definition(self, definition: Definition, now: int) -> None: ...
    def set_far(self, tokens: Ns, owners: Iterable[str] = ...) -> None: ...
    def see(self, owner: str) -> None: ...
    def columns(self) -> dict[tuple[str, int], tuple[int, int, int]]: ...
    def ledger(self) -> Ledger: ...


Factory = Callable[[str, Definition, Iterator[int]], NodeUnderTest]
Step = tuple[Any, ...]  # ("take", node, tokens), ("advance", ns), ...: see the methods do_*


@dataclass
class Letter:
    source: str
    content: object
    seen: int  # what the source had seen when it wrote, a bit an event
    sent: int


class World:
    """Plays histories. The number of a node wraps around, so that a step works for any size."""

    def __init__(
        self,
        factory: Factory,
        size: int = 3,
        definition: Definition | Sequence[Definition] = PLAIN,
        drift_ppm: Sequence[int] = (),
        max_age_ns: int | None = None,
    ) -> None:
        self.factory, self.epochs = factory, itertools.count(1)
        self.names = [chr(ord("A") + i) for i in range(size)]
        given = [definition] * size if isinstance(definition, Definition) else list(definition)
        self.definitions = dict(zip(self.names, itertools.cycle(given), strict=False))
        self.now = 1000 * SECOND
        self.start = self.now
        offsets = itertools.cycle([7 * SECOND, 0, -500 * SECOND])
        self.offsets = dict(zip(self.names, offsets, strict=False))
        self.ppm = dict(zip(self.names, itertools.cycle(drift_ppm or [0]), strict=False))
        self.nodes = {n: factory(n, self.definitions[n], self.epochs) for n in self.names}
        self.max_age_ns = max_age_ns
        drifts = [self.ppm[n] for n in self.names]
        self.slow_ppm, self.fast_ppm = min(drifts), max(drifts)
        kinds = set(self.definitions.values())
        self.slow = {d: IdealBucket(d, self.since_start(self.slow_ppm)) for d in kinds}
        self.fast = {d: IdealBucket(d, self.since_start(self.fast_ppm)) for d in kinds}
        self.events: list[int] = []  # tokens, negative for a refund
        self.seen = dict.fromkeys(self.names, 0)
        self.own = dict.fromkeys(self.names, 0)
        self.lost = 0  # events that no running node has seen
        self.most_unseen = dict.fromkeys(self.names, 0)
        self.most_refunds_unseen = 0
        self.far = dict.fromkeys(self.names, 0)
        self.largest_credit = Fraction(0)  # that any node held at any time, in tokens
        self.letters: list[Letter] = []
        self.unsent: set[tuple[str, str]] = set()
        self.receipts: list[tuple[str, int, object]] = []
        self.snapshots: dict[str, tuple[object, int]] = {}
        self.dead: dict[
            tuple[str, int], tuple[int, object]
        ] = {}  # column: time of death, final value
        self.verdicts: list[bool] = []

    # --- time and truth ---
    def since_start(self, ppm: int) -> int:
        """Exact as long as time moves in whole ms."""
        return (self.now - self.start) + (self.now - self.start) * ppm // 10**6

    def clock(self, name: str) -> int:
        return self.start + self.offsets[name] + self.since_start(self.ppm[name])

    def happened(self, name: str, tokens: int) -> None:
        for bucket in self.slow.values():
            bucket.charge(tokens, self.since_start(self.slow_ppm))
        for bucket in self.fast.values():
            bucket.charge(tokens, self.since_start(self.fast_ppm))
        event = 1 << len(self.events)
        self.events.append(tokens)
        self.seen[name] |= event
        self.own[name] |= event
        self.unsent |= {(name, other) for other in self.names if other != name}

    def lowest(self, name: str) -> Fraction:
        """The ideal level by the slowest clock, for this node's definition."""
        return self.slow[self.definitions[name]].tokens(self.since_start(self.slow_ppm))

    def highest(self, name: str) -> Fraction:
        return self.fast[self.definitions[name]].tokens(self.since_start(self.fast_ppm))

    def level(self, name: str) -> Fraction | int:
        return self.nodes[name].peek(self.clock(name))

    def levels(self) -> list[Fraction | int]:
        return [self.level(name) for name in self.names]

    def amount(self, events: int, sign: int = 1) -> int:
        """Tokens taken (sign 1) or refunded (sign -1) in a set of events."""
        return sum(max(0, sign * n) for i, n in enumerate(self.events) if events >> i & 1)

    def unseen(self, name: str) -> int:
        return ((1 << len(self.events)) - 1) & ~self.seen[name]

    # --- steps ---
    def run(self, history: Iterable[Step]) -> World:
        for step in history:
            self.step(step)
        return self

    def step(self, step: Step) -> None:
        getattr(self, f"do_{step[0]}")(*step[1:])
        for name in self.names:
            unseen = self.unseen(name)
            self.most_unseen[name] = max(self.most_unseen[name], self.amount(unseen))
            credit = Fraction(self.nodes[name].credit_ns(self.clock(name)))
            self.largest_credit = max(self.largest_credit, credit / self.definitions[name].emission)
            refunds = self.amount(unseen, -1)
            self.most_refunds_unseen = max(self.most_refunds_unseen, refunds)

    def name(self, number: int) -> str:
        return self.names[number % len(self.names)]

    def do_advance(self, ns: int) -> None:
        self.now += ns

    def do_take(self, node: int, tokens: int) -> None:
        name = self.name(node)
        taken = self.nodes[name].take(tokens, self.clock(name))
        self.verdicts.append(taken)
        if taken:
            self.happened(name, tokens)
            self.receipts.append((name, tokens, self.nodes[name].mark()))

    def do_settle(self, node: int, tokens: int) -> None:
        name = self.name(node)
        self.nodes[name].settle(tokens, self.clock(name))
        self.happened(name, tokens)

    def do_refund(self, which: int) -> None:
        if self.receipts:
            name, tokens, mark = self.receipts.pop(which % len(self.receipts))
            worth = self.nodes[name].refund(tokens, self.clock(name), mark)
            if worth:
                self.happened(name, -worth)

    def do_send(self, node: int) -> None:
        name = self.name(node)
        content = self.nodes[name].message(self.clock(name))
        if content is not None:
            self.letters.append(Letter(name, content, self.seen[name], self.now))

    def do_deliver(self, which: int, node: int, keep: bool) -> None:
        if not self.letters:
            return
        index = which % len(self.letters)
        letter = self.letters[index] if keep else self.letters.pop(index)
        name = self.name(node)
        late = self.max_age_ns is not None and self.now - letter.sent > self.max_age_ns
        if name != letter.source and not late:
            self.deliver(letter, name)

    def do_push(self, source: int, target: int) -> None:
        """Sends a letter that arrives at once."""
        content = self.nodes[self.name(source)].message(self.clock(self.name(source)))
        if content is not None and self.name(source) != self.name(target):
            seen = self.seen[self.name(source)]
            self.deliver(Letter(self.name(source), content, seen, self.now), self.name(target))

    def deliver(self, letter: Letter, name: str) -> bool:
        answer = self.nodes[name].merge(letter.content, self.clock(name))
        if self.nodes[name].columns():
            self.seen[name] |= letter.seen
        return answer

    def do_sync(self) -> None:
        self.exchange(1)

    def do_far(self, node: int, tokens: int, owners: Sequence[int] = ()) -> None:
        """Sets a credit for each of these silent nodes, or for one that is never seen."""
        name = self.name(node)
        self.far[name] = tokens * max(1, len(owners))
        self.nodes[name].set_far(tokens, [self.name(owner) for owner in owners] or [NOBODY])

    def do_see(self, node: int, owner: int) -> None:
        self.nodes[self.name(node)].see(self.name(owner))

    def do_evict(self, node: int) -> None:
        """Evicts the key, if it is full and was sent on all live links."""
        name = self.name(node)
        sent = not any(source == name for source, _ in self.unsent)
        if sent and self.nodes[name].evict(self.clock(name)):
            self.forgot(name)

    def do_restart(self, node: int) -> None:
        name = self.name(node)
        self.died(name)
        self.nodes[name].restart(self.clock(name))
        self.forgot(name)

    def do_snapshot(self, node: int) -> None:
        name = self.name(node)
        self.snapshots[name] = (self.nodes[name].snapshot(self.clock(name)), self.seen[name])

    def do_restore(self, node: int) -> None:
        name = self.name(node)
        if name in self.snapshots:
            snapshot, seen = self.snapshots[name]
            self.died(name)
            self.nodes[name].restore(snapshot, self.clock(name))
            self.forgot(name, seen)

    def do_prune(self, node: int, which: int) -> None:
        """Removes the column of a dead epoch that all holders know in full, once any debt had time
        to refill."""
        ready = [c for c, (death, _) in self.dead.items() if self.may_forget(c, death)]
        if ready:
            self.nodes[self.name(node)].forget(ready[which % len(ready)])

    def may_forget(self, column: tuple[str, int], death: int) -> bool:
        ceiling = max(d.ceiling for d in self.definitions.values())
        return self.now - death > ceiling * Fraction(1001, 1000) and self.acknowledged(column)

    def acknowledged(self, column: tuple[str, int]) -> bool:
        held = [node.columns() for node in self.nodes.values()]
        return all(not c or c.get(column) == self.dead[column][1] for c in held)

    def do_define(self, node: int, definition: Definition) -> None:
        name = self.name(node)
        self.nodes[name].change_definition(definition, self.clock(name))
        self.definitions[name] = definition

    # --- lives ---
    def died(self, name: str) -> None:
        for column, value in self.nodes[name].columns().items():
            if column[0] == name and column not in self.dead:
                self.dead[column] = (self.now, value)

    def forgot(self, name: str, remembered: int = 0) -> None:
        self.seen[name] = remembered
        self.unsent = {(a, b) for a, b in self.unsent if a != name}
        everything = (1 << len(self.events)) - 1
        for seen in self.seen.values():
            everything &= ~seen
        self.lost |= everything

    # --- everybody meets everybody ---
    def exchange(self, rounds: int) -> None:
        """Every node sends to every other one, except full keys without changes; all are seen."""
        for name in self.names:
            self.do_far(self.names.index(name), 0)
        for _ in range(rounds):
            for source, target in itertools.permutations(self.names, 2):
                self.write(source, target)

    def write(self, source: str, target: str) -> None:
        node = self.nodes[source]
        content = node.message(self.clock(source))
        news = (source, target) in self.unsent
        self.unsent.discard((source, target))
        if content is None or (node.debt_ns(self.clock(source)) == 0 and not news):
            return
        if self.deliver(Letter(source, content, self.seen[source], self.now), target):
            answer = self.nodes[target].message(self.clock(target))
            assert answer is not None
            self.deliver(Letter(target, answer, self.seen[target], self.now), source)

    def settle_down(self) -> World:
        """Delivers everything: no message is under way any more, and all nodes have merged all."""
        self.letters.clear()
        self.exchange(4)
        return self
