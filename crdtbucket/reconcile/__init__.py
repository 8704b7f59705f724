"""Bringing the counters of all nodes and of Redis to their join, from outside the mesh."""
