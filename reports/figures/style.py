"""Common style of all figures: sizes in inches, letters of at least 6.5 pt, methods distinct without colour.

Figures use Matplotlib's objects without pyplot, and contain neither title nor caption. `of_predictors` and
`shown_methods` choose what figures show; they are the only functions here that read result rows.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.ticker import MaxNLocator, NullLocator

from benchmark.method.evaluation.inference import Interval
from reports.analysis.methods import EQUAL_N, ICM, PLAIN, SHRINKAGE, Method
from reports.analysis.selections import Selections

T = TypeVar("T")
Sheet = Figure  # Matplotlib's figure; a finished one, with its files, is `every.Figure`
Panels = Sequence[tuple[str, T]]  # (title, numbers), row by row
COLUMN, PAGE = 3.25, 6.75  # widths of a column and of a page of a two-column paper, in inches
MAX_HEIGHT = 8.5  # inches: largest height that fits on a page with the caption
SMALL, NORMAL = 6.5, 7.0  # pt, at final size: nothing is scaled
INK, GREY, LIGHT = "#1A1A1A", "#6B6B6B", "#E3E3E3"
MAX_LETTERS = 44  # longest name inside a figure
MAX_COLUMNS = 3  # columns of panels

# Okabe and Ito's colours. Markers and dashes differ too, so that lines are distinct in grey.
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip

_DEFAULTS = {key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith("backend")}
_STYLE: dict[Any, Any] = _DEFAULTS | {
    "font.family": "DejaVu Sans", "font.size": NORMAL, "axes.labelsize": NORMAL, "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL, "legend.fontsize": SMALL, "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.edgecolor": GREY, "axes.linewidth": 0.6, "axes.spines.top": False,
    "axes.spines.right": False, "axes.axisbelow": True, "axes.labelpad": 2.5, "axes.xmargin": 0.03,
    "grid.color": LIGHT, "grid.linewidth": 0.5,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 2.5, "ytick.major.size": 2.5,
    "xtick.major.pad": 2.0, "ytick.major.pad": 2.0, "lines.linewidth": 1.1, "lines.markersize": 3.6,
    "lines.markeredgewidth": 0.8, "legend.frameon": False, "legend.handlelength": 2.2, "legend.columnspacing": 1.3,
    "legend.handletextpad": 0.5, "legend.borderaxespad": 0.0, "legend.borderpad": 0.0, "legend.labelspacing": 0.35,
    # Names are never formulas; letters stay text in SVG and TrueType in PDF; equal input gives equal bytes.
    # Without hinting a word has the same width in every format, so that positions are measured once.
    "text.hinting": "none", "text.parse_math": False, "svg.fonttype": "none", "pdf.fonttype": 42,
    "svg.hashsalt": "icm-bench",
}  # fmt: skip


_DOTTED, _DASHED, _LONG, _DASHDOT = (0, (1, 1.4)), (0, (4, 1.6)), (0, (7, 2)), (0, (5, 1.4, 1, 1.4))
MAX_PREDICTORS = 4  # predictors with a panel


def in_style() -> AbstractContextManager[None]:
    """Return a context with the style of all figures, independent of the user's Matplotlib settings."""
    return matplotlib.rc_context(_STYLE)


@dataclass(frozen=True)
class Look:
    """Line and marker style of a method.

    Attributes:
        colour: colour of line and marker.
        marker: marker in Matplotlib's notation.
        line: dashes in Matplotlib's notation.
        hollow: whether the marker is empty, as for placebos.
    """

    colour: str
    marker: str
    line: Any
    hollow: bool = False

    def marks(self, **more: Any) -> dict[str, Any]:
        """Return Matplotlib's keyword arguments for markers without a line, updated with `more`."""
        face = "white" if self.hollow else self.colour
        own = {"marker": self.marker, "markerfacecolor": face, "markeredgecolor": self.colour, "color": self.colour}
        return {"linestyle": "none", **own, **more}

    def handle(self, **more: Any) -> Line2D:
        """Return the legend entry for markers of this look, with Matplotlib's keyword arguments `more`."""
        return Line2D([], [], **self.marks(**more))


# Projection, and its order or variant -> look. Other methods get one of `_OTHERS`.
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


def looks_of(methods: Iterable[Method]) -> dict[Method, Look]:
    """Return the style of each method, equal for all predictors and in all figures. Placebos have hollow markers."""
    looks: dict[Method, Look] = {}
    known = dict(_LOOKS)
    for method in methods:
        real = method.real.with_all_pairs
        key = (real.projection, real.variant)
        if real.projection == ICM:
            key = (ICM, "truncation" if real.variant else real.order or "")
        look = known.setdefault(key, _OTHERS[(len(known) - len(_LOOKS)) % len(_OTHERS)])
        looks[method] = replace(look, hollow=True, line=_DOTTED) if method.placebo else look
    return looks


