"""Accuracy in the worst environment against speed: a dot for each backbone, and the front of those none is above."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from matplotlib.transforms import Bbox

from reports.figures.style import BLUE, COLUMN, GREY, SMALL, Look, Sheet, arrange, round_ticks, sheet_of, words
from reports.render.table import Cell

_ON, _BEHIND = Look(BLUE, "o", "-"), Look(GREY, "o", "-", hollow=True)
_LETTERS = 30  # of a name beside its dot


@dataclass(frozen=True)
class Dot:
    """One backbone.

    Attributes:
        name: as it is drawn.
        speed: images a second.
        worst: accuracy in the worst environment, in percent, with its interval where there is one.
        on_front: whether no other is above it in both.
    """

    name: str
    speed: float
    worst: Cell
    on_front: bool

    @property
    def place(self) -> tuple[float, float]:
        """Where it stands: speed and accuracy."""
        return self.speed, self.worst.value or 0.0


def draw(dots: Sequence[Dot]) -> Sheet:
    """Draw backbones in a column's width, names beside their dots."""
    sheet = sheet_of(COLUMN, 2.6)
    axes = sheet.add_subplot()
    axes.set_xscale("log")
    for dot in dots:
        look, (speed, accuracy) = _ON if dot.on_front else _BEHIND, dot.place
        if dot.worst.low is not None and dot.worst.high is not None:
            ends = [dot.worst.low, dot.worst.high]
            axes.plot([speed] * 2, ends, color=look.colour, linewidth=0.6, alpha=0.7)
        axes.plot([speed], [accuracy], **look.marks(zorder=3))
    axes.margins(x=0.22, y=0.12)
    # The front is the edge of what some backbone has: as fast or slower, and as accurate or less.
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    x, y = zip(*sorted(dot.place for dot in dots if dot.on_front), strict=True)
    edge = [left, *x, x[-1]], [y[0], *y, bottom]
    axes.step(*edge, where="pre", color=GREY, linewidth=0.8, linestyle=(0, (3, 2)))
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel="Images a second", ylabel="Worst environment (%)")
    axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 3, 5)), major_formatter=StrMethodFormatter("{x:,g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    round_ticks(axes.yaxis, 6)
    arrange(sheet)
    _names_beside(axes, dots)
    return sheet


def _names_beside(axes: Axes, dots: Sequence[Dot]) -> None:
    """Write names beside dots, where they meet neither each other, nor a dot or the edge, as far as there is room."""
    figure: Any = axes.get_figure(root=True)
    renderer = figure.canvas.get_renderer()
    inside = axes.get_window_extent(renderer)
    corners = [axes.transData.transform(dot.place) for dot in dots]
    taken = [Bbox.from_extents(x - 3, y - 3, x + 3, y + 3) for x, y in corners]
    for dot in sorted(dots, key=lambda one: (-one.on_front, -one.place[1])):
        how: dict[str, Any] = {"textcoords": "offset points", "fontsize": SMALL, "va": "center"}
        text = axes.annotate(words(dot.name, _LETTERS), dot.place, (0, 0), **how)
        tried: list[tuple[float, dict[str, Any], Bbox]] = []
        for (side, x), y in product((("left", 4), ("right", -4)), (5, -5, 0, 13, -13, 21, -21)):
            place: dict[str, Any] = {"ha": side, "position": (x, y)}
            text.set(**place)
            box = text.get_window_extent(renderer)
            shared = [both.width * both.height for one in taken if (both := Bbox.intersection(box, one))]
            out = max(0.0, inside.x0 - box.x0) + max(0.0, box.x1 - inside.x1)
            tried.append((sum(shared) + 1e3 * out, place, box))
        _, place, box = min(tried, key=lambda one: one[0])
        text.set(**place)
        taken.append(box)
