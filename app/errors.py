"""Errors for people. `AppError` carries the status of a response and its body (RFC 9457, application/problem+json)."""

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
        """Return the fault as a member of `errors` in the body of a problem."""
        return {"pointer": self.pointer, "detail": self.detail, "code": self.code}


# eq=False: a dataclass with an __eq__ of its own is not hashable, and libraries expect that of exceptions.
@dataclass(eq=False)
class AppError(Exception):
    """A refusal with its HTTP status.

    Attributes:
        status: The HTTP status.
        type: The type of the problem, which programs may compare; it does not change.
        detail: What was wrong and what to do, for people.
        errors: The faults by field; empty where no field is at fault.
        headers: Further headers of the response.
    """

    status: int
    type: str
    detail: str
    errors: list[FieldError] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.detail

    def problem(self) -> dict:
        """Return the body of the problem (RFC 9457, section 3.1), without the member `instance`."""
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
    """Return a 404 for an object that the caller's project does not have.

    Args:
        what: The type of the object, as a noun.
        id: The id of the request.
    """
    # The same answer for an object of another project: a 403 would reveal that the id exists (OWASP API1:2023).
    return AppError(404, "not-found", f"No {what} with the id {id!r} in this project.")


def invalid(pointer: str, detail: str, code: str = "invalid") -> AppError:
    """Return a 422 for one field of the request.

    Args:
        pointer: The JSON pointer of the field, as in `FieldError`.
        detail: What was wrong and what to do.
        code: The type of the fault, which programs may compare.
    """
    return AppError(422, "invalid-input", f"{pointer}: {detail}", [FieldError(pointer, detail, code)])


def conflict(detail: str) -> AppError:
    """Return a 409: the request does not fit to the state of the object. `detail` says what to do."""
    return AppError(409, "conflict", detail)


def pointer_in(value: object, location: Sequence[str | int], missing: bool) -> str:
    """Return the JSON pointer (RFC 6901) of a fault in a value, for example `/rules/1/pattern`.

    Args:
        value: The value, as the caller sent it.
        location: The location of the fault by Pydantic. Names of types in it, which are no part of the value, are
            left out.
        missing: Whether the fault is a missing field, which is the last part of the location.
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
