"""Examines whether this host has what a node needs: free ports, a shared file, a folder, memory."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterator

from crdtbucket._core import HEADER_BYTES, LAYOUT, is_ours, read_header
from crdtbucket.base.address import split_address
from crdtbucket.base.file_shortage import fix_of
from crdtbucket.config import Config
from crdtbucket.config.outlook import bytes_in_the_table, bytes_of_a_key, outlook
from crdtbucket.doctor.diagnosis import Diagnosis, note, ok, wrong
from crdtbucket.errors import SharedTableError
from crdtbucket.limiter.facade import MAX_KEYS
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.reconcile.asked_fleet import own_address
from crdtbucket.reconcile.observed_node import ObservationFailed
from crdtbucket.reconcile.observer import Observer
from crdtbucket.rollout.limiter_file import ALONE
from crdtbucket.shared.shared_file import SharedFile, own_folder, path_for
from crdtbucket.shared.table_file import cannot_grow

MEMORY = "/proc/meminfo"
GROUPS, OWN_GROUP = "/sys/fs/cgroup", "/proc/self/cgroup"
MIB = 1 << 20
LEAST_FREE = MIB
"""Bytes of a disk that a `state_dir` needs: less cannot keep the files of a small node."""


async def examine_host(
    config: Config, listen: tuple[str, ...], timeout: float, *, running: bool, max_keys: int
) -> list[Diagnosis]:
    """`listen`: addresses, "host:port", that a server wants besides that of the mesh. `running`:
    whether this process is the node of the file, and holds its ports and its table itself.
    `max_keys`: of the node's table."""
    found = [_port_answer(address, port_fault(address)) for address in listen]
    mesh = config.mesh
    if mesh is not None:
        if mesh.transport == "sockets":
            found.append(await _mesh_port(config, mesh, timeout, running=running))
        if mesh.state_dir is not None:
            found.append(_folder(os.fspath(mesh.state_dir)))
    keys = most_keys(config, max_keys)
    if config.shared is not None:
        room = keys * bytes_in_the_table()
        found += _shared(path_for(config.shared, config.node or ALONE), room, running=running)
    held = _resident() if running else 0
    found.append(memory_answer(keys * bytes_of_a_key(config), available_memory(), held))
    return found


def port_fault(address: str) -> ValueError | OSError | None:
    """Why an address cannot be listened on."""
    try:
        host, port = split_address(address)
        family, kind, _, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            probe.listen(1)
    except (ValueError, OSError) as error:
        return error
    return None


def in_use(fault: ValueError | OSError | None) -> bool:
    """Whether an address cannot be listened on because somebody does."""
    return isinstance(fault, OSError) and fault.errno == errno.EADDRINUSE


def _port_answer(address: str, fault: ValueError | OSError | None) -> Diagnosis:
    subject = f"port {address}"
    if fault is None:
        return ok(subject, "is free")
    if in_use(fault):
        return wrong(subject, "another process listens there: stop it, or choose another port")
    if isinstance(fault, OSError):
        fix = fix_of(fault, "name an address of this host")
        return wrong(subject, f"cannot be listened on ({fault.strerror}): {fix}")
    return wrong(subject, f'the address {fault}: write "host:port"')


async def _mesh_port(
    config: Config, mesh: MeshConfig, timeout: float, *, running: bool
) -> Diagnosis:
    fault = port_fault(mesh.listen)
    found = _port_answer(mesh.listen, fault)
    if not in_use(fault):
        return found
    if not running:
        async with Observer(config, mesh, "doctor", timeout) as caller:
            try:
                peer = await caller.call(own_address(mesh))
            except ObservationFailed:
                return found
            if peer.name != config.node:
                return wrong(found.subject, f"node {peer.name!r} listens there: {found.text}")
    return ok(found.subject, "the node of this file listens there already")


def _folder(path: str) -> Diagnosis:
    subject = f"state_dir {path}"
    nearest = os.path.abspath(path)
    while not os.path.exists(nearest):
        nearest = os.path.dirname(nearest)
    if not os.path.isdir(nearest):
        return wrong(subject, f"{nearest} is no folder: remove it, or name another one")
    if not os.access(nearest, os.W_OK | os.X_OK):
        return wrong(subject, f"{nearest} may not be written to by this user: allow it")
    space = os.statvfs(nearest)
    if (free := space.f_bavail * space.f_frsize) < LEAST_FREE:
        left = f"its file system has {free // 1024} KiB left"
        return wrong(subject, f"{left}, too little for a snapshot: free some, or name another one")
    return ok(subject, "can be written to")


