"""The webhooks that are sent, for the OpenAPI document: receivers are generated from it too."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pixmill.core.events import Event
from pixmill.core.received import LONGEST_ID
from pixmill.core.webhooks import TOLERANCE_SECONDS
from pixmill.web.examples import EXAMPLES

MESSAGE: Mapping[str, Any] = MappingProxyType(
    {
        "parameters": [
            {
                "in": "header",
                "name": "webhook-id",
                "required": True,
                "description": "Names the event: the same at every attempt.",
                "schema": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": LONGEST_ID,
                    "pattern": "^[!-~]+$",
                },
            },
            {
                "in": "header",
                "name": "webhook-timestamp",
                "required": True,
                "description": "When this attempt was made, in seconds since 1970; at most"
                f" {TOLERANCE_SECONDS} seconds off.",
                "schema": {"type": "string", "pattern": "^[0-9]{1,12}$"},
            },
            {
                "in": "header",
                "name": "webhook-signature",
                "required": True,
                "description": "`v1,` and the base64 of the HMAC-SHA256 of `id.timestamp.body`,"
                " with the bytes that the secret `whsec_…` stands for; several, with spaces"
                " between, while the secret is changed.",
                "schema": {"type": "string", "pattern": "^[!-~]+( [!-~]+)*$"},
            },
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/WebhookMessage"},
                    "example": EXAMPLES["WebhookMessage"],
                }
            },
        },
    }
)
"""The headers and the body of a message (Standard Webhooks)."""

_WHEN: Mapping[Event, str] = MappingProxyType(
    {
        Event.PROCESSING: "All images of a request are known, and work on them begins.",
        Event.PROGRESS: "Another tenth of a request's images has its outcome.",
        Event.COMPLETED: "A request has ended, and at least one image succeeded.",
        Event.FAILED: "A request has ended without any image, or its CSV could not be ingested.",
        Event.CANCELLED: "A request was cancelled. What was done before stays.",
    }
)
_ANSWERS = {
    "2XX": {"description": "The message was taken."},
    "410": {"description": "The endpoint is gone: the message is not sent again."},
    "default": {
        "description": "Anything else, redirects too: the message is sent again later, under the"
        " same id. `Retry-After` is honoured."
    },
}


def outgoing() -> dict[str, Any]:
    """The ``webhooks`` of the OpenAPI document: one for each event."""
    return {event: {"post": _sent(event, when)} for event, when in _WHEN.items()}


def _sent(event: Event, when: str) -> dict[str, Any]:
    what = event.removeprefix("request.")
    return {
        "operationId": f"onRequest{what.capitalize()}",
        "tags": ["webhooks"],
        "summary": f"A request's webhook: {what}",
        "description": f"{when} Sent to the `webhookUrl` of the request, or the service's own.",
        **MESSAGE,
        "responses": _ANSWERS,
    }
