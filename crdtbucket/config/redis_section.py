"""The shared Redis of a file, as the `RedisConfig` that is checked; each fault at its place."""

from __future__ import annotations

import re

from crdtbucket.config.check import masked
from crdtbucket.config.model import Backend
from crdtbucket.config.source import Node, Source
from crdtbucket.errors import ConfigError, Problem
from crdtbucket.strong.redis.redis_config import RedisConfig

# Fields of `RedisConfig` whose keys in a file are called otherwise, below `connection`.
_KEYS = {
    "tls_ca": "tls.ca",
    "tls_cert": "tls.cert",
    "tls_key": "tls.key",
    "sentinel_master": "sentinel.master",
    "sentinel_password": "sentinel.password",
    "sentinels": "sentinel.nodes",
}
_STEP = re.compile(r"[a-z_]+|\d+")


def redis_config(backend: Backend, node: Node, source: Source) -> RedisConfig | None:
    """What `node`, a `bucket_backend`, describes; None without an address, and for faults."""
    connection = backend.connection
    tls, sentinel = connection.tls, connection.sentinel
    fields = {
        **backend.model_dump(exclude={"type", "connection"}, exclude_none=True),
        **connection.model_dump(exclude={"tls", "sentinel"}, exclude_none=True),
    }
    if tls is not None:
        fields |= {"tls": tls.enabled, "tls_ca": tls.ca, "tls_cert": tls.cert, "tls_key": tls.key}
    if sentinel is not None:
        fields |= {"sentinel_master": sentinel.master, "sentinels": sentinel.nodes or ()}
        fields |= {"sentinel_password": sentinel.password}
    addressed = any(
        fields.get(key) for key in ("url", "host", "nodes", "sentinels", "sentinel_master")
    )
    try:
        # A blank address is a file that still waits for its own; the rest of it is checked.
        config = RedisConfig(**fields if addressed else {**fields, "host": "blank"})
    except ConfigError as error:
        for problem in error.problems:
            _report(problem, node, source)
        return None
    return config if addressed else None


def _report(problem: Problem, node: Node, source: Source) -> None:
    field, bracket, rest = problem.path.removeprefix("redis.").partition("[")
    key = _KEYS.get(field, field) + bracket + rest
    steps = tuple(int(step) if step.isdigit() else step for step in _STEP.findall(key))
    location = steps if steps[0] in Backend.model_fields else ("connection", *steps)
    place, missing = node.find(location)
    message = f"{key} {problem.message}" if missing else problem.message
    # Masked first: a secret whose words were changed would not be found.
    source.report_at(place, _as_keys(masked(message, place)), _as_keys(problem.fix))


def _as_keys(text: str) -> str:
    """Words for those who write Python, as words for those who write the file."""
    text = re.sub(r"\w+", lambda word: _KEYS.get(word[0], word[0]), text)
    return text.replace("=True", ": true")


__all__ = ["redis_config"]
