"""Map: images on the two principal axes of their embeddings, before and after the method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet

from benchmark.common.errors import IcmBenchError
from benchmark.method.evaluation.metrics import Array
from reports.figures.style import (
    CYCLE,
    GREY,
    MARKERS,
    PAGE,
    Look,
    arrange,
    mark_handle,
    panel_label,
    sheet_of,
    words,
)

COLUMNS = ("class", "environment", "x", "y", "x_after", "y_after")
MAX_NAMES = 8  # environments, or classes, with a colour of their own; of more, the others are grey
MAX_IMAGES = 3000
OTHERS = "others"


@dataclass(frozen=True)
class MapNumbers:
    """Images on two axes.

    Attributes:
        environments: name of each image's environment, `OTHERS` beyond the `MAX_NAMES` with most images.
        classes: name of each image's class; empty where there are too many to be told apart.
        before: shape (n, 2).
        after: shape (n, 2).
        left_out: number of images that are not drawn.
    """

    environments: tuple[str, ...]
    classes: tuple[str, ...]
    before: Array
    after: Array
    left_out: int


def numbers(images: pd.DataFrame | None) -> MapNumbers | None:
    """Return what is drawn of a map of images; None where there is none.

    Args:
        images: a line for each image with the columns id, path, class, environment, x, y, x_after and y_after.

    Raises:
        IcmBenchError: a column is missing.
    """
    if images is None or images.empty:
        return None
    if missing := [name for name in COLUMNS if name not in images.columns]:
        raise IcmBenchError(
            f"The map of images lacks the column '{missing[0]}'; write it again with `icm-bench details RECIPE`."
        )
    known = images[np.isfinite(images[["x", "y", "x_after", "y_after"]].to_numpy(dtype=float)).all(axis=1)]
    if known.empty:
        return None
    every = -(-len(known) // MAX_IMAGES)
    drawn = known.iloc[::every]
    few = drawn["class"].nunique() <= MAX_NAMES
    return MapNumbers(
        _named(drawn["environment"].astype(str).tolist()),
        _named(drawn["class"].astype(str).tolist()) if few else (),
        drawn[["x", "y"]].to_numpy(dtype=np.float64),
        drawn[["x_after", "y_after"]].to_numpy(dtype=np.float64),
        len(images) - len(drawn),
    )


def _named(names: Sequence[str]) -> tuple[str, ...]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    kept = set(sorted(counts, key=lambda name: (-counts[name], name))[:MAX_NAMES])
    return tuple(name if name in kept else OTHERS for name in names)


def draw(numbers: MapNumbers) -> Sheet:
    """Draw two panels coloured by environment, and below them two by class where there are few."""
    rows = [numbers.environments, *([numbers.classes] if numbers.classes else [])]
    sheet = sheet_of(PAGE, 0.35 + 2.9 * len(rows))
    grid = sheet.subplots(len(rows), 2, squeeze=False)
    for row, names in enumerate(rows):
        own = _looks(names)
        by = ("by environment", "by class")[row]
        for axes, points, when in zip(grid[row], (numbers.before, numbers.after), ("before", "after"), strict=True):
            _draw(axes, points, names, own)
            panel_label(axes, f"{when}, {by}" if len(rows) > 1 else when)
        grid[row, 0].set_ylabel("Second axis")
        handles, labels = [mark_handle(look) for look in own.values()], [words(name, 22) for name in own]
        grid[row, 1].legend(handles, labels, loc="upper left", bbox_to_anchor=(1.02, 1))
    for axes in grid[-1]:
        axes.set_xlabel("First axis")
    arrange(sheet, grid.tolist(), gap=0.12)
    return sheet


def _looks(names: Sequence[str]) -> dict[str, Look]:
    distinct = sorted(set(names) - {OTHERS})
    looks = {name: Look(colour, mark, "-") for name, colour, mark in zip(distinct, CYCLE, MARKERS, strict=False)}
    return looks | ({OTHERS: Look(GREY, ".", "-")} if OTHERS in names else {})


def _draw(axes: Axes, points: Array, names: Sequence[str], looks: Mapping[str, Look]) -> None:
    of_image = np.array(names)
    for name, look in looks.items():
        at = points[of_image == name]
        # As pixels in PDF and SVG too: thousands of markers make either slow to open.
        axes.plot(at[:, 0], at[:, 1], linestyle="none", marker=look.marker, color=look.colour, markersize=2.2,
                  markeredgewidth=0, alpha=0.6, rasterized=True)  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
