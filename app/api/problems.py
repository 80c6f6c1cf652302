"""Answers every error as application/problem+json, also those of the framework, and limits the size of bodies."""

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

MAX_FAULTS_IN_DETAIL, MAX_FAULTS = 5, 50
# A restart of Postgres takes a few seconds.
RETRY_AFTER_SECONDS = 5
_TITLES = {404: "not-found", 405: "method-not-allowed", 413: "body-too-large", 415: "unsupported-media-type"}


def problem_response(error: AppError, request_path: str) -> JSONResponse:
    """Return the response for an error, in the form of RFC 9457 (application/problem+json).

    Args:
        error: The error, with its status, its type and its headers.
        request_path: The path of the request; it becomes the member `instance`.
    """
    body = error.problem() | {"instance": request_path}
    return JSONResponse(body, error.status, error.headers, media_type="application/problem+json")


def register_error_handlers(app: FastAPI) -> None:
    """Register a handler for each type of exception, so that every failure is answered as a problem."""
    # Starlette searches the handler by the bases of the exception, from the class upwards: the order does not count.
    for exception_type, handle in _HANDLERS.items():
        app.add_exception_handler(exception_type, handle)


def _app_error(request: Request, error: AppError) -> JSONResponse:
    return problem_response(error, request.url.path)


def _validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
    return problem_response(_invalid(error), request.url.path)


def _framework_error(request: Request, error: HTTPException) -> JSONResponse:
    # FastAPI wraps every exception that is raised while it reads a body, also that of BodySizeLimit.
    if isinstance(error.__cause__, AppError):
        return problem_response(error.__cause__, request.url.path)
    problem_type = _TITLES.get(error.status_code, "refused")
    problem = AppError(error.status_code, problem_type, str(error.detail), headers=error.headers or {})
    return problem_response(problem, request.url.path)


def _store_unavailable(request: Request, error: Exception) -> JSONResponse:
    log.warning("%s %s: a store is away: %s", request.method, request.url.path, error)
    message = "The database can't be reached at the moment. Nothing was changed; try again soon."
    problem = AppError(503, "unavailable", message, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
    return problem_response(problem, request.url.path)


def _integrity_error(request: Request, error: IntegrityError) -> JSONResponse:
    # Requests check names and references before they write: a constraint fails when another request came in between.
    log.warning("%s %s met another request: %s", request.method, request.url.path, error.orig)
    message = "Another request changed the same thing at the same time. Nothing was stored; look, and try again."
    return problem_response(AppError(409, "conflict", message), request.url.path)


def _data_error(request: Request, error: Exception) -> JSONResponse:
    # `Body` refuses such values in a body. Those of a path or a query reach the database driver, which refuses them.
    message = "A value can't be looked up: it holds a NUL, half a character, or a number out of range."
    return problem_response(AppError(422, "invalid-input", message), request.url.path)


def _database_error(request: Request, error: DBAPIError) -> JSONResponse:
    # A connection that broke during a statement is not always an OperationalError.
    if error.connection_invalidated:
        return _store_unavailable(request, error)
    return _unexpected_error(request, error)


def _misconfigured(request: Request, error: ConfigurationError) -> JSONResponse:
    # The message names variables and files of the operator; a tenant does not get it.
    log.error("configuration: %s", error)
    message = "The service is not configured correctly; see its log."
    return problem_response(AppError(503, "misconfigured", message), request.url.path)


def _unexpected_error(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    message = "Something went wrong on our side; the log of the service says what."
    return problem_response(AppError(500, "internal-error", message), request.url.path)


_HANDLERS = {
    AppError: _app_error,
    RequestValidationError: _validation_error,
    HTTPException: _framework_error,
    OperationalError: _store_unavailable,
    RedisError: _store_unavailable,
    IntegrityError: _integrity_error,
    DataError: _data_error,
    UnicodeEncodeError: _data_error,
    DBAPIError: _database_error,
    ConfigurationError: _misconfigured,
    Exception: _unexpected_error,
}


def _invalid(error: RequestValidationError) -> AppError:
    """Return a 422 that names each wrong field; a 400 for a body that is no JSON."""
    faults: list[FieldError] = []
    for fault in error.errors():
        if fault["type"] == "json_invalid":
            detail = f"The body is not valid JSON: {fault.get('ctx', {}).get('error', fault['msg'])}."
            return AppError(400, "malformed-json", detail, [FieldError("", detail, "json_invalid")])
        faults.append(
            FieldError(_pointer(fault["loc"], error.body, fault["type"] == "missing"), _message(fault), fault["type"])
        )
    # A body of 4 MiB can have a fault in each of its rows: the response must not be as long as the request.
    detail = "; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults[:MAX_FAULTS_IN_DETAIL])
    return AppError(422, "invalid-input", detail, faults[:MAX_FAULTS])


def _pointer(location: tuple, body: object, missing: bool) -> str:
    if location[0] == "body":
        return pointer_in(body, location[1:], missing) or "/"
    return "/".join(map(str, location))


def _message(fault: dict) -> str:
    if fault["type"] == "extra_forbidden":
        return "unknown field"
    return fault["msg"].removeprefix("Value error, ")


class BodySizeLimit:
    """Refuses a request body of more than `max_bytes` with a 413, while it streams in.

    Args:
        app: The application behind this middleware.
        max_bytes: The limit. Imports have a larger limit of their own, which is checked where they are read.
    """

    def __init__(self, app: ASGIApp, max_bytes: int):
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count the bytes of its body."""
        if scope["type"] != "http" or scope["path"].endswith("/imports"):
            return await self.app(scope, receive, send)
        size = 0

        # A chunked body declares no size, so that the bytes that arrive are counted.
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
            return await problem_response(error, scope["path"])(scope, receive, send)
        await self.app(scope, receive_counted, send)
