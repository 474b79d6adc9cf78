"""Keeps web pages of strangers out of a service that needs no key.

A browser on this machine reaches loopback for any page it shows: through a host name that was made
to point here (DNS rebinding), or with a form, which is sent without asking (a "simple" request of
the Fetch standard). Both give themselves away by the ``Host`` or the ``Origin`` that they carry.
So do proxies and tunnels, by what they say of whom they call for: they would open the service to
the world.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.requests import Request as Call

from pixmill.settings import Settings
from pixmill.web.problems import CallRefused, Code

FORWARDING = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")
"""Headers of calls that somebody passed on."""


def refuse_foreign(call: Call, settings: Settings) -> None:
    """Raise CallRefused for a call that a stranger, or a stranger's page, may have made."""
    if passed_on := [name for name in FORWARDING if name in call.headers]:
        raise CallRefused(
            Code.FOREIGN_ORIGIN,
            f"The call came through a proxy or a tunnel ({passed_on[0]}). While no API key exists,"
            " the service answers only programs of its own machine: create a key first, with"
            " 'pixmill keys create'.",
        )
    host = call.headers.get("host", "")
    name = host_name(host)
    if not is_loopback(name) and name != settings.host.lower():
        raise CallRefused(
            Code.FOREIGN_ORIGIN,
            "While no API key exists, the service answers only under the names of this machine,"
            " such as 127.0.0.1 and localhost.",
        )
    origin = call.headers.get("origin")
    own = f"{call.url.scheme}://{host}".lower()
    if origin is None or origin.lower() == own:
        return
    if not {origin, "*"} & set(cors_origins(settings)):
        raise CallRefused(
            Code.FOREIGN_ORIGIN,
            "While no API key exists, web pages of other sites may not call the service, unless"
            " PIXMILL_CORS_ORIGINS names them.",
        )


def cors_origins(settings: Settings) -> list[str]:
    """The origins whose pages may call the service."""
    return [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]


def host_name(host: str) -> str:
    """The name or address in a ``Host`` header, without port, brackets and case."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_loopback(name: str) -> bool:
    """Whether a host is this machine itself, by its name or address."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
