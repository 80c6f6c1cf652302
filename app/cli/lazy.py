"""Commands whose modules are imported only when they are called. Only this module imports modules of ours by name."""

import importlib
import sys
from typing import ClassVar, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from app.deprecation import message


class LazyCommand(NamedTuple):
    """A command that is not imported yet.

    Attributes:
        target: "module:attribute" of a Typer app, or of a function that is one command.
        help: The description in the list of commands.
        new_name: The new name of a command that has an old one. The old one is not in the list of commands.
    """

    target: str
    help: str
    new_name: str | None = None


class LazyGroup(TyperGroup):
    """A group of commands whose help and shell completion import none of the commands' modules.

    A subclass sets `lazy_commands` and is used as `typer.Typer(cls=...)`. The list of commands shows a placeholder for
    each; `resolve_command` imports the real command.
    """

    lazy_commands: ClassVar[dict[str, LazyCommand]] = {}

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)
        for name, lazy in self.lazy_commands.items():
            # A placeholder has the name and the help text, which is all that a list of commands shows.
            self.add_command(TyperCommand(name, help=lazy.help, hidden=lazy.new_name is not None), name)

    def resolve_command(self, ctx: typer.Context, args: list[str]):
        """Return (name, command, remaining arguments) as Click does, with the imported command."""
        name, command, remaining_args = super().resolve_command(ctx, args)
        if name in self.lazy_commands:
            lazy = self.lazy_commands[name]
            if lazy.new_name is not None:
                print(message(f"`seedbed {name}`", f"`seedbed {lazy.new_name}`"), file=sys.stderr)
            command = load_command(name, lazy)
        return name, command, remaining_args


def load_command(name: str, lazy: LazyCommand) -> TyperCommand | TyperGroup:
    """Import the target of a lazy command and return it as a command.

    A group takes its help from `lazy`, a function from its docstring.
    """
    module, _, attribute = lazy.target.partition(":")
    target = getattr(importlib.import_module(module), attribute)
    if isinstance(target, typer.Typer):
        group = get_group(target)
        group.help = lazy.help
        return group
    # Typer makes a command of a function only as part of an app.
    single = typer.Typer(add_completion=False)
    single.command(name)(target)
    return get_command(single)
