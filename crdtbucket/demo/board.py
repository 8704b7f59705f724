"""What a view shows at one moment, as numbers: it knows nothing of terminals."""

from __future__ import annotations

from dataclasses import dataclass

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.demo.accounts import Accounts
from crdtbucket.demo.traffic import CUT_REGION, Phase, Traffic
from crdtbucket.spec.bucket_spec import BucketSpec

SPARK_S = 30


@dataclass(frozen=True)
class Row:
    """One region now. Rates in tokens a second over the last second, `lag_s` in seconds."""

    region: str
    offered: float
    admitted: float
    remaining: int
    lag_s: float
    alive: int
    peers: int
    is_cut: bool
    mode: str = ""
    """How it decides: strong, eventual or fallback."""

    @property
    def denied(self) -> float:
        """Tokens a second that were denied."""
        return self.offered - self.admitted


@dataclass(frozen=True)
class Board:
    """All regions at one moment. `elapsed_s` since the start, `left_s` until the phase ends."""

    elapsed_s: float
    phase: Phase
    left_s: float
    rows: tuple[Row, ...]
    spark: tuple[int, ...]
    """Tokens admitted in each of the last seconds, the newest last; whole seconds only."""
    admitted: int
    allowed: float
    """Tokens that the limit has allowed so far: capacity + rate x time."""
    refill: float
    """Tokens a second that the bucket refills."""
    switches: tuple[str, ...] | None = None
    """All changes of mode so far, in words; None in a run without a Redis, which has one mode
    alone."""


def board(
    accounts: Accounts,
    spec: BucketSpec,
    traffic: Traffic,
    start_ns: int,
    now_ns: int,
    switches: tuple[str, ...] | None,
) -> Board:
    """The board at `now_ns`; `switches`: the changes of mode so far, in words."""
    elapsed = max(0, now_ns - start_ns)
    phase = traffic.phase(elapsed)
    full_at = accounts.full_at(spec)
    seconds = elapsed // NS_PER_SECOND
    starts = range(max(0, seconds - SPARK_S), seconds)
    return Board(
        elapsed_s=elapsed / NS_PER_SECOND,
        phase=phase,
        left_s=max(0, phase.end_ns - elapsed) / NS_PER_SECOND,
        rows=tuple(
            _row(accounts, place, now_ns, full_at, phase.name == "cut" and name == CUT_REGION)
            for place, name in enumerate(accounts.regions)
        ),
        spark=tuple(
            accounts.admitted_between(at, at + NS_PER_SECOND)
            for at in (start_ns + second * NS_PER_SECOND for second in starts)
        ),
        admitted=sum(account.total for account in accounts.each),
        allowed=spec.capacity + spec.rate_per_second * elapsed / NS_PER_SECOND,
        refill=spec.rate_per_second,
        switches=switches,
    )


def _row(accounts: Accounts, place: int, now_ns: int, full_at: int, is_cut: bool) -> Row:
    latest = accounts.each[place].latest
    assert latest is not None  # every region has reported that it is linked
    return Row(
        accounts.regions[place],
        *accounts.rates(place, now_ns),
        remaining=latest["remaining"],
        lag_s=accounts.lag_ns(place, full_at) / NS_PER_SECOND,
        alive=list(latest["peers"].values()).count("alive"),
        peers=len(accounts.regions) - 1,
        is_cut=is_cut,
        mode=latest["mode"],
    )
