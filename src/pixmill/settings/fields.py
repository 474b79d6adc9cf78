"""What can be set, and what each setting may be."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pixmill.core.addresses import AddressPolicy, check_url
from pixmill.core.errors import ImageError, InvalidSetting
from pixmill.core.webhooks import parse_secret
from pixmill.settings.machine import few_workers

PREFIX = "PIXMILL_"
DOTENV = ".env"
MOST_SECRETS = 2
LOCAL = "local"
BROKERS = ("redis", "rediss", "amqp", "amqps")

_ORIGIN = re.compile(r"https?://[^/?#@\s]+")


class Settings(BaseSettings):
    """Everything that can be set. Each field is ``PIXMILL_<NAME>`` and ``--<name>``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=DOTENV, env_file_encoding="utf-8", extra="ignore", frozen=True
    )

    data_dir: Path = Field(
        Path("pixmill-data"), description="Folder in which the default store and blobs live."
    )
    store: str = Field(
        "",
        description="Store: sqlite:///path/to/file.db, or mongodb://host/database of a replica set."
        " Default: pixmill.db in the data folder.",
    )
    blobs: str = Field(
        "",
        description="Images: file:///folder, or s3://bucket/prefix, reached as the AWS_ variables"
        " say. Default: the data folder.",
    )
    engine: str = Field(
        "local",
        repr=False,
        description="Who works: local, which is worker processes of this machine; or workers"
        " anywhere, told by a broker: redis://host:6379/0 or amqp://user:password@host/vhost.",
    )
    host: str = Field(
        "127.0.0.1", description="Address that `serve` listens on. Others than loopback need a key."
    )
    port: int = Field(8000, ge=0, le=65535, description="Port that `serve` listens on.")
    workers: int = Field(
        default_factory=few_workers,
        ge=1,
        le=1024,
        description="Worker processes, which share the cores. Default: one for every four.",
    )
    threads: int = Field(
        160, ge=1, le=512, description="Images that a worker has in hand at once, fetches included."
    )
    public_url: str = Field(
        "",
        description="Base URL of the stored images, such as a CDN's. Default for `serve`: its own.",
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses or networks, comma-separated, of reverse proxies whose "
        "X-Forwarded-For and X-Forwarded-Proto are believed.",
    )
    cors_origins: str = Field(
        "", description="Origins, comma-separated, whose web pages may call the API; * for all."
    )
    tls_cert: Path | None = Field(None, description="Certificate chain for https, a PEM file.")
    tls_key: Path | None = Field(None, description="Private key of the certificate, a PEM file.")
    rate_limit: int = Field(
        6000, ge=0, description="Calls that a key may make in a minute; 0 for no limit."
    )
    rate_limit_per_address: int = Field(
        6000, ge=0, description="Calls that may come from one address in a minute; 0 for no limit."
    )
    max_upload_size: int = Field(100_000_000, ge=1, description="Largest upload in bytes.")
    max_rows: int = Field(1_000_000, ge=1, description="Most rows of a CSV.")
    max_urls_per_cell: int = Field(100, ge=1, description="Most image URLs in a cell.")
    max_url_length: int = Field(4096, ge=1, description="Longest image URL in characters.")
    ready_max_wait: float = Field(
        300.0,
        gt=0,
        description="Seconds that open work may wait for a worker before /ready says no.",
    )
    retention_days: float = Field(
        0.0, ge=0, description="Days after which finished requests are deleted; 0 keeps them."
    )
    url: str = Field(
        "http://127.0.0.1:8000",
        description="The service to talk to. Links in webhooks lead there; default for `serve`: "
        "its own address.",
    )
    api_key: str = Field(
        "",
        description="API key that submit, status and the like show. Better set than given as a "
        "flag, which other users of the machine can see.",
    )
    webhook_url: str = Field(
        "",
        repr=False,
        description="Endpoint that is told of requests which name none of their own.",
    )
    webhook_secret: str = Field(
        "",
        repr=False,
        description="Secret whsec_… that signs webhooks; while it is changed two, separated by a "
        "space, the newer first. Better set than given as a flag, which other users of the "
        "machine can see. Default: one that is made and kept in the store.",
    )
    allowed_addresses: str = Field(
        "",
        description="Networks that may be fetched from although the address guard would refuse "
        "them, with an optional port each: 127.0.0.0/8:8088,[::1].",
    )
    user_agent: str = Field("pixmill/0.1", description="How fetches introduce themselves.")
    max_src_file_size: int = Field(50_000_000, ge=1, description="Largest source image in bytes.")
    max_src_resolution: float = Field(50.0, gt=0, description="Largest source image in megapixels.")
    max_redirects: int = Field(5, ge=0, le=50, description="Redirects that a fetch follows.")
    download_timeout: float = Field(
        60.0, gt=0, description="Seconds that one download may take in all."
    )
    stall_timeout: float = Field(
        15.0, gt=0, description="Seconds without a byte after which a download is given up."
    )
    max_downloads_per_host: int = Field(
        32, ge=1, description="Downloads at once from one host, shared by the workers here."
    )
    longest_wait: float = Field(
        120.0, ge=0, description="Longest time in seconds to wait for a host that says Retry-After."
    )
    image_cpu_seconds: float = Field(
        20.0, gt=0, description="CPU seconds that compressing one image may take."
    )
    image_memory: int = Field(
        2_147_483_648, ge=134_217_728, description="Bytes of memory that one image may take."
    )
    lease_seconds: float = Field(
        30.0,
        ge=1,
        description="Seconds after which the work of a silent worker is given to others.",
    )
    grace_seconds: float = Field(
        20.0, ge=0, description="Seconds that images in hand may take to end at a stop."
    )
    samples: int = Field(
        0, ge=0, le=100, description="Source images kept per request for the report's pictures."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "warning",
        description="How much is logged. Default for `serve`: info, which is a line per call.",
    )
    log_format: Literal["text", "json"] = Field("text", description="How log lines look.")

    @field_validator("engine")
    @classmethod
    def _is_an_engine(cls, text: str) -> str:
        kind, _, _ = text.partition("://")
        if text != LOCAL and (kind not in BROKERS or kind == text):
            raise InvalidSetting(
                "PIXMILL_ENGINE must be local, or the URL of a broker that begins with"
                f" {', '.join(f'{each}://' for each in BROKERS)}."
            )
        return text

    @field_validator("allowed_addresses")
    @classmethod
    def _can_be_parsed(cls, text: str) -> str:
        AddressPolicy.parse(text)
        return text

    @field_validator("webhook_url")
    @classmethod
    def _is_an_endpoint(cls, text: str) -> str:
        if text:
            try:
                check_url(text)
            except ImageError as refused:
                raise InvalidSetting(f"PIXMILL_WEBHOOK_URL: {refused.message}") from None
        return text

    @field_validator("webhook_secret")
    @classmethod
    def _are_secrets(cls, text: str) -> str:
        try:
            count = len([parse_secret(part) for part in text.split()])
        except InvalidSetting as refused:
            raise InvalidSetting(f"PIXMILL_WEBHOOK_SECRET: {refused.message}") from None
        if count > MOST_SECRETS:
            raise InvalidSetting(
                f"PIXMILL_WEBHOOK_SECRET: {count} secrets are too many; the newest"
                f" {MOST_SECRETS} are enough while one replaces the other."
            )
        return text

    @field_validator("public_url")
    @classmethod
    def _is_a_base(cls, text: str) -> str:
        if text and not text.startswith(("http://", "https://", "/")):
            raise InvalidSetting(
                f"PIXMILL_PUBLIC_URL must begin with https://, http:// or /, not {text!r}."
            )
        return text

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        for part in listed(text):
            try:
                ip_network(part)
            except ValueError as error:
                raise InvalidSetting(
                    f"PIXMILL_TRUSTED_PROXIES: {part!r} is no address and no network such as"
                    f" 10.0.0.0/8 ({error})."
                ) from None
        return text

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, text: str) -> str:
        for part in listed(text):
            if part != "*" and not _ORIGIN.fullmatch(part):
                raise InvalidSetting(
                    f"PIXMILL_CORS_ORIGINS: {part!r} is not an origin. It looks like"
                    " https://shop.example, with a port if need be and nothing after it."
                )
        return text

    @field_validator("url")
    @classmethod
    def _is_a_server(cls, text: str) -> str:
        if not text.startswith(("http://", "https://")):
            raise InvalidSetting(f"PIXMILL_URL must begin with http:// or https://, not {text!r}.")
        return text.rstrip("/")

    @property
    def store_url(self) -> str:
        """Where the store is, with the default filled in."""
        return self.store or _url("sqlite", self.data_dir / "pixmill.db")

    @property
    def has_broker(self) -> bool:
        """Whether workers are told of work by a broker, instead of looking for it themselves."""
        return self.engine != LOCAL

    @property
    def webhook_secrets(self) -> list[bytes]:
        """The secrets that are set, newest first."""
        return [parse_secret(part) for part in self.webhook_secret.split()]

    @property
    def blobs_url(self) -> str:
        """Where the blobs are, with the default filled in."""
        return self.blobs or _url("file", self.data_dir)

    def to_environment(self) -> dict[str, str]:
        """These settings as the environment of a process that shall have the same."""
        values = {
            PREFIX + name.upper(): str(value)
            for name, value in self.model_dump(exclude_none=True).items()
        }
        absolute = {
            PREFIX + "DATA_DIR": str(self.data_dir.absolute()),
            PREFIX + "STORE": self.store_url,
            PREFIX + "BLOBS": self.blobs_url,
        }
        return values | absolute


def listed(text: str) -> list[str]:
    """The parts of a comma-separated setting."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _url(scheme: str, path: Path) -> str:
    return f"{scheme}://{quote(str(path.absolute()))}"
