"""Projects, their API keys, and the responses to requests with an Idempotency-Key."""

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary, func
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.jobs import Table


class Project(Table):
    """A tenant. Every dataset, job and key belongs to one project, and no request sees the objects of another."""

    __tablename__ = "projects"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ApiKey(Table):
    """An API key. Only a hash of its secret is stored; the key itself is shown once, when it is created."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked_at: Mapped[datetime | None]


class IdempotencyKey(Table):
    """The response to the first POST with this key. `status` is null while the first request is being worked on."""

    __tablename__ = "idempotency_keys"
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    status: Mapped[int | None]
    location: Mapped[str | None]
    body: Mapped[dict | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
