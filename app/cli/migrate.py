"""seedbed migrate: the migrations of the database."""

from app.cli.database import use_database
from app.cli.session import DEFAULT_STATE_DIR, StateDirOption
from app.persistence.migrate import upgrade


def migrate(state_dir: StateDirOption = DEFAULT_STATE_DIR) -> None:
    """Migrate the database to the newest schema."""
    with use_database(state_dir):
        upgrade()
    # Migrations print nothing, and a silent command leaves the user in doubt.
    print("The database is at the newest schema.")
