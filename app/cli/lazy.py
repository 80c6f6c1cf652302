"""Commands that are imported only when somebody calls them: the one place that loads our modules by name."""

import importlib
from typing import ClassVar, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group


class LazyCommand(NamedTuple):
    """`target` is "module:attribute": a Typer app, or a function that is one command. `help` is its description."""

    target: str
    help: str


class LazyGroup(TyperGroup):
    """A group whose help and completion need none of the modules behind its commands.

    A subclass names the commands; use it as `typer.Typer(cls=...)`. Listing shows a stand-in for each command, and
    resolving the command's name replaces the stand-in by the real command.
    """

    lazy_commands: ClassVar[dict[str, LazyCommand]] = {}

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)
        for name, lazy in self.lazy_commands.items():
            self.add_command(TyperCommand(name, help=lazy.help), name)

    def resolve_command(self, ctx: typer.Context, args: list[str]):
        name, command, rest = super().resolve_command(ctx, args)
        if name in self.lazy_commands:
            command = load_command(name, self.lazy_commands[name])
        return name, command, rest


def load_command(name: str, lazy: LazyCommand) -> TyperCommand | TyperGroup:
    """Import the target and make a command of it. A group takes its help from `lazy`, a function from its docstring."""
    module, _, attribute = lazy.target.partition(":")
    target = getattr(importlib.import_module(module), attribute)
    if isinstance(target, typer.Typer):
        group = get_group(target)
        group.help = lazy.help
        return group
    single = typer.Typer(add_completion=False)
    single.command(name)(target)
    return get_command(single)
