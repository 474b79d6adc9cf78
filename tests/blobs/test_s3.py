"""Blobs in a bucket, beyond what all backends promise."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pixmill.blobs.s3 import AT_ONCE, PART, S3Blobs
from pixmill.blobs.s3_place import s3_place
from pixmill.blobs.s3_reader import BLOCK
from pixmill.core.errors import (
    InvalidSetting,
    NotFound,
    PixmillError,
    StorageFailure,
    StoreUnavailable,
)
from tests.servers.s3 import SECRET_KEY, S3Server, s3_environment, s3_server
from tests.servers.troubles import Answered, Trouble, TroubleProxy


def headers_of(s3: S3Server, bucket: str, key: str) -> tuple[str, str]:
    """The type of an object, and what caches are told of it."""
    found = s3.client().head_object(Bucket=bucket, Key=f"some/prefix/{key}")
    return found["ContentType"], found.get("CacheControl", "")


def uploads(s3: S3Server, bucket: str) -> int:
    """How many uploads in parts were begun and neither completed nor given up."""
    return len(s3.client().list_multipart_uploads(Bucket=bucket).get("Uploads", []))


class Breaking(io.BytesIO):
    """A file that cannot be read beyond some place."""

    def __init__(self, data: bytes, limit: int) -> None:
        super().__init__(data)
        self._limit = limit

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= self._limit:
            raise OSError(5, "Input/output error")
        return super().read(size)


class TestHeaders:
    @pytest.mark.parametrize("size", [10, PART + 1], ids=["at once", "in parts"])
    def test_a_bucket_can_serve_images_by_itself(
        self, s3: S3Server, bucket: str, blobs: S3Blobs, size: int
    ) -> None:
        blobs.put("images/req_a/1.webp", io.BytesIO(bytes(size)))
        found = headers_of(s3, bucket, "images/req_a/1.webp")
        assert found == ("image/webp", "public, max-age=31536000, immutable")

    def test_private_files_are_not_for_caches(
        self, s3: S3Server, bucket: str, blobs: S3Blobs
    ) -> None:
        blobs.put(".pixmill/sheets/req_a/input.csv", b"a,b")
        found = headers_of(s3, bucket, ".pixmill/sheets/req_a/input.csv")
        assert found == ("text/csv", "")


class TestCalls:
    """A bucket may be far away: what each verb costs is counted in calls."""

    def test_a_small_file_is_opened_read_and_known_by_one_call(
        self, blobs: S3Blobs, proxy: TroubleProxy
    ) -> None:
        blobs.put("images/a", b"0123456789")
        proxy.calls.clear()
        info, file = blobs.open_known("images/a")
        with file:
            assert file.read() == b"0123456789"
        assert info == blobs.look("images/a")
        assert [call.method for call in proxy.calls] == ["GET", "HEAD"]

    def test_an_empty_file_can_be_opened(self, blobs: S3Blobs) -> None:
        blobs.put("images/a", b"")
        info, file = blobs.open_known("images/a")
        assert (info.size, file.read()) == (0, b"")

    def test_files_are_sent_side_by_side_but_not_all_at_once(
        self, blobs: S3Blobs, proxy: TroubleProxy
    ) -> None:
        proxy.delay = 0.05
        blobs.put_all({f"images/{number}": b"x" for number in range(AT_ONCE * 3)})
        assert AT_ONCE / 4 < proxy.most_at_once <= AT_ONCE

    def test_thousands_of_files_are_deleted_by_a_few_calls(
        self, blobs: S3Blobs, proxy: TroubleProxy, s3: S3Server, bucket: str
    ) -> None:
        direct = S3Blobs(s3_place(f"s3://{bucket}/some/prefix", s3_environment(s3.endpoint)))
        direct.put_all({f"images/req_a/{number}.jpg": b"x" for number in range(2_100)})
        direct.put("images/req_ab", b"x")
        blobs.delete_all("images/req_a")
        assert len(proxy.calls) <= 6
        for number in (0, 999, 1000, 2099):
            with pytest.raises(NotFound):
                direct.look(f"images/req_a/{number}.jpg")
        assert direct.look("images/req_ab").size == 1


class TestLargeFiles:
    DATA = os.urandom(256) * (PART * 5 // 2 // 256) + b"end"

    def test_they_come_and_go_in_parts(self, blobs: S3Blobs, proxy: TroubleProxy) -> None:
        blobs.put("images/a", io.BytesIO(self.DATA))
        assert sum("partNumber=" in call.path for call in proxy.calls) == 3
        proxy.calls.clear()
        with blobs.open("images/a") as file:
            assert file.read() == self.DATA
        assert len(proxy.calls) == -(-len(self.DATA) // BLOCK)

    def test_they_can_be_searched(self, blobs: S3Blobs) -> None:
        blobs.put("images/a", self.DATA)
        with blobs.open("images/a") as file:
            assert file.seek(-3, os.SEEK_END) == len(self.DATA) - 3
            assert file.read() == b"end"
            file.seek(BLOCK - 10)
            assert file.read(20) == self.DATA[BLOCK - 10 : BLOCK + 10]
            file.seek(5)
            assert file.read(5) == self.DATA[5:10]
            file.seek(len(self.DATA) + 5)
            assert file.read() == b""

    def test_a_reader_is_never_given_parts_of_two_files(self, blobs: S3Blobs) -> None:
        blobs.put("images/a", self.DATA)
        with blobs.open("images/a") as file:
            file.read(10)
            blobs.put("images/a", self.DATA[::-1])
            with pytest.raises(StorageFailure, match="stored anew"):
                file.read()

    def test_one_that_cannot_be_read_to_its_end_leaves_nothing(
        self, s3: S3Server, bucket: str, blobs: S3Blobs
    ) -> None:
        with pytest.raises(StorageFailure, match="Input/output error"):
            blobs.put("images/a", Breaking(self.DATA, PART * 2))
        assert uploads(s3, bucket) == 0
        with pytest.raises(NotFound):
            blobs.look("images/a")

    def test_errors_of_ours_pass_as_they_are(self, blobs: S3Blobs) -> None:
        class Refusing(Breaking):
            def read(self, size: int | None = -1) -> bytes:
                try:
                    return super().read(size)
                except OSError:
                    raise PixmillError("of ours") from None

        with pytest.raises(PixmillError, match="of ours"):
            blobs.put("images/a", Refusing(self.DATA, PART * 2))

    @pytest.mark.slow
    def test_memory_does_not_grow_with_the_file(self, s3: S3Server, bucket: str) -> None:
        """A process of its own sends 200 MB; it may use 100 MB beyond what it began with."""
        script = Path(__file__).with_name("put_large.py")
        done = subprocess.run(
            [sys.executable, str(script), bucket],
            env=os.environ | s3_environment(s3.endpoint),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        grown, size = map(int, done.stdout.split())
        assert size == 200_000_000
        assert grown < 100_000_000


class TestWhatIsSaid:
    def test_a_missing_bucket(self, s3: S3Server) -> None:
        blobs = S3Blobs(s3_place("s3://no-such-bucket", s3_environment(s3.endpoint)))
        for verb in (
            lambda: blobs.put("images/a", b"x"),
            lambda: blobs.put("images/a", io.BytesIO(bytes(PART))),
            lambda: blobs.open("images/a"),
            lambda: blobs.delete_all("images/a"),
        ):
            with pytest.raises(StorageFailure, match="there is no such bucket"):
                verb()

    def test_a_refusal_is_told_at_once_and_without_what_it_repeats(
        self, blobs: S3Blobs, proxy: TroubleProxy
    ) -> None:
        body = f"<Error><Code>SignatureDoesNotMatch</Code><Key>{SECRET_KEY}</Key></Error>".encode()
        proxy.plan = lambda _call: Answered(403, body)
        with pytest.raises(StorageFailure) as refused:
            blobs.put("images/a", b"x")
        assert refused.value.message == (
            "Cannot store images/a: S3 does not allow it (SignatureDoesNotMatch)."
        )
        assert len(proxy.calls) == 1

    @pytest.mark.parametrize("status", [400, 409])
    def test_what_does_not_pass_by_itself_is_not_tried_again(
        self, blobs: S3Blobs, proxy: TroubleProxy, status: int
    ) -> None:
        proxy.plan = lambda _call: Answered(status, b"<Error><Code>Bad</Code></Error>")
        with pytest.raises(StorageFailure, match="Bad"):
            blobs.put_all({"images/a": b"x"})
        assert len(proxy.calls) == 1

    @pytest.mark.parametrize("trouble", [Trouble.REFUSED, Trouble.CUT_REQUEST])
    def test_one_that_stays_away_is_unavailable(
        self, bucket: str, proxy: TroubleProxy, trouble: Trouble
    ) -> None:
        place = s3_place(f"s3://{bucket}", s3_environment(proxy.endpoint))
        blobs = S3Blobs(place, patience=0.5)
        proxy.plan = lambda _call: trouble
        for verb in (
            lambda: blobs.put("images/a", b"x" * 100),
            lambda: blobs.put_all({f"images/{number}": b"x" for number in range(100)}),
            lambda: blobs.open("images/a"),
            lambda: blobs.look("images/a"),
            lambda: blobs.delete_all("images"),
        ):
            with pytest.raises(StoreUnavailable) as unavailable:
                verb()
            said = unavailable.value.message
            assert "127.0.0.1" not in said
            assert SECRET_KEY not in said
        tried = {call.path for call in proxy.calls if call.method == "PUT"}
        assert len(tried) < 1 + 100, "all were tried, though the first ones had failed for good"

    def test_nobody_there_is_unavailable(self) -> None:
        place = s3_place("s3://bucket", s3_environment("http://127.0.0.1:9"))
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            S3Blobs(place, patience=0.2).put("images/a", b"x")

    def test_a_service_that_sends_whole_files_for_parts(
        self, blobs: S3Blobs, proxy: TroubleProxy
    ) -> None:
        proxy.plan = lambda _call: Answered(200, b"all of it")
        with pytest.raises(StorageFailure, match="cannot send parts"):
            blobs.open("images/a")


def test_a_certificate_must_be_of_an_authority_that_is_trusted(tmp_path: Path) -> None:
    with s3_server(tmp_path, tls=True) as server:
        url, variables = f"s3://{server.bucket()}", s3_environment(server.endpoint)
        with pytest.raises(StorageFailure, match="not trusted"):
            S3Blobs(s3_place(url, variables), patience=0.2).put("images/a", b"x")
        blobs = S3Blobs(s3_place(url, variables | {"AWS_CA_BUNDLE": str(tmp_path / "ca.pem")}))
        blobs.put("images/a", b"x")
        assert blobs.look("images/a").size == 1


def test_services_without_batched_deletion_are_asked_for_one_file_after_the_other(
    blobs: S3Blobs, bucket: str, proxy: TroubleProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DISABLE_BULK_DELETE", "true")
    one_by_one = S3Blobs(s3_place(f"s3://{bucket}/some/prefix", s3_environment(proxy.endpoint)))
    blobs.put_all({f"images/{number}": b"x" for number in range(5)})
    proxy.calls.clear()
    one_by_one.delete_all("images")
    assert [call.method for call in proxy.calls] == ["GET"] + ["DELETE"] * 5


class TestPlaces:
    @pytest.mark.parametrize(
        "url",
        ["s3://", "s3:///a", "s3://key:secret@bucket", "s3://a", "s3://bucket?x=1", "s3:bucket"],
    )
    def test_what_is_no_bucket_is_explained_and_not_repeated(self, url: str) -> None:
        with pytest.raises(InvalidSetting, match="must look like s3://bucket") as refused:
            s3_place(url, {})
        assert "secret@" not in refused.value.message

    def test_a_prefix_cannot_lead_elsewhere(self) -> None:
        with pytest.raises(InvalidSetting, match="cannot begin a key"):
            s3_place("s3://bucket/a/../b", {})

    @pytest.mark.parametrize("endpoint", ["minio:9000", "http://", "not a url", "http://a b"])
    def test_an_endpoint_must_be_a_url(self, endpoint: str) -> None:
        with pytest.raises(InvalidSetting, match="AWS_ENDPOINT_URL must look like"):
            s3_place("s3://bucket", {"AWS_ENDPOINT_URL": endpoint})

    def test_a_place_does_not_show_its_credentials(self) -> None:
        assert SECRET_KEY not in repr(s3_place("s3://bucket/x", s3_environment("http://localhost")))

    def test_authorities_that_cannot_be_read_are_named(self) -> None:
        with pytest.raises(InvalidSetting, match="AWS_CA_BUNDLE cannot be read"):
            s3_place("s3://bucket", {"AWS_CA_BUNDLE": "/nowhere/ca.pem"})
