"""Frames between parent and pixel child: whole however they were cut, never believed blindly."""

from __future__ import annotations

import contextlib
import socket
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixmill.io import pixel_frames
from pixmill.io.pixel_frames import Frame, FrameBuffer, frame_parts, read_frame, send_frame, unsent

FRAMES = st.lists(st.tuples(st.binary(max_size=50), st.binary(max_size=3000)), max_size=8)


@given(FRAMES, st.lists(st.integers(0, 20_000), max_size=10))
def test_frames_arrive_whole_however_the_stream_was_cut(
    sent: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    stream = b"".join(b"".join(frame_parts(header, body, 7)) for header, body in sent)
    ends = sorted({0, *(min(cut, len(stream)) for cut in cuts), len(stream)})
    buffer = FrameBuffer()
    buffer._data = bytearray(64)  # too small: it has to grow and shrink
    arrived: list[Frame] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0)
        for begin, end in pairwise(ends):
            theirs.sendall(stream[begin:end])
            with contextlib.suppress(BlockingIOError):
                while True:
                    buffer.fill(ours)
                    arrived += buffer.frames()
    assert arrived == [Frame(header, body, 7) for header, body in sent]


def test_a_buffer_does_not_keep_the_room_of_a_large_frame() -> None:
    large = b"".join(frame_parts(b"{}", bytes(3 * 2**20)))
    buffer = FrameBuffer()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0)
        arrived: list[Frame] = []
        for begin in range(0, len(large), 65536):
            theirs.sendall(large[begin : begin + 65536])
            buffer.fill(ours)
            arrived += buffer.frames()
    assert [len(frame.body) for frame in arrived] == [3 * 2**20]
    assert len(buffer._data) == pixel_frames._ROOM


def test_a_frame_that_announces_too_much_ends_the_conversation() -> None:
    buffer = FrameBuffer()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(pixel_frames._START.pack(2, 2**40, 0))
        buffer.fill(ours)
        with pytest.raises(EOFError):
            list(buffer.frames())


def test_the_end_of_a_stream_is_told_from_silence() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.settimeout(0)
        with pytest.raises(BlockingIOError):
            FrameBuffer().fill(ours)
        theirs.close()
        with pytest.raises(EOFError):
            FrameBuffer().fill(ours)


def test_a_child_reads_what_a_parent_sends_and_notices_its_end() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            send_frame(ours, b"{}", b"body", 0)
            ours.sendall(b"\0" * 5)
        assert read_frame(theirs) == (b"{}", b"body")
        with pytest.raises(EOFError):
            read_frame(theirs)


@given(st.lists(st.binary(max_size=20), max_size=5), st.integers(0, 200))
def test_what_is_unsent_is_the_rest(parts: list[bytes], sent: int) -> None:
    whole = b"".join(parts)
    sent = min(sent, len(whole))
    assert b"".join(unsent([*parts], sent)) == whole[sent:]
