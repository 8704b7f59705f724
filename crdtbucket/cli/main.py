"""The `crdtbucket` program. The commands are imported when it runs: they need the extra `cli`."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from contextlib import suppress

EXTRA = ("click", "rich")
"""What the extra installs."""
INSTALL = "pip install 'crdtbucket[cli]'"
NOT_WRITTEN = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors that only writing has: the reader of the output is gone, or there is no room for it."""


def main() -> None:
    """Runs the command line; without the packages of the extra it prints how to install them."""
    if sys.argv[1:2] == ["serve"]:
        # This comes before all other imports, which are slow: until then the signal would end the
        # process. The signal stays pending until the file is watched, and then makes it be read
        # again.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    if isinstance(sys.stdout, io.TextIOWrapper):  # in a locale that lacks a character
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        from crdtbucket.cli.commands import run

        try:
            run()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # an error here can still be reported, unlike one at the exit
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        print(f"crdtbucket: the command line needs {error.name}: {INSTALL}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:  # during the imports; `run` says so of a command
        print("crdtbucket: stopped", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno not in NOT_WRITTEN:
            raise
        _not_written(error)


def _not_written(error: OSError) -> None:
    """Ends the program; what it has not written is dropped."""
    with suppress(OSError):
        if error.errno != errno.EPIPE:  # EPIPE: the reader, such as `head`, has read enough
            print(f"crdtbucket: cannot write: {error.strerror}", file=sys.stderr)
    if sys.stdout is not None:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


if __name__ == "__main__":
    main()
