"""Base classes of request and response bodies: unknown fields are refused, times are RFC 3339 in UTC."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

SIMULATED_NOTE = "Made by a simulated teacher: it shows that the machinery works and teaches a model nothing."
# PostgreSQL stores no NUL in a text, and UTF-8 has no form for a lone surrogate.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class Body(BaseModel):
    """A request body. An unknown field, or a value of another type, is a 422; no value is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @field_validator("*", mode="after")
    @classmethod
    def storable(cls, value):
        """Return the value of a field. Raises a ValueError for a text that the database can't store."""
        if any(UNSTORABLE.search(text) for text in _texts(value)):
            raise ValueError("must not hold NUL characters or half characters (lone surrogates)")
        return value


def _texts(value: object) -> Iterator[str]:
    """Yield all texts of a JSON value, also the keys of objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(key)
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


class View(BaseModel):
    """A response body, which is read from the attributes of a row."""

    model_config = ConfigDict(from_attributes=True)


Time = Annotated[datetime, BeforeValidator(lambda value: value.astimezone(UTC))]


class QueueView(View):
    """The position of a queued job in its queue, and why it waits."""

    name: str
    position: int = Field(description="Among the waiting jobs of its queue, oldest first, from 1.")
    running: int = Field(description="Jobs of the queue that are being worked on.")
    workers: int = Field(description="Workers of the queue that live.")
    reason: str = Field(description="no_worker, waits_for_retry, others_first or next.")
    message: str
    retry_at: Time | None = Field(description="When the next attempt begins, if one has failed.")


class JobView(View):
    """The fields that the response bodies of all long jobs have."""

    id: str
    status: str
    stop_reason: str | None
    error: str | None
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    queue: QueueView | None = Field(default=None, description="Of a queued job: its place, and why it waits.")
