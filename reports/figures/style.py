"""How every figure looks: sizes in inches, letters of at least 6.5 pt, methods told apart without colour too.

Nothing here knows rows. Figures are made with Matplotlib's objects, without pyplot, and hold neither title nor caption.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Sheet
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from reports.analysis.methods import ICM, PLAIN, SHRINKAGE, Method

COLUMN, PAGE = 3.25, 6.75  # widths of a column and of a page of a two-column paper, in inches
TALLEST = 8.5  # inches: what is higher does not fit on a page with its caption
SMALL, NORMAL = 6.5, 7.0  # pt, at final size: nothing is scaled
INK, GREY, LIGHT = "#1A1A1A", "#6B6B6B", "#E3E3E3"
MAX_LETTERS = 44  # of a name inside a figure
MAX_COLUMNS = 3  # of panels

# Okabe and Ito's colours. Marker and line differ too, so that lines are told apart in grey.
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip

_STYLE: dict[str, Any] = {
    "font.size": NORMAL, "axes.labelsize": NORMAL, "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL, "legend.fontsize": SMALL, "text.color": INK, "axes.labelcolor": INK,
    "xtick.color": INK, "ytick.color": INK, "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.edgecolor": GREY,
    "axes.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": False,
    "axes.axisbelow": True, "axes.labelpad": 2.5, "axes.unicode_minus": True, "axes.formatter.use_mathtext": False,
    "axes.xmargin": 0.03, "axes.ymargin": 0.05, "grid.color": LIGHT, "grid.linewidth": 0.5,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 2.5, "ytick.major.size": 2.5,
    "xtick.major.pad": 2.0, "ytick.major.pad": 2.0, "lines.linewidth": 1.1, "lines.markersize": 3.6,
    "lines.markeredgewidth": 0.8, "legend.frameon": False, "legend.handlelength": 2.2, "legend.columnspacing": 1.3,
    "legend.handletextpad": 0.5, "legend.borderaxespad": 0.0, "legend.borderpad": 0.0, "legend.labelspacing": 0.35,
    "hatch.linewidth": 0.5,
    # Names are never formulas; letters stay letters in SVG and TrueType in PDF; equal input gives equal bytes.
    # Without hints a word is as wide in every form: places are measured once, for all of them.
    "text.hinting": "none", "text.parse_math": False, "text.usetex": False, "svg.fonttype": "none", "pdf.fonttype": 42,
    "svg.hashsalt": "icm-bench", "figure.dpi": 100, "savefig.dpi": "figure", "figure.facecolor": "white",
}  # fmt: skip


@contextmanager
def in_style() -> Iterator[None]:
    """Draw and write in the style of all figures, whatever a user's own settings of Matplotlib are."""
    with matplotlib.rc_context():
        parameters: Any = matplotlib.rcParams
        parameters.update(_DEFAULTS)
        parameters.update({**_STYLE, "font.family": "DejaVu Sans"})
        yield


_DEFAULTS = {key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith("backend")}


@dataclass(frozen=True)
class Look:
    """How a method is drawn.

    Attributes:
        colour: of line and marker.
        marker: its form.
        line: its dashes, as Matplotlib takes them.
        hollow: whether the marker is empty: placebos.
    """

    colour: str
    marker: str
    line: Any
    hollow: bool = False

    def marks(self) -> dict[str, Any]:
        """Return what Matplotlib takes for the marker."""
        face = "white" if self.hollow else self.colour
        return {"marker": self.marker, "markerfacecolor": face, "markeredgecolor": self.colour, "color": self.colour}


_DOTTED, _DASHED, _LONG, _DASHDOT = (0, (1, 1.4)), (0, (4, 1.6)), (0, (7, 2)), (0, (5, 1.4, 1, 1.4))
_LOOKS = {
    (PLAIN, ""): Look(BLACK, "|", _DASHED),
    ("pca", ""): Look(ORANGE, "s", _DASHED),
    ("random", ""): Look(GREEN, "^", _DOTTED),
    (ICM, "largest"): Look(VERMILLION, "o", "-"),
    (ICM, "released"): Look(PURPLE, "v", _DASHDOT),
    (ICM, "truncation"): Look(SKY, "P", _LONG),
    (SHRINKAGE, ""): Look(BLUE, "D", "-"),
}
_OTHERS = (
    Look(SKY, "<", _DASHDOT),
    Look("#999999", "h", _DASHED),
    Look(PURPLE, ">", _LONG),
    Look(GREEN, "p", _DASHDOT),
)


