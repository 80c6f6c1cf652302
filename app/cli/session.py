"""The options that all commands share: the address of the service, the API key, and `--json`."""

import functools
import inspect
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import typer

from app.cli.tables import column_title, format_value, get_value, print_fields, print_table
from app.client import Seedbed
from app.errors import UserFacingError
from app.stack.state_dir import StateDir

StateDirOption = Annotated[
    Path,
    typer.Option("--home", envvar="SEEDBED_HOME", help="The state directory of the local stack.", show_default=True),
]
# Relative to the current directory: each project folder can have its own stack.
DEFAULT_STATE_DIR = Path(".seedbed")


class CommandError(UserFacingError):
    """The command can't do what the user wants. The message says why, and what to do."""


@dataclass
class Session:
    """The shared options of one call of a command.

    Attributes:
        state_dir: The state directory of a local stack.
        url: The address of the service, or None for the local stack.
        key: The API key, or None for the key of the local stack.
        json: Whether to print raw JSON.
    """

    state_dir: Path
    url: str | None = None
    key: str | None = None
    json: bool = False

    @cached_property
    def client(self) -> Seedbed:
        """Return a client of the service, created at the first use."""
        return Seedbed(*self.address())

    def address(self) -> tuple[str, str]:
        """Return the address and the API key: those of the options, else those of the stack on the state directory.

        Raises:
            CommandError: No stack runs there, or a key is missing.
        """
        if self.url:
            if not self.key:
                # The key of the local stack must not be sent to another service.
                raise CommandError("--url needs a key: set --key or SEEDBED_API_KEY.")
            return self.url, self.key
        state_dir = StateDir(self.state_dir.resolve())
        state = state_dir.read_state()
        # A state file of a stack that was killed does not count: read_state() checks its process.
        if not state:
            raise CommandError(
                f"No stack runs on {self.state_dir}. Start one with `seedbed up`, "
                "or name another service with --url and --key (SEEDBED_URL, SEEDBED_API_KEY)."
            )
        key = self.key or state_dir.read_api_key()
        if not key:
            raise CommandError(f"There is no API key in {state_dir.key_file}. Set one with --key.")
        return state["url"], key

    def show(self, resource: dict, fields: Iterable[str]) -> None:
        """Print one resource: raw with --json, else each of `fields` that has a value on a line."""
        if self.json:
            print_json(resource)
            return
        values = ((name, get_value(resource, name)) for name in fields)
        print_fields(
            [(column_title(name), format_value(value)) for name, value in values if value not in (None, {}, [])]
        )

    def table(self, rows: Iterable[dict], fields: Iterable[str]) -> None:
        """Print many resources: one JSON object a line with --json, else a table with the columns `fields`."""
        if self.json:
            # One object a line, so that a long list can be processed while it arrives.
            for row in rows:
                print(json.dumps(row, ensure_ascii=False))
            return
        print_table(rows, list(fields))


def parse_json(text: str, option: str) -> object:
    """Return the decoded value of an option. Raises CommandError, with the name of the option, if it is not JSON."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise CommandError(f"--{option.replace('_', '-')} is not JSON: {error}") from error


def print_json(value: object) -> None:
    """Print a value as indented JSON, with Korean text readable."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


SHARED = {
    "url": Annotated[str | None, typer.Option("--url", envvar="SEEDBED_URL", help="The address of the service.")],
    "key": Annotated[
        str | None, typer.Option("--key", envvar="SEEDBED_API_KEY", help="The API key.", show_envvar=False)
    ],
    "state_dir": StateDirOption,
    "json": Annotated[bool, typer.Option("--json", help="Print raw JSON.")],
}
DEFAULTS = {"url": None, "key": None, "state_dir": DEFAULT_STATE_DIR, "json": False}


def connected(function: Callable) -> Callable:
    """Decorate a command: it gets the shared options, and a Session of them as its first argument."""

    @functools.wraps(function)
    def command(**arguments: object) -> None:
        session = Session(**{name: arguments.pop(name) for name in SHARED})
        function(session, **arguments)

    # Typer reads the signature, so the command gets one that lists its own options and the shared ones.
    own_parameters = list(inspect.signature(function).parameters.values())[1:]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=DEFAULTS[name], annotation=annotation)
        for name, annotation in SHARED.items()
    ]
    own_parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own_parameters]
    command.__signature__ = inspect.Signature([*own_parameters, *shared])
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own_parameters, *shared]}
    return command
