"""The form of an upload: read as a stream to a temporary file, and each of its parts checked."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Annotated, BinaryIO

from fastapi import Depends
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as Call

from pixmill.core.errors import StorageFailure
from pixmill.core.events import Event, parse_events
from pixmill.core.model import SheetRules
from pixmill.core.options import PUBLIC_NAMES, Options, parse_options
from pixmill.web.access import Submitter
from pixmill.web.body_cap import FORM_ROOM, upload_too_large
from pixmill.web.problems import CallRefused, Code
from pixmill.web.service import Services

FILE_FIELDS = ("csv", "file")
TEXT_FIELDS = (
    "options",
    "invalidRows",
    "serialCol",
    "nameCol",
    "urlCol",
    "encoding",
    "delimiter",
    "urlSeparator",
    "neutraliseFormulas",
    "webhookUrl",
    "webhookEvents",
)
REPEATABLE = ("urlCol",)
MOST_FIELDS = 100
LONGEST_FILENAME = 200
LONGEST_TEXT = 1000
LONGEST_KEY = 255


@dataclass(frozen=True, slots=True)
class Form:
    """What an upload's form says. The CSV is open until the call has been answered."""

    csv: BinaryIO
    filename: str
    options: Options
    rules: SheetRules
    webhook_url: str | None
    webhook_events: tuple[Event, ...] | None


async def read_form(call: Call, service: Services, _caller: Submitter) -> AsyncIterator[Form]:
    """Read the form of a caller who may upload; its temporary files end with the call.

    The parts are parsed here, not by FastAPI, which would take in the whole body before it looks
    at the caller's key. Temporary files have no name, so even a killed server leaves none behind.
    """
    if not call.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise CallRefused(
            Code.UNSUPPORTED_MEDIA_TYPE,
            "An upload is multipart/form-data with the CSV as the file field 'csv':"
            " curl -F csv=@products.csv …",
        )
    parts = await _parts(call)
    try:
        yield _checked(parts, service.settings.max_upload_size)
    finally:
        await parts.close()


UploadForm = Annotated[Form, Depends(read_form)]
"""The form of an upload, read once the caller is known."""


async def _parts(call: Call) -> FormData:
    try:
        return await call.form(max_files=2, max_fields=MOST_FIELDS, max_part_size=FORM_ROOM)
    except HTTPException as error:
        if error.status_code != 400:
            raise
        detail = f"The form cannot be read: {error.detail}"
        raise CallRefused(Code.INVALID_CALL, detail) from None
    except ClientDisconnect:
        raise CallRefused(Code.INVALID_CALL, "The body ended before it was complete.") from None
    except OSError as error:
        raise StorageFailure(f"An upload cannot be buffered: {error.strerror}.") from error


def _checked(parts: FormData, max_size: int) -> Form:
    """Check every part, so that nothing that was asked for is overlooked."""
    files: list[UploadFile] = []
    texts: dict[str, list[str]] = {}
    for name, value in parts.multi_items():
        if name not in (*FILE_FIELDS, *TEXT_FIELDS):
            raise CallRefused(Code.INVALID_CALL, _unknown(name))
        if (name in FILE_FIELDS) != isinstance(value, UploadFile):
            kind = "a file, with a filename" if name in FILE_FIELDS else "text, not a file"
            raise CallRefused(Code.INVALID_CALL, f"The form field {name!r} must be {kind}.")
        if isinstance(value, UploadFile):
            files.append(value)
        else:
            texts.setdefault(name, []).append(_sound(name, value))
    csv = _only_file(files, max_size)
    for name, values in texts.items():
        if len(values) > 1 and name not in REPEATABLE:
            raise CallRefused(Code.INVALID_CALL, f"The form field {name!r} came more than once.")
    once = {name: values[0] for name, values in texts.items()}
    return Form(
        csv=csv.file,
        filename=shown_filename(csv.filename or ""),
        options=parse_options(_json_object(once.get("options") or "{}")),
        rules=_rules(once, texts.get("urlCol", [])),
        webhook_url=once.get("webhookUrl", "").strip() or None,
        webhook_events=parse_events(events) if (events := once.get("webhookEvents")) else None,
    )


