"""The SQL of projects, API keys and idempotency keys."""

from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session

from app.tables.access import ApiKey, IdempotencyKey, Project


def load_key(session: Session, id: str) -> ApiKey | None:
    """Return the API key with this id; None: it does not exist, or was revoked."""
    return session.scalar(select(ApiKey).where(ApiKey.id == id, ApiKey.revoked_at.is_(None)))


def load_project_by_name(session: Session, name: str) -> Project | None:
    """Return the project with this name; None: it does not exist."""
    return session.scalar(select(Project).where(Project.name == name))


def delete_expired_keys(session: Session) -> None:
    """Delete the idempotency keys that are older than a day, after which no client repeats its request."""
    expiry = func.now() - text("interval '24 hours'")
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < expiry))
