"""Interventions: how much they move what shifts between environments, what is kept of it, and what each set gains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.ticker import MaxNLocator

from reports.analysis.chosen import Selections
from reports.analysis.comparisons import compare
from reports.analysis.methods import ICM, SHRINKAGE, Method, as_rows_of
from reports.analysis.spans import picked
from reports.figures import style
from reports.figures.gains import Point, predictors_of
from reports.text.intervention_sets import kinds_of, pairs_of, place_of, set_words

MAX_SETS = 30
_KEPT: Mapping[str, tuple[str, style.Look]] = {
    "energy_removed": ("energy", style.Look(style.GREEN, "^", "-")),
    "shift_removed_sources": ("shift between sources", style.Look(style.BLUE, "s", "-")),
    "shift_removed_target": ("shift to held-out †", style.Look(style.VERMILLION, "o", "-", hollow=True)),
}
_LINE, _DENSE = 0.16, 0.115  # inches of a line, and of one where several data sets stand below one another
_AROUND, _MOST = 0.85, 6.5  # inches of legend and axis, and of all where several data sets stand together


@dataclass(frozen=True)
class Line:
    """One intervention set of a method, or one method where there is a single set.

    Attributes:
        label: what it is.
        moved: how much C_d moves what shifts between sources, 1 as the average direction; None where unknown.
        kept: percent that is kept at what the rule picks, by name of a column of shares; None where unknown.
        gain: accuracy minus plain prediction's, of each set by itself; None where there is no such comparison.
    """

    label: str
    moved: float | None
    kept: tuple[float | None, ...]
    gain: Point | None


@dataclass(frozen=True)
class InterventionNumbers:
    """What interventions move, what is kept, and what is gained.

    Attributes:
        title: the method whose sets these are; nothing where lines are methods.
        lines: from the top down.
        left_out: number of sets that are not drawn, for want of room.
    """

    title: str
    lines: tuple[Line, ...]
    left_out: int

    @property
    def by_set(self) -> bool:
        """Whether lines are intervention sets, each with its gain."""
        return bool(self.title)


def panels(selections: Selections, rule: str) -> dict[str, InterventionNumbers]:
    """Return a line for each intervention set of CLIP-ICM (largest), else of shrinkage; with one set, for each method.

    Of the first predictor that has any, under no name; nothing where none has.

    Args:
        selections: the rows of one setting.
        rule: what chooses everything else, among the rows of a set alone.
    """
    for predictor in predictors_of(selections):
        of_predictor = [m for m in selections.parts if m.predictor == predictor]
        for method in (m for m in of_predictor if m.is_paper or m.is_shrinkage):
            if len(sets := selections.by_set(method)) > 1:
                return {"": _by_set(selections, method, sets, rule)}
        kinds = [m for m in of_predictor if m.projection in (ICM, SHRINKAGE) and m.order != "released"]
        lines = [_line(m.projection_label, selections, m, rule, None) for m in kinds]
        lines = [line for line in lines if any(share is not None for share in line.kept)]
        if lines:
            return {"": InterventionNumbers("", tuple(lines[:MAX_SETS]), max(0, len(lines) - MAX_SETS))}
    return {}


def _by_set(selections: Selections, method: Method, sets: Mapping[str, pd.DataFrame], rule: str) -> InterventionNumbers:
    described = {name: (kinds_of(part), pairs_of(part)) for name, part in sets.items()}
    every = frozenset().union(*(kinds for kinds, _ in described.values()))
    plain, lines = selections.plain_of(method.predictor), []
    for name in sorted(sets, key=lambda name: place_of(described[name][0], every, described[name][1])):
        kinds, share = described[name]
        alone = _alone_with(selections, method, sets[name], plain)
        lines.append(_line(set_words(name, kinds, every, share), alone, method, rule, plain))
    return InterventionNumbers(method.label, tuple(lines[:MAX_SETS]), max(0, len(lines) - MAX_SETS))


def _alone_with(selections: Selections, method: Method, part: pd.DataFrame, plain: Method | None) -> Selections:
    """Return the rows of one set as all that a method has, beside plain prediction."""
    beside = [selections.parts[plain]] if plain else []
    return Selections(pd.concat([as_rows_of(method, part), *beside]), selections.tested)


def _line(label: str, selections: Selections, method: Method, rule: str, plain: Method | None) -> Line:
    shares = picked(selections, method, rule)
    kept = [None if shares[name] is None else 100 * (1 - float(shares[name] or 0)) for name in _KEPT]
    one = compare(selections, method, rule, plain) if plain else None
    return Line(label, shares["shift_moved_sources"], tuple(kept), Point.of(one.interval) if one else None)


def lines_of_each(groups: int) -> int:
    """Return how many lines of each of so many data sets fit on a page."""
    return MAX_SETS if groups == 1 else min(MAX_SETS, max(1, int((_MOST - _AROUND) / _DENSE / groups) - 1))


def draw(groups: Sequence[tuple[str, InterventionNumbers]]) -> Sheet:
    """Draw lines of (data set, lines) below one another, as wide as a page: two panels, or three with gains of sets.

    Of several data sets each stands under its name, of too many lines the first of each.
    """
    pitch, most = (_LINE if len(groups) == 1 else _DENSE), lines_of_each(len(groups))
    placed: list[tuple[int, Line]] = []
    labels: list[tuple[float, str, float]] = []
    row = 0
    for title, numbers in groups:
        if title:
            labels.append((row, style.words(title), 0.0))
            row += 1
        for line in numbers.lines[:most]:
            labels.append((row, style.words(line.label), 8.0 if title else 0.0))
            placed.append((row, line))
            row += 1
    lines = [line for _, line in placed]
    shown = [any(line.moved is not None for line in lines)]
    shown += [any(share is not None for line in lines for share in line.kept)]
    shown += [any(line.gain is not None for line in lines)]
    panels = [draw_ for draw_, there in zip((_moved, _kept, _gained), shown, strict=True) if there]
    sheet = style.sheet_of(style.PAGE, min(row * pitch + _AROUND, style.TALLEST))
    grid = sheet.subplots(1, len(panels), squeeze=False)
    for axes, draw_panel in zip(grid[0], panels, strict=True):
        for at, _ in placed:
            axes.axhline(at, color="#F0F0F0", linewidth=0.5, zorder=0)
        draw_panel(axes, placed)
        axes.set_ylim(row - 0.4, -0.6)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.set_yticks([])
    style.labels_left(grid[0, 0], labels)
    named = [look for i, look in enumerate(_KEPT.values()) if any(line.kept[i] is not None for line in lines)]
    legend = style.legend_above(
        sheet, [style.mark_handle(look) for _, look in named], [f"kept: {name}" for name, _ in named]
    )
    style.arrange(sheet, grid.tolist(), legend=legend, gap=0.16)
    return sheet


def _moved(axes: Axes, placed: Sequence[tuple[int, Line]]) -> None:
    axes.axvline(1, color=style.GREY, linewidth=0.6, linestyle=(0, (2, 2)))
    for row, line in placed:
        if line.moved is not None:
            axes.plot([0, line.moved], [row, row], color=style.GREY, linewidth=0.8)
            axes.plot([line.moved], [row], marker="D", color="#000000", linestyle="none")
    axes.set_xlim(0, 1.08 * max(1.0, *(line.moved or 0.0 for _, line in placed)))
    axes.set_xlabel("C_d along the shift")


def _kept(axes: Axes, placed: Sequence[tuple[int, Line]]) -> None:
    for row, line in placed:
        for (_, look), share in zip(_KEPT.values(), line.kept, strict=True):
            if share is not None:
                axes.plot([share], [row], linestyle="none", **look.marks())
    low = min((share for _, line in placed for share in line.kept if share is not None), default=0.0)
    axes.set_xlim(max(0.0, low - 6) if low > 40 else min(0.0, low) - 2, 102)
    axes.set_xlabel("Share kept (%)")


def _gained(axes: Axes, placed: Sequence[tuple[int, Line]]) -> None:
    axes.axvline(0, color=style.GREY, linewidth=0.6)
    for row, line in placed:
        if line.gain is not None:
            if line.gain.known:
                axes.plot([line.gain.low, line.gain.high], [row, row], color=style.VERMILLION, linewidth=1.2)
            axes.plot([line.gain.value], [row], marker="o", color=style.VERMILLION, linestyle="none")
    axes.set_xlabel("Accuracy − plain (points)")
