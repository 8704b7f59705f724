"""A group of commands whose help can be read without asking each command for its own, and commands
that are imported when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

import click

LONGEST = 1_000
"""Characters of a command's first sentence that the list shows: so many that it shows all."""


class CommandGroup(click.Group):
    """Lists each command with the whole first sentence of its help, over several lines if
    necessary. click cuts it to one line, which often drops the purpose of the command.
    """

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list, in the order of names."""
        rows = [
            (name, command.get_short_help_str(LONGEST))
            for name in self.list_commands(ctx)
            if (command := self.get_command(ctx, name)) is not None
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class ImportedCommands(Mapping[str, click.Command]):
    """Commands by name, each imported when it is asked for: no command waits for imports that only
    others need."""

    def __init__(self, modules: Mapping[str, str]) -> None:
        """`modules`: the module in which each command is defined, under the command's name."""
        self._modules = modules

    def __getitem__(self, name: str) -> click.Command:
        command: click.Command = getattr(import_module(self._modules[name]), name)
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)
