"""Tables are cut to the width of a terminal, but never in pipes."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from crdtbucket.cli.screen import console, name, redraws, table
from crdtbucket.cli.terminal_text import printable, seconds
from crdtbucket.demo.view import PlainRunView, view_for


@click.command()
def show() -> None:
    rows = table("  name", "number>", "state")
    rows.add_row(name("  " + "long-" * 40 + ":smile: [red]"), "7", "up")
    console().print(rows)


@pytest.mark.parametrize("columns", [None, "80"])
def test_names_are_whole_where_nobody_looks(columns: str | None) -> None:
    head, row = CliRunner().invoke(show, env={"COLUMNS": columns}).output.splitlines()
    assert (len(row) <= 80) is (columns is not None)
    assert ("long-" * 40 + ":smile: [red]" in row) is (columns is None)
    assert head.endswith("number  state")
    assert row.endswith("7  up")


def test_forced_colours_make_no_pipe_narrow() -> None:
    env = {"COLUMNS": None, "FORCE_COLOR": "1"}
    assert "long-" * 40 + ":smile:" in CliRunner().invoke(show, env=env).output


@pytest.mark.parametrize("shows", [redraws, lambda _: type(view_for(plain=False, json=False))])
@pytest.mark.parametrize(("kind", "is_terminal"), [("xterm", False), ("dumb", True)])
def test_a_pipe_and_a_dumb_terminal_get_lines(
    monkeypatch: pytest.MonkeyPatch, shows: Callable[[Console], Any], kind: str, is_terminal: bool
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", kind)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    assert shows(Console()) in (False, PlainRunView)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ai\u2011agent caf\u00e9 \u7a0e", "ai\u2011agent caf\u00e9 \u7a0e"),
        ("\x1b[2J\r\n\x07", "\\x1b[2J\\r\\n\\x07"),
        ("\u202egnp", "\\u202egnp"),  # turns around what follows
        ("\ud800", "\\ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0 ms"), (0.00004, "0 ms"), (0.0015, "1.5 ms"), (0.08, "80 ms"), (0.25, "0.25 s"),
        (9.94, "9.9 s"), (9.96, "10 s"), (119, "119 s"), (120, "2 min 0 s"),
        (200.4, "3 min 20 s"), (7_500, "2 h 5 min"), (math.inf, "for ever"),
    ],
)  # fmt: skip
def test_a_duration_is_said_as_people_say_it(value: float, words: str) -> None:
    assert seconds(value) == words
