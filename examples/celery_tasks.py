"""Celery: a task that is denied goes back to its queue, so that it keeps no worker busy.

pip install -e . celery
python examples/celery_tasks.py
"""

import time

from celery import Celery, Task

from crdtbucket import BucketSpec, Limiter

supplier = Limiter([BucketSpec.parse("supplier", "20/s burst 2")]).bucket("supplier")
app = Celery("jobs", broker="memory://", backend="cache+memory://")


@app.task(bind=True, max_retries=None, acks_late=True)
def call_supplier(self: Task, number: int) -> int:
    """At most 20 calls of the supplier a second."""
    decision = supplier.take("all")
    if not decision:
        raise self.retry(countdown=decision.retry_after)
    return number  # call the supplier here


def main() -> None:
    """Six tasks, in a worker of this process. Yours is the command `celery worker`."""
    from celery.contrib.testing.worker import start_worker

    options = {"pool": "solo", "perform_ping_check": False, "loglevel": "ERROR"}
    with start_worker(app, **options):
        start = time.monotonic()
        asked = [call_supplier.delay(number) for number in range(6)]
        done = [one.get(timeout=60) for one in asked]
        print(f"tasks {done} are done after {time.monotonic() - start:.2f} s")
        print(f"denied and back in the queue: {supplier.counters()['denied']} times")


if __name__ == "__main__":
    main()
