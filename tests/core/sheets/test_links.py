"""Image references become the URL that is fetched, or are refused with a reason."""

from __future__ import annotations

import time

import pytest

from pixmill.core.sheets.links import PLAIN_URL, BadLink, clean_url, file_url, is_path
from pixmill.core.sheets.problems import ProblemCode

SIGNED = (
    "https://bucket.s3.amazonaws.com/a%2Fb.jpg?X-Amz-Credential=AKIA%2F20240101%2Fus-east-1"
    "&X-Amz-Signature=0f%2B%2f&X-Amz-SignedHeaders=host"
)


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("https://a.example/1.jpg", "https://a.example/1.jpg"),
        ("  https://a.example/1.jpg\u00a0\u200b", "https://a.example/1.jpg"),
        ("\ufeffhttps://a.example/1.jpg", "https://a.example/1.jpg"),
        ('"https://a.example/1.jpg"', "https://a.example/1.jpg"),
        ("<https://a.example/1.jpg>", "https://a.example/1.jpg"),
        ("\u201chttps://a.example/1.jpg\u201d", "https://a.example/1.jpg"),
        ("HTTPS://A.Example/Foto.JPG", "https://a.example/Foto.JPG"),
        ("//cdn.example/1.jpg", "https://cdn.example/1.jpg"),
        ("https://a.example", "https://a.example/"),
        ("https://a.example?id=1", "https://a.example/?id=1"),
        ("https://a.example/1.jpg#top", "https://a.example/1.jpg"),
        ("https://a.example:8443/1.jpg", "https://a.example:8443/1.jpg"),
        ("https://a.example:0443/1.jpg", "https://a.example:443/1.jpg"),
        ("https://[2001:DB8::1]:81/1.jpg", "https://[2001:db8::1]:81/1.jpg"),
        ("https://my_bucket.s3.example/1.jpg", "https://my_bucket.s3.example/1.jpg"),
        ("http://127.0.0.1:8088/1.jpg", "http://127.0.0.1:8088/1.jpg"),
        ("http://localhost/1.jpg", "http://localhost/1.jpg"),
        (r"https://a.example/w_1\,h_2/x.jpg", "https://a.example/w_1,h_2/x.jpg"),
        ("https://a.example/?a=1&amp;b=2", "https://a.example/?a=1&b=2"),
        ("https://a.example/my photo.jpg", "https://a.example/my%20photo.jpg"),
        ("https://a.example/Größe.jpg", "https://a.example/Gr%C3%B6%C3%9Fe.jpg"),
        ("https://a.example/gr%C3%B6%20ß.jpg", "https://a.example/gr%C3%B6%20%C3%9F.jpg"),
        (
            "https://a.example/写真.jpg?名=値",
            "https://a.example/%E5%86%99%E7%9C%9F.jpg?%E5%90%8D=%E5%80%A4",
        ),
        ("https://a.example/50%off.jpg", "https://a.example/50%25off.jpg"),
        ("https://a.example/a%2Cb.jpg", "https://a.example/a%2Cb.jpg"),
        ("https://a.example/a%2cb.jpg", "https://a.example/a%2cb.jpg"),
        (SIGNED, SIGNED),
        ("https://a.example/?x=<a>", "https://a.example/?x=%3Ca%3E"),
        ("https://a.example/f:a(1)|b[2]'", "https://a.example/f:a(1)|b[2]'"),
        ("https://bücher.example/1.jpg", "https://xn--bcher-kva.example/1.jpg"),
        ("https://BÜCHER.example/1.jpg", "https://xn--bcher-kva.example/1.jpg"),
        ("https://例え.jp/1.jpg", "https://xn--r8jz45g.jp/1.jpg"),
        ("https://faß.de/1.jpg", "https://xn--fa-hia.de/1.jpg"),
        ("https://a。example/1.jpg", "https://a.example/1.jpg"),
        ("https://xn--bcher-kva.example/1.jpg", "https://xn--bcher-kva.example/1.jpg"),
        (
            "https://drive.google.com/file/d/1AbC-d_E/view?usp=sharing",
            "https://drive.google.com/uc?export=download&id=1AbC-d_E",
        ),
        (
            "http://drive.google.com/open?id=1AbC-d_E&usp=drive_copy",
            "https://drive.google.com/uc?export=download&id=1AbC-d_E",
        ),
        (
            "https://drive.google.com/file/d/1AbC/view?resourcekey=0-xyz&usp=sharing",
            "https://drive.google.com/uc?export=download&id=1AbC&resourcekey=0-xyz",
        ),
        (
            "https://drive.google.com/uc?id=1AbC&export=view",
            "https://drive.google.com/uc?export=download&id=1AbC",
        ),
        (
            "https://drive.google.com/drive/folders/1AbC",
            "https://drive.google.com/drive/folders/1AbC",
        ),
        (
            "https://www.dropbox.com/s/abc/front.jpg?dl=0",
            "https://www.dropbox.com/s/abc/front.jpg?raw=1",
        ),
        (
            "https://www.dropbox.com/scl/fi/abc/front.jpg?rlkey=k3y&st=x&dl=0",
            "https://www.dropbox.com/scl/fi/abc/front.jpg?rlkey=k3y&st=x&raw=1",
        ),
        (
            "https://www.dropbox.com/scl/fi/abc/front.jpg?dl=0&rlkey=k3y",
            "https://www.dropbox.com/scl/fi/abc/front.jpg?raw=1&rlkey=k3y",
        ),
        (
            "https://www.dropbox.com/s/abc/front.jpg",
            "https://www.dropbox.com/s/abc/front.jpg?raw=1",
        ),
        (
            "https://www.dropbox.com/s/abc/front.jpg?dl=1",
            "https://www.dropbox.com/s/abc/front.jpg?dl=1",
        ),
        ("https://evil.example/www.dropbox.com/s/a?dl=0",) * 2,
        ("https://drive.google.com.evil.example/file/d/1/view",) * 2,
    ],
)
def test_a_reference_becomes_the_url_that_is_fetched(written: str, url: str) -> None:
    """It is trimmed, unescaped and encoded once; what is encoded already stays to the byte."""
    assert clean_url(written) == url
    assert clean_url(url) == url


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("photo.jpg", "must begin with https://"),
        ("www.a.example/1.jpg", "must begin with https://"),
        ("n/a", "must begin with https://"),
        ("ftp://a.example/1.jpg", "begins with ftp:"),
        ("data:image/png;base64,AAAA", "begins with data:"),
        ("javascript:alert(1)", "begins with javascript:"),
        ("https:/a.example/1.jpg", "two slashes"),
        ("https:a.example/1.jpg", "two slashes"),
        ("https://", "no host"),
        ("https:///1.jpg", "no host"),
        ("https://:80/1.jpg", "no host"),
        ("//", "no host"),
        ("https://user:secret@a.example/1.jpg", "user name or password"),
        ("https://user@a.example/1.jpg", "user name or password"),
        ("https://a.example\\@b.example/1.jpg", "backslash"),
        ("https://a.example/a\\b.jpg", "backslash"),
        ("https://a.example/a\nb.jpg", "line break"),
        ("https://a.example/a\x00b.jpg", "control character"),
        ("https://a.example/a\tb.jpg", "control character"),
        ("https://a.example/a\x85b.jpg", "control character"),
        ("https://a%2eexample/1.jpg", "has a %"),
        ("https://a%00.example/1.jpg", "has a %"),
        ("https://a.example:/1.jpg", "port"),
        ("https://a.example:0/1.jpg", "port"),
        ("https://a.example:65536/1.jpg", "port"),
        ("https://a.example:80a/1.jpg", "port"),
        ("https://a.example:٨٠/1.jpg", "port"),
        ("https://[::1/1.jpg", "no usable host"),
        ("https://[::zz]/1.jpg", "not an IPv6 address"),
        ("https://[fe80::1%25eth0]/1.jpg", "has a %"),
        ("https://a..example/1.jpg", "not a domain name"),
        ("https://.example/1.jpg", "not a domain name"),
        ("https://a b.example/1.jpg", "not a domain name"),
        ("https://a,b.example/1.jpg", "not a domain name"),
        (f"https://{'a' * 64}.example/1.jpg", "not a domain name"),
        ("https://exa℀mple.com/1.jpg", "not a domain name"),
        ("https://" + "ö" * 300 + ".example/1.jpg", "not a domain name"),
        ("https://a.example" + "\u00ad" * 300 + ".evil.example/1.jpg", "not a domain name"),
        ("C:\\pictures\\1.jpg", "only, relative"),
        ("/var/images/1.jpg", "only, relative"),
        ("./1.jpg", "only, relative"),
        ("file:///etc/passwd", "only, relative"),
    ],
)
def test_what_cannot_be_fetched_is_refused_with_a_reason(written: str, says: str) -> None:
    """The message names the trouble, and the code is stable."""
    with pytest.raises(BadLink, match=says) as caught:
        clean_url(written)
    assert caught.value.code == ProblemCode.INVALID_URL


