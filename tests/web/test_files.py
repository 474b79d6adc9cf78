"""Stored images: served fast and for ever, and nothing but them."""

from __future__ import annotations

import socket
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from pixmill.core.access import Scope
from pixmill.steps.keys import create_key
from pixmill.web.files import SMALL
from pixmill.web.service import Service
from tests.web.waiting import wait_until

ID = "req_abcdefghijklmnopqrstuvwxyz"
SMALL_FILE = bytes(range(256)) * 100
LARGE_FILE = bytes(range(256)) * (SMALL // 256 * 4 + 1)


@pytest.fixture(params=["small", "large"])
def content(request: pytest.FixtureRequest) -> bytes:
    """What an image holds: so little that it is read at once, or so much that it is not."""
    return SMALL_FILE if request.param == "small" else LARGE_FILE


def stored(service: Service, content: bytes = SMALL_FILE, name: str = "0000001.jpg") -> str:
    """Store an image; return its path."""
    service.blobs.put(f"images/{ID}/{name}", content)
    return f"/api/files/images/{ID}/{name}"


def test_an_image_comes_whole_with_headers_that_let_caches_keep_it(
    service: Service, client: httpx.Client, content: bytes
) -> None:
    answer = client.get(stored(service, content))
    assert answer.status_code == 200
    assert answer.content == content
    headers = answer.headers
    assert headers["content-type"] == "image/jpeg"
    assert headers["content-length"] == str(len(content))
    assert headers["cache-control"] == "public, max-age=31536000, immutable"
    assert headers["accept-ranges"] == "bytes"
    assert headers["etag"].startswith('"')
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "cross-origin"
    path = service.settings.data_dir / "images" / ID / "0000001.jpg"
    modified = parsedate_to_datetime(headers["last-modified"]).timestamp()
    assert modified == int(path.stat().st_mtime)


@pytest.mark.parametrize(
    ("extension", "media_type"),
    [("jpg", "image/jpeg"), ("png", "image/png"), ("webp", "image/webp"), ("avif", "image/avif")],
)
def test_each_format_has_its_type(
    service: Service, client: httpx.Client, extension: str, media_type: str
) -> None:
    answer = client.get(stored(service, name=f"0000001.{extension}"))
    assert answer.headers["content-type"] == media_type


def test_a_head_tells_the_same_without_the_image(
    service: Service, client: httpx.Client, content: bytes
) -> None:
    url = stored(service, content)
    got, looked = client.get(url), client.head(url)
    assert (looked.status_code, looked.content) == (200, b"")

    def stable(headers: httpx.Headers) -> dict[str, str]:
        return {name: value for name, value in headers.items() if name != "date"}

    assert stable(looked.headers) == stable(got.headers)


def test_what_the_client_has_is_not_sent_again(service: Service, client: httpx.Client) -> None:
    url = stored(service)
    first = client.get(url).headers
    tag, modified = first["etag"], first["last-modified"]
    later = formatdate(parsedate_to_datetime(modified).timestamp() + 60, usegmt=True)
    for given in (
        {"If-None-Match": tag},
        {"If-None-Match": f"W/{tag}"},
        {"If-None-Match": f'"x", {tag}'},
        {"If-None-Match": "*"},
        {"If-Modified-Since": modified},
        {"If-Modified-Since": later},
        {"If-None-Match": tag, "Range": "bytes=0-1"},
    ):
        for method in ("GET", "HEAD"):
            answer = client.request(method, url, headers=given)
            assert (answer.status_code, answer.content) == (304, b""), given
            assert answer.headers["etag"] == tag
            assert answer.headers["cache-control"] == first["cache-control"]


def test_what_the_client_has_not_is_sent(service: Service, client: httpx.Client) -> None:
    url = stored(service)
    modified = client.get(url).headers["last-modified"]
    earlier = formatdate(parsedate_to_datetime(modified).timestamp() - 60, usegmt=True)
    for given in (
        {"If-None-Match": '"x"'},
        {"If-None-Match": '"x"', "If-Modified-Since": modified},  # the tag counts more
        {"If-Modified-Since": earlier},
        {"If-Modified-Since": "no date"},
        {"If-Modified-Since": "Sun, 99 Nov 99999 99:99:99 GMT"},
        {"If-Modified-Since": ""},
    ):
        assert client.get(url, headers=given).content == SMALL_FILE, given


def test_a_file_stored_anew_has_another_tag(service: Service, client: httpx.Client) -> None:
    url = stored(service)
    before = client.get(url).headers["etag"]
    stored(service, SMALL_FILE[::-1])
    after = client.get(url, headers={"If-None-Match": before})
    assert (after.status_code, after.content) == (200, SMALL_FILE[::-1])


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=100-", 100, None),
        ("bytes=-7", -7, None),
        ("bytes=0-", 0, None),
    ],
)
def test_one_range_is_answered_with_just_that(
    service: Service, client: httpx.Client, content: bytes, asked: str, start: int, end: int | None
) -> None:
    answer = client.get(stored(service, content), headers={"Range": asked})
    part = content[start:end]
    assert (answer.status_code, answer.content) == (206, part)
    first = start % len(content)
    last = first + len(part) - 1
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(content)}"
    assert answer.headers["content-length"] == str(len(part))
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["etag"]


