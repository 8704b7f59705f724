"""Merges the counters of all nodes and of Redis, from outside the mesh."""
