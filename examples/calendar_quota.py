"""A plan of 1,000 calls in each month of Berlin's calendar, and beside it a pace of 600 a minute.

pip install -e .
python examples/calendar_quota.py
"""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from crdtbucket import BucketSpec, Limiter

ZONE = "Europe/Berlin"

limiter = Limiter(
    [
        BucketSpec.calendar("plan", 1000, per="month", time_zone=ZONE),
        BucketSpec.parse("pace", "600/minute"),
    ]
)
plan = limiter.bucket("plan")

# The quota alone would let a batch take all of a month in one second.
for _ in range(2):
    batch = limiter.take_all([("plan", "acme", 400), ("pace", "acme", 400)])
    outcome = "allowed" if batch else f"denied by {batch.binding.bucket.spec.name}"
    print(f"a batch of 400: {outcome}")

# A report reserves what it may need, and gives back what it did not use.
with plan.reserve("acme", 300, ttl=3600) as report:
    report.commit(100)
print(f"after a report: {plan.peek('acme').remaining} of 1000 left this month")

plan.take("acme", 500)
denied = plan.take("acme")
again = datetime.now(ZoneInfo("UTC")) + timedelta(seconds=denied.retry_after, milliseconds=500)
print(f"one more: denied until {again.astimezone(ZoneInfo(ZONE)):%Y-%m-%d %H:%M} in Berlin")
