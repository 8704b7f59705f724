"""Each tenant has the limit of its plan, which a function knows; one has another for a while.

pip install -e .
python examples/tenant_limits.py
"""

from crdtbucket import AskedOverrides, BucketSpec, Limiter

# What another task reads from a database from time to time. The function itself never waits.
PLANS: dict[str, str] = {"acme": "premium", "globex": "20/day"}

api = BucketSpec.parse("api", "10/day", overrides=AskedOverrides(PLANS.get, ttl="30s"))
limiter = Limiter([api, BucketSpec.parse("premium", "100/day")])
bucket = limiter.bucket("api")


def show(tenant: str) -> None:
    left = bucket.peek(tenant)
    print(f"{tenant}: {left.remaining} of {left.limit}")


for tenant in ("acme", "globex", "initech"):
    bucket.take(tenant, 5)
    show(tenant)

# An operator raises one of them, as `crdtbucket overrides set api initech 50/day` does at a node
# that serves. What it has consumed stays.
limiter.overrides.set("api", "initech", "50/day")
show("initech")
limiter.overrides.remove("api", "initech")
show("initech")
