"""What the commands share: the service they talk to, and `--json`."""

import functools
import inspect
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import typer

from app.cli.tables import label, plain, print_fields, print_table, value_at
from app.client import Seedbed
from app.errors import UserFacingError
from app.stack.state_dir import StateDir

HomeOption = Annotated[
    Path, typer.Option("--home", envvar="SEEDBED_HOME", help="The folder of the local stack.", show_default=True)
]
DEFAULT_HOME = Path(".seedbed")


class CommandError(UserFacingError):
    """A fault in how the command was called, or in what it found. Its text is for the person."""


@dataclass
class Session:
    """One call of a command: where the service is, the key, and whether JSON is wanted."""

    home: Path
    url: str | None = None
    key: str | None = None
    json: bool = False

    @cached_property
    def client(self) -> Seedbed:
        return Seedbed(*self.address())

    def address(self) -> tuple[str, str]:
        """The address and the key: given, else those of the stack that runs on the home."""
        if self.url:
            if not self.key:
                raise CommandError("--url needs a key: give --key or set SEEDBED_API_KEY.")
            return self.url, self.key
        home = StateDir(self.home.resolve())
        state = home.read_state()
        if not state:
            raise CommandError(
                f"No stack runs on {self.home}. Start one with `seedbed up`, "
                "or name another with --url and --key (SEEDBED_URL, SEEDBED_API_KEY)."
            )
        key = self.key or home.read_api_key()
        if not key:
            raise CommandError(f"There is no key in {home.key_file}. Give --key.")
        return state["url"], key

    def show(self, resource: dict, fields: Iterable[str]) -> None:
        """One resource: raw with --json, else its fields, a line each."""
        if self.json:
            print_json(resource)
            return
        values = ((name, value_at(resource, name)) for name in fields)
        print_fields([(label(name), plain(value)) for name, value in values if value not in (None, {}, [])])

    def table(self, rows: Iterable[dict], fields: Iterable[str]) -> None:
        """Many resources: one JSON object a line with --json, else a table."""
        if self.json:
            for row in rows:
                print(json.dumps(row, ensure_ascii=False))
            return
        print_table(rows, list(fields))


def parse_json(text: str, option: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise CommandError(f"--{option.replace('_', '-')} is not JSON: {error}") from error


def print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


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
