"""Compares the records in Redis with the decisions of the callers, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import hiredis

from tests.chaos.fleet import WIDE, Fleet
from tests.strong.redis_server import Server


@dataclass(frozen=True)
class Audit:
    """Tokens, over all nodes, buckets and keys."""

    consumed: int
    """Tokens that callers took, less those that they gave back."""
    charged: int
    """Tokens in the records of Redis: taken less refunded."""
    lost: int
    """Tokens consumed and not charged, counted for each node and key by itself."""
    over: int
    """Tokens charged and not consumed."""
    level: int
    """The tokens by which the levels of keys that do not refill differ from what was consumed."""

    @property
    def exact(self) -> bool:
        return not self.lost and not self.over


def audit(fleet: Fleet, servers: Sequence[Server]) -> Audit:
    """Makes the audit; the nodes must have settled and be idle."""
    consumed = charged = lost = over = level = 0
    lines = sorted({line for client in fleet.clients for line in client.consumed})
    for line in lines:
        bucket = fleet.clients[0].bucket(line[0])
        name = fleet.clients[0].bucket(line[0]).store.ledger.names.key(bucket, bucket.hash(line[1]))
        fields = _read(servers, name)
        for client in fleet.clients:
            wanted = client.consumed[line]
            found = sum(
                int(text.split()[1]) - int(text.split()[2])
                for owner, text in fields.items()
                if owner.endswith(b":" + client.name.encode())
            )
            consumed, charged = consumed + wanted, charged + found
            lost, over = lost + max(0, wanted - found), over + max(0, found - wanted)
        if line[0] == WIDE.name:
            debt = _tokens(fields.get(b"level", b"0 0 0 0 0 1 1"))
            level += abs(debt - sum(client.consumed[line] for client in fleet.clients))
    return Audit(consumed, charged, lost, over, level)


def _read(servers: Sequence[Server], name: bytes) -> dict[bytes, bytes]:
    for server in servers:
        try:
            flat = server.call("HGETALL", name)
        except hiredis.ReplyError as error:
            if not str(error).startswith("MOVED"):
                raise
            continue  # another node of the cluster has it
        return dict(zip(flat[::2], flat[1::2], strict=True))
    raise AssertionError(f"no server has the slot of {name!r}")


def _tokens(level: bytes) -> int:
    _, _, s, ns, rest, q, p = map(int, level.split())
    return round(((s * 10**9 + ns) * p + rest) / q)
