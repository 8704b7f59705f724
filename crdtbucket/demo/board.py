"""What a view shows at one moment, as numbers: it knows nothing of terminals."""

from __future__ import annotations

from dataclasses import dataclass

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.demo.accounts import Accounts
from crdtbucket.demo.traffic import Phase, Traffic
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
    """All changes of mode so far, in words; None in a run without a Redis, where there is one."""


def board(
    accounts: Accounts,
    spec: BucketSpec,
    traffic: Traffic,
    start_ns: int,
    now_ns: int,
    cut: str | None,
    switches: tuple[str, ...] | None,
) -> Board:
    """How things stand at `now_ns`; `cut`: the region that is cut off now; `switches`: the changes
    of mode so far, in words."""
    elapsed = max(0, now_ns - start_ns)
    phase = traffic.phase(elapsed)
    seconds = elapsed // NS_PER_SECOND
    full_at = accounts.full_at(spec)
    spark = tuple(
        accounts.admitted_between(start_ns + k * NS_PER_SECOND, start_ns + (k + 1) * NS_PER_SECOND)
        for k in range(max(0, seconds - SPARK_S), seconds)
    )
    return Board(
        elapsed / NS_PER_SECOND,
        phase,
        max(0, phase.end_ns - elapsed) / NS_PER_SECOND,
        tuple(
            _row(accounts, place, now_ns, full_at, cut) for place in range(len(accounts.regions))
        ),
        spark,
        sum(accounts.total_admitted(place) for place in range(len(accounts.regions))),
        spec.capacity + spec.rate_per_second * elapsed / NS_PER_SECOND,
        spec.rate_per_second,
        switches,
    )


def _row(accounts: Accounts, place: int, now_ns: int, full_at: int, cut: str | None) -> Row:
    name, latest = accounts.regions[place], accounts.each[place].latest
    offered, admitted = accounts.rates(place, now_ns)
    peers = {} if latest is None else latest["peers"]
    return Row(
        region=name,
        offered=offered,
        admitted=admitted,
        remaining=0 if latest is None else latest["remaining"],
        lag_s=accounts.lag_ns(place, full_at) / NS_PER_SECOND,
        alive=list(peers.values()).count("alive"),
        peers=len(accounts.regions) - 1,
        is_cut=name == cut,
        mode="" if latest is None else latest["mode"],
    )
