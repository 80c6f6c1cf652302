"""The database, for the commands that work on it without the service."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import OperationalError

from app.cli.session import CommandError
from app.stack.state_dir import StateDir


@contextmanager
def use_database(home: Path) -> Iterator[None]:
    """Work on DATABASE_URL, else on the database of the stack that runs on the home.

    Raises CommandError when there is neither, and when the database can't be used.
    """
    if not os.environ.get("DATABASE_URL"):
        state = StateDir(home.resolve()).read_state()
        if not state.get("database_url"):
            raise CommandError(f"Set DATABASE_URL, or start a stack: none runs on {home}.")
        os.environ["DATABASE_URL"] = state["database_url"]
    try:
        yield
    except OperationalError as error:
        raise CommandError(f"The database can't be used: {error.orig}".strip()) from error
