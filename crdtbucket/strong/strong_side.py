"""Puts together what the strong buckets of one limiter need: rules, ledger, store, notices."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from crdtbucket.base.counted import counted
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.tables import Tables
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.spec.mode import Mode
from crdtbucket.strong import previous_epoch
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.controller.mode_controller import Change, Controller
from crdtbucket.strong.controller.notice import ModeNotice
from crdtbucket.strong.controller.webhook import Webhook
from crdtbucket.strong.kept_quotas import KeptQuotas
from crdtbucket.strong.ledger import Ledger
from crdtbucket.strong.previous_epoch import PreviousEpoch
from crdtbucket.strong.redis.redis_config import RedisConfig
from crdtbucket.strong.redis.regions import Regions
from crdtbucket.strong.redis.script import MOST_TOKENS
from crdtbucket.strong.redis.shares import NOTHING, Division
from crdtbucket.strong.rule_maker import RuleMaker
from crdtbucket.strong.store import Store
from crdtbucket.strong.store_names import StoreNames
from crdtbucket.strong.store_rules import RuleBook
from crdtbucket.strong.strong_bucket import AskingBucket

if TYPE_CHECKING:
    from crdtbucket.mesh.protocol.mesh_node import MeshNode

LOG = logging.getLogger("crdtbucket.strong")


class StrongSide:
    """The strong buckets of one limiter: their rules, their store, and the notices of modes."""

    def __init__(
        self,
        config: RedisConfig,
        degradation: Degradation,
        tables: Tables,
        buckets: Sequence[Bucket],
        *,
        node: str,
        region: str,
        forget_after_ms: int | None,
    ) -> None:
        """`forget_after_ms`: silence after which a node, or a whole region, no longer counts among
        those that share the limits. Raises `InvalidSpec` for a definition that strong mode does not
        support."""
        self.regions: Regions | None = None
        """The regions of a replicated Redis."""
        if config.active_active:
            self.regions = Regions(region, config.regions)
        self.kept_quotas = KeptQuotas(tables.quotas, node)
        """The quotas of earlier processes of this node, and of this one at its end."""
        self.rule_maker = RuleMaker(
            config, degradation, tables, self.kept_quotas, self.regions, forget_after_ms
        )
        self.wanted_share = self.rule_maker.wanted_share
        self.config = config
        """The settings of Redis, of which a reload may change the credentials."""
        self._tables = tables
        self._table = tables.strong
        self._node = node
        self._region = region
        self._rules = RuleBook()
        self._buckets: list[AskingBucket] = []
        self.store: Store | None = None
        for bucket in buckets:
            self.follow(bucket)
        self._machine: MeshNode | None = None
        self._previous_epoch: PreviousEpoch | None = None
        self._state_dir = ""
        self._webhook: Webhook | None = None

    def most(self, tokens: int) -> int:
        """The smaller of `tokens`, capacity and debt together, and the most that Redis can count
        exactly."""
        return min(tokens, MOST_TOKENS)

    def follow(self, bucket: Bucket) -> None:
        """A bucket is new or redefined: if it is strong, the store follows its definition. Raises
        `InvalidSpec`."""
        if not isinstance(bucket, AskingBucket):
            return
        if bucket.spec.slots is not None:
            self._rules.slots[bucket] = self.rule_maker.of_slots(bucket.spec)
        else:
            rules, candidate = self.rule_maker.of(bucket.spec, bucket.max_debt), None
            if bucket.candidate is not None:
                candidate = self.rule_maker.of(bucket.candidate, bucket.candidate_max_debt, rules)
            self._rules.follow(bucket, rules, candidate)
        if bucket not in self._buckets:
            self._buckets.append(bucket)
            if self.store is not None:
                # Set again, in case the event loop has given all buckets another mode meanwhile.
                while bucket.mode is not (mode := self.store.mode):
                    bucket.switch(mode)
                bucket.attach(self.store)

    def renew(self, config: RedisConfig) -> None:
        """The credentials are those of `config` from now on; from any thread."""
        self.config = config
        if self.store is not None:
            self.store.renew(config)

    def join(self, machine: MeshNode | None) -> None:
        """Before the start: `machine` is this node's part in the mesh, if there is one. The mesh
        carries only the counts of the main table, so strong buckets beside a shared table do
        not use it."""
        self._machine = machine if self._table is self._tables.main else None

    def resume(self, kept: bytes | None, directory: str) -> None:
        """Before the start: this node keeps its state in `directory`, and `kept` is what its
        previous epoch left unsettled; None when no previous epoch is restored. Raises `ValueError`
        when `kept` cannot be read."""
        if self._table is not self._tables.main:
            return  # the state is that of the main table alone
        self._state_dir = directory
        self._previous_epoch = None if kept is None else previous_epoch.load(kept)

    def unsettled_state(self) -> bytes:
        """What the next epoch of this node needs to settle. From any thread."""
        if self.store is None or self._table is not self._tables.main:
            return previous_epoch.dump(self._previous_epoch or PreviousEpoch())
        unsettled = list(self.store.ledger.unsettled.pending.items())  # a copy, of one step
        rows = tuple((bucket.name_hash, *place, tokens) for (bucket, place), tokens in unsettled)
        return previous_epoch.dump(PreviousEpoch(rows, self.store.servers()))

    def note_nodes(self) -> None:
        """Has the next process know how many share the limits. Raises `MeshError`."""
        self.kept_quotas.note(self._nodes())

    async def start(self) -> None:
        """Connects to Redis, as far as that is possible."""
        machine = self._machine
        roster = Roster(self._table, self._node) if machine is None else machine.roster
        ledger = Ledger(
            self._table,
            StoreNames(
                self._table, roster, self._node, self.config.prefix.encode(), self._region_of
            ),
            self._rules,
            division=self._division,
            on_unsettled=self._wake,
        )
        # Without a mesh a process knows nothing of the others, and would give out the whole limit.
        degraded = Mode.FALLBACK if machine is None else Mode.EVENTUAL
        previous = self._previous_epoch
        self.store = Store(
            self.config,
            ledger,
            self._node,
            partial(Controller, self.rule_maker.degradation.modes, degraded=degraded),
            self,
            None if previous is None else dict(previous.servers),
        )
        if previous is not None:
            ledger.unsettled.resume(previous.rows)
        if self.rule_maker.degradation.webhook is not None:
            self._webhook = Webhook(self.rule_maker.degradation.webhook)
        if machine is not None:
            machine.subscribe(
                entries_without_store=ledger.unsettled.push, region_without_store=self._is_silent
            )
        await self.store.start()
        if self._rules.quotas and not self.store.registry.seen:
            self.rule_maker.warn_of_a_start()
        for bucket in self._buckets:
            bucket.attach(self.store)

    async def stop(self) -> None:
        """Settles what can be settled soon, and ends the connections."""
        if self.store is not None:
            await self.store.stop()
            if not self._state_dir:
                self._tell_what_is_lost()
        if self._webhook is not None:
            await self._webhook.aclose()

    def stats(self) -> dict[str, Any]:
        """Numbers of the settling, and of each endpoint by its address; none before the start."""
        store = self.store
        if store is None:
            return {}
        found: dict[str, Any] = {
            "strong": {
                **store.ledger.counters,
                "unsettled": len(store.ledger.unsettled.pending) + len(store.ledger.slots.pending),
                "sharing_nodes": self._nodes(),
                "refused": int(bool(store.registry.conflict)),
                "fault": store.fault,
                "outages": store.outages(),
            },
            "redis": {address: one.stats() for address, one in store.endpoints.items()},
        }
        if self.regions is not None:
            found["strong"]["region_conflict"] = int(bool(store.regions.conflict))
            found["regions"] = store.regions.states()
        return found

    def tell_what_is_kept(self, fault: str) -> None:
        """Logs what the node leaves unsettled at its end, after its state was saved. `fault`: why
        that failed; "" where it did not."""
        what = self._left()
        if not what or not self._state_dir:
            return
        if fault:
            LOG.error(
                "this node ends with %s not settled with Redis, and %s. Redis never charges those "
                "of them that were taken since the last snapshot. Make room there before the node "
                "starts again, and close nodes while Redis is reached",
                what,
                fault,
            )
        else:
            LOG.info(
                "this node ends with %s not settled with Redis; they are kept in %s, and settled "
                "when it starts again",
                what,
                self._state_dir,
            )

    def _tell_what_is_lost(self) -> None:
        if what := self._left():
            fix = "With mesh.state_dir they are kept, and settled when the node starts again"
            if self._table is not self._tables.main:
                fix = "A process that shares a table keeps none: close it while Redis is reached"
            LOG.warning(
                "this node ends with %s not settled with Redis, which will never charge them. %s",
                what,
                fix,
            )

    def _left(self) -> str:
        """The tokens, in words, that Redis has not charged; "" where there are none."""
        if self.store is None:
            return ""
        unsettled = self.store.ledger.unsettled
        tokens, keys = unsettled.tokens(), sum(map(bool, unsettled.pending.values()))
        return f"{counted(tokens, 'token')} of {counted(keys, 'key')}" if keys else ""

    def _wake(self) -> None:
        if self.store is not None:
            self.store.wake()

    def _is_silent(self, region: str) -> bool:
        return self.store is not None and self.store.regions.is_silent(region)

    def _region_of(self, node: str) -> str:
        return "" if self._machine is None else self._machine.region_of(node)

    def _nodes(self) -> int:
        """How many processes share the limits, as far as is known."""
        known, store = self._known(), self.store
        return known if store is None else max(known, store.registry.processes)

    def _known(self) -> int:
        """How many of them the mesh shows, or the last process of this node knew."""
        known = 1 if self._machine is None else self._machine.members.known()
        if self.store is not None and self.store.registry.seen:
            return known
        return max(known, self.kept_quotas.nodes)

    def _division(self) -> Division:
        """Among how many processes a limit is divided while Redis is unreachable."""
        known, store = self._known(), self.store
        return Division(known, known) if store is None else store.registry.division(known)

    def worst_mode_changed(self, mode: Mode) -> None:
        """All strong buckets get this mode, and the mesh learns whether the store can be
        reached."""
        for bucket in self._buckets:
            bucket.switch(mode)
        if mode is Mode.FALLBACK and self._rules.quotas and self._division().nodes == NOTHING:
            LOG.warning(
                "Redis was lost before it had told this process its share of the limits, so its "
                "quotas grant nothing until Redis is reached again"
            )
        if self._machine is not None:
            self._machine.advertise_store(reachable=mode is Mode.STRONG)

    def endpoint_changed(self, address: str, change: Change) -> None:
        """Sends a notice of the change to the webhook and to the callback of the configuration."""
        before, after, reason = change.before, change.after, change.reason
        notice = ModeNotice(self._node, self._region, address, before, after, reason, time.time())
        if self._webhook is not None:
            self._webhook.post(notice)
        if self.rule_maker.degradation.on_mode_change is not None:
            try:
                self.rule_maker.degradation.on_mode_change(notice)
            except Exception:  # logged; the user's hook must not stop the switch
                LOG.exception("on_mode_change raised")
