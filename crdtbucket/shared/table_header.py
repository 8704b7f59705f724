"""Whether the table found in a file is the wanted one, by its header, and what to do if not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from crdtbucket.base.clock import clock_offset_ns

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


@dataclass(frozen=True)
class Host:
    """The boot and the namespaces that a table's times and process ids belong to."""

    boot: bytes
    pid_space: int
    time_space: int
    """By how much its clock is moved, modulo 2^64. The number of a time namespace would not do: the
    kernel gives it to another one later."""

    @classmethod
    def here(cls) -> Host:
        """The host on which this process runs."""
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot:
            number = bytes.fromhex(boot.read().strip().replace("-", ""))
        spaces = {kind.name: kind.stat().st_ino for kind in os.scandir("/proc/self/ns")}
        return cls(number, spaces["pid"], (clock_offset_ns() or 0) % 2**64)


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
