"""Access to the database for the commands that do not use the service."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import OperationalError

from app.cli.session import CommandError
from app.stack.state_dir import StateDir


@contextmanager
def use_database(state_dir: Path) -> Iterator[None]:
    """Set DATABASE_URL, unless it is set already, to the database of the stack that runs on `state_dir`.

    Raises:
        CommandError: There is no DATABASE_URL and no running stack, or the database can't be used.
    """
    if not os.environ.get("DATABASE_URL"):
        state = StateDir(state_dir.resolve()).read_state()
        if not state.get("database_url"):
            raise CommandError(f"No stack runs on {state_dir}. Start one with `seedbed up`, or set DATABASE_URL.")
        # The settings are read from the environment, so this is where the service code looks for the address.
        os.environ["DATABASE_URL"] = state["database_url"]
    try:
        yield
    except OperationalError as error:
        raise CommandError(f"The database can't be used: {error.orig}".strip()) from error
