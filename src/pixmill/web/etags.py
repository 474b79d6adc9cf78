"""Entity tags: what a client has already need not be sent again (RFC 9110, section 13)."""

from __future__ import annotations

import hashlib
import re

from starlette.requests import Request as Call

_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def tag_of(*parts: object) -> str:
    """A strong tag of an answer that depends on these things alone."""
    told_apart = "\0".join(repr(part) for part in parts)
    return f'"{hashlib.blake2b(told_apart.encode(), digest_size=15).hexdigest()}"'


def has_already(call: Call, tag: str) -> bool:
    """Whether ``If-None-Match`` names this tag, by the weak comparison that it asks for."""
    given = ",".join(call.headers.getlist("if-none-match"))
    return given.strip() == "*" or tag in _TAG.findall(given)
