"""Two nodes ask one Redis for 500 tokens, and get no more together.

pip install -e .  # and a Redis: redis-server, or docker run -p 6379:6379 redis
python examples/strong_mode.py redis://127.0.0.1:6379/0

Without a server there the static quota of an outage decides: a tenth for each.
"""

from __future__ import annotations

import asyncio
import sys

from crdtbucket import BucketSpec, Decision, Degradation, Limiter, ModeNotice, RedisConfig

# Refills so slowly that the sum at the end is the capacity and nothing else.
SPEC = BucketSpec("inference", 500, 1, "1m", consistency="strong", on_outage="quota")
KEY = "tenant-42"


def told(notice: ModeNotice) -> None:
    """In production: page somebody when `severity` is critical."""
    print(f"{notice.node} {notice.severity}: {notice.before} to {notice.after}, {notice.reason}")


def node(name: str, url: str) -> Limiter:
    """One process. Where there are several regions, give each a `mesh` too."""
    degradation = Degradation(fallback_ratio=0.1, on_mode_change=told)
    # Who serves requests decides sooner without Redis: 0.05 s unless it is told otherwise.
    redis = RedisConfig(url=url, deadline=5.0)
    return Limiter([SPEC], node=name, redis=redis, degradation=degradation)


async def demand(limiter: Limiter, calls: int) -> list[Decision]:
    """Calls of 1 token, one after the other."""
    bucket = limiter.bucket(SPEC.name)
    return [await bucket.acquire(KEY) for _ in range(calls)]


async def main(url: str) -> None:
    """Both ask for the whole limit at once, then for ten keys in one batch."""
    async with node("eu-1", url) as eu, node("us-1", url) as us:
        got = await asyncio.gather(demand(eu, 500), demand(us, 500))
        for limiter, decisions in zip((eu, us), got, strict=True):
            allowed = sum(one.allowed for one in decisions)
            modes = ", ".join(sorted({str(one.mode) for one in decisions}))
            print(f"{limiter.node}: {allowed} of {len(decisions)} calls allowed, decided: {modes}")
        together = sum(one.allowed for decisions in got for one in decisions)
        print(f"together: {together} of {SPEC.capacity} tokens")

        keys = [f"tenant-{i}" for i in range(10)]
        answers = await eu.bucket(SPEC.name).acquire_many(keys, 400)
        print(f"in one batch: {sum(answers.allowed)} of {len(keys)} keys allowed")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "redis://127.0.0.1:6379/0"))
