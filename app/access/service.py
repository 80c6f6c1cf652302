"""API keys: a key is shown once, when it is created, and stored as a hash.

A key reads `sb_<id>_<secret>`: the id finds the row, the secret (192 random bits) proves it. With
so many random bits a plain SHA-256 is as safe as a slow hash, and does not slow down the requests.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import NoReturn

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.access import store
from app.errors import AppError
from app.persistence.ids import new_id
from app.tables.access import ApiKey, Project


@dataclass(frozen=True)
class Caller:
    """The authenticated client. Every query of a request is limited to its project."""

    project_id: str
    key_id: str


def ensure_project(session: Session, name: str) -> Project:
    """Return the project with this name, and create it if it does not exist."""
    # Two processes may start at once: the unique name decides, and both then read the same row.
    session.execute(insert(Project).values(id=new_id("proj"), name=name).on_conflict_do_nothing())
    return store.load_project_by_name(session, name)


def create_key(session: Session, project: Project, name: str) -> str:
    """Add a key to the project and return its text, which is the only copy.

    Args:
        session: The transaction.
        project: The project.
        name: The name by which the operator recognises the key.
    """
    short_id, secret = secrets.token_hex(6), secrets.token_hex(24)
    session.add(ApiKey(id=f"key_{short_id}", project_id=project.id, name=name, secret_hash=_hash(secret)))
    return f"sb_{short_id}_{secret}"


def authenticate(session: Session, authorization: str | None) -> Caller:
    """Return the caller of a request.

    Args:
        session: The transaction of the request.
        authorization: The `Authorization` header.

    Raises:
        AppError: A 401. It does not tell an unknown id from a wrong secret.
    """
    # One message for an unknown id and for a wrong secret: a caller must not learn which ids exist.
    if not authorization:
        _refuse("Send your API key as `Authorization: Bearer sb_…`.")
    scheme, _, token = authorization.partition(" ")
    parts = token.strip().split("_")
    if scheme.lower() != "bearer" or len(parts) != 3 or parts[0] != "sb":
        _refuse("The Authorization header does not hold a Seedbed key (`Bearer sb_…`).")
    row = store.load_key(session, f"key_{parts[1]}")
    # In constant time: the time of a plain comparison would reveal how many leading bytes match.
    if row is None or not hmac.compare_digest(row.secret_hash, _hash(parts[2])):
        _refuse("This API key is not known here. It may have been revoked.")
    return Caller(row.project_id, row.id)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _refuse(detail: str) -> NoReturn:
    # RFC 9110, section 11.6.1: a 401 must name the scheme by which the client may authenticate itself.
    raise AppError(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
