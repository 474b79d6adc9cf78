"""Blobs in an S3 server, reached by a proxy that can make trouble."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pixmill.blobs.s3 import S3Blobs
from pixmill.blobs.s3_place import s3_place
from tests.servers.s3 import S3Server, s3_environment
from tests.servers.troubles import TroubleProxy, trouble_proxy


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[TroubleProxy]:
    """A proxy before the S3 server, without any trouble so far."""
    with trouble_proxy(s3.port) as made:
        yield made


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """The name of an empty bucket."""
    return s3.bucket()


@pytest.fixture
def blobs(proxy: TroubleProxy, bucket: str) -> S3Blobs:
    """Blobs in the bucket, through the proxy."""
    return S3Blobs(s3_place(f"s3://{bucket}/some/prefix", s3_environment(proxy.endpoint)))
