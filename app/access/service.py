"""API keys: a key is shown once, when it is created, and stored as a hash.

A key reads `sb_<id>_<secret>`: the id finds the row, the secret (192 random bits) proves it. With
so many random bits a plain SHA-256 is as safe as a slow hash, and does not slow down the requests.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.access import store
from app.errors import AppError
from app.persistence.ids import new_id
from app.tables.access import ApiKey, Project


@dataclass(frozen=True)
class Caller:
    """The authenticated client. Every query of a request is limited to this project."""

    project_id: str
    key_id: str


def ensure_project(session: Session, name: str) -> Project:
    # Two processes may start at once: the unique name decides, and both then read the same row.
    session.execute(insert(Project).values(id=new_id("proj"), name=name).on_conflict_do_nothing())
    return store.load_project_by_name(session, name)


def create_key(session: Session, project: Project, name: str) -> str:
    """A new key of the project. The text returned is the only copy."""
    short, secret = secrets.token_hex(6), secrets.token_hex(24)
    session.add(ApiKey(id=f"key_{short}", project_id=project.id, name=name, secret_hash=_hash(secret)))
    return f"sb_{short}_{secret}"


def caller(session: Session, authorization: str | None) -> Caller:
    """The caller behind an `Authorization` header. Raises a 401 that does not say which part was wrong."""
    if not authorization:
        raise _unauthorized("Send your API key as `Authorization: Bearer sb_…`.")
    scheme, _, token = authorization.partition(" ")
    parts = token.strip().split("_")
    if scheme.lower() != "bearer" or len(parts) != 3 or parts[0] != "sb":
        raise _unauthorized("The Authorization header does not hold a Seedbed key (`Bearer sb_…`).")
    row = store.key(session, f"key_{parts[1]}")
    if row is None or not hmac.compare_digest(row.secret_hash, _hash(parts[2])):
        raise _unauthorized("This API key is not known here. It may have been revoked.")
    return Caller(row.project_id, row.id)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _unauthorized(detail: str) -> AppError:
    return AppError(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
