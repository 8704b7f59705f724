"""A group of commands whose help can be read without asking each command for its own."""

from __future__ import annotations

import click

LONGEST = 1_000
"""Characters of a command's first sentence that the list shows: all of them."""


class CommandGroup(click.Group):
    """Lists each command with the whole first sentence of its help, over several lines if need be.

    click cuts it to what fits one line, which leaves out what the command is for.
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
