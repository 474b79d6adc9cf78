"""The limit: the codec alone, on all cores, with the images in memory."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import simplejpeg


def codec_limit(pictures: list[Path], seconds: float) -> float:
    """Images a second that turbojpeg decodes and encodes (quality 50, 4:2:0) on all cores."""
    cores = len(os.sched_getaffinity(0))
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        pool.starmap(_rate, [(pictures, 0.2)] * cores)  # every process has loaded its code
        return sum(pool.starmap(_rate, [(pictures, seconds)] * cores, chunksize=1))


def _rate(pictures: list[Path], seconds: float) -> float:
    images = [path.read_bytes() for path in pictures]
    done = 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        for image in images:
            pixels = simplejpeg.decode_jpeg(image)
            simplejpeg.encode_jpeg(pixels, quality=50, colorsubsampling="420")
        done += len(images)
    return done / (time.perf_counter() - started)
