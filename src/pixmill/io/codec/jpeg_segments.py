"""Reads the marker segments of a JPEG file, without decoding (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pixmill.core.errors import ImageError, ImageErrorCode

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
APP0, APP1, APP2, APP14 = 0xE0, 0xE1, 0xE2, 0xEE
_SOS = 0xDA
_COM = 0xFE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xCA})
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})

EXIF_PREFIX = b"Exif\0\0"
_ICC_PREFIX = b"ICC_PROFILE\0"

MAX_SCANS = 100
"""Real progressive files have about ten; each further one costs a pass over all pixels."""

# In entropy-coded data 0xFF is followed by zero (a stuffed byte) or a restart marker.
_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")


@dataclass(frozen=True, slots=True)
class Segment:
    """One marker segment before the first scan: ``data[start:end]``, marker and length included."""

    marker: int
    start: int
    end: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What stands before the first scan of a JPEG file. ``scan`` is where that scan begins."""

    width: int
    height: int
    precision: int
    components: int
    segments: tuple[Segment, ...]
    scan: int

    @property
    def exif(self) -> bytes | None:
        """The EXIF block (a TIFF structure), if there is one."""
        for segment in self.segments:
            if segment.marker == APP1 and segment.payload.startswith(EXIF_PREFIX):
                return segment.payload[len(EXIF_PREFIX) :]
        return None

    @property
    def icc_profile(self) -> bytes | None:
        """The colour profile, put together from its numbered chunks (ICC.1:2022, annex B.4)."""
        chunks = sorted(
            (segment.payload[12:13], segment.payload[14:])
            for segment in self.segments
            if is_icc(segment)
        )
        return b"".join(chunk for _, chunk in chunks) or None


def is_icc(segment: Segment) -> bool:
    """Whether the segment carries a piece of a colour profile."""
    return segment.marker == APP2 and segment.payload.startswith(_ICC_PREFIX)


def is_metadata(segment: Segment) -> bool:
    """Whether the segment can go without a change of a pixel or a colour.

    What stays: tables and frames, the JFIF header, colour profiles, Adobe's colour transform.
    """
    if segment.marker == APP0:
        return not segment.payload.startswith(b"JFIF\0")
    if segment.marker == APP14:
        return not segment.payload.startswith(b"Adobe")
    return (APP0 <= segment.marker <= 0xEF or segment.marker == _COM) and not is_icc(segment)


def read_header(data: bytes) -> JpegHeader:
    """Read up to the first scan. Raises ImageError ``corrupt_image``."""
    segments: list[Segment] = []
    frame: Segment | None = None
    at = 2
    while True:
        # Decoders skip stray bytes before a marker, so they are skipped here as well.
        at = data.find(b"\xff", at)
        if at < 0 or at + 4 > len(data):
            raise _corrupt("it ends before its first scan")
        marker = data[at + 1]
        if marker in (0x00, 0xFF) or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data) or end < at + 4:
            raise _corrupt("its header is cut short")
        segment = Segment(marker, at, end, data[at + 4 : end])
        if marker == _SOS:
            break
        if marker in _FRAMES:
            frame = frame or segment
        segments.append(segment)
        at = end
    if frame is None or len(frame.payload) < 6:
        raise _corrupt("it has no frame header")
    if frame.marker in _PROGRESSIVE and (scans := data.count(b"\xff\xda", at)) > MAX_SCANS:
        raise _corrupt(f"it has {scans:,} scans, where real pictures have about ten")
    height, width = (int.from_bytes(frame.payload[i : i + 2], "big") for i in (1, 3))
    if not width or not height:
        raise _corrupt("its header gives no size")
    return JpegHeader(width, height, frame.payload[0], frame.payload[5], tuple(segments), at)


_EOI = re.compile(re.escape(EOI))


def without_metadata(data: bytes, header: JpegHeader, exif: bytes | None) -> bytes:
    """The same picture, bit for bit, without metadata or anything behind its end.

    ``exif`` takes the place of what was removed. Without anything to remove, ``data`` itself.
    """
    end = _end_of_image(data, header.scan)
    if end == len(data) and not any(map(is_metadata, header.segments)):
        return data
    kept = [
        data[segment.start : segment.end] for segment in header.segments if not is_metadata(segment)
    ]
    if exif is not None:
        payload = EXIF_PREFIX + exif
        # EXIF 2.32, 4.5.4: behind JFIF's APP0, which must come first if it is there.
        first = 1 if kept and kept[0][1] == APP0 else 0
        kept.insert(first, b"\xff\xe1" + (len(payload) + 2).to_bytes(2, "big") + payload)
    return b"".join([SOI, *kept, data[header.scan : end]])


def _end_of_image(data: bytes, scan: int) -> int:
    """Where the picture ends: behind its EOI, or at the end of a file that has none."""
    first = _EOI.search(data, scan)  # a third of the time of bytes.find
    if first is None or first.end() == len(data):
        return len(data)
    at = scan
    while marker := _NEXT_MARKER.search(data, at):
        kind = data[marker.end() - 1]
        if kind == EOI[1]:
            return marker.end()
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return len(data)


def _corrupt(what: str) -> ImageError:
    return ImageError(
        ImageErrorCode.CORRUPT_IMAGE, f"The JPEG file is damaged: {what}. Upload it again."
    )
