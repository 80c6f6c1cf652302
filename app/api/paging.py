"""Lists: `limit` and `after`, newest first, by key and never by offset."""

from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel

Item = TypeVar("Item", bound=BaseModel)

# By key and not by OFFSET: the database would read all rows before the page, and a row added meanwhile would shift it.
Limit = Annotated[int, Query(ge=1, le=200, description="Most items to return.")]
After = Annotated[str | None, Query(max_length=100, description="The `next` of the page before.")]


class Page(BaseModel, Generic[Item]):
    """One page of a list. `next` is the value of `after` for the next page; null on the last page."""

    data: list[Item]
    has_more: bool
    next: str | None


def page(rows: Sequence, limit: int, to_view: Callable) -> Page:
    """Return the page that shows these rows.

    Args:
        rows: Up to `limit + 1` rows. The extra row only shows that there is a next page, and is not returned.
        limit: The size of a page.
        to_view: Returns the response body of a row.
    """
    items = [to_view(row) for row in rows[:limit]]
    return Page(data=items, has_more=len(rows) > limit, next=rows[limit - 1].id if len(rows) > limit else None)