def test_several_ranges_are_answered_with_the_whole_file(
    service: Service, client: httpx.Client, content: bytes
) -> None:
    answer = client.get(stored(service, content), headers={"Range": "bytes=0-1,4-5"})
    assert (answer.status_code, answer.content) == (200, content)


def test_a_range_that_the_file_does_not_have_is_refused(
    service: Service, client: httpx.Client, content: bytes
) -> None:
    size = len(content)
    for asked in (f"bytes={size}-", "bytes=-0"):
        answer = client.get(stored(service, content), headers={"Range": asked})
        assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
        assert answer.headers["content-range"] == f"bytes */{size}"


def test_a_range_of_a_file_that_has_changed_since_is_the_whole_new_file(
    service: Service, client: httpx.Client
) -> None:
    url = stored(service)
    headers = client.get(url).headers
    for condition, status in (
        (headers["etag"], 206),
        (headers["last-modified"], 206),
        (f"W/{headers['etag']}", 200),  # a weak tag does not promise the same bytes
        ('"x"', 200),
        ("Sun, 22 Nov 1998 06:30:00 GMT", 200),
        ("", 200),
    ):
        asked = {"Range": "bytes=0-1", "If-Range": condition}
        assert client.get(url, headers=asked).status_code == status, condition
    beyond = {"Range": "bytes=999999999-", "If-Range": '"x"'}
    assert client.get(url, headers=beyond).status_code == 200


def test_a_head_ignores_ranges(service: Service, client: httpx.Client) -> None:
    answer = client.head(stored(service), headers={"Range": "bytes=999999999-"})
    assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(SMALL_FILE)))


def test_no_key_is_needed_and_no_call_is_counted(service: Service, client: httpx.Client) -> None:
    """The pictures are for web pages, of which one may show hundreds."""
    url = stored(service)
    create_key(service.access, "somebody", [Scope.READ], service.clock)
    answer = client.get(url, headers={"Host": "cdn.example"})
    assert answer.status_code == 200
    assert "ratelimit-limit" not in answer.headers
    assert client.get("/api/requests").status_code == 401


def test_an_image_that_is_not_there_is_not_remembered_as_missing(client: httpx.Client) -> None:
    answer = client.get(f"/api/files/images/{ID}/0000001.jpg")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nobody_can_change_a_file(service: Service, client: httpx.Client, method: str) -> None:
    answer = client.request(method, stored(service))
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD"


class RawGet:
    """GET without any client in between."""

    def __init__(self, port: int) -> None:
        self._port = port

    def __call__(self, target: bytes) -> tuple[bytes, bytes]:
        """The status line and all the rest of the answer."""
        with socket.create_connection(("127.0.0.1", self._port), 10) as connection:
            connection.sendall(
                b"GET " + target + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
            )
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        line, _, rest = answer.partition(b"\r\n")
        return line, rest


@pytest.fixture
def raw_get(service: Service, client: httpx.Client) -> RawGet:
    """Ask for a path just as it is written; clients tidy it up."""
    stored(service)
    root = service.settings.data_dir
    (root / "images" / ID / "0000009.jpg").symlink_to("/etc/passwd")
    (root / "images" / ID / "0000008.jpg").mkdir()
    service.blobs.put(f".pixmill/sheets/{ID}/input.csv", b"secret")
    (root.parent / "0000007.jpg").write_bytes(b"secret")
    return RawGet(urlsplit(str(client.base_url)).port or 0)


