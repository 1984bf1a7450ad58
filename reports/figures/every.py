"""All figures of a report. Settings that differ in the data set alone stand in one figure, with panels of each."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from matplotlib.figure import Figure as Sheet

from reports.analysis.against import SPLIT_ORDER
from reports.analysis.chosen import Selections
from reports.analysis.comparisons import Comparison
from reports.analysis.options import Options
from reports.analysis.robustness import MIN_BACKBONES
from reports.analysis.settings import Setting, suffixes
from reports.analysis.trend import same_but_backbone
from reports.figures import environments, heat_maps, interventions, rank, robustness, selection, spectrum, wording
from reports.figures.forest import draw_forest, forest_numbers
from reports.figures.writing import Drawing, Figure

MAX_SETTINGS = 5  # in the groups that have figures of their own, the first one aside: each takes some seconds
MAX_PANELS = 9  # that fit on a page

Described = Sequence[tuple[Setting, Selections]]


@dataclass(frozen=True)
class _Kind:
    """One figure: its name, the panels of a setting (title -> numbers), how panels are drawn, what the caption says."""

    name: str
    panels: Callable[[Selections, str], dict[str, Any]]
    draw: Callable[[Sequence[tuple[str, Any]]], Sheet]
    words: Callable[[Sequence[Any], Setting], str]


_KINDS = (
    _Kind("environments", environments.panels, environments.draw, wording.of_environments),
    _Kind("rank", rank.panels, rank.draw, wording.of_rank),
    _Kind("lambda_rank", heat_maps.panels, heat_maps.draw, wording.of_heat_maps),
    _Kind("selection", selection.panels, selection.draw, wording.of_selection),
    _Kind("interventions", interventions.panels, interventions.draw, wording.of_interventions),
    _Kind("spectrum", spectrum.panels, spectrum.draw, wording.of_spectrum),
)


def groups_of(described: Described) -> list[list[tuple[Setting, Selections]]]:
    """Return the settings that figures show, those that differ in the data set alone together.

    Those with a label of what is tested in their fits are left out. Environments that are held out come first, then new
    classes, then variants of a data set; of splits the released code's. So the first group is what a paper shows.
    """
    groups: list[list[tuple[Setting, Selections]]] = []
    for one in sorted(described, key=lambda one: _place(one[0])):
        setting = one[0]
        alike = [group for group in groups if group[0][0].without_data == setting.without_data]
        group = next((g for g in alike if setting.dataset not in {s.dataset for s, _ in g}), None)
        if group is not None:
            group.append(one)
        elif not setting.protocol_class.looks_at_target:
            groups.append([one])
    return groups


def _shown(groups: list[list[tuple[Setting, Selections]]]) -> list[list[tuple[Setting, Selections]]]:
    """Return the groups with figures of their own: the first, and others while all are of few settings."""
    sizes = accumulate(map(len, groups))
    return [group for i, (group, size) in enumerate(zip(groups, sizes, strict=True)) if not i or size <= MAX_SETTINGS]


def _place(setting: Setting) -> tuple[bool, bool, int, str]:
    protocol, split = setting.protocol_class, setting.test_split
    place = SPLIT_ORDER.index(split) if split in SPLIT_ORDER else len(SPLIT_ORDER)
    return protocol.across_sets, protocol.open_class, place, setting.protocol


def all_drawings(
    described: Described, compared: Sequence[tuple[Setting, Comparison]], options: Options
) -> list[Drawing]:
    """Return all figures for which there are data: forests, those of each group of settings, those over backbones.

    Of many groups the first have figures of their own, see `left_out`.

    Args:
        described: settings and their rows, in the order of the report.
        compared: settings and comparisons of the forests, from the top down, adjusted as one family.
        options: what the reader asks for; the margin is drawn.
    """
    drawings, groups = _forests(compared, options.margin), groups_of(described)
    named = [replace(g[0][0], dataset=f"{len(g)}-sets" if len(g) > 1 else g[0][0].dataset) for g in groups]
    for group, suffix in zip(_shown(groups), suffixes(named), strict=False):
        drawings += [one for kind in _KINDS if (one := _drawing(kind, group, suffix))]
    return [*drawings, *_over_backbones(described)]


def _forests(compared: Sequence[tuple[Setting, Comparison]], margin: float) -> list[Drawing]:
    """Return a forest for each protocol and split."""
    parts: dict[tuple[str, ...], list[tuple[Setting, Comparison]]] = {}
    for setting, one in sorted(compared, key=lambda one: _place(one[0])):
        parts.setdefault((setting.protocol, setting.test_split, setting.class_half), []).append((setting, one))
    drawings, named = [], suffixes([replace(part[0][0], dataset="", backbone="") for part in parts.values()])
    for part, suffix in [*zip(parts.values(), named, strict=True)][:MAX_SETTINGS]:
        forest, random = forest_numbers(part, margin), any(setting.random_weights for setting, _ in part)
        drawings.append(Drawing(f"forest{suffix}", wording.of_forest(forest, part), draw_forest, forest, random))
    return drawings


def _drawing(kind: _Kind, group: Described, suffix: str) -> Drawing | None:
    """Return a figure of a group: as many predictors of each data set as have room; None where there are no data."""
    # The base rule, since they show what a choice is among.
    found = [(one, own) for one in group[:MAX_PANELS] if (own := kind.panels(one[1], one[1].base_rule))]
    if not found:
        return None
    most = MAX_PANELS // len(found)
    shown = [(s.dataset, title, panel) for (s, _), own in found for title, panel in [*own.items()][:most]]
    titles = dict.fromkeys(title for _, title, _ in shown)
    panels = [
        (", ".join([name] * (len(found) > 1) + [title] * (len(titles) > 1)), panel) for name, title, panel in shown
    ]
    words = kind.words([panel for _, panel in panels], found[0][0][0])
    if len(shown) < sum(len(own) for _, own in found):
        words += f" Predictors that are drawn: {', '.join(titles)}."
    parts = [one for one, _ in found]
    random = parts[0][0].random_weights
    return Drawing(f"{kind.name}{suffix}", wording.caption(parts, words), kind.draw, panels, random)


def _over_backbones(described: Described) -> list[Drawing]:
    groups = [(group, numbers) for group in same_but_backbone(described) if (numbers := robustness.numbers(group))]
    named = suffixes([replace(group[0][0], backbone=f"{len(group)}-backbones") for group, _ in groups])
    return [
        Drawing(f"robustness{suffix}", wording.of_robustness(numbers, group), robustness.draw, numbers)
        for (group, numbers), suffix in zip(groups, named, strict=True)
    ]


def for_paper(figures: Iterable[Figure]) -> list[Figure]:
    """Return what a paper has of the figures of a report: of each kind the first."""
    first: dict[str, Figure] = {}
    for one in figures:
        first.setdefault(one.name.partition("-")[0], one)
    return [*first.values()]


def left_out(described: Described) -> list[str]:
    """Return which figures there are none of, and why, in sentences."""
    groups, sentences = groups_of(described), []
    bounds = sorted({s.protocol for s, _ in described if s.protocol_class.looks_at_target})
    if bounds:
        sentences.append(f"No figures of protocol {', '.join(bounds)}: labels of what is tested enter its fits.")
    if (shown := len(_shown(groups))) < len(groups):
        sentences.append(
            f"{shown} of {len(groups)} backbones, protocols and splits have figures of their own; a report of "
            "fewer rows has those of the others (`--where backbone=NAME`)."
        )
    if any(len(group) > MAX_PANELS for group in groups):
        sentences.append(f"A figure shows {MAX_PANELS} data sets at most (`--where dataset=NAME` for others).")
    backbones = {s.backbone_fingerprint for group in groups for s, _ in group if not s.random_weights}
    if 1 < len(backbones) < MIN_BACKBONES:
        sentences.append(f"No effective robustness: {len(backbones)} backbones, where {MIN_BACKBONES} are needed.")
    return sentences
