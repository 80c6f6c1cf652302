"""Old names of the REST API, marked as deprecated in the schema of OpenAPI."""

from typing import Annotated

from pydantic import AfterValidator

from app.deprecation import message

# The reasons for a rejection that have another name now.
_REASONS = {"surplus": "over_target"}
# A reason for a rejection as a filter takes it: an old name stands for the new one.
Reason = Annotated[str, AfterValidator(lambda reason: _REASONS.get(reason, reason))]


def old_field(old: str, new: str) -> dict:
    """Arguments of pydantic's `computed_field` for the field `old` of a response, which is now called `new`."""
    return {"description": message(f"`{old}`", f"`{new}`"), "json_schema_extra": {"deprecated": True}}