def _only_file(files: list[UploadFile], max_size: int) -> UploadFile:
    if len(files) != 1:
        many = "has more than one file" if files else "has no file, or ends before its file does"
        raise CallRefused(
            Code.INVALID_CALL,
            f"The form {many}. Send one CSV as the file field 'csv' (or 'file').",
        )
    if (files[0].size or 0) > max_size:
        raise CallRefused(Code.UPLOAD_TOO_LARGE, upload_too_large(max_size))
    return files[0]


def _unknown(name: str) -> str:
    if name in PUBLIC_NAMES.values():
        return (
            f"{name!r} is a processing option: send it in the form field 'options', as JSON such as"
            f' {{"{name}": …}}.'
        )
    known = {field.lower(): field for field in (*FILE_FIELDS, *TEXT_FIELDS)}
    near = difflib.get_close_matches(name.lower().replace("_", ""), known, n=1)
    hint = f"Did you mean {known[near[0]]!r}?" if near else f"Fields are: {', '.join(TEXT_FIELDS)}."
    return f"There is no form field {name[:60]!r}. {hint}"


def _sound(name: str, text: str) -> str:
    """The text, if it can be kept as it is. Half a surrogate pair cannot."""
    if name != "options" and len(text) > LONGEST_TEXT:
        detail = f"The form field {name!r} may have {LONGEST_TEXT} characters."
        raise CallRefused(Code.INVALID_CALL, detail)
    if re.search("[\ud800-\udfff\0]", text):
        raise CallRefused(Code.INVALID_CALL, f"The form field {name!r} is not valid text.")
    return text


def _json_object(text: str) -> Mapping[str, object]:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        why = f"{error.msg} at character {error.pos}" if isinstance(error, _NOT_JSON) else "too big"
        detail = f"The form field 'options' is not valid JSON: {why}."
        raise CallRefused(Code.INVALID_CALL, detail) from None
    if not isinstance(given, dict):
        detail = """The form field 'options' must be a JSON object such as {"quality": 70}."""
        raise CallRefused(Code.INVALID_CALL, detail)
    return given


_NOT_JSON = json.JSONDecodeError


def _rules(once: Mapping[str, str], url_cols: list[str]) -> SheetRules:
    """How to read the CSV; an empty field is as good as none."""
    invalid_rows = _one_of(once, "invalidRows", {"reject": False, "skip": True})
    neutralise = _one_of(once, "neutraliseFormulas", {"true": True, "false": False})
    return SheetRules(
        serial_col=once.get("serialCol") or None,
        name_col=once.get("nameCol") or None,
        url_cols=tuple(column for column in url_cols if column),
        encoding=once.get("encoding") or None,
        delimiter=once.get("delimiter") or None,
        url_separator=once.get("urlSeparator") or None,
        skip_invalid_rows=bool(invalid_rows),
        neutralise_formulas=neutralise is not False,
    )


def _one_of(once: Mapping[str, str], name: str, choices: Mapping[str, bool]) -> bool | None:
    text = once.get(name, "").lower()
    if text and text not in choices:
        allowed = " or ".join(repr(choice) for choice in choices)
        raise CallRefused(
            Code.INVALID_CALL,
            f"The form field {name!r} must be {allowed}, not {text[:60]!r}.",
        )
    return choices.get(text)


def shown_filename(given: str) -> str:
    """The last component of a file's name, fit to be shown: one line, nothing invisible."""
    name = re.split(r"[/\\]", given)[-1]
    name = "".join(letter for letter in name if letter.isprintable()).strip()
    return name[-LONGEST_FILENAME:] or "upload.csv"
