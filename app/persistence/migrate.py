"""Migrations of the database schema, by Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from app import config
from app.persistence.db import engine

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


def alembic_config() -> Config:
    settings = Config()
    settings.set_main_option("script_location", str(MIGRATIONS))
    settings.set_main_option("path_separator", "os")
    # Alembic interpolates `%` in options, and a password may contain it.
    settings.set_main_option("sqlalchemy.url", config.database_url().replace("%", "%%"))
    return settings


def upgrade() -> None:
    """Bring the database to the newest revision. Several at once wait for each other."""
    command.upgrade(alembic_config(), "head")


def is_current() -> bool:
    heads = set(ScriptDirectory.from_config(alembic_config()).get_heads())
    with engine().connect() as connection:
        return set(MigrationContext.configure(connection).get_current_heads()) == heads