def test_a_refusal_repeats_no_password() -> None:
    """Problems are logged and shown; what was in the URL's user part must not be."""
    with pytest.raises(BadLink) as caught:
        clean_url("https://user:secret@a.example/1.jpg")
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    "written",
    [
        "https://a.example/" + "x" * 4096,
        "https://a.example/" + "é" * 1000,
    ],
)
def test_urls_have_a_greatest_length_encoded_too(written: str) -> None:
    """4,096 characters, before and after encoding."""
    with pytest.raises(BadLink, match="4,096") as caught:
        clean_url(written)
    assert caught.value.code == ProblemCode.URL_TOO_LONG


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("a.jpg", "file:///data/in/a.jpg"),
        ("./images/my photo.jpg", "file:///data/in/images/my%20photo.jpg"),
        ("../b.jpg", "file:///data/b.jpg"),
        ("/abs/c#1.jpg", "file:///abs/c%231.jpg"),
        ("Größe 50%.jpg", "file:///data/in/Gr%C3%B6%C3%9Fe%2050%25.jpg"),
        ("file:///abs/d%20e.jpg", "file:///abs/d%20e.jpg"),
        ('"a.jpg"', "file:///data/in/a.jpg"),
    ],
)
def test_a_path_becomes_an_absolute_file_url(written: str, url: str) -> None:
    """Relative to the folder, with what a URL cannot hold encoded."""
    assert is_path(written)
    assert file_url(written, "/data/in") == url


