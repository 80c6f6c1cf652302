"""Every error as application/problem+json, the framework's own among them; and the limit on bodies."""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from redis.exceptions import RedisError
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config import ConfigurationError
from app.errors import AppError, FieldError, pointer_in

log = logging.getLogger(__name__)

_TITLES = {404: "not-found", 405: "method-not-allowed", 413: "body-too-large", 415: "unsupported-media-type"}


def answer(error: AppError, request_path: str) -> JSONResponse:
    body = error.problem() | {"instance": request_path}
    return JSONResponse(body, error.status, error.headers, media_type="application/problem+json")


def register_error_handlers(app: FastAPI) -> None:
    """Register the one rendering for all kinds of failure."""

    @app.exception_handler(AppError)
    def app_error(request: Request, error: AppError):
        return answer(error, request.url.path)

    @app.exception_handler(RequestValidationError)
    def validation_error(request: Request, error: RequestValidationError):
        return answer(_invalid(error), request.url.path)

    @app.exception_handler(HTTPException)
    def framework_error(request: Request, error: HTTPException):
        # FastAPI wraps every exception that is raised while it reads a body, also that of BodySizeLimit.
        if isinstance(error.__cause__, AppError):
            return answer(error.__cause__, request.url.path)
        problem_type = _TITLES.get(error.status_code, "refused")
        return answer(
            AppError(error.status_code, problem_type, str(error.detail), headers=error.headers or {}), request.url.path
        )

    @app.exception_handler(OperationalError)
    @app.exception_handler(RedisError)
    def store_unavailable(request: Request, error: Exception):
        log.warning("%s %s: a store is away: %s", request.method, request.url.path, error)
        message = "The database can't be reached at the moment. Nothing was changed; try again soon."
        return answer(AppError(503, "unavailable", message, headers={"Retry-After": "5"}), request.url.path)

    @app.exception_handler(IntegrityError)
    def integrity_error(request: Request, error: IntegrityError):
        log.warning("%s %s met another request: %s", request.method, request.url.path, error.orig)
        message = "Another request changed the same thing at the same time. Nothing was stored; look, and try again."
        return answer(AppError(409, "conflict", message), request.url.path)

    @app.exception_handler(DataError)
    @app.exception_handler(UnicodeEncodeError)
    def data_error(request: Request, error: Exception):
        message = "A value can't be looked up: it holds a NUL, half a character, or a number out of range."
        return answer(AppError(422, "invalid-input", message), request.url.path)

    @app.exception_handler(DBAPIError)
    def database_error(request: Request, error: DBAPIError):
        if error.connection_invalidated:
            return store_unavailable(request, error)
        return unexpected_error(request, error)

    @app.exception_handler(ConfigurationError)
    def misconfigured(request: Request, error: ConfigurationError):
        log.error("configuration: %s", error)
        return answer(
            AppError(503, "misconfigured", "The service is not configured correctly; see its log."), request.url.path
        )

    @app.exception_handler(Exception)
    def unexpected_error(request: Request, error: Exception):
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        message = "Something went wrong on our side; the log of the service says what."
        return answer(AppError(500, "internal-error", message), request.url.path)


def _invalid(error: RequestValidationError) -> AppError:
    """A 422 that names every field; a body that is no JSON at all is a 400."""
    faults: list[FieldError] = []
    for fault in error.errors():
        if fault["type"] == "json_invalid":
            detail = f"The body is not valid JSON: {fault.get('ctx', {}).get('error', fault['msg'])}."
            return AppError(400, "malformed-json", detail, [FieldError("", detail, "json_invalid")])
        faults.append(
            FieldError(_pointer(fault["loc"], error.body, fault["type"] == "missing"), _message(fault), fault["type"])
        )
    return AppError(422, "invalid-input", "; ".join(f"{f.pointer}: {f.detail}" for f in faults[:5]), faults[:50])


def _pointer(location: tuple, body: object, missing: bool) -> str:
    if location[0] == "body":
        return pointer_in(body, location[1:], missing) or "/"
    return "/".join(map(str, location))


def _message(fault: dict) -> str:
    if fault["type"] == "extra_forbidden":
        return "unknown field"
    return fault["msg"].removeprefix("Value error, ")


class BodySizeLimit:
    """Counts request bodies while they stream in. Uploads have their own, larger limit where they are read."""

    def __init__(self, app: ASGIApp, max_bytes: int):
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].endswith("/imports"):
            return await self.app(scope, receive, send)
        size = 0

        async def receive_counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.max_bytes:
                raise AppError(413, "body-too-large", f"The body has more than {self.max_bytes} bytes.")
            return message

        headers = dict(scope["headers"])
        # A body that declares its size is refused before it is read.
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self.max_bytes:
            error = AppError(
                413, "body-too-large", f"The body has {int(declared)} bytes; at most {self.max_bytes} are taken."
            )
            return await answer(error, scope["path"])(scope, receive, send)
        await self.app(scope, receive_counted, send)
