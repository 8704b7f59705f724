"""`python -m crdtbucket.cli.main` is the command `crdtbucket`."""

from crdtbucket.cli.main import main

main()
