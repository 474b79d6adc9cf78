"""A whole request on a service whose files are in a bucket."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import httpx
import pytest
import simplejpeg

from tests import service as services
from tests.servers.s3 import S3Server, s3_environment
from tests.shop import open_shop, write_csv


def test_a_request_is_done_served_downloaded_and_deleted(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3.bucket()
    for name, value in s3_environment(s3.endpoint).items():
        monkeypatch.setenv(name, value)
    with (
        open_shop() as shop,
        services.serving(tmp_path / "data", blobs=f"s3://{bucket}/pixmill") as service,
    ):
        urls = [shop.url(f"{number}.jpg") for number in range(12)] + [shop.url("missing.jpg")]
        shop.special["missing.jpg"] = lambda _port: (404, b"")
        sheet = write_csv(tmp_path / "products.csv", urls)
        request_id = service.accepted(sheet)
        status = service.finished(request_id)
        assert (status["processedImages"], status["failedImages"]) == (12, 1)

        rows = list(csv.DictReader(io.StringIO(service.get(f"/api/download/{request_id}").text)))
        outputs = [row["Output Image Urls"] for row in rows]
        assert [bool(url) for url in outputs] == [True] * 12 + [False]
        for url in outputs[:12]:
            assert url.startswith(f"{service.url}/api/files/images/{request_id}/")
            answer = httpx.get(url, trust_env=False)
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "image/jpeg"
            assert simplejpeg.decode_jpeg(answer.content).shape == (120, 160, 3)
        etag = {"If-None-Match": answer.headers["etag"]}
        assert httpx.get(url, headers=etag, trust_env=False).status_code == 304
        part = httpx.get(url, headers={"Range": "bytes=2-5"}, trust_env=False)
        assert (part.status_code, part.content) == (206, answer.content[2:6])
        assert service.get("/ready").json()["checks"]["blobs"] == "ok"
        zipped = service.get(f"/api/download/{request_id}/images.zip")
        with zipfile.ZipFile(io.BytesIO(zipped.content)) as archive:
            assert sum(name.endswith(".jpg") for name in archive.namelist()) == 12

        assert service.call("DELETE", f"/api/requests/{request_id}").status_code == 204
        assert httpx.get(outputs[0], trust_env=False).status_code == 404
    kept = s3.client().list_objects_v2(Bucket=bucket, Prefix="pixmill/images/")
    assert kept["KeyCount"] == 0
    assert not list((tmp_path / "data").glob("images"))
