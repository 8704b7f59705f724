"""The record by which one process of the mesh introduces itself to another."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NodeInfo:
    """One running process of the mesh, as it introduced itself over an authenticated link."""

    name: str
    """Stable and unique in the mesh, 1 to 200 bytes of UTF-8."""
    region: str
    """Free text, as long as a name or empty."""
    epoch: int
    """Random at every process start, 64 bits, never 0."""
    address: str
    """Where others can call it, "host:port", as long as a name; "" when unknown."""
    age_ns: int
    """How long its process has run (ns)."""
    established: bool = False
    """Whether any peer is linked with it."""
    began: int = 0
    """When its process began by its wall clock, ns since 1970; it never changes. 0: long ago."""
