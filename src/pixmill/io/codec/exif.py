"""Reads and writes the three EXIF fields that matter here: orientation, artist, copyright."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_ORIENTATION, _ARTIST, _COPYRIGHT = 0x0112, 0x013B, 0x8298  # EXIF 2.32, 4.6.4 and 4.6.5
_ASCII, _SHORT = 2, 3
_MAX_TEXT = 4096


@dataclass(frozen=True, slots=True)
class Exif:
    """The fields of IFD0 that survive or matter. Texts are bytes, as no encoding is declared."""

    orientation: int = 1
    artist: bytes = b""
    copyright: bytes = b""

    @property
    def sideways(self) -> bool:
        """Whether width and height swap when the picture is turned upright."""
        return self.orientation >= 5


def read_exif(block: bytes | None) -> Exif:
    """Read a TIFF structure; damaged or absent fields get their defaults."""
    if block is None or block[:4] not in (b"II*\0", b"MM\0*"):
        return Exif()
    order = "<" if block[:1] == b"I" else ">"
    fields: dict[int, int | bytes] = {}
    try:
        (start,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, size = struct.unpack_from(order + "HHI", block, at)
            if tag == _ORIENTATION and kind == _SHORT:
                (fields[tag],) = struct.unpack_from(order + "H", block, at + 8)
            elif tag in (_ARTIST, _COPYRIGHT) and kind == _ASCII and size <= _MAX_TEXT:
                (far,) = struct.unpack_from(order + "I", block, at + 8)
                where = at + 8 if size <= 4 else far
                fields[tag] = block[where : where + size].rstrip(b"\0 ")
    except struct.error:
        pass  # the fields read so far stand
    orientation = fields.get(_ORIENTATION, 1)
    return Exif(
        orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1,
        bytes(fields.get(_ARTIST, b"")),
        bytes(fields.get(_COPYRIGHT, b"")),
    )


def build_exif(exif: Exif) -> bytes | None:
    """The smallest TIFF structure with these fields; None when all have their defaults."""
    entries: list[tuple[int, int, int, bytes]] = []
    if exif.orientation != 1:
        entries.append((_ORIENTATION, _SHORT, 1, struct.pack(">HH", exif.orientation, 0)))
    for tag, text in ((_ARTIST, exif.artist), (_COPYRIGHT, exif.copyright)):
        if text:
            entries.append((tag, _ASCII, len(text) + 1, text + b"\0"))
    if not entries:
        return None
    far_at = 8 + 2 + 12 * len(entries) + 4
    directory, far = b"", b""
    for tag, kind, count, value in entries:
        if len(value) <= 4:
            place = value.ljust(4, b"\0")
        else:
            place = struct.pack(">I", far_at + len(far))
            far += value + b"\0" * (len(value) % 2)  # values begin on even offsets (TIFF 6.0)
        directory += struct.pack(">HHI", tag, kind, count) + place
    return b"MM\0*" + struct.pack(">IH", 8, len(entries)) + directory + bytes(4) + far
