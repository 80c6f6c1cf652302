"""The engine and transactions."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from psycopg.errors import IdleInTransactionSessionTimeout
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from app import config

# A process that hangs in the middle of a brief transaction loses its connection after this time, and its locks with it.
BRIEF_MILLISECONDS = 1000


class StoodStill(OperationalError):
    """The server has ended a brief transaction in which this process stood still. Nothing was committed: try again."""


@cache
def engine(brief: bool = False) -> Engine:
    """The connections of this process. `brief`: those on which the server ends a transaction that stands still."""
    engine = create_engine(
        config.database_url(),
        pool_size=config.settings().pool_size,
        max_overflow=16,
        # A connection may have died with a restart of Postgres; the ping replaces it before a query fails.
        pool_pre_ping=True,
        connect_args={"connect_timeout": 5, "application_name": "seedbed"},
    )
    if brief:
        event.listen(engine, "connect", _end_what_stands_still)
    return engine


def _end_what_stands_still(connection, _) -> None:
    connection.execute(f"SET idle_in_transaction_session_timeout = {BRIEF_MILLISECONDS}")
    connection.commit()


@cache
def _sessions(brief: bool = False) -> sessionmaker[Session]:
    # Rows stay readable after the commit: callers build responses and events from them.
    return sessionmaker(engine(brief), expire_on_commit=False)


@contextmanager
def transaction() -> Iterator[Session]:
    """One transaction: committed when the block ends, rolled back when it raises."""
    with _sessions()() as session, session.begin():
        yield session


@contextmanager
def brief_transaction() -> Iterator[Session]:
    """The same for a row that others wait for. Do nothing in it but SQL.

    Raises StoodStill when this process stood still for too long, as a live one may on a machine with too much to do.
    """
    try:
        with _sessions(brief=True)() as session, session.begin():
            yield session
    except DBAPIError as error:
        if isinstance(error.orig, IdleInTransactionSessionTimeout):
            raise StoodStill(error.statement, error.params, error.orig) from error
        raise


def after_commit(session: Session, action) -> None:
    """Run `action()` once this session's transaction is committed; never if it rolls back."""
    event.listen(session, "after_commit", lambda _: action(), once=True)
