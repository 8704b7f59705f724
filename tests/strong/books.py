"""Books of several nodes with one Redis, and all that may happen to a call; only the network is
simulated.

Nodes are real ledgers on real tables, without a mesh. What callers were granted is counted
separately.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from crdtbucket._core import BucketCore, BucketReplica, Decision, Table
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.ledger import Ledger
from crdtbucket.strong.quota import Quota
from crdtbucket.strong.redis.script import Arguments, owner_name
from crdtbucket.strong.store_names import StoreNames
from crdtbucket.strong.store_request import StoreRequest
from crdtbucket.strong.store_rules import RuleBook, Rules
from tests.strong.backends import Backend

KEY = "k"


class Node:
    """One process: its table and its ledger."""

    def __init__(self, name: str, epoch: int, spec: BucketSpec, us: int) -> None:
        self.name, self.fence = name, 1
        self.table = Table(max_keys=64, virtual=True, hash_key=bytes(16), grace=0.0, epoch=epoch)
        self.quotas = Table(max_keys=64, virtual=True)
        self.set_time(us)
        self.bucket = BucketCore(self.table, spec)
        quota = Quota(self.quotas, spec, Fraction(1, 10), fleet=False)
        rules = Rules(Arguments(spec, spec.max_debt), "eventual", quota)
        self.rules = RuleBook({self.bucket: rules})
        self.ledger = Ledger(
            self.table, StoreNames(self.table, Roster(self.table, name), name), self.rules
        )
        self.place = self.bucket.hash(KEY)
        self.owner = owner_name(epoch, name)
        self.consumed = 0
        """Tokens that callers were granted, less what they gave back."""
        self.latest: list[Decision] = []

    def set_time(self, us: int) -> None:
        self.table.set_time(us * 1000)
        self.quotas.set_time(us * 1000)

    def got(self, decision: Decision | None) -> None:
        if decision is not None and decision.allowed:
            self.consumed += decision.cost
            self.latest.append(decision)


@dataclass
class Books:
    """Nodes and their store, and what is checked each time the store has run a call."""

    store: Backend
    spec: BucketSpec
    count: int = 3
    after_run: Callable[[], None] = lambda: None
    us: int = 0
    nodes: list[Node] = field(default_factory=list)
    dead: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    """By owner that is gone: the tokens that it had granted less refunds, and all that it had
    counted as taken, which was settled."""
    forgotten: set[bytes] = field(default_factory=set)
    """Owners of which the store may have lost counts since they are gone."""
    flying: list[tuple[Node, StoreRequest]] = field(default_factory=list)
    images: list[Any] = field(default_factory=list)
    epochs: int = 0

    def __post_init__(self) -> None:
        self.nodes = [self.start(f"n{i}") for i in range(self.count)]

    def start(self, name: str) -> Node:
        self.epochs += 1
        return Node(name, self.epochs, self.spec, self.us)

    def key(self) -> bytes:
        node = self.nodes[0]
        return node.ledger.names.key(node.bucket, node.place)

    # ---- what a node does ----

    def ask(self, node: Node, ask: StoreRequest) -> Decision | None:
        while True:
            answer = self.store.run(ask.rules.arguments, ask.call)
            self.after_run()
            result = node.ledger.book(ask, answer, node.fence)
            if not isinstance(result, StoreRequest):
                return result
            ask = result

    def take(self, node: Node, cost: int) -> Decision | None:
        opened = node.ledger.open(node.bucket, KEY, cost, node.fence)
        decision = self.ask(node, opened) if isinstance(opened, StoreRequest) else opened
        node.got(decision)
        return decision

    def open(self, node: Node, cost: int) -> StoreRequest | None:
        """Sends a call, which has not run yet."""
        opened = node.ledger.open(node.bucket, KEY, cost, node.fence)
        return opened if isinstance(opened, StoreRequest) else None

    def lose(self, node: Node, cost: int, how: str, wanted: bool) -> None:
        """Makes a call whose answer never comes: it `ran`, it was `lost`, or it runs `later`."""
        ask = self.open(node, cost)
        if ask is None:
            return
        if how == "ran":
            self.store.run(ask.rules.arguments, ask.call)
            self.after_run()
        elif how == "later":
            self.flying.append((node, ask))
        node.fence += 1
        node.got(node.ledger.give_up(ask, Mode.FALLBACK, wanted))

    def land(self) -> None:
        """Runs the oldest call that was given up and is still in flight; nobody gets its answer."""
        if self.flying:
            _, ask = self.flying.pop(0)
            self.store.run(ask.rules.arguments, ask.call)
            self.after_run()

    def away(self, node: Node, cost: int) -> None:
        node.got(node.ledger.decide_here(node.bucket, KEY, cost, Mode.EVENTUAL))

    def give_back(self, node: Node) -> None:
        if node.latest:
            decision = node.latest.pop()
            node.consumed -= node.bucket.refund(decision)
            node.ledger.unsettled.add(node.bucket, node.place)

    def settle(self, node: Node) -> None:
        ask = node.ledger.settle(node.bucket, node.place, node.fence)
        if ask is not None:
            self.ask(node, ask)

    def restart(self, number: int) -> None:
        """Ends a process in order and starts another one: what is owed is settled, and calls in
        flight are lost."""
        node = self.nodes[number]
        self.settle(node)
        self.flying = [(one, ask) for one, ask in self.flying if one is not node]
        own = BucketReplica(node.bucket).own(*node.place)
        self.dead[node.owner] = (node.consumed, own[1] if own else 0)
        self.nodes[number] = self.start(node.name)

    # ---- what the store does ----

    def tick(self, us: int) -> None:
        self.us += us
        self.store.now_us += us
        for node in self.nodes:
            node.set_time(self.us)

    def snapshot(self) -> None:
        self.images.append(self.store.snapshot())

    def fail_over(self, back: int) -> None:
        if self.images:
            self.store.restore(self.images[-1 - back % len(self.images)])
            self.forgotten |= self.dead.keys()

    def flush(self) -> None:
        self.store.flush()
        self.forgotten |= self.dead.keys()

    # ---- what holds in the end ----

    def charged(self) -> dict[bytes, int]:
        """By owner, the charged tokens less what was refunded."""
        stored = self.store.stored(self.key())
        records = stored.records if stored else {}
        return {owner: taken - back for owner, (_, taken, back, _, _) in records.items()}

    def settle_all(self) -> None:
        for node in self.nodes:
            self.settle(node)

    def check(self) -> None:
        """`settle_exact`: the charged tokens are those that were consumed less those refunded."""
        charged = self.charged()
        for node in self.nodes:
            assert charged.pop(node.owner, 0) == node.consumed
        for owner, (consumed, taken) in self.dead.items():
            net = charged.pop(owner, 0)
            # No process is left to send again what the store forgot, of takes or of refunds.
            assert net == consumed or (owner in self.forgotten and 0 <= net <= taken)
        assert not charged

    def run(self, ops: list[Any]) -> None:
        for name, number, *values in ops:
            node = self.nodes[number]
            if name == "restart":
                self.restart(number)
            elif name in ("take", "away", "lose", "settle", "give_back"):
                getattr(self, name)(node, *values)
            else:
                getattr(self, name)(*values)


_node = st.integers(0, 2)
_cost = st.integers(1, 9)
calm = st.one_of(
    st.tuples(st.just("take"), _node, _cost),
    st.tuples(st.just("take"), _node, _cost),
    st.tuples(
        st.just("lose"), _node, _cost, st.sampled_from(["ran", "lost", "later"]), st.booleans()
    ),
    st.tuples(st.just("land"), st.just(0)),
    st.tuples(st.just("away"), _node, _cost),
    st.tuples(st.just("give_back"), _node),
    st.tuples(st.just("settle"), _node),
    st.tuples(st.just("restart"), _node),
)
faults = st.one_of(
    calm,
    calm,
    st.tuples(st.just("snapshot"), st.just(0)),
    st.tuples(st.just("fail_over"), st.just(0), st.integers(0, 3)),
    st.tuples(st.just("flush"), st.just(0)),
)
times = st.one_of(
    faults,
    faults,
    st.tuples(st.just("tick"), st.just(0), st.integers(0, 3_000_000)),
)
