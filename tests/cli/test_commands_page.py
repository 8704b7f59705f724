"""docs/operating.md says what the commands do."""

from __future__ import annotations

import re
from pathlib import Path

import click

from crdtbucket.base import certificate_dates
from crdtbucket.cli import node_client, node_health, snapshot_report, unreached_peers
from crdtbucket.cli.commands import cli
from tests.test_docs import rows

ROOT = Path(__file__).parents[2]
PAGE = "docs/operating.md"
COMMANDS = ("status", "top", "take", "peek", "reset", "rollout", "overrides", "identity")


def options(name: str) -> set[str]:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    every = found.commands.values() if isinstance(found, click.Group) else [found]
    return {one.opts[0] for each in every for one in each.params if isinstance(one, click.Option)}


def test_options_of_the_commands() -> None:
    told: dict[str, set[str]] = {name: set() for name in COMMANDS}
    table = next(n for n, line in enumerate(lines()) if line.startswith("| option | of |"))
    for line in lines()[table + 2 :]:
        if not line.startswith("|"):
            break
        option, of = (cell.strip() for cell in line.strip("|").split(" | ")[:2])
        for name in COMMANDS if of == "all" else re.findall(r"`(\w+)`", of):
            told[name].add(option.strip("` "))
    assert told == {name: options(name) for name in COMMANDS}


def lines() -> list[str]:
    return (ROOT / PAGE).read_text().splitlines()


def test_exit_statuses_are_of_all_commands() -> None:
    assert [row[0].strip("`| ") for row in rows(PAGE, "The commands")] == list(COMMANDS)


def test_sentences_that_are_explained_are_said() -> None:
    modules = (node_client, node_health, snapshot_report, unreached_peers, certificate_dates)
    said = "".join(Path(str(module.__file__)).read_text() for module in modules)
    start = next(n for n, line in enumerate(lines()) if line.startswith("| sentence |"))
    told = []
    for line in lines()[start + 2 :]:
        if not line.startswith("|"):
            break
        told += re.findall(r"`([^`]+)`", line.split(" | ")[0])
    assert len(told) == 20
    states = {"is suspect": "suspect", "is dead": "dead"}
    for sentence in told:
        assert states.get(sentence, sentence) in said, sentence
