"""The dependency that gives a request its transaction."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy.orm import Session

from app.persistence.db import transaction


def _request_session() -> Iterator[Session]:
    with transaction() as session:
        yield session


# scope="function": the commit happens before the response is sent, so that a client
# that follows the Location at once finds the row.
Db = Annotated[Session, Depends(_request_session, scope="function")]
