"""What the commands share: whom they talk to, and how they print. Heavy imports wait until they are needed."""

import functools
import inspect
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from app.client import Seedbed

HomeOption = Annotated[
    Path, typer.Option("--home", envvar="SEEDBED_HOME", help="The folder of the local stack.", show_default=True)
]
DEFAULT_HOME = Path(".seedbed")
# Wide enough for a digest.
CELL = 64


class CommandError(Exception):
    """A fault in how the command was called, or in what it found. Its text is for the person."""


@dataclass
class Session:
    """One call of a command: where the service is, the key, and whether JSON is wanted."""

    home: Path
    url: str | None = None
    key: str | None = None
    json: bool = False

    @cached_property
    def client(self) -> "Seedbed":
        from app.client import Seedbed

        return Seedbed(*self.address())

    def address(self) -> tuple[str, str]:
        """The address and the key: given, else those of the stack that runs on the home."""
        if self.url:
            if not self.key:
                raise CommandError("--url needs a key: give --key or set SEEDBED_API_KEY.")
            return self.url, self.key
        from app.stack.home import Home

        home = Home(self.home.resolve())
        state = home.read_state()
        if not state:
            raise CommandError(
                f"No stack runs on {self.home}. Start one with `seedbed up`, "
                "or name another with --url and --key (SEEDBED_URL, SEEDBED_API_KEY)."
            )
        key = self.key or home.read_key()
        if not key:
            raise CommandError(f"There is no key in {home.key_file}. Give --key.")
        return state["url"], key

    def show(self, resource: dict, fields: Iterable[str]) -> None:
        """One resource: raw with --json, else its fields, a line each."""
        if self.json:
            print_json(resource)
            return
        for name in fields:
            value = _inside(resource, name)
            if value not in (None, {}, []):
                print(f"{name.replace('_', ' ').replace('.', ' '):<24} {plain(value)}")

    def table(self, rows: Iterable[dict], fields: Iterable[str]) -> None:
        """Many resources: one JSON object a line with --json, else a table."""
        if self.json:
            for row in rows:
                print(json.dumps(row, ensure_ascii=False))
            return
        names = list(fields)
        lines = [[name.replace("_", " ").replace(".", " ") for name in names]]
        lines += [[_cell(_inside(row, name)) for name in names] for row in rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
        for line in lines:
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def console() -> "Console":
    """To a file or a pipe it writes plain lines, wide enough that no id is cut."""
    from rich.console import Console

    made = Console(highlight=False, markup=False)
    return made if made.is_terminal else Console(highlight=False, markup=False, width=200, no_color=True)


def parse_json(text: str, option: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise CommandError(f"--{option.replace('_', '-')} is not JSON: {error}") from error


def print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain(number)}" for name, number in value.items())
    if isinstance(value, list):
        return ", ".join(plain(item) for item in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def _cell(value: object) -> str:
    """One short line, however long the text and however many lines it has."""
    text = " ".join(plain(value).split())
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


def _inside(resource: dict, path: str) -> object:
    """The value at `counts.accepted`."""
    value: object = resource
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


SHARED = {
    "url": Annotated[str | None, typer.Option("--url", envvar="SEEDBED_URL", help="Address of the service.")],
    "key": Annotated[str | None, typer.Option("--key", envvar="SEEDBED_API_KEY", help="API key.", show_envvar=False)],
    "home": HomeOption,
    "json": Annotated[bool, typer.Option("--json", help="Print the raw resource.")],
}
DEFAULTS = {"url": None, "key": None, "home": DEFAULT_HOME, "json": False}


def connected(function: Callable) -> Callable:
    """Give a command the shared options, and the Session made of them as its first argument."""

    @functools.wraps(function)
    def command(**arguments: object) -> None:
        session = Session(**{name: arguments.pop(name) for name in SHARED})
        function(session, **arguments)

    own = list(inspect.signature(function).parameters.values())[1:]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=DEFAULTS[name], annotation=annotation)
        for name, annotation in SHARED.items()
    ]
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    command.__signature__ = inspect.Signature([*own, *shared])
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *shared]}
    return command
