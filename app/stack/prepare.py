"""Prepares the database: migrations and an API key. It runs as `python -m app.stack.prepare KEY_FILE`."""

import sys
from pathlib import Path

from sqlalchemy.exc import OperationalError

from app.access import service
from app.config import ConfigurationError
from app.errors import AppError
from app.persistence import db
from app.persistence.migrate import upgrade
from app.stack.state_dir import write_private

PROJECT = "default"


def ensure_key(file: Path) -> None:
    """Keep the key in the file if the database has it, else create one and write it to the file."""
    with db.transaction() as session:
        key = file.read_text().strip() if file.exists() else ""
        try:
            service.authenticate(session, f"Bearer {key}")
            return
        except AppError:
            # The database may be another one than at the last start.
            key = service.create_key(session, service.ensure_project(session, PROJECT), "seedbed up")
    write_private(file, key)


def main() -> None:
    """Migrate the database and write the key; exit with a message if that fails."""
    try:
        upgrade()
        ensure_key(Path(sys.argv[1]))
    except ConfigurationError as error:
        sys.exit(str(error))
    except OperationalError as error:
        sys.exit(str(error.orig).strip())


if __name__ == "__main__":
    main()
