"""Makes the share links of Google Drive and Dropbox into links to the file itself."""

from __future__ import annotations

import re

_DRIVE_HOSTS = frozenset({"drive.google.com", "docs.google.com"})
_DROPBOX_HOSTS = frozenset({"dropbox.com", "www.dropbox.com"})
_DRIVE_FILE = re.compile(r"/(?:a/[^/]+/)?file/(?:u/[0-9]+/)?d/([A-Za-z0-9_-]+)(?:[/?]|$)")
_DRIVE_BY_ID = re.compile(r"/(?:a/[^/]+/)?(?:u/[0-9]+/)?(?:open|uc)\?")
_ID = re.compile(r"[?&]id=([A-Za-z0-9_-]+)(?:&|$)")
_RESOURCE_KEY = re.compile(r"[?&]resourcekey=([A-Za-z0-9_-]+)(?:&|$)")
_DROPBOX_FILE = re.compile(r"/(?:s|scl/fi|sh|scl/fo)/[^?]+")
_DROPBOX_SWITCH = re.compile(r"([?&])dl=0(?=&|$)")


def direct(scheme: str, host: str, tail: str) -> tuple[str, str]:
    """Scheme and tail (path and query) that lead to the file where the URL is a share link."""
    if host in _DRIVE_HOSTS:
        return _drive(scheme, tail)
    if host in _DROPBOX_HOSTS and _DROPBOX_FILE.match(tail):
        return scheme, _dropbox(tail)
    return scheme, tail


def _drive(scheme: str, tail: str) -> tuple[str, str]:
    found = _DRIVE_FILE.match(tail)
    if found is None and _DRIVE_BY_ID.match(tail):
        found = _ID.search(tail)
    if found is None:
        return scheme, tail
    # Files shared before 2021 also need the key that their link carries.
    key = _RESOURCE_KEY.search(tail)
    return "https", f"/uc?export=download&id={found[1]}" + (f"&resourcekey={key[1]}" if key else "")


def _dropbox(tail: str) -> str:
    """The same link asking for the file, not the page; every other parameter stays."""
    if _DROPBOX_SWITCH.search(tail):
        return _DROPBOX_SWITCH.sub(r"\1raw=1", tail)
    if re.search(r"[?&](?:dl|raw)=1(?=&|$)", tail):
        return tail
    return tail + ("&" if "?" in tail else "?") + "raw=1"
