"""Before the first request: the migrations, and an API key that the database knows. `python -m app.stack.prepare`."""

import sys
from pathlib import Path

from sqlalchemy.exc import OperationalError

from app import db
from app.access import service
from app.config import ConfigurationError
from app.errors import AppError
from app.migrate import upgrade
from app.stack.home import write_private

PROJECT = "default"


def ensure_key(file: Path) -> None:
    """Keep the key of the last stack if this database knows it; else make one."""
    with db.transaction() as session:
        key = file.read_text().strip() if file.exists() else ""
        try:
            service.caller(session, f"Bearer {key}")
            return
        except AppError:
            key = service.create_key(session, service.ensure_project(session, PROJECT), "seedbed up")
    write_private(file, key)


def main() -> None:
    try:
        upgrade()
        ensure_key(Path(sys.argv[1]))
    except ConfigurationError as error:
        sys.exit(str(error))
    except OperationalError as error:
        sys.exit(str(error.orig).strip())


if __name__ == "__main__":
    main()
