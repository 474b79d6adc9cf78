"""The benchmark as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt


@dataclass(frozen=True, slots=True)
class Row:
    """One case: images a second of the codec alone, what the host cap allows, and the pipeline."""

    case: str
    images: int
    codec: float
    polite: float
    pipeline: float
    floor: float

    @property
    def limit(self) -> float:
        """The lower of both limits."""
        return min(self.codec, self.polite)

    @property
    def ratio(self) -> float:
        """How much of the limit the whole pipeline reaches."""
        return self.pipeline / self.limit


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw each case's ratio as a bar, with the floor that it has to reach."""
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.9 * len(rows)))
    places = range(len(rows), 0, -1)
    axes.barh(places, [row.ratio for row in rows], height=0.55, color="#2b6cb0")
    for place, row in zip(places, rows, strict=True):
        axes.plot([row.floor] * 2, [place - 0.4, place + 0.4], color="#c53030", linewidth=2)
        text = f"{row.ratio:.2f}   ({row.pipeline:,.0f} of {row.limit:,.0f} images/s)"
        axes.text(0.02, place, text, va="center", color="white", fontsize=10)
    axes.set_yticks(list(places), [row.case for row in rows])
    axes.set_xlim(0, 1)
    axes.set_xlabel(
        "whole pipeline ÷ limit: codec alone on all cores, or the host cap (red: floor)"
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def growth(images: Sequence[int], costs: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw what an image costs each server against the number of images in the request."""
    figure, axes = plt.subplots(figsize=(8, 3.6))
    for (name, milliseconds), colour in zip(costs.items(), ("#2b6cb0", "#c05621"), strict=True):
        axes.plot(images, milliseconds, marker="o", color=colour, label=name)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xticks(list(images), [f"{count:,}" for count in images])
    axes.set_xlabel("images in the request")
    axes.set_ylabel("CPU for each image, ms")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
