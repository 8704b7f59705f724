"""Tables are cut for people, never for pipes."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from crdtbucket.cli.screen import console, name, table


@click.command()
def show() -> None:
    rows = table("  name", "number>")
    rows.add_row(name("  " + "long-" * 40 + ":smile: [red]"), "7")
    console().print(rows)


@pytest.mark.parametrize("columns", [None, "80"])
def test_names_are_whole_where_nobody_looks(columns: str | None) -> None:
    head, row = CliRunner().invoke(show, env={"COLUMNS": columns}).output.splitlines()
    assert (len(row.rstrip()) <= 80) is (columns is not None)
    assert ("long-" * 40 + ":smile: [red]" in row) is (columns is None)
    assert head.rstrip().endswith("number")
    assert row.rstrip().endswith("7")