FOLDER = f"images/{ID}"
OUTSIDE = [
    *(
        "",
        "images",
        "images/",
        FOLDER,
        f"{FOLDER}/",
        f"{FOLDER}/../{ID}/0000001.jpg",
        f"/{FOLDER}/0000001.jpg",
    ),
    *(
        f"./{FOLDER}/0000001.jpg",
        f"{FOLDER}//0000001.jpg",
        f"{FOLDER}/./0000001.jpg",
        f"{FOLDER}/0000001.jpg/",
    ),
    *("../../../../../../etc/passwd", "%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/etc/passwd"),
    *("%2fetc%2fpasswd", "..%2f..%2f..%2fetc%2fpasswd", "%252e%252e%252fetc%252fpasswd"),
    *(f"{FOLDER}/%2e%2e/%2e%2e/%2e%2e/0000007.jpg", f"{FOLDER}/..%5c..%5c..%5c0000007.jpg"),
    *(f"{FOLDER}/%252e%252e/0000007.jpg", "images%5c..%5c..%5c0000007.jpg", "..\\0000007.jpg"),
    *(
        f"{FOLDER}/0000001.jpg%00",
        f"{FOLDER}/0000001.jpg%00.jpg",
        f"{FOLDER}/0000001.jpg%0a",
        f"{FOLDER}/%0000001.jpg",
    ),
    *(
        f"{FOLDER}/0000009.jpg",
        f"{FOLDER}/0000008.jpg",
        f"{FOLDER}/0000008.jpg/",
        f"{FOLDER}/000001.jpg",
    ),
    *("pixmill.db", "pixmill.db-wal", f".pixmill/sheets/{ID}/input.csv", ".pixmill/partial"),
    *(f"images/../.pixmill/sheets/{ID}/input.csv", f"%2epixmill/sheets/{ID}/input.csv"),
    *(f"images/{ID.upper()}/0000001.jpg", f"IMAGES/{ID}/0000001.jpg", f"{FOLDER}/0000001.JPG"),
    *(
        f"{FOLDER}/{'0' * 300}.jpg",
        f"{FOLDER}/{'0' * 20_000}.jpg",
        "x" * 40_000,
        f"{FOLDER}/0000001.jpgjpg",
    ),
    *(
        f"{FOLDER}/0000001.jpg;a",
        f"{FOLDER}/%EF%BC%90000001.jpg",
        f"{FOLDER}/%FF0000001.jpg",
        f"{FOLDER}/-000001.jpg",
    ),
]


@pytest.mark.parametrize("path", OUTSIDE, ids=[path[:50] or "nothing" for path in OUTSIDE])
def test_nothing_but_a_stored_image_can_be_reached(raw_get: RawGet, path: str) -> None:
    line, rest = raw_get(b"/api/files/" + path.encode())
    assert b" 404 " in line or b" 400 " in line, "only what no HTTP call can be gets a 400"
    assert b"secret" not in rest
    assert b"root:" not in rest


@pytest.mark.parametrize("start", ["/api/files", "/api/files/images/..", "/api//files/"])
def test_no_other_way_in_leads_to_a_file(raw_get: RawGet, start: str) -> None:
    line, _ = raw_get(f"{start}/{FOLDER}/../../pixmill.db".encode())
    assert b" 404 " in line


def test_the_key_of_an_image_may_be_percent_encoded(raw_get: RawGet) -> None:
    """Clients that take the key for one part of the path encode its slashes."""
    for path in (f"images%2F{ID}%2F0000001.jpg", f"%69mages/{ID}/0000001.jpg"):
        line, rest = raw_get(f"/api/files/{path}".encode())
        assert b" 200 " in line
        assert rest.endswith(SMALL_FILE)


def test_a_client_that_goes_away_leaves_no_open_file(
    service: Service, client: httpx.Client
) -> None:
    url = stored(service, LARGE_FILE * 40)
    with client.stream("GET", url) as answer:
        assert answer.status_code == 200
    assert client.get(url.replace("0000001", "0000002")).status_code == 404
    path = service.settings.data_dir / "images" / ID / "0000001.jpg"
    wait_until(lambda: path not in open_files())


def open_files() -> set[Path]:
    """What this process has open."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.add(link.readlink())
        except OSError:  # closed meanwhile
            continue
    return found
