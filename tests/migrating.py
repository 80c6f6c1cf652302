"""Migrations by their own process, and rows of the schemas between which they go."""

import os
import subprocess
import sys
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, text

from app.stack import Stack
from tests.waiting import PROCESS_SECONDS

ROOT = Path(__file__).parent.parent


def migrate(stack: Stack, direction: str, revision: str) -> None:
    call = f"command.{direction}(migrate.alembic_config(), '{revision}')"
    code = f"from alembic import command; from app.persistence import migrate; {call}"
    environment = {**os.environ, "DATABASE_URL": stack.database_url, "REDIS_URL": "redis://x"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, timeout=PROCESS_SECONDS)


def engine_of(stack: Stack) -> Engine:
    return create_engine(f"postgresql+psycopg://{stack.database_url.partition('://')[2]}")


def insert(connection: Connection, table: str, row: dict) -> None:
    names = ", ".join(row)
    connection.execute(text(f"INSERT INTO {table} ({names}) VALUES (:{', :'.join(row)})"), row)


def row_of(engine: Engine, query: str) -> tuple:
    with engine.connect() as connection:
        return tuple(connection.execute(text(query)).one())
