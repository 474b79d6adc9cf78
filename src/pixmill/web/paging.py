"""What all lists have in common: how long a page is and where it begins."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from pixmill.web.cursors import MOST, USUAL

Limit = Annotated[
    int, Query(ge=1, le=MOST, description=f"How many a page has: {USUAL} unless told otherwise.")
]
CursorParameter = Annotated[
    str | None, Query(description="`nextCursor` of the page before; left out for the first page.")
]
