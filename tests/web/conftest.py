"""A real service on loopback: its app behind uvicorn, its store and blobs on a temporary folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from pixmill.settings import Settings
from pixmill.web.app import create_app
from pixmill.web.service import Service
from tests.web.server import open_service, serving


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings of the service; a test module may have its own."""
    return Settings(data_dir=tmp_path, public_url="/api/files")


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    """A service without keys and without requests."""
    with open_service(settings) as made:
        yield made


@pytest.fixture
def app(service: Service) -> FastAPI:
    """The service as an application."""
    return create_app(service)


@pytest.fixture
def client(app: FastAPI) -> Iterator[httpx.Client]:
    """A client without a key, of a server that runs until the end of the test."""
    with serving(app) as base_url, httpx.Client(base_url=base_url, timeout=30) as made:
        yield made
