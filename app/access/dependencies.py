"""Dependencies of endpoints: the caller, and the guard that creates only once when a POST is repeated."""

import hashlib
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.access import service
from app.access.service import Caller
from app.api.session import Db
from app.errors import AppError, invalid
from app.tables.access import IdempotencyKey

# This documents the scheme in OpenAPI. It raises nothing: `service.authenticate` answers with problem+json.
_bearer = HTTPBearer(auto_error=False, description="An API key: `Bearer sb_…`")


def _caller(request: Request, session: Db, _=Depends(_bearer)) -> Caller:
    return service.authenticate(session, request.headers.get("authorization"))


Authorized = Annotated[Caller, Depends(_caller)]


class IdempotencyGuard:
    """Runs a creating action at most once per Idempotency-Key; a repeated request gets the first response.

    (IETF draft-ietf-httpapi-idempotency-key-header-07.)

    Args:
        session: The transaction of the request.
        caller: The authenticated client.
        key: The Idempotency-Key; None: every request creates.
        fingerprint: The digest of the request. One key may be used with one request only.
    """

    def __init__(self, session: Session, caller: Caller, key: str | None, fingerprint: str):
        self.session, self.caller, self.key, self.fingerprint = session, caller, key, fingerprint

    def __call__(self, status: int, create: Callable[[], BaseModel], location: Callable[[BaseModel], str]) -> Response:
        """Run the action, or return the response of the first request with the same key.

        Args:
            status: The HTTP status of the response.
            create: Creates the object and returns the body of the response.
            location: Returns the URL of the object, from the body.

        Raises:
            AppError: A 422 for a key of another request; a 409 while the first request is being worked on.
        """
        if self.key is not None and not self._is_first_request():
            return self._replay()
        created = create()
        body, url = created.model_dump(mode="json"), location(created)
        if self.key is not None:
            # In the transaction that creates the object: both are stored, or neither is.
            self.session.execute(
                update(IdempotencyKey)
                .where(IdempotencyKey.project_id == self.caller.project_id, IdempotencyKey.key == self.key)
                .values(status=status, location=url, body=body)
            )
        return _build_response(status, body, url)

    def with_content(self, digest: str) -> "IdempotencyGuard":
        """Return a guard whose fingerprint includes the digest of an upload, which is known after it was read."""
        return IdempotencyGuard(self.session, self.caller, self.key, f"{self.fingerprint}:{digest}")

    def _is_first_request(self) -> bool:
        # A second request waits here, in the unique index, until the first has committed or rolled back.
        inserted_key = self.session.scalar(
            insert(IdempotencyKey)
            .values(project_id=self.caller.project_id, key=self.key, fingerprint=self.fingerprint)
            .on_conflict_do_nothing()
            .returning(IdempotencyKey.key)
        )
        return inserted_key is not None

    def _replay(self) -> Response:
        row = self.session.scalar(
            select(IdempotencyKey).where(
                IdempotencyKey.project_id == self.caller.project_id, IdempotencyKey.key == self.key
            )
        )
        if row.fingerprint != self.fingerprint:
            raise invalid(
                "header/Idempotency-Key", "this key was used with another request; send a new key", "key_reused"
            )
        if row.status is None:
            raise AppError(
                409,
                "conflict",
                "The first request with this Idempotency-Key is still being worked on; repeat this one later.",
            )
        return _build_response(row.status, row.body, row.location, replayed=True)


def _build_response(status: int, body: dict, location: str, replayed: bool = False) -> JSONResponse:
    headers = {"Location": location}
    # A job takes seconds at least: a client that polls more often learns nothing.
    if status == 202:
        headers["Retry-After"] = "2"
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return JSONResponse(body, status, headers)


async def _fingerprint(request: Request) -> str:
    """Return the digest of the request line and, for JSON, of the body. `with_content` adds the body of an upload."""
    # The query, too: one key must not answer a request with other parameters.
    line = f"{request.method} {request.url.path}?{request.url.query}".encode()
    body = await request.body() if "json" in request.headers.get("content-type", "json").split(";")[0][-4:] else b""
    return hashlib.sha256(line + b"\0" + body).hexdigest()


def _idempotency_guard(
    session: Db,
    caller: Authorized,
    fingerprint: Annotated[str, Depends(_fingerprint)],
    key: Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)] = None,
) -> IdempotencyGuard:
    return IdempotencyGuard(session, caller, key, fingerprint)


Idempotent = Annotated[IdempotencyGuard, Depends(_idempotency_guard)]
