"""The table that several processes of one host share: found in its file, checked by its header, or
made there.

The rules of the table itself, and what happens when a process is killed in the middle of a change,
are in the core.
"""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from functools import partial
from typing import Any

from crdtbucket._core import (
    HEADER_BYTES,
    LAYOUT,
    Table,
    is_ours,
    read_header,
    table_damage,
    table_size,
)
from crdtbucket.base.clock import clock_offset_ns
from crdtbucket.base.file_shortage import fix_of
from crdtbucket.base.forks import Turn, after_fork
from crdtbucket.errors import CrdtbucketError, SharedTableError
from crdtbucket.shared.shared_file import SharedFile

_SAME = "give all processes of the host the same settings, or another file"
_FAULTS = {
    "layout": ("is of layout {found}, not {wanted}", "run one version of crdtbucket on the host"),
    "boot": ("is from before the last boot", "stop all processes that use it"),
    "pid_space": (
        "is used in another container",
        "let the containers share their process numbers, or give each its own file",
    ),
    "time_space": ("is used under another clock", "give each time namespace its own file"),
    "owner": ("is that of another node", "give each node its own file"),
    "max_keys": ("is for {found} keys, not {wanted}", _SAME),
    "hash_key": ("is for another mesh secret", _SAME),
    "size": ("has another size", "run one version of crdtbucket on the host"),
}
LOG = logging.getLogger("crdtbucket")


@dataclass(frozen=True)
class Host:
    """The boot and the namespaces that a table's times and process ids belong to."""

    boot: bytes
    pid_space: int
    time_space: int
    """The offset of its clock, modulo 2^64. The number of the time namespace is not enough: the
    kernel reuses it for another one later."""

    @classmethod
    def here(cls) -> Host:
        """The host on which this process runs. Raises OSError."""
        with open("/proc/sys/kernel/random/boot_id", "rb") as boot:
            number = bytes.fromhex(boot.read().strip().replace(b"-", b"").decode())
        # If a process gave up root, the folder belongs to root: the process may pass through it,
        # but not list it.
        space = os.stat("/proc/self/ns/pid").st_ino
        return cls(number, space, (clock_offset_ns() or 0) % 2**64)


def header_fault(
    found: dict[str, Any] | None, wanted: dict[str, Any], size: int
) -> tuple[str, str] | None:
    """What is wrong with a table and what to do, None when it is the wanted one. `found`: its
    header, None where there is none; `size`: bytes of its file."""
    if found is None:
        return "was never finished", "stop all processes that use it"
    for field, fault in _FAULTS.items():
        if found[field] != wanted.get(field, found[field]):
            text, fix = fault
            return text.format(found=found[field], wanted=wanted[field]), fix
    if size != wanted["size"]:
        return "was cut off", "stop all processes that use it"
    return None


def open_table(
    file: SharedFile,
    *,
    max_keys: int,
    hash_key: bytes | None,
    owner: str,
    virtual: bool = False,
    host: Host | None = None,
) -> Table:
    """The table in a file, which is made when there is none; without `hash_key` it has one of its
    own. A table that other processes use must match exactly. A table that nobody uses is checked;
    if it is damaged, or of another boot, layout, size, secret or node, it is begun anew, which is
    logged; otherwise its counts go on. A file that is not empty and does not begin like a table
    belongs to another program, and is left as it is. Raises SharedTableError.
    """
    alone = file.lock()
    first = os.pread(file.fd, HEADER_BYTES, 0)
    if first and not is_ours(first):
        raise SharedTableError(
            file.path,
            "is another program's file, not a table, and is left as it is",
            "name a file that does not exist yet, or remove this one if nobody needs it",
        )
    mark = _mark(_here(file) if host is None else host, owner)
    found = read_header(first)
    wanted = _wanted(mark, max_keys, hash_key)
    fault = header_fault(found, wanted, os.fstat(file.fd).st_size) or _damage(
        file.fd, max_keys, alone
    )
    if not alone and fault:
        raise SharedTableError(file.path, *fault)
    if fault and first:
        LOG.warning("the shared table %s %s: it is begun anew", file.path, fault[0])
        os.ftruncate(file.fd, 0)
    if hash_key is None and found is not None and not fault:
        hash_key = found["hash_key"]
    try:
        table = Table(
            max_keys=max_keys,
            hash_key=hash_key,
            virtual=virtual,
            fd=file.fd,
            host=mark,
            join=not alone,
        )
    except OSError as error:
        if alone:
            os.ftruncate(file.fd, 0)
        raise SharedTableError(file.path, *_no_room(max_keys, error)) from error
    if alone:
        file.share()
    after_fork(table, Turn.TABLES, partial(_forked, file))
    return table


def _here(file: SharedFile) -> Host:
    try:
        return Host.here()
    except OSError as error:
        raise SharedTableError(
            file.path,
            f"cannot be tied to this host: {error.filename}: {error.strerror}",
            fix_of(error, "mount /proc where this process runs, and let it read its entries there"),
        ) from error


def _mark(host: Host, owner: str) -> tuple[bytes, int, int, int]:
    """The mark of a table that only processes of this host, and of the node `owner`, may use."""
    named = hashlib.blake2b(owner.encode(), digest_size=8).digest()
    return host.boot, host.pid_space, host.time_space, int.from_bytes(named, "big")


def _wanted(
    mark: tuple[bytes, int, int, int], max_keys: int, hash_key: bytes | None
) -> dict[str, Any]:
    """The header that a table must have."""
    fields = dict(zip(("boot", "pid_space", "time_space", "owner"), mark, strict=True))
    fields |= {"layout": LAYOUT, "max_keys": max_keys, "size": table_size(max_keys)[0]}
    return fields if hash_key is None else fields | {"hash_key": hash_key}


def _no_room(max_keys: int, error: OSError) -> tuple[str, str]:
    begun = table_size(max_keys)[1]
    fault = (
        f"has no room for {max_keys} keys ({begun >> 20} MiB at first, about "
        f"{max_keys * 200 >> 20} MiB when all are used): {error.strerror}"
    )
    return fault, "lower max_keys, or give the file system more room"


def cannot_grow(path: str, why: str) -> SharedTableError:
    """What to say of a table to which the file system gives no more memory."""
    return SharedTableError(
        path,
        f"cannot grow ({why}), and evicts keys although fewer than max_keys are in it",
        f"give the file system of {os.path.dirname(path)} more room, or lower max_keys",
    )


def _damage(fd: int, max_keys: int, alone: bool) -> tuple[str, str] | None:
    """What is wrong with the table in a file whose header is right."""
    wrong = table_damage(fd, max_keys, alone)
    return None if wrong is None else (f"is damaged: {wrong}", "stop all processes that use it")


def shared_stats(file: SharedFile, table: Table) -> dict[str, Any]:
    """How many processes use the table, and which of them leads, by their ids."""
    return {
        "path": file.path,
        "processes": len(table.sharing.workers()),
        "leader": table.sharing.leader,
        "leading": int(table.sharing.leading),
        "repairs": table.sharing.repairs,
    }


def _forked(file: SharedFile, table: Table) -> None:
    """Called in the child of a fork: it gets a lock of its own, or makes no decisions."""
    if file.fd < 0:
        return
    try:
        file.reopen()
        table.sharing.after_fork(file.fd)
    except CrdtbucketError as error:  # its decisions would be counted as the parent's
        table.refuse(error)
