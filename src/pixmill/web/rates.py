"""How often a key and an address may call in a minute."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from starlette.requests import Request as Call

from pixmill.core.access import ApiKey
from pixmill.web.problems import CallRefused, Code
from pixmill.web.service import Service

WINDOW = 60
"""Seconds in which calls are counted together."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a caller may still do in this window; ``reset`` is in seconds from now."""

    limit: int
    remaining: int
    reset: int

    def headers(self) -> dict[str, str]:
        """What the answer says about it."""
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset),
        }


def count_call(call: Call, service: Service, key: ApiKey | None) -> None:
    """Count a call for its key and its address; raise CallRefused if either had too many.

    The tighter of the two is kept in the call's state, for the headers of its answer.
    """
    settings = service.settings
    limits = {f"address:{address_of(call)}": settings.rate_limit_per_address}
    if key:
        limits[f"key:{key.id}"] = settings.rate_limit
    limits = {caller: limit for caller, limit in limits.items() if limit}
    if not limits:
        return
    now = service.clock()
    counts = service.access.count_calls(list(limits), window=int(now // WINDOW))
    left = [(limit - count, limit) for limit, count in zip(limits.values(), counts, strict=True)]
    remaining, limit = min(left)
    reset = WINDOW - int(now % WINDOW)
    call.state.allowance = Allowance(limit, max(0, remaining), reset)
    if remaining < 0:
        raise CallRefused(
            Code.RATE_LIMITED,
            f"More than {limit} calls came in a minute. Go on in {reset} seconds.",
            headers={"Retry-After": str(reset)},
        )


def address_of(call: Call) -> str:
    """The caller's address; for IPv6 its network, as whoever has one has all of its addresses."""
    host = call.client.host if call.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), 64), strict=False))
