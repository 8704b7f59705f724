"""Functions, sync and async, whose calls take tokens first.

pip install -e .
python examples/decorator.py
"""

import asyncio

from crdtbucket import BucketSpec, Limiter, LimitExceeded, limited

limiter = Limiter([BucketSpec.parse("mails", "3/minute"), BucketSpec.parse("words", "10/minute")])


@limited(limiter.bucket("mails"), key=lambda to, text: to)
def send(to: str, text: str) -> str:
    """At most three mails a minute to one address."""
    return f"to {to}: {text}"


@limited(limiter.bucket("words"), key="all", cost=lambda text: len(text.split()))
async def translate(text: str) -> str:
    """At most ten words a minute, of all callers."""
    return text.upper()


async def main() -> None:
    """Calls, until the limits say no."""
    try:
        for n in range(4):
            print(send("ann@example.org", f"no. {n}"))
    except LimitExceeded as error:
        print(f"denied, retry in {error.decision.retry_after:.0f} s")
    for text in ("once upon a time", "there was a bucket"):
        print(await translate(text))


if __name__ == "__main__":
    asyncio.run(main())
