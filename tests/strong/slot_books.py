"""Nodes that hold slots with one Redis, and all that may happen to a call; only network and server
are simulated. What callers hold is counted separately."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from crdtbucket._core import BucketCore, Decision, Table
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.redis.script import ScriptStatus
from crdtbucket.strong.redis.shares import Division
from crdtbucket.strong.redis.slot_script import SlotAnswer, SlotCall
from crdtbucket.strong.slot_ledger import SlotLedger
from crdtbucket.strong.slot_request import SlotHold, SlotRequest
from crdtbucket.strong.store_names import StoreNames
from crdtbucket.strong.store_rules import SlotRules
from crdtbucket.strong.strong_slots import StrongSlotBucket

KEY = "k"
START_US = 1_700_000_000_000_000
TTL_S = 10


class SlotScriptModel:
    """A second implementation of the script for slots, for one key."""

    def __init__(self) -> None:
        self.now_us = START_US
        self.holds: dict[bytes, tuple[int, int]] = {}
        self.born = 0

    def expire(self) -> None:
        now = self.now_us // 1000
        self.holds = {name: one for name, one in self.holds.items() if one[0] > now}
        if not self.holds:
            self.born = 0

    def flush(self) -> None:
        self.holds, self.born = {}, 0

    def run(self, call: SlotCall) -> SlotAnswer:
        self.expire()
        now = self.now_us // 1000
        if call.born is not None and call.live is None and call.born != self.born:
            return self._answer(ScriptStatus.UNKNOWN, 0)
        for name in call.gone:
            self.holds.pop(name, None)
        for name, left_ms, number in call.live or ():
            self._record(name, now + left_ms, number)
        status, number = ScriptStatus.ALLOWED, 0
        if call.id in self.holds:
            number = self.holds[call.id][1]
        elif call.id and len(self.holds) < call.slots:
            taken = {one[1] for one in self.holds.values()}
            number = next(n for n in range(call.slots) if n not in taken)
            self._record(call.id, now + call.ttl_ms, number)
        elif call.id:
            status = ScriptStatus.DENIED
        if not self.holds:
            self.born = 0
        return self._answer(status, number)

    def _record(self, name: bytes, end: int, number: int) -> None:
        self.born = self.born or self.now_us
        self.holds.setdefault(name, (end, number))

    def _answer(self, status: ScriptStatus, number: int) -> SlotAnswer:
        ends = [end for end, _ in self.holds.values()]
        left = min(ends) - self.now_us // 1000 if ends else 0
        return SlotAnswer(status, number, len(ends), left, self.born)


@dataclass
class Called:
    """A request on its way, and its answer once the server has run it."""

    node: SlotNode
    request: SlotRequest
    answer: SlotAnswer | None = None
    given_up: bool = False


class SlotNode:
    """One process: its table, its ledger, and what its callers hold."""

    def __init__(self, name: str, epoch: int, slots: int, nodes: int, on_outage: Any) -> None:
        self.table = Table(max_keys=256, virtual=True, hash_key=bytes(16), grace=0.0, epoch=epoch)
        self.set_time(START_US)
        spec = BucketSpec.concurrency("llm", slots, ttl=f"{TTL_S}s", consistency="strong")
        self.bucket = StrongSlotBucket(self.table, spec)
        names = StoreNames(self.table, Roster(self.table, name), name, b"crdtbucket:")
        self.rules = SlotRules(slots, on_outage, Fraction(1, 2), False)
        rules: dict[BucketCore, SlotRules] = {self.bucket: self.rules}
        self.due: list[None] = []
        """One item for each time that something had to be settled that was settled before."""
        among = Division(nodes, nodes)
        self.ledger = SlotLedger(
            self.table, names, rules, lambda: among, lambda: self.due.append(None)
        )
        self.away = False
        self.holding: list[tuple[SlotHold, bool]] = []
        """The slots that callers hold, and whether Redis admitted each."""
        self.late: set[bytes] = set()
        """Holds that have ended here by time; those in flight then end in Redis that much later."""

    def set_time(self, us: int) -> None:
        self.table.set_time(us * 1000)

    def got(self, hold: SlotHold, decision: Decision | None, by_redis: bool) -> None:
        if decision is not None and decision.allowed:
            self.holding.append((hold, by_redis))

    def held(self) -> list[tuple[SlotHold, bool]]:
        now = self.table.now()
        self.late |= {hold.id for hold, _ in self.holding if hold.deadline_ns <= now}
        self.holding = [one for one in self.holding if one[0].deadline_ns > now]
        return self.holding


class SlotBooks:
    """Nodes and their Redis. Requests wait in `calls`, in order for each node."""

    def __init__(
        self, slots: int, nodes: int, after: Callable[[], None], on_outage: Any = "quota"
    ) -> None:
        self.redis = SlotScriptModel()
        self.slots = slots
        self.nodes = [SlotNode(f"n{i}", 2 * i + 1, slots, nodes, on_outage) for i in range(nodes)]
        self.calls: list[Called] = []
        self.after = after
        self.lost = 0
        """The most holds whose records were lost."""

    @property
    def share(self) -> int:
        """The slots that all nodes together may hold without Redis."""
        return sum(node.rules.share(len(self.nodes)) for node in self.nodes)

    def in_flight(self, by_redis: bool | None = None) -> int:
        return sum(by_redis in (None, by) for node in self.nodes for _, by in node.held())

    def ask(self, n: int) -> None:
        """A caller asks for a slot."""
        node = self.nodes[n % len(self.nodes)]
        hold = node.ledger.new(node.bucket, node.bucket.search, KEY, TTL_S * 10**9)
        if node.away:
            node.got(hold, node.ledger.decide_here(hold, Mode.FALLBACK), False)
        else:
            self.calls.append(Called(node, node.ledger.open(hold)))

    def release(self, n: int) -> None:
        node = self.nodes[n % len(self.nodes)]
        if node.held():
            hold, _ = node.holding.pop(n % len(node.holding))
            request = node.ledger.release(hold)
            if request is not None and node.away:
                node.ledger.give_up(request, Mode.FALLBACK)
            elif request is not None:
                self.calls.append(Called(node, request))

    def run(self, n: int) -> None:
        """Redis runs a call: the first of a node, or one of a connection that has ended."""
        waiting = [one for one in self.calls if one.answer is None]
        if waiting:
            one = waiting[n % len(waiting)]
            if not one.given_up:
                one = next(other for other in waiting if other.node is one.node)
            one.answer = self.redis.run(one.request.call)
            if one.given_up:
                self.calls.remove(one)

    def twice(self, n: int) -> None:
        """The network delivers a call twice: the second one changes nothing."""
        before = {id(one) for one in self.calls if one.answer is not None}
        self.run(n)
        for one in self.calls:
            if one.answer is not None and id(one) not in before:
                held = dict(self.redis.holds)
                self.redis.run(one.request.call)
                assert self.redis.holds == held

    def again(self, n: int) -> None:
        """The network delivers a call once more, late: nobody owns what it records then."""
        done = [one for one in self.calls if one.answer is not None]
        if done:
            self.redis.run(done[n % len(done)].request.call)

    def receive(self, n: int) -> None:
        """A node receives the first answer that is on its way to it."""
        node = self.nodes[n % len(self.nodes)]
        mine = [one for one in self.calls if one.node is node and not one.given_up]
        if mine and mine[0].answer is not None:
            self.calls.remove(mine[0])
            self._book(mine[0], mine[0].answer)

    def _book(self, one: Called, answer: SlotAnswer) -> None:
        request, ledger = one.request, one.node.ledger
        found = ledger.book(request, answer, 0)
        if isinstance(found, SlotRequest):
            self.calls.append(Called(one.node, found))
        elif request.hold is not None:
            one.node.got(request.hold, found, True)

    def lose(self, n: int) -> None:
        """A node's connection ends: its calls are decided there, and may run later, or never."""
        node = self.nodes[n % len(self.nodes)]
        node.away = True
        for one in [one for one in self.calls if one.node is node and not one.given_up]:
            one.given_up = True
            if one.answer is not None or n % 3 == 0:
                self.calls.remove(one)
            hold = one.request.hold
            decision = node.ledger.give_up(one.request, Mode.FALLBACK)
            if hold is not None:
                node.got(hold, decision, False)
            node.ledger.connection_ended(one.request)

    def find(self, n: int) -> None:
        """A node reaches Redis again."""
        self.nodes[n % len(self.nodes)].away = False

    def settle(self, n: int) -> None:
        node = self.nodes[n % len(self.nodes)]
        for item in list(node.ledger.pending) if not node.away else ():
            request = node.ledger.settle(item)
            if request is not None:
                self.calls.append(Called(node, request))

    def wait(self, n: int) -> None:
        """Lets time pass for all."""
        self.redis.now_us += (n % 4 + 1) * 1_000_000
        for node in self.nodes:
            node.set_time(self.redis.now_us)

    def flush(self, n: int) -> None:
        """Redis loses all records, so each call in flight may be missing in them."""
        self.lost += self.in_flight() + sum(one.answer is not None for one in self.calls)
        self.redis.flush()

    def play(self, ops: list[tuple[str, int]]) -> None:
        for name, n in ops:
            getattr(self, name)(n)
            self.after()

    def quiet(self) -> None:
        """Lets all calls run and be answered, until all nodes reach Redis and nothing is due."""
        for n in range(len(self.nodes)):
            self.find(n)
        for _ in range(4):
            while self.calls:
                for n in range(len(self.nodes)):
                    self.run(n)
                    self.receive(n)
                self.after()
            for n in range(len(self.nodes)):
                self.settle(n)


def listed(*names: str) -> st.SearchStrategy[list[tuple[str, int]]]:
    """Histories of these operations; the first ones are the most frequent."""
    return st.lists(st.tuples(st.sampled_from(names), st.integers(0, 11)), min_size=10, max_size=60)


COMMON = ("ask", "ask", "ask", "run", "run", "receive", "receive", "release", "wait", "settle")
FAULTS = (*COMMON, "twice", "again", "lose", "find")