def looks_of(methods: Sequence[Method]) -> dict[Method, Look]:
    """Return the look of each method: its own, the same for all predictors and in all figures; placebos are hollow."""
    looks: dict[Method, Look] = {}
    of_others: dict[tuple[str, str], Look] = {}
    for method in methods:
        key = _key(method)
        if key not in _LOOKS:
            of_others.setdefault(key, _OTHERS[len(of_others) % len(_OTHERS)])
        look = _LOOKS.get(key) or of_others[key]
        looks[method] = replace(look, hollow=True, line=_DOTTED) if method.placebo else look
    return looks


def _key(method: Method) -> tuple[str, str]:
    real = method.real.with_all_pairs
    if real.projection == ICM:
        return (ICM, "truncation" if real.variant else real.order or "")
    own = (real.projection, real.variant)
    return own if own in _LOOKS or real.variant else (real.projection, "")


def sheet_of(width: float, height: float) -> Sheet:
    """Return an empty sheet of a width and height in inches."""
    sheet = Sheet(figsize=(width, height))
    FigureCanvasAgg(sheet)
    return sheet


def rows_of(count: int) -> tuple[int, int]:
    """Return in how many rows and columns panels stand."""
    columns = max(1, min(count, MAX_COLUMNS))
    return -(-count // columns), columns


def grid_of(sheet: Sheet, count: int, high: int = 1) -> list[list[Axes | None]]:
    """Return the axes of panels, row by row; None where there is none.

    Args:
        sheet: where they stand.
        count: number of panels.
        high: number of axes below one another in each panel.
    """
    rows, columns = rows_of(count)
    cells = sheet.subplots(rows * high, columns, squeeze=False)
    grid: list[list[Axes | None]] = cells.tolist()
    for panel in range(count, rows * columns):
        for row in range(panel // columns * high, panel // columns * high + high):
            cells[row, panel % columns].remove()
            grid[row][panel % columns] = None
    return grid


def axes_of(grid: Sequence[Sequence[Axes | None]]) -> list[Axes]:
    """Return the axes of a grid, row by row."""
    return [axes for row in grid for axes in row if axes is not None]


def words(text: str, letters: int = MAX_LETTERS) -> str:
    """Return a name as it can be drawn: one line, no control characters, not longer than so many letters."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= letters else f"{text[: letters - 1].rstrip()}…"


def panel_label(axes: Axes, text: str) -> None:
    """Write what a panel is of above its left end; nothing where there is one."""
    if text:
        axes.annotate(
            words(text), (0, 1), (0, 3), xycoords="axes fraction", textcoords="offset points", fontsize=NORMAL,
            va="bottom",
        )  # fmt: skip


def label_panels(grid: Sequence[Sequence[Axes | None]], titles: Sequence[str], across: str, up: str) -> None:
    """Write what panels are of, and their axes on the left of a grid and below it.

    Args:
        grid: see `grid_of`.
        titles: of the panels, row by row; empty where there is one.
        across: what the horizontal axes are.
        up: what the vertical axes are.
    """
    columns = len(grid[0])
    for i, (axes, title) in enumerate(zip(axes_of(grid), titles, strict=True)):
        panel_label(axes, title)
        if i + columns >= len(titles):
            axes.set_xlabel(across)
        if i % columns == 0:
            axes.set_ylabel(up)


def labels_left(axes: Axes, labels: Sequence[tuple[float, str, float]]) -> None:
    """Write words on the left of an axes, at their heights in its data, all beginning at one place.

    Args:
        axes: whose vertical ticks they replace.
        labels: (height, words, indentation in pt).
    """
    axes.set_yticks([])
    canvas: Any = axes.get_figure(root=True).canvas  # type: ignore[union-attr]
    drawn = [
        axes.annotate(
            text, (0, height), (0, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            va="center", fontsize=SMALL,
        )
        for height, text, _ in labels
    ]  # fmt: skip
    renderer = canvas.get_renderer()
    scale = 72 / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    widths = [text.get_window_extent(renderer).width * scale for text in drawn]
    longest = max((width + indent for width, (_, _, indent) in zip(widths, labels, strict=True)), default=0.0)
    for text, (_, _, indent) in zip(drawn, labels, strict=True):
        text.xyann = (indent - longest - 5, 0)


def legend_above(sheet: Sheet, handles: Sequence[Artist], labels: Sequence[str]) -> Legend | None:
    """Place a legend at the upper edge, in as many columns as fit; nothing where there is nothing to tell apart."""
    if not handles:
        return None
    wide, tall = sheet.get_size_inches()
    shown = [words(label) for label in labels]
    # A letter is about 0.6 of its size wide; columns are as wide as their longest entry.
    for columns in range(len(shown), 0, -1):
        longest = [max(map(len, shown[i::columns])) for i in range(columns)]
        if sum(0.6 * SMALL * n + 27 for n in longest) / 72 < wide or columns == 1:
            break
    order = [i for column in range(columns) for i in range(column, len(shown), columns)]
    return sheet.legend(
        [handles[i] for i in order], [shown[i] for i in order], loc="upper left", ncols=columns,
        bbox_to_anchor=(0.06 / wide, 1 - 0.04 / tall),
    )  # fmt: skip


def line_handle(look: Look, **more: Any) -> Line2D:
    """Return what a legend shows of a method that is a line with markers."""
    return Line2D([], [], linestyle=look.line, **{**look.marks(), **more})


def mark_handle(look: Look, **more: Any) -> Line2D:
    """Return what a legend shows of a method that is dots."""
    return Line2D([], [], linestyle="none", **{**look.marks(), **more})


def arrange(
    sheet: Sheet,
    grid: Sequence[Sequence[Axes | None]],
    heights: Sequence[float] = (),
    legend: Legend | None = None,
    gap: float = 0.12,
) -> None:
    """Place the axes of a grid so that all their letters fit, in one pass: as wide and high as the sheet allows.

    Args:
        sheet: of which they are.
        grid: rows of axes; None where there is none.
        heights: of the rows, relative; by default all alike.
        legend: what stands at the upper edge.
        gap: what is left between letters of neighbours, in inches.
    """
    wide, tall = sheet.get_size_inches()
    canvas: Any = sheet.canvas
    renderer = canvas.get_renderer()
    rows, columns = len(grid), max(map(len, grid))
    left, right, top, bottom = (np.zeros((rows, columns)) for _ in range(4))
    for r, of_row in enumerate(grid):
        for c, axes in enumerate(of_row):
            if axes is not None:
                inner, outer = axes.get_window_extent(renderer), axes.get_tightbbox(renderer)
                assert outer is not None
                left[r, c], right[r, c] = inner.x0 - outer.x0, outer.x1 - inner.x1
                bottom[r, c], top[r, c] = inner.y0 - outer.y0, outer.y1 - inner.y1
    left, right, top, bottom = (np.maximum(one, 0) / sheet.dpi for one in (left, right, top, bottom))
    above = legend.get_window_extent(renderer).height / sheet.dpi + 0.1 if legend else 0.0
    x = _places(wide, left.max(axis=0), right.max(axis=0), [1.0] * columns, 0.03, 0.03, gap)
    # From the top down: what is above a row takes the part that is on the left of a column.
    y = _places(tall, top.max(axis=1), bottom.max(axis=1), heights or [1.0] * rows, 0.03 + above, 0.03, gap)
    for r, of_row in enumerate(grid):
        for c, axes in enumerate(of_row):
            if axes is not None:
                (x0, width), (y0, height) = x[c], y[r]
                axes.set_position((x0 / wide, (tall - y0 - height) / tall, width / wide, height / tall))


def _places(
    whole: float, before: Any, after: Any, parts: Sequence[float], first: float, last: float, gap: float
) -> list[tuple[float, float]]:
    """Return start and length of each part along one side."""
    left = whole - first - last - gap * (len(parts) - 1) - float(before.sum() + after.sum())
    left = max(left, 0.1 * len(parts))
    places, at = [], first
    for part, own_before, own_after in zip(parts, before.tolist(), after.tolist(), strict=True):
        length = left * part / sum(parts)
        places.append((at + own_before, length))
        at += own_before + length + own_after + gap
    return places


def points_word(points: float) -> str:
    """Return "1 point", or "2 points"."""
    return f"{points:g} point{'' if points == 1 else 's'}"


def signed(value: float, decimals: int = 1) -> str:
    """Return a number with its sign, "+1.2" or "−0.3"; what rounds to zero has none."""
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")
