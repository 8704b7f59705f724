"""Important calls pass when others are denied already; and credits are used when a plan is used up.

pip install -e .
python examples/priorities.py
"""

import random

from crdtbucket import Bucket, BucketSpec, Limiter

limiter = Limiter(
    [
        BucketSpec.parse("model", "100/hour"),
        BucketSpec.parse("pool", "100/hour"),
        BucketSpec.parse("plan", "5/hour"),
        BucketSpec.parse("credits", "3/hour"),
    ]
)


def passed(bucket: Bucket, floor: str, calls: int) -> int:
    """How many of so many calls pass."""
    return sum(bucket.take("acme", floor=floor).allowed for _ in range(calls))


# Batch jobs leave half of the bucket to others, normal calls a fifth, critical ones nothing.
model = limiter.bucket("model")
for floor in ("batch", "normal", "critical", "batch"):
    print(f"{passed(model, floor, 60)} of 60 {floor} calls pass")

# Asked smoothly, a bucket that is nearly empty denies some callers and not all, so that those who
# come later have a chance, too.
random.seed(1)  # the same numbers each time
pool = limiter.bucket("pool")
passed(pool, "smooth", 80)
first, second = passed(pool, "smooth", 10), passed(pool, "smooth", 10)
print(f"of the next 10 smooth calls {first} pass, and of 10 more {second}")

# A plan pays first, then credits.
for _ in range(3):
    decision = limiter.take_first([("plan", "acme", 3), ("credits", "acme", 3)])
    print(f"{decision.bucket.spec.name} pays" if decision else "nothing is left")
