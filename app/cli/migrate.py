"""seedbed migrate."""

from app.cli.database import use_database
from app.cli.session import DEFAULT_HOME, HomeOption
from app.persistence.migrate import upgrade


def migrate(home: HomeOption = DEFAULT_HOME) -> None:
    """Bring the database to the newest schema."""
    with use_database(home):
        upgrade()
    print("The database is at the newest schema.")