@pytest.mark.parametrize(
    "written", ["https://a.example/1.jpg", "ftp://a/1", "data:image/png,x", "//a.example/1.jpg"]
)
def test_a_reference_with_a_scheme_is_no_path(written: str) -> None:
    """Those are fetched or refused, not looked for on the disk."""
    assert not is_path(written)


def test_a_file_name_may_hold_a_colon() -> None:
    """Only a known scheme or two slashes make a URL of it."""
    assert is_path("front:left.jpg")


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example/1.jpg",
        "https://cdn-2.a.example/1.jpg",
        "http://images.a.internal:8080/1.jpg?w=300",
        "http://192.0.2.7/1.jpg",
        "http://127.0.0.1:8190/1.jpg",
    ],
)
def test_usual_urls_take_the_fast_path(url: str) -> None:
    """With a port or an address in place of a name, too: a run reads each URL three times."""
    assert PLAIN_URL.fullmatch(url)
    assert clean_url(url) == url


@pytest.mark.parametrize("tail", ["a" * 4000 + "\x01", "%20" * 1300 + "%", "a." * 2000])
def test_the_fast_path_never_goes_back_over_a_url(tail: str) -> None:
    """A pattern that tries again from every character would let one cell stop the service."""
    started = time.perf_counter()
    for _ in range(100):
        PLAIN_URL.fullmatch("https://" + tail)
        PLAIN_URL.fullmatch("https://a.example/" + tail)
    assert time.perf_counter() - started < 2