def _shared(path: str, needed: int, *, running: bool) -> Iterator[Diagnosis]:
    """Looks at the file of a shared table, and never makes one."""
    subject = f"shared {path}"
    folder = os.path.dirname(path)
    if folder == own_folder() and not os.path.lexists(folder):
        folder = os.path.dirname(folder)  # it is made together with the file
    if not os.path.isdir(folder):
        yield wrong(subject, f"{folder} is no folder: name a file in /dev/shm")
        return
    if os.path.lexists(path):
        yield _table(subject, path)
    elif os.access(folder, os.W_OK | os.X_OK):
        yield ok(subject, "does not exist yet, and can be made")
    else:
        yield wrong(subject, f"{folder} may not be written to by this user: name another file")
    if not running:
        space = os.statvfs(folder)
        free = space.f_bavail * space.f_frsize
        yield _room(f"{subject} room", "its file system", needed, free)


def _table(subject: str, path: str) -> Diagnosis:
    try:
        file = SharedFile(path)
    except SharedTableError as error:
        return wrong(subject, f"{error.fault}: {error.fix}")
    try:
        first, used = os.pread(file.fd, HEADER_BYTES, 0), file.used()
    finally:
        file.close()
    if first and not is_ours(first):
        fix = "name a file that does not exist yet, or remove this one if nobody needs it"
        return wrong(subject, f"is another program's file: {fix}")
    found = read_header(first)
    ungrown = found is not None and found["layout"] == LAYOUT and found["ungrown"]
    if ungrown and used:  # a table without a process evicts nothing, and asks again when one starts
        full = cannot_grow(path, "its file system is full")
        return wrong(subject, f"{full.fault}: {full.fix}")
    return ok(subject, "is a table" if first else "is empty")


def most_keys(config: Config, max_keys: int = MAX_KEYS) -> int:
    """Keys of a full table: of the buckets' `max_keys`, or as many as it holds, `max_keys`."""
    limits = [row.max_keys for row in outlook(config, ())]
    return min(sum(limit or max_keys for limit in limits), max_keys)


def memory_answer(needed: int, available: int | None, held: int = 0) -> Diagnosis:
    """Compares the memory of a full table with what the host, or this process' group, has left.
    `held`: bytes that this process has already."""
    if available is None:
        return note("memory", f"a full table takes {needed // MIB:,} MiB; what is free is unknown")
    return _room("memory", "this host", needed, available + held)


def _room(subject: str, of: str, needed: int, free: int) -> Diagnosis:
    text = f"a full table takes {needed // MIB:,} MiB, and {of} has {free // MIB:,} MiB left"
    if needed <= free:
        return ok(subject, text)
    return wrong(subject, f"{text}: give each bucket max_keys, or the node more memory")


def available_memory() -> int | None:
    """Bytes that this process may still take; None where the system does not say."""
    free = re.search(r"^MemAvailable: +(\d+) kB$", _text(MEMORY), re.MULTILINE)
    found = [] if free is None else [int(free[1]) * 1024]
    return min([*found, *_left_in_groups()], default=None)


def _left_in_groups() -> Iterator[int]:
    """Bytes that the control groups (version 2) of this process have left: its own, such as that of
    a service of systemd with `MemoryMax=`, and those that this is in."""
    own = re.search(r"^0::(/.*)$", _text(OWN_GROUP), re.MULTILINE)
    folder = GROUPS + (own[1].rstrip("/") if own else "")
    while True:
        limit, used = (_text(f"{folder}/memory.{name}").strip() for name in ("max", "current"))
        if limit.isdigit() and used.isdigit():  # "max" is no bound
            # Pages of files that were not used of late are taken back before memory is refused.
            stat = _text(f"{folder}/memory.stat")
            cache = re.search(r"^inactive_file (\d+)$", stat, re.MULTILINE)
            working = max(0, int(used) - (int(cache[1]) if cache else 0))
            yield max(0, int(limit) - working)
        if folder == GROUPS:
            return
        folder = os.path.dirname(folder)


def _resident() -> int:
    """Bytes that this process has."""
    pages = _text("/proc/self/statm").split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if pages else 0


def _text(path: str) -> str:
    """A file of the system; empty where there is no such file."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
