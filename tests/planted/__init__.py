"""The bugs that are planted in copies of the package, by where they stand in it."""

from __future__ import annotations

from tests.planted import (
    core_level,
    core_memory,
    core_merge,
    http,
    limiter,
    mesh_bounds,
    mesh_frames,
    mesh_links,
    mesh_members,
    others,
    strong,
    strong_redis,
    waiting,
)
from tests.planted.mutation import Mutation

__all__ = ["MUTATIONS", "Mutation"]

MUTATIONS: tuple[Mutation, ...] = (
    *core_level.MUTATIONS,
    *core_memory.MUTATIONS,
    *core_merge.MUTATIONS,
    *http.MUTATIONS,
    *limiter.MUTATIONS,
    *mesh_bounds.MUTATIONS,
    *mesh_frames.MUTATIONS,
    *mesh_links.MUTATIONS,
    *mesh_members.MUTATIONS,
    *others.MUTATIONS,
    *strong.MUTATIONS,
    *strong_redis.MUTATIONS,
    *waiting.MUTATIONS,
)
