"""Errors for people: one class that carries its status, one rendering (RFC 9457, application/problem+json)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

TYPE_PREFIX = "urn:seedbed:problem:"


class UserFacingError(Exception):
    """A fault whose message is written for the person at the command line: what was wrong, and what to do."""


@dataclass(frozen=True)
class FieldError:
    """One fault of the input. `pointer` is a JSON pointer into the body, or `query/…`, `header/…`, `path/…`."""

    pointer: str
    detail: str
    code: str = "invalid"

    def as_dict(self) -> dict:
        return {"pointer": self.pointer, "detail": self.detail, "code": self.code}


@dataclass(eq=False)
class AppError(Exception):
    """A refusal with its HTTP status and a stable type. `detail` says what was wrong and what to do."""

    status: int
    type: str
    detail: str
    errors: list[FieldError] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.detail

    def problem(self) -> dict:
        body = {
            "type": TYPE_PREFIX + self.type,
            "title": self.type.replace("-", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            body["errors"] = [error.as_dict() for error in self.errors]
        return body


def not_found(what: str, id: str) -> AppError:
    return AppError(404, "not-found", f"No {what} with the id {id!r} in this project.")


def invalid(pointer: str, detail: str, code: str = "invalid") -> AppError:
    """A 422 for one field of the body."""
    return AppError(422, "invalid-input", f"{pointer}: {detail}", [FieldError(pointer, detail, code)])


def conflict(detail: str) -> AppError:
    return AppError(409, "conflict", detail)


def pointer_in(value: object, location: Sequence[str | int], missing: bool) -> str:
    """The JSON pointer of a fault in a value, as the caller wrote it: `/rules/1/pattern`.

    Pydantic puts names of types into its locations; what is no part of the value is passed over. A field that is
    missing is the last part of its location, and named, too.
    """
    parts: list[str] = []
    for index, part in enumerate(location):
        inside = isinstance(value, dict) and part in value
        if inside or (isinstance(value, list | tuple) and isinstance(part, int) and part < len(value)):
            value = value[part]
            parts.append(str(part))
        elif missing and index == len(location) - 1:
            parts.append(str(part))
    return "".join(f"/{part}" for part in parts)
