"""What libcurl reports, told apart for people: the one door through which its errors pass."""

from __future__ import annotations

import pycurl

from pixmill.core.errors import ImageError, ImageErrorCode

_FINAL, _RETRY = False, True

# Codes of curl.h that pycurl does not name.
_HTTP2_STREAM = 92
_TOO_LARGE = 100

# Code, whether another attempt makes sense, and what to say. ``{0}`` is the host.
_BROKE_OFF = (
    ImageErrorCode.CONNECT_FAILURE,
    _RETRY,
    "The connection to {0} broke off before the whole image had arrived.",
)
_CERTIFICATE = (
    ImageErrorCode.TLS_FAILURE,
    _FINAL,
    "The certificate of {0} cannot be trusted.",
)
_NOT_HTTP = (
    ImageErrorCode.HTTP_ERROR,
    _FINAL,
    "{0} did not answer in proper HTTP. Check that the URL and its port belong to a web server.",
)
_MEANINGS = {
    pycurl.E_COULDNT_RESOLVE_HOST: (
        ImageErrorCode.DNS_FAILURE,
        _RETRY,
        "The host name {0} could not be resolved. Check its spelling.",
    ),
    pycurl.E_COULDNT_CONNECT: (
        ImageErrorCode.CONNECT_FAILURE,
        _RETRY,
        "{0} does not accept connections.",
    ),
    pycurl.E_URL_MALFORMAT: (ImageErrorCode.INVALID_URL, _FINAL, "{0} is not a usable host."),
    pycurl.E_SSL_CONNECT_ERROR: (
        ImageErrorCode.TLS_FAILURE,
        _RETRY,
        "No secure connection to {0} could be made.",
    ),
    pycurl.E_PEER_FAILED_VERIFICATION: _CERTIFICATE,
    pycurl.E_SSL_ISSUER_ERROR: _CERTIFICATE,
    pycurl.E_SSL_CACERT_BADFILE: (
        ImageErrorCode.TLS_FAILURE,
        _FINAL,
        "The file of trusted certificates cannot be read; {0} was not asked.",
    ),
    pycurl.E_GOT_NOTHING: (
        ImageErrorCode.CONNECT_FAILURE,
        _RETRY,
        "{0} closed the connection without an answer.",
    ),
    pycurl.E_PARTIAL_FILE: _BROKE_OFF,
    pycurl.E_RECV_ERROR: _BROKE_OFF,
    pycurl.E_SEND_ERROR: _BROKE_OFF,
    pycurl.E_HTTP2: _BROKE_OFF,
    _HTTP2_STREAM: _BROKE_OFF,
    pycurl.E_UNSUPPORTED_PROTOCOL: _NOT_HTTP,  # how libcurl calls HTTP/0.9
    pycurl.E_FTP_WEIRD_SERVER_REPLY: _NOT_HTTP,
    pycurl.E_BAD_CONTENT_ENCODING: _NOT_HTTP,
    _TOO_LARGE: _NOT_HTTP,  # headers beyond all measure
}
_UNFORESEEN = (ImageErrorCode.CONNECT_FAILURE, _RETRY, "The download from {0} failed.")
_WITH_DETAIL = {ImageErrorCode.TLS_FAILURE}


def image_error(curl_code: int, detail: str, host: str) -> ImageError:
    """The error of a transfer that libcurl gave up; ``detail`` is libcurl's own message."""
    if curl_code == pycurl.E_OPERATION_TIMEDOUT:
        return _timeout(detail, host)
    if detail.startswith("Too large response headers"):  # reported as a broken connection
        curl_code = _TOO_LARGE
    meaning = _MEANINGS.get(curl_code, _UNFORESEEN)
    code, retryable, text = meaning
    message = text.format(host)
    if code in _WITH_DETAIL or meaning is _UNFORESEEN:
        message += f" ({detail})"
    return ImageError(code, message, retryable=retryable)


def unknown_name(host: str) -> ImageError:
    """The error of a host whose name has no address."""
    return image_error(pycurl.E_COULDNT_RESOLVE_HOST, "", host)


def slow_name(host: str) -> ImageError:
    """The error of a host whose name servers do not answer."""
    return _timeout("Resolving timed out", host)


def _timeout(detail: str, host: str) -> ImageError:
    if detail.startswith(("Connection timed out", "Failed to connect", "Resolving timed out")):
        message = f"{host} could not be reached in time."
    elif detail.startswith("Operation too slow"):
        message = f"{host} sent nothing for too long."
    else:
        message = f"{host} did not deliver the image in time."
    return ImageError(ImageErrorCode.TIMEOUT, message, retryable=True)
