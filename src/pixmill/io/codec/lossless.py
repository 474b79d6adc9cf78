"""Removes metadata from PNG and WebP files without touching their pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Ancillary chunks that change how the picture looks (PNG third edition, 11.3, and APNG's three).
# A list of what may stay is safer than a list of what must go: private chunks hide anything.
_PNG_KEPT = frozenset(
    {
        *(b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"mDCV", b"cLLI"),
        *(b"bKGD", b"hIST", b"pHYs", b"sPLT", b"acTL", b"fcTL", b"fdAT"),
    }
)
_WEBP_KEPT = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ICCP", b"ANIM", b"ANMF"})
_VP8X_EXIF, _VP8X_XMP = 0x08, 0x04  # RFC 9649, 2.7.1


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Each chunk's type and where it begins and ends, up to IEND or the first broken one."""
    at = len(_PNG_SIGNATURE)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return
        kind = data[at + 4 : at + 8]
        yield kind, at, end
        if kind == b"IEND":
            return
        at = end


def is_animated_png(data: bytes) -> bool:
    """Whether an animation control chunk stands before the image data (APNG)."""
    for kind, start, _ in png_chunks(data):
        if kind == b"acTL":
            return int.from_bytes(data[start + 8 : start + 12], "big") > 1
        if kind == b"IDAT":
            break
    return False


def strip_png(data: bytes, exif: bytes | None) -> bytes:
    """The same picture without metadata; ``exif`` takes its place. Else ``data`` itself."""
    kept = [_PNG_SIGNATURE]
    end_of_file = len(_PNG_SIGNATURE)
    dropped = False
    for kind, start, end in png_chunks(data):
        end_of_file = end
        if kind in _PNG_KEPT or kind[:1].isupper():  # upper case: critical (PNG, 5.4)
            kept.append(data[start:end])
        else:
            dropped = True
    if not dropped and end_of_file == len(data):
        return data
    if exif is not None:
        body = b"eXIf" + exif
        chunk = struct.pack(">I", len(exif)) + body + struct.pack(">I", zlib.crc32(body))
        kept.insert(2, chunk)  # behind the signature and IHDR
    return b"".join(kept)


def strip_webp(data: bytes, exif: bytes | None) -> bytes:
    """The same picture without metadata; ``exif`` takes its place. Else ``data`` itself."""
    kept: list[bytes] = []
    file_end = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    dropped = file_end < len(data)
    at = 12
    while at + 8 <= file_end:
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        end = min(at + 8 + size + size % 2, file_end)
        kind = data[at : at + 4]
        if kind in _WEBP_KEPT:
            kept.append(data[at:end])
        else:
            dropped = True
        at = end
    if not dropped:
        return data
    # Only the extended form has metadata, and it begins with VP8X, which announces it.
    extended = bool(kept) and kept[0].startswith(b"VP8X")
    if extended:
        flags = kept[0][8] & ~(_VP8X_EXIF | _VP8X_XMP)
        if exif is not None:
            flags |= _VP8X_EXIF
            kept.append(struct.pack("<4sI", b"EXIF", len(exif)) + exif + b"\0" * (len(exif) % 2))
        kept[0] = kept[0][:8] + bytes([flags]) + kept[0][9:]
    body = b"WEBP" + b"".join(kept)
    return struct.pack("<4sI", b"RIFF", len(body)) + body
