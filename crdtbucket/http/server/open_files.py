"""How many connections a server may have, by the number of files that its process may open."""

from __future__ import annotations

import contextlib
import logging
import resource

LOG = logging.getLogger("crdtbucket.http")
OTHER_FILES = 192
"""Files besides the connections of `max_connections`: surplus ones, links of a mesh, Redis, and
what the process reads."""


def connections_within_open_files(wanted: int, sides: int = 1) -> int:
    """So many connections, or fewer where the process may not open as many files. `sides`: how
    many servers have as many each, as those of HTTP and of gRPC do.

    Without it a server that is full of connections could accept no further one, and the event loop
    would log that thousands of times a second. The soft limit of the process is raised as far as
    is needed and its hard limit allows.
    """
    needed = sides * wanted + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _allows(soft, needed):
        return wanted
    raised = needed if _allows(hard, needed) else hard
    with contextlib.suppress(OSError, ValueError):  # a system may have a limit of its own
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        soft = raised
    if _allows(soft, needed):
        return wanted
    most = max(1, (soft - OTHER_FILES) // sides)
    LOG.warning(
        "at most %d connections at once, not %d, as this process may open %d files only: allow it "
        "%d (LimitNOFILE= of systemd, or ulimit -n)",
        most, wanted, soft, needed,
    )  # fmt: skip
    return most


def _allows(limit: int, files: int) -> bool:
    return limit == resource.RLIM_INFINITY or limit >= files
