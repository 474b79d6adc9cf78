"""Blobs in a bucket of any S3-compatible service, through obstore."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import BinaryIO, cast

import obstore
from obstore.store import S3Store

from pixmill.blobs.keys import InvalidKey, check_key
from pixmill.blobs.s3_errors import Patience
from pixmill.blobs.s3_place import S3Place
from pixmill.blobs.s3_reader import BLOCK, PartsReader
from pixmill.core.errors import NotFound, StorageFailure
from pixmill.core.shards import IMMUTABLE, MEDIA_TYPES, PRIVATE
from pixmill.ports import BlobInfo

AT_ONCE = 32
"""Files that ``put_all`` sends at once: at 30 ms each, a thousand in a second."""

PART = 8 * 1024 * 1024
PARTS_AT_ONCE = 4
"""A larger file is sent in parts, so many at once: with what is being read, 40 MB of memory."""

PATIENCE_SECONDS = 60.0
"""How long S3 may be away before the pictures of a worker cannot be stored, and it stops."""
CALLER_SECONDS = 20.0
"""The same for one file, for which somebody may be waiting at the other end of a call."""
READER_SECONDS = 10.0
"""The same for reading."""

HICCUP_SECONDS = 8.0
"""How long obstore itself tries again, with short pauses and no word about it."""

LONGEST_KEY = 1024
"""Bytes of a key, prefix included, that S3 takes."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A part of an object, and what is known of the whole."""

    info: BlobInfo
    tag: str | None
    data: bytes


