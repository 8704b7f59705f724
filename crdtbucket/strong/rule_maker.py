"""Makes the rules of strong buckets from their definitions and the settings for outages."""

from __future__ import annotations

import logging
from dataclasses import replace
from fractions import Fraction
from functools import partial

from crdtbucket.limiter.tables import Tables
from crdtbucket.spec.bucket_spec import BucketSpec, OnOutage
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.kept_quotas import KeptQuotas
from crdtbucket.strong.quota import CandidateQuota, Quota
from crdtbucket.strong.redis.redis_config import RedisConfig
from crdtbucket.strong.redis.regions import Regions
from crdtbucket.strong.redis.replicated import FORGET_AFTER_MS, arguments_of
from crdtbucket.strong.redis.shares import WantedShare
from crdtbucket.strong.store_rules import Rules, SlotRules, check_strong_slots

LOG = logging.getLogger("crdtbucket.strong")


class RuleMaker:
    """The rules of one limiter's strong buckets, of tokens and of slots."""

    def __init__(
        self,
        config: RedisConfig,
        degradation: Degradation,
        tables: Tables,
        kept: KeptQuotas,
        regions: Regions | None,
        forget_after_ms: int | None,
    ) -> None:
        """`kept`: the quotas of earlier processes. `regions`: of a replicated Redis.
        `forget_after_ms`: silence after which a node, or a whole region, no longer counts among
        those that share the limits; None for a limiter without a mesh."""
        self.degradation = degradation
        self._shared = tables.file is not None
        self._quotas = tables.quotas
        self._kept = kept
        self._replicated = regions is not None
        self._arguments = partial(
            arguments_of,
            regions=regions,
            retention_ms=config.retention_ms,
            forget_after_ms=forget_after_ms or FORGET_AFTER_MS,
        )
        # Kept, because every decision asks for it.
        self._wanted: tuple[Degradation, int, WantedShare] | None = None

    def of(self, spec: BucketSpec, max_debt: int, in_force: Rules | None = None) -> Rules:
        """The rules of a definition of tokens. `in_force`: those of the definition to which it is
        the candidate. Raises `InvalidSpec` for one that the script cannot compute."""
        table, ratio, fleet, kept = self._quotas, self._ratio, self._fleet, self._kept
        if in_force is None:
            quota = Quota(table, spec, ratio, fleet=fleet, kept=kept)
        else:
            other = in_force.quota
            quota = CandidateQuota(table, spec, ratio, fleet=fleet, kept=kept, in_force=other)
        return Rules(self._arguments(spec, max_debt), self._on_outage(spec), quota)

    def of_slots(self, spec: BucketSpec) -> SlotRules:
        """The rules of a definition of slots. Raises `InvalidSpec` if they cannot be strong."""
        check_strong_slots(spec, self._shared, self._replicated)
        assert spec.slots is not None, "a definition of slots"
        return SlotRules(spec.slots, self._on_outage(spec), self._ratio, self._fleet)

    def check(self, spec: BucketSpec, max_debt: int) -> None:
        """Raises `InvalidSpec` for a definition that strong mode cannot keep."""
        if spec.slots is None:
            self._arguments(spec, max_debt)
        else:
            self.of_slots(spec)

    def outages(self, degradation: Degradation) -> None:
        """Changes what buckets without an `on_outage` of their own do in an outage. Their rules
        must be made again afterwards. Settings that hold for the life of a limiter stay."""
        own = self.degradation
        self.degradation = replace(
            degradation, modes=own.modes, webhook=own.webhook, on_mode_change=own.on_mode_change
        )

    def wanted_share(self) -> WantedShare:
        """The share of every limit that this process would grant without Redis."""
        how, quotas = self.degradation, self._quotas
        group = quotas.epochs.running if quotas.shared else 0
        if self._wanted is None or self._wanted[:2] != (how, group):
            ratio, nodes = float(how.fallback_ratio), how.expected_nodes or 1
            self._wanted = how, group, WantedShare(ratio, self._fleet, nodes, group)
        return self._wanted[2]

    def warn_of_a_start(self) -> None:
        """Logs what this process, which starts while Redis is unreachable, may grant too much."""
        kept, ratio = self._kept, float(self.degradation.fallback_ratio)
        if self.degradation.expected_nodes is None and kept.nodes == 1:
            LOG.warning(
                "Redis has not said how many processes share the limits. While it is unreachable, "
                "each process that starts now may grant %g of every limit, and more than %d of "
                "them grant too much. Set rating.expected_nodes to the number of processes",
                ratio,
                int(1 / ratio),
            )
        if not kept.kept:
            LOG.warning(
                "Redis is unreachable, and what earlier processes of this node have granted "
                "meanwhile is not known: %s",
                "its shared table is new, as after a reboot. So its processes may together grant "
                "the whole quota once more. Where that must not be, use on_outage: deny"
                if kept.shared
                else "each one that starts now may grant its whole quota once more. With "
                "mesh.state_dir, or a shared table, quotas are kept over restarts",
            )

    def _on_outage(self, spec: BucketSpec) -> OnOutage:
        return spec.on_outage or self.degradation.on_outage

    @property
    def _ratio(self) -> Fraction:
        return Fraction(str(self.degradation.fallback_ratio))

    @property
    def _fleet(self) -> bool:
        return self.degradation.fallback_scope == "fleet"
