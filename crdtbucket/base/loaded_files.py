"""Loads certificates and keys for TLS, and makes what was made of files again when the files
change."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

from crdtbucket.base.file_shortage import fix_of
from crdtbucket.errors import CrdtbucketError

T = TypeVar("T")


class LoadedFiles(Generic[T]):
    """Keeps what was made of some files, and makes it again when one of them has changed."""

    def __init__(self, files: Sequence[str], load: Callable[[], T], log: logging.Logger) -> None:
        """`files`: their paths; none where there is nothing to follow. `load` makes it of all of
        them, anew each time; what it raises here is raised."""
        self._files, self._load, self._log = files, load, log
        self._seen = self._stamp()
        self._loaded = load()

    def now(self) -> T:
        """The object to use now, made again if a file has changed. When changed files cannot be
        loaded, that is logged once, and what is in use stays."""
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            names = ", ".join(self._files)
            try:
                self._loaded = self._load()
            except (CrdtbucketError, OSError) as error:
                self._log.error("one of %s has changed; what was in use stays: %s", names, error)
            else:
                self._log.info("one of %s has changed, and is in use", names)
        return self._loaded

    def _stamp(self) -> tuple[object, ...]:
        try:
            return tuple((one.st_mtime_ns, one.st_ino) for one in map(os.stat, self._files))
        except OSError as error:
            return (error.errno, error.filename)


Failure: TypeAlias = Callable[[str], CrdtbucketError]
"""Makes the error to be raised of its message."""


def load_key_pair(
    context: ssl.SSLContext, cert: str, key: str, named: str, failure: Failure
) -> None:
    """Loads a certificate and its private key. `named`: both, in the message of the error that is
    raised for files that cannot be loaded."""
    try:
        # A password given here, even an empty one, keeps OpenSSL from asking on the terminal.
        context.load_cert_chain(cert, key, password="")
    except (OSError, ssl.SSLError) as cause:
        raise failure(
            f"{named} cannot be loaded ({cause}): "
            + fix_of(cause, "give a readable PEM certificate and its unencrypted private key")
        ) from cause


def load_authorities(
    context: ssl.SSLContext, file: str, named: str, signed: str, failure: Failure
) -> None:
    """Loads the authorities that are trusted. `named`: the file, and `signed`: what they sign, in
    the message of the error that is raised for a file that cannot be loaded."""
    try:
        context.load_verify_locations(cafile=file)
    except (OSError, ssl.SSLError) as cause:
        raise failure(
            f"{named} cannot be loaded ({cause}): "
            + fix_of(cause, f"give a readable PEM file of the authorities that sign {signed}")
        ) from cause


TlsFiles: TypeAlias = LoadedFiles[ssl.SSLContext | None]
"""The TLS context of the next connection; None without TLS."""
