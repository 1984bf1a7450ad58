"""Panels of one figure in rows of at most three, for one data set or several: curves with a strip of picks below."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet

from reports.figures.style import COLUMN, PAGE, arrange, legend_above, panel_label, sheet_of

MAX_COLUMNS = 3
_HEAD, _LETTERS = 0.15, 0.4  # inches of a legend, and of the letters around a row of panels
_LOWER = 1.25  # inches of a panel of which there are several rows


@dataclass(frozen=True)
class Legend:
    """What tells curves apart: a handle for each label."""

    handles: Sequence[Artist]
    labels: Sequence[str]


def rows_of(count: int, columns: int = MAX_COLUMNS) -> tuple[int, int]:
    """Return in how many rows and columns panels stand."""
    columns = max(1, min(count, columns))
    return -(-count // columns), columns


def grid_of(sheet: Sheet, count: int, columns: int = MAX_COLUMNS) -> list[list[Axes | None]]:
    """Return the axes of panels, row by row; None where there is none."""
    rows, columns = rows_of(count, columns)
    cells = sheet.subplots(rows, columns, squeeze=False)
    for axes in cells.flat[count:]:
        axes.remove()
    return [[cells[r, c] if r * columns + c < count else None for c in range(columns)] for r in range(rows)]


def over_strips(
    titles: Sequence[str],
    upper: Callable[[Axes, int], None],
    lower: Callable[[Axes, int], None],
    heights: tuple[float, float],
    label: str,
    legend: Legend,
) -> Sheet:
    """Draw panels with a strip of picks below each: in a column's width where there is one, else as wide as a page.

    Args:
        titles: what each panel is of; not written where there is one.
        upper: draws a panel, given its axes and its number.
        lower: draws its strip, and the horizontal axis of both.
        heights: of a panel and of its strip, in inches; panels of which there are several rows are lower.
        label: what the horizontal axis is.
        legend: what tells curves apart in all panels.
    """
    count = len(titles)
    rows, columns = rows_of(count)
    panel, strip = heights[0] if rows == 1 else min(heights[0], _LOWER), heights[1]
    sheet = sheet_of(COLUMN if count == 1 else PAGE, rows * (panel + strip + _LETTERS) + _HEAD)
    cells = sheet.subplots(2 * rows, columns, squeeze=False)
    grid: list[list[Axes | None]] = [[None] * columns for _ in range(2 * rows)]
    for i in range(rows * columns):
        row, column = divmod(i, columns)
        above, below = cells[2 * row, column], cells[2 * row + 1, column]
        if i >= count:
            above.remove()
            below.remove()
            continue
        grid[2 * row][column], grid[2 * row + 1][column] = above, below
        above.sharex(below)
        upper(above, i)
        lower(below, i)
        above.tick_params(labelbottom=False)
        if count > 1:
            panel_label(above, titles[i])
        if i + columns >= count:
            below.set_xlabel(label)
        if column == 0:
            above.set_ylabel("Accuracy − plain (points)" if rows == 1 else "− plain (points)")
            below.set_ylabel("picked", rotation=0, ha="right", va="center")
    named = legend_above(sheet, legend.handles, legend.labels)
    arrange(sheet, grid, heights=[panel, strip] * rows, legend=named, gap=0.07)
    return sheet