class S3Blobs:
    """Objects in a bucket, below a prefix.

    A put is one step for everybody else, as S3 has it: an object is there whole or not at all, also
    one that came in parts. S3 says that it has an object only when it is durable.
    """

    near = False

    def __init__(
        self,
        place: S3Place,
        *,
        patience: float = PATIENCE_SECONDS,
        hiccup: float = HICCUP_SECONDS,
    ) -> None:
        self._place = place
        self._patience = patience
        self._store = S3Store(
            place.bucket,
            prefix=place.prefix or None,
            config=place.config,
            client_options=place.client_options,
            retry_config={
                "max_retries": 10,
                "retry_timeout": timedelta(seconds=min(hiccup, patience)),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=2),
                },
            },
        )
        self._lock = threading.Lock()
        self._senders: ThreadPoolExecutor | None = None

    def put(self, key: str, data: bytes | BinaryIO) -> None:
        """Store a whole file durably, in place of any earlier one, or leave things as they were."""
        self._path(key)
        patience = Patience(min(CALLER_SECONDS, self._patience))
        if isinstance(data, bytes):
            self._put(key, data, patience)
            return
        try:
            head = _read(data, PART)
            if len(head) < PART:
                self._put(key, head, patience)
            else:
                self._put_parts(key, head, data, patience)
        except OSError as error:  # of the file that is read
            raise StorageFailure(f"Cannot store {key}: {error.strerror or error}.") from error

    def put_all(self, files: Mapping[str, bytes]) -> None:
        """Store several whole files; when this returns, all of them are durable."""
        if not files:
            return
        for key in files:
            self._path(key)
        patience = Patience(self._patience)
        broken: list[Exception] = []

        def send(key: str) -> None:
            try:
                if not broken:  # one cannot be stored: no need to wait for each of the others too
                    self._put(key, files[key], patience)
            except Exception as error:  # told below, when none is on its way any more
                broken.append(error)

        for sent in [self._pool().submit(send, key) for key in files]:
            sent.result()
        if broken:
            raise broken[0]

    def open(self, key: str) -> BinaryIO:
        """Open a stored file for reading and seeking; raises NotFound."""
        return self.open_known(key)[1]

    def open_known(self, key: str) -> tuple[BlobInfo, BinaryIO]:
        """Open a stored file and return what is known of this very file; raises NotFound.

        What comes with the first answer is all of most files. The rest of a larger one is read as
        it is needed, and only as long as the file is the same.
        """
        path = self._known_path(key)
        found = self._get(path, 0, BLOCK)
        if found.info.size <= len(found.data):
            return found.info, io.BytesIO(found.data)

        def get(start: int, end: int) -> bytes:
            return self._get(path, start, end, found.tag).data

        reader = PartsReader(get, found.info.size, found.data)
        return found.info, cast("BinaryIO", io.BufferedReader(reader, 64 * 1024))

    def look(self, key: str) -> BlobInfo:
        """Return what is known of a stored file; raises NotFound."""
        path = self._known_path(key)
        return _info(self._reading().call(f"read {key}", lambda: obstore.head(self._store, path)))

    def delete_all(self, folder: str) -> None:
        """Delete all files whose keys begin with ``folder`` and a slash; none is no error."""
        path = self._path(folder)
        patience = Patience(min(CALLER_SECONDS, self._patience))

        def delete() -> None:
            for page in obstore.list(self._store, prefix=path, chunk_size=1000):
                obstore.delete(self._store, [found["path"] for found in page])
                patience.worked()

        patience.call(f"delete {folder}", delete)

    def free_room(self) -> None:
        """Nothing to do: what was deleted takes no room."""

    def clean(self, *, idle_seconds: float = 0.0) -> None:
        """Do nothing: what killed processes began to send is for the bucket's lifecycle rules.

        Such parts are no objects: nobody can see them.
        """

    def _put(self, key: str, data: bytes, patience: Patience) -> None:
        path, attributes = self._path(key), _attributes(key)
        patience.call(
            f"store {key}",
            lambda: obstore.put(
                self._store, path, data, attributes=attributes, use_multipart=False
            ),
        )

    def _put_parts(self, key: str, head: bytes, rest: BinaryIO, patience: Patience) -> None:
        """Send a large file in parts. If that fails, obstore gives up the upload at the server.

        An error of the file that is read comes as it is, not as obstore tells it.
        """
        path, attributes = self._path(key), _attributes(key)
        start = rest.tell()
        broken: list[Exception] = []

        def parts() -> Iterator[bytes]:
            rest.seek(start)
            yield head
            try:
                while part := _read(rest, PART):
                    yield part
            except Exception as error:
                broken.append(error)
                raise

        def send() -> None:
            try:
                obstore.put(
                    self._store,
                    path,
                    parts(),
                    attributes=attributes,
                    use_multipart=True,
                    chunk_size=PART,
                    max_concurrency=PARTS_AT_ONCE,
                )
            except Exception:
                if broken:
                    raise _Unreadable(broken[0]) from None
                raise

        try:
            patience.call(f"store {key}", send)
        except _Unreadable as unreadable:
            raise unreadable.error from None

    def _get(self, path: str, start: int, end: int, tag: str | None = None) -> _Found:
        """A part of an object, which must still be the one with this tag, if one is given."""

        def get() -> _Found:
            options: obstore.GetOptions = {"range": (start, end)}
            if tag:
                options["if_match"] = tag
            try:
                result = obstore.get(self._store, path, options=options)
            except obstore.exceptions.GenericError as error:
                if start or "416" not in str(error):
                    raise
                result = obstore.get(self._store, path)  # no range can be satisfied by nothing
            return _Found(_info(result.meta), result.meta["e_tag"], bytes(result.bytes()))

        return self._reading().call(f"read {path}", get)

    def _reading(self) -> Patience:
        return Patience(min(READER_SECONDS, self._patience), reading=True)

    def _pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._senders is None:
                self._senders = ThreadPoolExecutor(AT_ONCE, "s3")
            return self._senders

    def _path(self, key: str) -> str:
        check_key(key)
        try:
            size = len(key.encode()) + len(self._place.prefix.encode()) + 1
        except UnicodeEncodeError:
            raise InvalidKey("A key with half a character is not a valid key.") from None
        if size > LONGEST_KEY:
            raise InvalidKey("So long a key is not a valid key.")
        return key

    def _known_path(self, key: str) -> str:
        try:
            return self._path(key)
        except InvalidKey:
            raise NotFound("There is no such file.") from None


class _Unreadable(Exception):  # never leaves this module
    """Carries the error of a file that is being sent past those of S3."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def _read(file: BinaryIO, size: int) -> bytes:
    """So many bytes of a file, fewer only at its end."""
    parts: list[bytes] = []
    left = size
    while left and (part := file.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _info(meta: obstore.ObjectMeta) -> BlobInfo:
    modified = meta["last_modified"].timestamp()
    tag = (meta["e_tag"] or "").removeprefix("W/").replace('"', "")
    return BlobInfo(meta["size"], tag or f"{int(modified):x}-{meta['size']:x}", modified)


def _attributes(key: str) -> obstore.Attributes:
    """What a bucket, or a CDN before it, tells the browsers to which it serves a file itself."""
    if key.startswith(f"{PRIVATE}/"):
        return {"Content-Type": "text/csv"} if key.endswith(".csv") else {}
    media_type = MEDIA_TYPES.get(key.rpartition(".")[2], "application/octet-stream")
    return {"Content-Type": media_type, "Cache-Control": IMMUTABLE}
