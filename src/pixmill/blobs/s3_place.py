"""Which bucket files lie in, and how it is reached: the URL, and the usual AWS variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pixmill.blobs.keys import InvalidKey, check_key
from pixmill.core.errors import InvalidSetting

if TYPE_CHECKING:  # obstore has these for type checkers only
    from obstore.store import ClientConfig, S3Config

CONNECT_SECONDS = 5
CALL_SECONDS = 30
"""One call, with what it sends or gets: at most a part of some megabytes."""

_BUCKET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,61}[a-zA-Z0-9]")
_ENDPOINT = re.compile(r"https?://[a-zA-Z0-9.\-_\[\]:]+(/[a-zA-Z0-9.\-_/]*)?")
_ENDPOINT_NAMES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


@dataclass(frozen=True, slots=True)
class S3Place:
    """A bucket and the prefix of all keys in it.

    ``config`` and ``client_options`` are obstore's. What they do not say, such as the credentials,
    obstore takes from the environment, or from the role of the machine.
    """

    bucket: str
    prefix: str
    config: S3Config = field(repr=False)
    client_options: ClientConfig = field(repr=False)


def s3_place(url: str, environment: Mapping[str, str]) -> S3Place:
    """The place that ``s3://bucket/prefix`` and the environment name; raises InvalidSetting."""
    parts = urlsplit(url)
    if parts.scheme != "s3" or not _BUCKET.fullmatch(parts.netloc) or parts.query or parts.fragment:
        raise InvalidSetting(  # without the URL: somebody may have put credentials into it
            "PIXMILL_BLOBS must look like s3://bucket or s3://bucket/prefix. The endpoint and the"
            " credentials belong into AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and"
            " AWS_SECRET_ACCESS_KEY."
        )
    prefix = unquote(parts.path).strip("/")
    if prefix:
        try:
            check_key(prefix)
        except InvalidKey:
            raise InvalidSetting(f"PIXMILL_BLOBS: {prefix!r} cannot begin a key.") from None
    return S3Place(parts.netloc, prefix, _config(environment), _client_options(environment))


def _config(environment: Mapping[str, str]) -> S3Config:
    endpoint = _endpoint(environment)
    config: S3Config = {"endpoint": endpoint} if endpoint else {}
    if key := environment.get("AWS_ACCESS_KEY_ID"):
        config["access_key_id"] = key
    if secret := environment.get("AWS_SECRET_ACCESS_KEY"):
        config["secret_access_key"] = secret
    if token := environment.get("AWS_SESSION_TOKEN"):
        config["session_token"] = token
    if region := environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION"):
        config["region"] = region
    return config


def _client_options(environment: Mapping[str, str]) -> ClientConfig:
    options: ClientConfig = {
        "allow_http": _endpoint(environment).startswith("http://"),
        "connect_timeout": f"{CONNECT_SECONDS} seconds",
        "timeout": f"{CALL_SECONDS} seconds",
        "user_agent": "pixmill",
    }
    if bundle := environment.get("AWS_CA_BUNDLE"):
        try:
            options["root_certificate"] = Path(bundle).read_bytes()
        except OSError as error:
            raise InvalidSetting(f"AWS_CA_BUNDLE cannot be read: {error.strerror}.") from error
    return options


def _endpoint(environment: Mapping[str, str]) -> str:
    """The endpoint, or nothing for that of AWS. obstore's own check of it ends the process."""
    for name in _ENDPOINT_NAMES:
        if endpoint := environment.get(name, "").strip():
            if not _ENDPOINT.fullmatch(endpoint):
                raise InvalidSetting(f"{name} must look like https://s3.example:9000.")
            return endpoint.rstrip("/")
    return ""
