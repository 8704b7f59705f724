"""taskiq: its workers run on an event loop, so that a task may wait for its turn.

pip install -e . taskiq
python examples/taskiq_tasks.py
"""

import asyncio
import time

from taskiq import InMemoryBroker, TaskiqMessage, TaskiqMiddleware

from crdtbucket import BucketSpec, Limiter

supplier = Limiter([BucketSpec.parse("supplier", "20/s burst 2")]).bucket("supplier")


class WaitForBucket(TaskiqMiddleware):
    """A task waits for its supplier before it runs."""

    async def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        await supplier.wait(message.labels.get("supplier", "all"), timeout=60)
        return message


broker = InMemoryBroker().with_middlewares(WaitForBucket())


@broker.task(supplier="eu")
async def fetch(number: int) -> int:
    """Its label says which supplier it calls."""
    return number  # call the supplier here


async def main() -> None:
    """Six tasks, in a worker of this process."""
    start = time.monotonic()
    asked = [await fetch.kiq(number) for number in range(6)]
    results = [await one.wait_result(timeout=60) for one in asked]
    done = [one.return_value for one in results]
    print(f"tasks {done} are done after {time.monotonic() - start:.2f} s")


if __name__ == "__main__":
    asyncio.run(main())
