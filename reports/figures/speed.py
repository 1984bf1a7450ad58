"""Accuracy in the worst environment against speed: a dot for each backbone, and the front of those none is above."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.text import Annotation
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
from matplotlib.transforms import Bbox

from reports.analysis.choice import Choice
from reports.figures.style import BLUE, COLUMN, GREY, SMALL, Look, arrange, sheet_of, words
from reports.figures.writing import Drawing

_ON, _BEHIND = Look(BLUE, "o", "-"), Look(GREY, "o", "-", hollow=True)
_LETTERS = 30  # of a name beside its dot


@dataclass(frozen=True)
class Dot:
    """One backbone.

    Attributes:
        name: as it is drawn.
        speed: images a second.
        accuracy: in the worst environment, in percent.
        low: lower end of its 95 % interval; None where there is none.
        high: upper end.
        on_front: whether no other is above it in both.
    """

    name: str
    speed: float
    accuracy: float
    low: float | None
    high: float | None
    on_front: bool


def drawing(choice: Choice, names: Mapping[str, str]) -> Drawing | None:
    """Return the figure of accuracy in the worst environment against speed; None with fewer than two that have both.

    Args:
        choice: what the rows say.
        names: long name -> short name of backbones.
    """
    dots = [
        Dot(names.get(c.name, c.name), c.speed, c.worst.value, c.worst.low, c.worst.high, c in choice.front)
        for c in choice.candidates
        if c.speed and c.worst.value is not None
    ]
    missing = [one.name for one in choice.candidates if not one.speed]
    absent = f" Not drawn, for no speed may be compared: {', '.join(missing)}." if missing else ""
    sets = ", ".join(dict.fromkeys(setting.dataset for setting, _ in choice.described))
    caption = (
        "Accuracy of what the rule picks, in the held-out environment where it is lowest, against images a second (log "
        f"axis), {len(dots)} backbones. Filled, at the dashes: the front of those that no other is above in both, by "
        "these numbers alone; bars: 95 % intervals of that environment. Where bars overlap, the order is not shown. "
        f"Speeds of one run: {choice.measured_on}.{absent} {sets}; rule {choice.rule}."
    )
    return Drawing("choose", caption, draw, dots) if len(dots) > 1 else None


def draw(dots: Sequence[Dot]) -> Sheet:
    """Draw backbones in a column's width, names beside their dots."""
    sheet = sheet_of(COLUMN, 2.6)
    axes = sheet.add_subplot()
    axes.set_xscale("log")
    for dot in dots:
        look = _ON if dot.on_front else _BEHIND
        if dot.low is not None and dot.high is not None:
            axes.plot([dot.speed] * 2, [dot.low, dot.high], color=look.colour, linewidth=0.6, alpha=0.7)
        axes.plot([dot.speed], [dot.accuracy], linestyle="none", zorder=3, **look.marks())
    axes.margins(x=0.22, y=0.12)
    _draw_front(axes, sorted((dot for dot in dots if dot.on_front), key=lambda dot: dot.speed))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_xlabel("Images a second")
    axes.set_ylabel("Worst environment (%)")
    arrange(sheet, [[axes]])
    _names_beside(axes, dots)
    return sheet


def _draw_front(axes: Axes, front: Sequence[Dot]) -> None:
    """Draw the edge of what some backbone has: as fast or slower, and as accurate or less. The slowest dot is first."""
    (left, _), (bottom, _) = limits = axes.get_xlim(), axes.get_ylim()
    x, y = [dot.speed for dot in front], [dot.accuracy for dot in front]
    axes.step([left, *x, x[-1]], [y[0], *y, bottom], where="pre", color=GREY, linewidth=0.8, linestyle=(0, (3, 2)))
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])


def _names_beside(axes: Axes, dots: Sequence[Dot]) -> None:
    """Write names beside dots, where they meet neither each other, nor a dot or the edge, as far as there is room."""
    figure: Any = axes.get_figure(root=True)
    renderer = figure.canvas.get_renderer()
    inside = axes.get_window_extent(renderer)
    taken = [_around(axes, dot) for dot in dots]
    for dot in sorted(dots, key=lambda one: (-one.on_front, -one.accuracy)):
        placed: list[tuple[float, Annotation, Bbox]] = []
        for side, height in product((1, -1), (5, -5, 0, 13, -13, 21, -21)):
            text = axes.annotate(
                words(dot.name, _LETTERS), (dot.speed, dot.accuracy), (4 * side, height), textcoords="offset points",
                fontsize=SMALL, ha="left" if side > 0 else "right", va="center",
            )  # fmt: skip
            box = text.get_window_extent(renderer)
            out = max(0.0, inside.x0 - box.x0) + max(0.0, box.x1 - inside.x1)
            placed.append((sum(_shared(box, other) for other in taken) + 1e3 * out, text, box))
        best = min(placed, key=lambda one: one[0])
        for _, text, _ in placed:
            if text is not best[1]:
                text.remove()
        taken.append(best[2])


def _around(axes: Axes, dot: Dot) -> Bbox:
    x, y = axes.transData.transform((dot.speed, dot.accuracy))
    return Bbox.from_extents(x - 3, y - 3, x + 3, y + 3)


def _shared(one: Bbox, other: Bbox) -> float:
    """Return the area that two boxes share, in square pixels."""
    both = Bbox.intersection(one, other)
    return 0.0 if both is None else float(both.width * both.height)
