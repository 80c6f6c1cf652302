"""Connections to Postgres, and transactions."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from psycopg.errors import IdleInTransactionSessionTimeout
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from app import config

# When a process hangs inside a brief transaction, the server ends its connection after this time, and so its locks.
BRIEF_MILLISECONDS = 1000


class TransactionTimedOut(OperationalError):
    """The server has ended a brief transaction in which this process was idle for too long. Nothing was committed."""


@cache
def engine(brief: bool = False) -> Engine:
    """Return the engine of this process, which owns its connections.

    Args:
        brief: Whether the server ends a transaction that is idle for BRIEF_MILLISECONDS.
    """
    engine = create_engine(
        config.database_url(),
        pool_size=config.settings().pool_size,
        max_overflow=16,
        # A connection may have died with a restart of Postgres; the ping replaces it before a query fails.
        pool_pre_ping=True,
        connect_args={"connect_timeout": 5, "application_name": "seedbed"},
    )
    if brief:
        event.listen(engine, "connect", _set_idle_timeout)
    return engine


def _set_idle_timeout(connection, _) -> None:
    connection.execute(f"SET idle_in_transaction_session_timeout = {BRIEF_MILLISECONDS}")
    connection.commit()


@cache
def _sessions(brief: bool = False) -> sessionmaker[Session]:
    # Rows stay readable after the commit: callers build responses and events from them.
    return sessionmaker(engine(brief), expire_on_commit=False)


@contextmanager
def transaction() -> Iterator[Session]:
    """Run the block in one transaction, which is committed when the block ends and rolled back when it raises."""
    with _sessions()() as session, session.begin():
        yield session


@contextmanager
def brief_transaction() -> Iterator[Session]:
    """Run the block in one transaction that locks a row for which others wait. The block does nothing but SQL.

    Raises:
        TransactionTimedOut: This process was idle inside the transaction for too long, as may happen on a busy machine.
            Nothing was committed; the caller may try again.
        DBAPIError: Any other error of the database.
    """
    try:
        with _sessions(brief=True)() as session, session.begin():
            yield session
    except DBAPIError as error:
        if isinstance(error.orig, IdleInTransactionSessionTimeout):
            raise TransactionTimedOut(error.statement, error.params, error.orig) from error
        raise


def after_commit(session: Session, action: Callable[[], object]) -> None:
    """Call `action()` after the session's transaction is committed. When it is rolled back, the action is not called.

    Args:
        session: The session, in its transaction.
        action: The action. Its result is ignored.
    """
    event.listen(session, "after_commit", lambda _: action(), once=True)