def sheet_of(width: float, height: float) -> Sheet:
    """Return an empty figure with the given width and height in inches."""
    sheet = Sheet(figsize=(width, height))
    FigureCanvasAgg(sheet)
    return sheet


def sheet_for(panels: Panels[T], height: float) -> Sheet:
    """Return an empty figure with a height in inches. It is a column wide for one panel, a page wide for several."""
    return sheet_of(COLUMN if len(panels) == 1 else PAGE, height)


def rows_of(panels: Panels[T], columns: int = MAX_COLUMNS) -> list[Panels[T]]:
    """Return panels row by row."""
    return [panels[i : i + columns] for i in range(0, len(panels), columns)]


def on_grid(
    sheet: Sheet, panels: Panels[T], labels: tuple[str, str, str], columns: int = MAX_COLUMNS, high: int = 1
) -> Iterator[tuple[list[Axes], T]]:
    """Yield (axes, numbers) of each panel for drawing, then add its title and axis labels.

    Each panel has `high` axes below one another. `labels` has three texts: the label of the lowest horizontal axes,
    and for the panels on the left the labels of the upper (vertical text) and lower (horizontal text) vertical axis.
    """
    rows, columns = len(rows_of(panels, columns)), min(len(panels), columns)
    cells = sheet.subplots(rows * high, columns, squeeze=False)
    for unused in cells[-high:, (len(panels) - 1) % columns + 1 :].flat:
        unused.remove()
    for i, (title, numbers) in enumerate(panels):
        own = cells[i // columns * high :, i % columns][:high].tolist()
        yield own, numbers
        if title:
            note(own[0], words(title), (0, 1), (0, 3), "axes fraction", fontsize=NORMAL, va="bottom")
        if i + columns >= len(panels):
            own[-1].set_xlabel(labels[0])
        if i % columns == 0:
            own[0].set_ylabel(labels[1])
            if labels[2]:
                own[-1].set_ylabel(labels[2], rotation=0, ha="right", va="center")


def words(text: str, letters: int = MAX_LETTERS) -> str:
    """Return a name for drawing: one line, no control characters, at most `letters` letters."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= letters else f"{text[: letters - 1].rstrip()}…"


def note(
    axes: Axes, text: str, at: tuple[float, float], shift: tuple[float, float], up: str = "data", **more: Any
) -> Annotation:
    """Write small text near a position of an axes.

    `at` is (fraction of the width, height). The height is in data units, or a fraction if `up` is "axes fraction".
    `shift` is the offset of the text from this position, in points.
    """
    how: dict[str, Any] = {"fontsize": SMALL, "va": "center", "textcoords": "offset points"} | more
    return axes.annotate(text, at, shift, xycoords=("axes fraction", up), **how)


def as_rows(axes: Axes, lowest: float, highest: float, labels: Sequence[tuple[float, str, float]] = ()) -> None:
    """Replace the vertical axis by left-aligned row labels (height, text, indentation in pt)."""
    axes.set(ylim=(lowest, highest), yticks=[])
    axes.spines["left"].set_visible(False)
    sheet: Any = axes.get_figure(root=True)
    drawn = [(note(axes, text, (0, height), (0, 0)), indent) for height, text, indent in labels]
    scale, renderer = 72 / sheet.dpi, sheet.canvas.get_renderer()
    longest = max((text.get_window_extent(renderer).width * scale + indent for text, indent in drawn), default=0.0)
    for text, indent in drawn:
        text.xyann = (indent - longest - 5, 0)


def round_ticks(axis: Axis, max_ticks: int) -> None:
    """Set ticks at round numbers, with about `max_ticks` steps at most."""
    axis.set_major_locator(MaxNLocator(max_ticks, steps=[1, 2, 5, 10]))


def log2_ticks(axes: Axes, low: int, high: float, max_ticks: int) -> None:
    """Scale the horizontal axis by powers of two, with ticks from 2^low to 2^high in at most `max_ticks` steps."""
    axes.set_xscale("log", base=2)
    places = [2**i for i in range(low, math.floor(high) + 1, max(1, math.ceil((high - low) / max_ticks)))]
    axes.set_xticks(places, [str(place) for place in places])
    axes.xaxis.set_minor_locator(NullLocator())


def arrange(
    sheet: Sheet, legend: Mapping[str, Artist] | None = None, heights: Sequence[float] = (), gap: float = 0.12
) -> Sheet:
    """Place the axes of a figure below its legend, as large as its text allows, in one pass.

    `heights` are the relative heights of the rows of axes. `gap` is the space between texts of neighbours, in inches.
    """
    wide, tall = sheet.get_size_inches()
    canvas: Any = sheet.canvas
    renderer = canvas.get_renderer()
    at = [(place.rowspan.start, place.colspan.start) for axes in sheet.axes if (place := axes.get_subplotspec())]
    rows, columns = np.max(at, axis=0) + 1
    room = np.zeros((4, rows, columns))  # space for text left, right, above and below each axes
    for (row, column), axes in zip(at, sheet.axes, strict=True):
        inner, outer = axes.get_window_extent(renderer), axes.get_tightbbox(renderer)
        assert outer is not None
        ends = inner.x0 - outer.x0, outer.x1 - inner.x1, outer.y1 - inner.y1, inner.y0 - outer.y0
        room[:, row, column] = np.maximum(ends, 0) / sheet.dpi
    left, right = room[:2].max(axis=1)
    above, below = room[2:].max(axis=2)
    top = 0.03 + (_legend(sheet, legend).get_window_extent(renderer).height / sheet.dpi + 0.1 if legend else 0.0)
    x = _places(wide, left, right, [1.0] * columns, 0.03, gap)
    # Vertical positions are computed from the top, so `above` and `below` play the roles of `left` and `right`.
    y = _places(tall, above, below, heights or [1.0] * rows, top, gap)
    for (row, column), axes in zip(at, sheet.axes, strict=True):
        (x0, width), (y0, height) = x[column], y[row]
        axes.set_position((x0 / wide, (tall - y0 - height) / tall, width / wide, height / tall))
    return sheet


def _legend(sheet: Sheet, entries: Mapping[str, Artist]) -> Legend:
    """Add a legend at the upper edge, in as many columns as fit."""
    wide, tall = sheet.get_size_inches()
    shown = [(words(label), handle) for label, handle in entries.items()]
    # A letter is about 0.6 times its size wide; a column is as wide as its longest entry.
    for columns in range(len(shown), 0, -1):
        longest = [max(len(label) for label, _ in shown[i::columns]) for i in range(columns)]
        if sum(0.6 * SMALL * n + 27 for n in longest) / 72 < wide or columns == 1:
            break
    labels, handles = zip(*(one for column in range(columns) for one in shown[column::columns]), strict=True)
    place = (0.06 / wide, 1 - 0.04 / tall)
    return sheet.legend(handles, labels, loc="upper left", ncols=columns, bbox_to_anchor=place)


def _places(
    whole: float, before: Any, after: Any, parts: Sequence[float], at: float, gap: float
) -> list[tuple[float, float]]:
    """Return (start, length) of each row or column of axes along one side of a figure of length `whole`."""
    left = whole - at - 0.03 - gap * (len(parts) - 1) - float(before.sum() + after.sum())
    left, places = max(left, 0.1 * len(parts)), []
    for part, own_before, own_after in zip(parts, before.tolist(), after.tolist(), strict=True):
        length = left * part / sum(parts)
        places.append((at + own_before, length))
        at += own_before + length + own_after + gap
    return places


def points_word(points: float) -> str:
    """Return "1 point", or "2 points"."""
    return f"{points:g} point{'' if points == 1 else 's'}"


def signed(value: float) -> str:
    """Return a number with its sign, "+1.2" or "−0.3"; numbers that round to zero have none."""
    text = f"{value:+.1f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def in_points(interval: Interval) -> list[float]:
    """Return a difference of accuracies and the ends of its interval, if any, in points."""
    ends = () if np.isnan(interval.low) else (interval.low, interval.high)
    return [100 * share for share in (interval.estimate, *ends)]


def draw_interval(
    axes: Axes, interval: Interval, at: float, look: Look, width: float, over: tuple[float, float], **marks: Any
) -> None:
    """Draw a difference as a marker on its interval; `width` is in pt, `over` are z-orders of interval and marker."""
    value, *ends = in_points(interval)
    if ends:
        axes.plot(ends, [at, at], color=look.colour, linewidth=width, zorder=over[0])
    axes.plot([value], [at], **look.marks(zorder=over[1], **marks))


def of_predictors(selections: Selections, made: Callable[[Method], T | None]) -> Iterator[tuple[str, T]]:
    """Yield (label, numbers) of predictors, at most `MAX_PREDICTORS`; `made` returns numbers from plain prediction."""
    plain = [m for m in selections.parts if m.is_plain and m == selections.plain_of(m.predictor)]
    for method in plain[:MAX_PREDICTORS]:
        if (one := made(method)) is not None:
            yield method.predictor_label, one


def shown_methods(selections: Selections, predictor: str, released: bool = False) -> list[Method]:
    """Return a predictor's methods for figures: PCA, random, CLIP-ICM, truncation with shrinkage's N, shrinkage."""
    shown = {("pca", ""), ("random", ""), (ICM, ""), (ICM, EQUAL_N), (SHRINKAGE, "")}
    of_predictor = [m for m in selections.parts if m.predictor == predictor]
    return [m for m in of_predictor if (m.projection, m.variant) in shown and (released or m.order != "released")]
