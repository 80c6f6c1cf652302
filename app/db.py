"""The engine and transactions."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session, sessionmaker

from app import config


@cache
def engine() -> Engine:
    return create_engine(
        config.database_url(),
        pool_size=config.settings().pool_size,
        max_overflow=16,
        pool_pre_ping=True,
        connect_args={"connect_timeout": 5, "application_name": "seedbed"},
    )


@cache
def _sessions() -> sessionmaker[Session]:
    return sessionmaker(engine(), expire_on_commit=False)


@contextmanager
def transaction() -> Iterator[Session]:
    """One transaction: committed when the block ends, rolled back when it raises."""
    with _sessions()() as session, session.begin():
        yield session


def after_commit(session: Session, action) -> None:
    """Run `action()` once this session's transaction is committed; never if it rolls back."""
    event.listen(session, "after_commit", lambda _: action(), once=True)
