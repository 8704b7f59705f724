"""The `crdtbucket` program. The commands are imported when it runs: they need the extra `cli`."""

from __future__ import annotations

import signal
import sys

EXTRA = ("click", "rich")
"""What the extra installs."""
INSTALL = "pip install 'crdtbucket[cli]'"


def main() -> None:
    """Runs the command line; without the packages of the extra it prints how to install them."""
    if sys.argv[1:2] == ["serve"]:
        # Before all other imports, which take their time: the signal would end the process. It
        # waits until the file is watched, and then has it read again.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        from crdtbucket.cli.commands import run

        run()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        print(f"crdtbucket: the command line needs {error.name}: {INSTALL}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:  # during the imports; `run` says so of a command
        print("crdtbucket: stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
