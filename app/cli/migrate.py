"""seedbed migrate: the migrations of the database."""

from app.cli.database import use_database
from app.cli.session import DEFAULT_STATE_DIR, StateDirOption
from app.persistence.migrate import upgrade


def migrate(state_dir: StateDirOption = DEFAULT_STATE_DIR) -> None:
    """Migrate the database to the newest schema."""
    with use_database(state_dir):
        upgrade()
    print("The database is at the newest schema.")
