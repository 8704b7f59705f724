"""Finds the path of the file of a shared table, and makes a folder for it that no other user may
write to."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress

from crdtbucket.errors import SharedTableError
from crdtbucket.mesh.state_dir import file_stem

AUTO = "auto"
DIRECTORY = "/dev/shm"


def path_for(shared: str | os.PathLike[str], node: str) -> str:
    """The file that `shared` means: a path, or "auto" for one in memory, of this user and node, in
    a folder that is this user's alone."""
    if shared != AUTO:
        return os.path.abspath(os.fspath(shared))
    name = file_stem(node)
    if len(name) > 100:
        name = name[:80] + hashlib.blake2b(node.encode(), digest_size=8).hexdigest()
    return f"{own_folder()}/{name}"


def own_folder() -> str:
    """The folder of the files that "auto" means."""
    return f"{DIRECTORY}/crdtbucket-{os.geteuid()}"


def make_own_folder(path: str) -> None:
    """Makes the folder of a file that "auto" means; nothing for other files. Raises OSError, and
    SharedTableError where others may use it, who could remove or replace what is in there."""
    folder = own_folder()
    if os.path.dirname(path) != folder:
        return
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise SharedTableError(
            folder,
            f"is no folder of user {os.geteuid()} alone",
            "remove it, or name a file in another folder as `shared`",
        )
