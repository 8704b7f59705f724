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
WAITING = {signal.SIGINT, signal.SIGHUP}
"""Signals that wait until the imports are over, which are slow: before that an interrupt would be a
traceback, and a hang-up would end the process."""


def main() -> None:
    """Runs the command line; without the packages of the extra it prints how to install them."""
    # `crdtbucket_command` has done this before; `python -m crdtbucket` begins here.
    signal.pthread_sigmask(signal.SIG_BLOCK, WAITING)
    if isinstance(sys.stdout, io.TextIOWrapper):  # in a locale that lacks a character
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        from crdtbucket.cli.commands import run

        # For a server the hang-up stays pending until the file is watched, and then makes it be
        # read again.
        serves = sys.argv[1:2] == ["serve"]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WAITING - {signal.SIGHUP} if serves else WAITING)
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
    except KeyboardInterrupt:  # before `run`, which says so of a command
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
