"""`python -m crdtbucket` is the command `crdtbucket`."""

from crdtbucket.cli.main import main

main()
