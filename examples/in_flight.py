"""Ten jobs at once, and no more than three of them in flight, on all nodes together.

pip install -e .
python examples/in_flight.py
"""

import asyncio

from crdtbucket import BucketSpec, Limiter, SlotDenied

limiter = Limiter([BucketSpec.concurrency("exports", 3, ttl="5m")])
exports = limiter.bucket("exports")
running: set[int] = set()


async def export(number: int) -> int:
    """Waits for a slot, and returns how many jobs ran then."""
    async with exports.slot("acme", timeout=None):
        running.add(number)
        await asyncio.sleep(0)  # the work
        together = len(running)
        running.remove(number)
        return together


async def main() -> None:
    """Runs them all; then one more, which does not want to wait."""
    together = await asyncio.gather(*(export(number) for number in range(10)))
    print(f"{len(together)} jobs done, at most {max(together)} in flight")
    async with exports.slot("acme"), exports.slot("acme"), exports.slot("acme"):
        try:
            async with exports.slot("acme"):
                pass
        except SlotDenied:
            print("one more is denied while three are in flight")


if __name__ == "__main__":
    asyncio.run(main())
