"""The program `crdtbucket`, outside of the package: its first lines run before the package is
imported, which takes longer than the start of Python itself."""

from __future__ import annotations

import signal


def main() -> None:
    """Runs the command line. The signals of `WAITING` in `crdtbucket.cli.main` wait from here on,
    until that module can handle them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    from crdtbucket.cli.main import main as command

    command()
