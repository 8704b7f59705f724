"""The fragments of the article, with the indentation that they must have had, each at the places
where it may belong.

The page lost all indentation, so a fragment may belong at the top, under `openclaw` or under
`rating`. The bucket's name has the article's own non-breaking hyphens (U+2011).
"""

from __future__ import annotations

import itertools

NAME = "ai‑agent‑inference"

ENABLED = "rating:\n  enabled: true\n"
BACKEND = """\
rating:
  bucket_backend:
    type: redis
    connection:
      host:
      port: 6379
      password:
"""
CONSISTENCY = "rating:\n  consistency: strong\n"
SERVICES = f"""\
services:
  {NAME}:
    bucket:
      capacity: 10000
      refill_rate: 2000
      refill_interval: 1s
"""


def below(parent: str, text: str) -> str:
    """`text` as the value of a key."""
    return f"{parent}:\n" + "".join(f"  {line}\n" for line in text.splitlines())


# The fragments as the page prints them, without indentation; they are the keys below `rating`.
FLAT = {name: text.partition("\n")[2] for name, text in
        (("enabled", ENABLED), ("backend", BACKEND), ("consistency", CONSISTENCY))}  # fmt: skip

PLACES = {
    "top": lambda text: text,
    "openclaw": lambda text: below("openclaw", text),
}
SERVICE_PLACES = {
    **PLACES,
    "rating": lambda text: below("rating", text),
    "openclaw.rating": lambda text: below("openclaw", below("rating", text)),
}

FRAGMENTS = {
    f"{name} at {place}": move(text)
    for name, text, places in (
        ("enabled", ENABLED, PLACES),
        ("backend", BACKEND, PLACES),
        ("consistency", CONSISTENCY, PLACES),
        ("services", SERVICES, SERVICE_PLACES),
    )
    for place, move in places.items()
}
"""Every fragment alone."""


def _whole(rating: str, services: str) -> str:
    """The file with its rating and its services at these places."""
    keys = "".join(FLAT.values())
    keys = "\n".join(line.removeprefix("  ") for line in keys.splitlines())
    inner = below("rating", keys)
    parts: dict[str, str] = {"top": "", "openclaw": ""}
    parts[rating] += inner
    if services.endswith("rating"):
        home = services.rpartition(".")[0] or "top"
        if home == rating:
            parts[home] += "".join(f"  {line}\n" for line in SERVICES.splitlines())
        else:
            parts[home] += below("rating", SERVICES)
    else:
        parts[services] += SERVICES
    return parts["top"] + (below("openclaw", parts["openclaw"]) if parts["openclaw"] else "")


FILES = {
    f"rating at {rating}, services at {services}": _whole(rating, services)
    for rating, services in itertools.product(PLACES, SERVICE_PLACES)
}
"""All fragments together."""
