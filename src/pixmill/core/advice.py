"""What people are told about each error code: what happened, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pixmill.core.errors import ImageErrorCode as Code


@dataclass(frozen=True, slots=True)
class Advice:
    """``title`` is a fragment that follows a colon; ``what_to_do`` is a whole sentence."""

    title: str
    what_to_do: str


HOPELESS = frozenset(
    {
        Code.INVALID_URL,
        Code.FORBIDDEN_ADDRESS,
        Code.TOO_MANY_REDIRECTS,
        Code.TOO_LARGE,
        Code.NOT_AN_IMAGE,
        Code.UNSUPPORTED_FORMAT,
        Code.TOO_MANY_PIXELS,
    }
)
"""Errors that come again at another attempt, since another CSV or another setting is needed."""

ADVICE: Mapping[Code, Advice] = MappingProxyType(
    {
        Code.INVALID_URL: Advice(
            "the cell names no image that can be asked for",
            "Correct the cell: it needs a whole URL that begins with http:// or https:// or, with"
            " `pixmill run`, the name of a file that is there.",
        ),
        Code.FORBIDDEN_ADDRESS: Advice(
            "the address is not on the public internet",
            "Use a public URL, or have whoever runs pixmill add the address to"
            " PIXMILL_ALLOWED_ADDRESSES.",
        ),
        Code.DNS_FAILURE: Advice(
            "the host name cannot be found",
            "Check the host name for typing errors, and whether the shop has moved to another one.",
        ),
        Code.CONNECT_FAILURE: Advice(
            "the server cannot be reached or hung up",
            "Open the URL in a browser; if it works there, retry the failed images later.",
        ),
        Code.TLS_FAILURE: Advice(
            "no secure connection to the server can be made",
            "Ask whoever runs the server to renew or repair its certificate.",
        ),
        Code.TIMEOUT: Advice(
            "the server took too long",
            "Retry the failed images when the server is less busy.",
        ),
        Code.HTTP_ERROR: Advice(
            "the server refused or has no such file",
            "Read the status in the message: 404 and 410 mean a wrong or outdated URL, 401 and 403"
            " that a login is needed; after 429 or 5xx retry later.",
        ),
        Code.TOO_MANY_REDIRECTS: Advice(
            "the URL is redirected on and on",
            "Open the URL in a browser and put the address where it ends into the CSV.",
        ),
        Code.TOO_LARGE: Advice(
            "the file is larger than allowed",
            "Provide a smaller file, or have the largest size raised in the settings.",
        ),
        Code.EMPTY: Advice(
            "the server sent an empty file",
            "Upload the image to its server again; what lies there has no content.",
        ),
        Code.NOT_AN_IMAGE: Advice(
            "there is something other than an image",
            "Use the address of the picture itself, not of the web page that shows it.",
        ),
        Code.UNSUPPORTED_FORMAT: Advice(
            "the image has a format that is not read here",
            "Convert the picture to JPEG, PNG or WebP and give the URL of that file.",
        ),
        Code.CORRUPT_IMAGE: Advice(
            "the image file is damaged or cut short",
            "Export the picture anew from its original and replace the damaged file.",
        ),
        Code.TOO_MANY_PIXELS: Advice(
            "the image has more pixels than allowed",
            "Scale the picture down, or have the largest number of pixels raised in the settings.",
        ),
        Code.PROCESSING_TIMEOUT: Advice(
            "compressing took too long and was stopped",
            "Scale the picture down or run with a lower effort.",
        ),
        Code.WORKER_CRASH: Advice(
            "the image could not be processed safely",
            "Save the picture anew with an image editor; if that does not help, leave it out and"
            " report it.",
        ),
        Code.STORAGE_FAILURE: Advice(
            "the result could not be stored",
            "Check free space and write access where the images are stored, then retry the failed"
            " images.",
        ),
        Code.CANCELLED: Advice(
            "the request was cancelled before this image",
            "Retry the failed images if they are still wanted.",
        ),
    }
)
