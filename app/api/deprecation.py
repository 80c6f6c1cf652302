"""Old names of the REST API, marked as deprecated in the schema of OpenAPI."""

from app.deprecation import message


def old_field(old: str, new: str) -> dict:
    """Arguments of pydantic's `computed_field` for the field `old` of a response, which is now called `new`."""
    return {"description": message(f"`{old}`", f"`{new}`"), "json_schema_extra": {"deprecated": True}}
