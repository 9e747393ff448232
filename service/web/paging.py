"""Lists in pages: how long a page may be, and what is said of a cursor that leads nowhere."""

from typing import Annotated

from fastapi import Query

from search_spaces import Fault
from service.domain.errors import InvalidInput

LARGEST_PAGE = 500

Limit = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="the most entries of the page")]


def unknown_cursor() -> InvalidInput:
    """The error for an `after` that names nothing in the list (any more)."""
    return InvalidInput([Fault(("query", "after"), "unknown_cursor", "this is `next` of an earlier page; begin again without it")])
