"""Who calls and what they may do: API keys, their scopes, and what a key sees."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, NamedTuple

from fastapi import Depends
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import Request as Call

from pixmill.core.access import NOBODY, ApiKey, Scope, key_id_of
from pixmill.core.errors import NotFound
from pixmill.core.model import Request
from pixmill.ports import Access
from pixmill.web.origins import refuse_foreign
from pixmill.web.problems import CallRefused, Code
from pixmill.web.rates import count_call
from pixmill.web.service import Service, Services

BEARER = HTTPBearer(
    scheme_name="bearer", description="An API key: `Authorization: Bearer …`.", auto_error=False
)
API_KEY = APIKeyHeader(
    name="X-API-Key",
    scheme_name="apiKey",
    description="The same API key, for clients that cannot set `Authorization`.",
    auto_error=False,
)


class Caller(NamedTuple):
    """Who calls: the owner of the requests that they see, and their key if they need one."""

    owner: str
    key: ApiKey | None


def identified(
    call: Call,
    service: Services,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)],
    header: Annotated[str | None, Depends(API_KEY)],
) -> Caller:
    """Whoever calls, once their call is counted. Raises CallRefused if they need another key."""
    if not keys_exist(call, service.access):
        count_call(call, service, None)
        refuse_foreign(call, service.settings)
        return Caller(NOBODY, None)
    shown = bearer.credentials if bearer else header
    key = _opened(service.access, shown) if shown else None
    call.state.key_id = key.id if key else None  # for the log of calls
    count_call(call, service, key)
    if key is None:
        raise _unauthenticated(shown)
    call.state.key_id = key.id  # for the log
    return Caller(key.id, key)


def keys_exist(call: Call, access: Access) -> bool:
    """Whether a key was ever made. Once that is so, it stays so and is not asked again."""
    state = call.app.state
    if not state.keys_exist:
        state.keys_exist = access.any_key()
    return bool(state.keys_exist)


def still_allowed(call: Call, service: Service, caller: Caller) -> bool:
    """Whether a caller who was let in once would be let in now."""
    if caller.key is None:
        return not keys_exist(call, service.access)
    key = service.access.key(caller.key.id)
    return key is not None and key.revoked_at is None


def owned(service: Service, caller: Caller, request_id: str) -> Request:
    """The caller's request with this id.

    Raises NotFound, in the same words whether there is none or it belongs to somebody else.
    """
    try:
        request = service.store.request(request_id)
    except NotFound:
        request = None
    if request is None or request.owner != caller.owner:
        raise NotFound(f"There is no request {request_id[:60]!r}.")
    return request


def _opened(access: Access, text: str) -> ApiKey | None:
    """The key with that text; None if there is none or it is revoked."""
    key_id = key_id_of(text)
    key = access.key(key_id) if key_id else None
    return key if key and key.opened_by(text) else None


def _unauthenticated(shown: str | None) -> CallRefused:
    detail = "The API key is unknown or revoked." if shown else "This call needs an API key."
    error = ', error="invalid_token"' if shown else ""
    return CallRefused(
        Code.UNAUTHENTICATED,
        f"{detail} Send one as 'Authorization: Bearer …' or 'X-API-Key: …'. Keys are made with"
        " 'pixmill keys create'.",
        headers={"WWW-Authenticate": f'Bearer realm="pixmill"{error}'},
    )


def _allowed(scope: Scope) -> Callable[[Caller], Awaitable[Caller]]:
    # These only compare; as plain functions each would cost the call a change of threads.
    async def allowed(caller: Identified) -> Caller:
        if caller.key and not caller.key.allows(scope):
            has = ", ".join(sorted(caller.key.scopes)) or "none"
            raise CallRefused(
                Code.FORBIDDEN,
                f"This call needs a key with the scope '{scope}'; the scopes of key"
                f" {caller.key.id} are: {has}.",
            )
        return caller

    return allowed


Identified = Annotated[Caller, Depends(identified)]
"""Whoever calls, with any scope."""
Submitter = Annotated[Caller, Depends(_allowed(Scope.SUBMIT))]
"""A caller who may upload, cancel, retry and delete."""
Reader = Annotated[Caller, Depends(_allowed(Scope.READ))]
"""A caller who may look."""
Admin = Annotated[Caller, Depends(_allowed(Scope.ADMIN))]
"""A caller who may see the metrics and the received webhooks."""
