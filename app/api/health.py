"""Health checks: whether the process is alive, and whether Postgres, Redis and the migrations are ready."""

import logging

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app import config
from app.persistence import migrate
from app.persistence.db import engine

router = APIRouter(tags=["health"])
# Alembic logs two lines at INFO each time the revision is read, which every readiness check does.
logging.getLogger("alembic").setLevel(logging.WARNING)


@router.get("/healthz", operation_id="isAlive")
def alive():
    """Return 200 as long as the process answers. It checks no store: a restart of this process would not repair one."""
    return {"status": "alive"}


@router.get("/readyz", operation_id="isReady")
def ready():
    """Return 200 when requests can be served, else 503.

    Without Redis the status is `degraded`: workers find their jobs in Postgres, only later.
    """
    checks = {"postgres": _postgres(), "redis": _redis(), "migrations": "unknown"}
    # The revision is read from Postgres: without it the check would only wait for another timeout.
    if checks["postgres"] == "ok":
        current = migrate.is_current()
        checks["migrations"] = "ok" if current else "run `seedbed migrate`"
    usable = checks["postgres"] == checks["migrations"] == "ok"
    status = "unready" if not usable else "ready" if checks["redis"] == "ok" else "degraded"
    return JSONResponse({"status": status, "checks": checks}, 200 if usable else 503)


def _postgres() -> str:
    try:
        with engine().connect() as connection:
            connection.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return "away"
    return "ok"


def _redis() -> str:
    try:
        # A load balancer gives up on a check after a few seconds, and must get this answer while Redis hangs.
        with Redis.from_url(config.redis_url(), socket_connect_timeout=1, socket_timeout=1) as client:
            client.ping()
    except RedisError:
        return "away"
    return "ok"
