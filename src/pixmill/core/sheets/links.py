"""Turns an image reference as people write it into the one URL that is fetched."""

from __future__ import annotations

import ipaddress
import posixpath
import re
from functools import lru_cache
from pathlib import PurePosixPath
from urllib.parse import unquote

import idna

from pixmill.core.sheets.cells import BLANK
from pixmill.core.sheets.problems import ProblemCode, shown
from pixmill.core.sheets.shares import direct

# Needs no cleaning and cannot be a list: most cells of most files. Anything with a separator,
# an escape, a capital or an underscore in the host, a port of five digits or a known share host
# takes the long way, which costs several times as much.
PLAIN_URL = re.compile(
    r"https?://(?!(?:drive|docs)\.google\.|(?:www\.)?dropbox\.)"
    r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]{1,63}(?::[1-9][0-9]{0,3})?"
    r"/(?:[A-Za-z0-9/._~!$&()*+=:@?-]++|%[0-9A-Fa-f]{2})*+"
)
_HOST_LENGTH = 253

_PAIRS = {'"': '"', "'": "'", "<": ">", "\u201c": "\u201d", "`": "`"}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_DRIVE_LETTER = re.compile(r"[A-Za-z]:[\\/]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_AUTHORITY = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?P<port>:.*)?")
_ASCII_HOST = re.compile(r"(?=.{1,253}\.?$)(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
# What browsers encode in a path or query, and every % that does not begin an escape.
_TO_ENCODE = re.compile(r"[ \"<>^`{}]|[^\x00-\x7f]|%(?![0-9A-Fa-f]{2})")


class BadLink(ValueError):
    """The reference cannot be fetched; says why and how to mend it."""

    def __init__(self, message: str, code: ProblemCode = ProblemCode.INVALID_URL) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def clean_url(written: str, max_length: int = 4096) -> str:
    """The URL to fetch: trimmed, unescaped, encoded once, its host in ASCII, shares made direct.

    Escapes that are there stay as they are, so signed URLs survive; cleaning a clean URL changes
    nothing. Raises BadLink.
    """
    if len(written) > max_length:
        raise _too_long(len(written), max_length)
    text = _unwrap(written)
    if text.startswith("//"):
        text = "https:" + text
    _check_characters(text)
    scheme, rest = _split_scheme(text)
    cut = re.search(r"[/?#]", rest)
    authority, tail = (rest[: cut.start()], rest[cut.start() :]) if cut else (rest, "")
    host, port = _split_authority(authority, written)
    tail = tail.partition("#")[0]  # a fragment is never sent
    if not tail.startswith("/"):
        tail = "/" + tail
    tail = _TO_ENCODE.sub(_encode, tail)
    if not port:
        scheme, tail = direct(scheme, host, tail)
    url = f"{scheme}://{host}{port}{tail}"
    if len(url) > max_length:
        raise _too_long(len(url), max_length)
    return url


def file_url(written: str, folder: str, max_length: int = 4096) -> str:
    """The absolute file:// URL of a path relative to the folder. Raises BadLink."""
    if len(written) > max_length:
        raise _too_long(len(written), max_length)
    path = _unquote(written.strip(BLANK))
    if path[:7].lower() == "file://":
        path = unquote(path[7:])
    if _CONTROL.search(path):
        raise BadLink(f"{shown(written)} has a control character. Remove it.")
    return PurePosixPath(posixpath.normpath(posixpath.join(folder, path))).as_uri()


def is_path(written: str) -> bool:
    """Whether the reference has no scheme, or the scheme of files."""
    text = _unquote(written.strip(BLANK))
    scheme = _SCHEME.match(text)
    if scheme is None:
        return not text.startswith("//")
    if scheme[1].lower() == "file":
        return True
    # A file may be called "front:left.jpg"; "htp:/a.jpg" is a slip of the pen, data: is no file.
    return not text.startswith("/", scheme.end()) and scheme[1].lower() not in _OTHER_SCHEMES


_OTHER_SCHEMES = frozenset({"http", "https", "data", "ftp", "mailto", "javascript", "blob"})


def _unwrap(written: str) -> str:
    text = _unquote(written.strip(BLANK))
    while "\\," in text:
        text = text.replace("\\,", ",")
    while "&amp;" in text:
        text = text.replace("&amp;", "&")
    return text.strip(BLANK)


def _unquote(text: str) -> str:
    while len(text) > 1 and _PAIRS.get(text[0]) == text[-1]:
        text = text[1:-1].strip(BLANK)
    return text


def _check_characters(text: str) -> None:
    control = _CONTROL.search(text)
    if control:
        what = "a line break" if control[0] in "\r\n" else "a control character"
        raise BadLink(f"{shown(text)} has {what} within the URL. Remove it.")
    # After the scheme check below would be too late to tell a Windows path from a URL.
    if "\\" in text and not _DRIVE_LETTER.match(text):
        raise BadLink(f"{shown(text)} has a backslash. Write / instead.")


def _split_scheme(text: str) -> tuple[str, str]:
    if _DRIVE_LETTER.match(text):
        raise _local(text)
    match = _SCHEME.match(text)
    scheme = match[1].lower() if match else ""
    if match and scheme in {"http", "https"}:
        if not text.startswith("//", match.end()):
            raise BadLink(f"{shown(text)} needs two slashes after {scheme}: as in https://…")
        return scheme, text[match.end() + 2 :]
    if scheme == "file" or text.startswith((".", "/")):
        raise _local(text)
    if match and (text.startswith("//", match.end()) or scheme in _OTHER_SCHEMES):
        raise BadLink(
            f"{shown(text)} begins with {scheme}:, but only http:// and https:// are fetched."
        )
    raise BadLink(
        f"{shown(text)} is not a URL: it must begin with https:// or http://. "
        "Files of your own can be named with `pixmill run` only."
    )


def _local(text: str) -> BadLink:
    return BadLink(
        f"{shown(text)} is a local file. Those work with `pixmill run` only, "
        "relative to the CSV; write an https:// URL here."
    )


def _split_authority(authority: str, written: str) -> tuple[str, str]:
    """Host in ASCII, and port with its colon or nothing."""
    if "@" in authority:
        raise BadLink(
            f"{shown(_without_user(written))} has a user name or password before the host. "
            "Remove it; images must be reachable without a login."
        )
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise BadLink(f"{shown(written)} has no usable host {shown(authority)}.")
    if not parts["host"]:
        raise BadLink(f"{shown(written)} has no host: write it as in https://example.com/a.jpg.")
    return _host(parts["host"]), _port(parts["port"] or "")


def _without_user(written: str) -> str:
    return re.sub(r"//[^@]*@", "//…@", written, count=1)


def _port(text: str) -> str:
    if not text:
        return ""
    if not re.fullmatch(r":[0-9]{1,5}", text) or not 1 <= int(text[1:]) <= 65535:
        raise BadLink(f"The port {shown(text)} is not a number from 1 to 65535.")
    return f":{int(text[1:])}"


@lru_cache(maxsize=2048)
def _host(text: str) -> str:
    """The host as it is looked up: lower case, ASCII. One client-side parse, used by all."""
    if "%" in text:
        raise BadLink(f"The host {shown(text)} has a %. Write the host without escapes.")
    if text.startswith("["):
        try:
            return f"[{ipaddress.IPv6Address(text[1:-1])}]"
        except ValueError:
            raise BadLink(f"The host {shown(text)} is not an IPv6 address.") from None
    host = text.lower()
    if not host.isascii():
        host = _idna(host)
    if not _ASCII_HOST.fullmatch(host):
        raise BadLink(f"The host {shown(text)} is not a domain name.")
    return host


def _idna(host: str) -> str:
    """The host's ASCII form; empty if it has none."""
    if len(host) > _HOST_LENGTH:  # before the work, which grows with the square of the length
        return ""
    try:
        return idna.encode(host, uts46=True).decode("ascii").lower()
    except (UnicodeError, IndexError):  # idna.IDNAError is a UnicodeError
        return ""


def _encode(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())


def _too_long(length: int, max_length: int) -> BadLink:
    return BadLink(
        f"The URL has {length:,} characters; at most {max_length:,} are allowed. "
        "Shorten it, or check that the cell does not hold several URLs run together.",
        ProblemCode.URL_TOO_LONG,
    )
