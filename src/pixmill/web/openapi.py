"""The contract as OpenAPI 3.1, complete: every status of every call with its body and headers.

The calls say what is special about them; what may happen to any of them is added here once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.alias_generators import to_camel
from pydantic.json_schema import models_json_schema

from pixmill.web.examples import EXAMPLES
from pixmill.web.outgoing import outgoing
from pixmill.web.problems import MEDIA_TYPE, Code, documented
from pixmill.web.schemas import ProblemDocument, Progress, UploadForm
from pixmill.web.webhook_schemas import WebhookMessage

DESCRIPTION = """\
pixmill takes a CSV of product image URLs, fetches and compresses every image, stores and serves the
results and gives the CSV back with their URLs.

**Keys.** Once an API key exists, every call below `/api` needs one, but for the stored images. A
key sees only its own requests; those of others look as if they did not exist. While no key exists,
calls need none, and the service answers its own machine only. This document needs none ever.

**Errors** are problem documents (RFC 9457, `application/problem+json`) with a stable `code`.

**Pages.** Lists come in pages: hand `nextCursor` back as `cursor` until it is null.

**Webhooks.** An upload may name a `webhookUrl` that is told of its end, or of more: see the
`webhooks` of this document. They are signed by the Standard Webhooks specification.

**Rates.** `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` (seconds) tell what is
left of the calls of this minute; a `429` tells in `Retry-After` when to go on.
"""
TAGS = [
    {"name": "requests", "description": "Hand over CSVs, watch, stop, retry and delete them."},
    {"name": "results", "description": "What became of the images: details, CSVs, the images."},
    {"name": "webhooks", "description": "Who was told of what; messages that were received."},
    {"name": "service", "description": "Whether the service works, and how much it does."},
]

KEYED = (
    Code.UNAUTHENTICATED,
    Code.FORBIDDEN,
    Code.FOREIGN_ORIGIN,
    Code.RATE_LIMITED,
    Code.STORE_UNAVAILABLE,
)
"""How any call may end that looks at the caller's key."""
ANY = (Code.UPLOAD_TOO_LARGE, Code.HEADERS_TOO_LARGE, Code.INTERNAL_ERROR)
"""How any call may end."""

_NUMBER = {"type": "integer", "minimum": 0}
HEADERS: Mapping[str, Any] = {
    "RateLimit-Limit": {"description": "Calls in a minute.", "schema": _NUMBER},
    "RateLimit-Remaining": {"description": "Calls left of them.", "schema": _NUMBER},
    "RateLimit-Reset": {"description": "Seconds until all are there again.", "schema": _NUMBER},
    "Retry-After": {"description": "Seconds to wait before the next call.", "schema": _NUMBER},
    "WWW-Authenticate": {"description": "How to show a key.", "schema": {"type": "string"}},
}
RATES = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
OF_STATUS: Mapping[str, tuple[str, ...]] = {
    "401": ("WWW-Authenticate",),
    "429": ("Retry-After",),
    "503": ("Retry-After",),
}


def contract(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the app."""
    made = get_openapi(
        title=app.title,
        version=app.version,
        summary="Bulk compression of product images.",
        description=DESCRIPTION,
        routes=app.routes,
        tags=TAGS,
    )
    made["paths"] = {_camel_path(path): calls for path, calls in made["paths"].items()}
    for calls in made["paths"].values():
        for call in calls.values():
            _complete(call)
    components = made.setdefault("components", {})
    components["schemas"] = _schemas(components.get("schemas", {}))
    components["headers"] = dict(HEADERS)
    components["schemas"] = _untitled(components["schemas"])
    made["paths"] = _untitled(made["paths"])
    made["webhooks"] = outgoing()
    return made


def _camel_path(path: str) -> str:
    return re.sub(r"{(\w+)}", lambda name: f"{{{to_camel(name[1])}}}", path)


def _complete(call: dict[str, Any]) -> None:
    """Add to a call what may happen to any."""
    for parameter in call.get("parameters", ()):
        parameter["schema"] = _never_null(parameter["schema"])
        if parameter["in"] == "path":
            parameter["name"] = to_camel(parameter["name"])
    answers = call["responses"]
    if "application/json" in answers.get("422", {}).get("content", {}):
        del answers["422"]  # FastAPI's own error body, which this service never sends
    keyed = "security" in call
    codes = [*ANY, *(KEYED if keyed else ())]
    if "parameters" in call or "requestBody" in call:
        codes.append(Code.INVALID_CALL)
    for status, answer in documented(*codes).items():
        _merge(answers.setdefault(str(status), {}), answer)
    counted = keyed or "429" in answers
    for status, answer in answers.items():
        for body in answer.get("content", {}).values():
            name = body.get("schema", {}).get("$ref", "").rpartition("/")[2]
            if name in EXAMPLES and status < "400":
                body.setdefault("example", EXAMPLES[name])
        names = (*RATES, *OF_STATUS.get(status, ())) if counted else ()
        headers = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
        if headers:
            answer["headers"] = answer.get("headers", {}) | headers
    call["responses"] = dict(sorted(answers.items()))


def _never_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a parameter or a part of a form, which can be left out, but not be null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return dict(schema)
    rest = {name: value for name, value in schema.items() if name not in {"anyOf", "default"}}
    return {**kinds[0], **rest}


def _merge(answer: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Let an answer of a call also be one that any call may give."""
    problem = answer.setdefault("content", {}).setdefault(MEDIA_TYPE, more["content"][MEDIA_TYPE])
    known = problem.setdefault("examples", {})
    new = {k: v for k, v in more["content"][MEDIA_TYPE]["examples"].items() if k not in known}
    known.update(new)
    said = answer.get("description")
    answer["description"] = (
        f"{said}; {more['description']}" if said and new else (said or more["description"])
    )


def _untitled(part: Any) -> Any:
    """The part without titles such as "Invalidrows", after which clients would name their types."""
    if isinstance(part, dict):
        return {
            name: value if name in {"example", "examples"} else _untitled(value)
            for name, value in part.items()
            if not (name == "title" and isinstance(value, str))
        }
    if isinstance(part, list):
        return [_untitled(value) for value in part]
    return part


def _schemas(found: Mapping[str, Any]) -> dict[str, Any]:
    """The schemas, with those of bodies that FastAPI does not know of and without its own."""
    _, made = models_json_schema(
        [
            (ProblemDocument, "serialization"),
            (UploadForm, "validation"),
            (WebhookMessage, "serialization"),
            (Progress, "serialization"),
        ],
        ref_template="#/components/schemas/{model}",
    )
    form = made["$defs"]["UploadForm"]["properties"]
    form.update({name: _never_null(schema) for name, schema in form.items()})
    ours = {name: schema for name, schema in found.items() if "ValidationError" not in name}
    return dict(sorted((made["$defs"] | ours).items()))
