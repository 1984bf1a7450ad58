"""All figures of a report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.figure import Figure as Sheet

from reports.analysis.chosen import Selections
from reports.analysis.comparisons import Comparison
from reports.analysis.options import Options
from reports.analysis.settings import Setting, suffixes
from reports.analysis.trend import same_but_backbone
from reports.figures import (
    environments,
    heat_maps,
    interventions,
    pairs,
    rank,
    robustness,
    selection,
    spectrum,
    wording,
)
from reports.figures.forest import draw_forest, forest_numbers
from reports.figures.wording import MAX_SETTINGS, drawable
from reports.figures.writing import Drawing


@dataclass(frozen=True)
class _Kind:
    """One figure of a setting: its name, what it draws, how, and what its caption says of it."""

    name: str
    numbers: Callable[[Selections, str], Any]
    draw: Callable[[Any], Sheet]
    words: Callable[[Any, Setting], str]


_KINDS = (
    _Kind("environments", environments.numbers, environments.draw, wording.of_environments),
    _Kind("rank", rank.numbers, rank.draw, wording.of_rank),
    _Kind("lambda_rank", heat_maps.numbers, heat_maps.draw, wording.of_heat_maps),
    _Kind("selection", selection.numbers, selection.draw, wording.of_selection),
    _Kind("interventions", interventions.numbers, interventions.draw, wording.of_interventions),
    _Kind("pairs", pairs.numbers, pairs.draw, wording.of_pairs),
    _Kind("spectrum", spectrum.numbers, spectrum.draw, wording.of_spectrum),
)


def all_drawings(
    described: Sequence[tuple[Setting, Selections]],
    compared: Sequence[tuple[Setting, Comparison]],
    options: Options,
) -> list[Drawing]:
    """Return all figures for which there are data: the forest, those of each setting, and those over backbones.

    Of more than `MAX_SETTINGS` settings the first have figures of their own, see `wording.left_out`.

    Args:
        described: settings and their rows, in the order of the report.
        compared: settings and comparisons of the forest, from the top down, adjusted as one family.
        options: what the reader asks for; the margin is drawn.
    """
    drawings = []
    if forest := forest_numbers(compared, options.margin):
        random = any(setting.random_weights for setting, _ in compared)
        drawings.append(Drawing("forest", wording.of_forest(forest, compared), draw_forest, forest, random))
    shown = drawable(described)[:MAX_SETTINGS]
    names = suffixes([setting for setting, _ in drawable(described)])[:MAX_SETTINGS]
    for (setting, selections), suffix in zip(shown, names, strict=True):
        drawings += _of_setting(setting, selections, suffix)
    return [*drawings, *_over_backbones(described)]


def _of_setting(setting: Setting, selections: Selections, suffix: str) -> list[Drawing]:
    rule, made = selections.base_rule, []  # they show what a choice is among
    for kind in _KINDS:
        numbers = kind.numbers(selections, rule)
        if numbers is not None:
            caption = wording.caption(setting, selections, rule, kind.words(numbers, setting))
            made.append(Drawing(f"{kind.name}{suffix}", caption, kind.draw, numbers, setting.random_weights))
    return made


def _over_backbones(described: Sequence[tuple[Setting, Selections]]) -> list[Drawing]:
    groups = [(group, numbers) for group in same_but_backbone(described) if (numbers := robustness.numbers(group))]
    named = suffixes([replace(group[0][0], backbone=f"{len(group)}-backbones") for group, _ in groups])
    return [
        Drawing(f"robustness{suffix}", wording.of_robustness(numbers, group), robustness.draw, numbers)
        for (group, numbers), suffix in zip(groups, named, strict=True)
    ]
