"""`python -m crdtbucket.cli` is the command `crdtbucket`."""

from crdtbucket.cli.main import main

main()
