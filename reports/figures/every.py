"""All figures of a report. Settings that differ in the data set alone stand in one figure, with panels of each."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, Protocol

from reports.analysis.backbones import MIN_BACKBONES, same_but_backbone
from reports.analysis.chosen import Selections
from reports.analysis.comparisons import Comparison
from reports.analysis.options import Options
from reports.analysis.settings import Setting, split_place, suffixes
from reports.figures import environments, forest, interventions, lambda_rank, rank, robustness, selection, spectrum
from reports.figures.style import Panels, Sheet
from reports.figures.writing import Drawing
from reports.text.captions import number, rule_meaning, sample_words, split_words, unit_words, whole_size

MAX_SETTINGS = 5  # in the groups that have figures of their own, the first one aside: each takes some seconds
MAX_PANELS = 9  # that fit on a page

Described = Sequence[tuple[Setting, Selections]]


class _Kind(Protocol):
    """A module with one figure, which is named as its file."""

    __name__: str

    def panels(self, selections: Selections, rule: str, /) -> dict[str, Any]: ...  # title -> numbers
    def draw(self, panels: Panels[Any], /) -> Sheet: ...  # of one setting or of several
    def caption(self, panels: Sequence[Any], setting: Setting, /) -> str: ...  # what it shows


_KINDS: tuple[_Kind, ...] = (environments, rank, lambda_rank, selection, interventions, spectrum)


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
    protocol = setting.protocol_class
    return protocol.across_sets, protocol.open_class, split_place(setting.test_split), setting.protocol


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
    drawings: list[Drawing] = []
    parts: dict[tuple[str, ...], list[tuple[Setting, Comparison]]] = {}  # of each protocol and split
    for setting, one in sorted(compared, key=lambda one: _place(one[0])):
        parts.setdefault((setting.protocol, setting.test_split, setting.class_half), []).append((setting, one))
    named = [replace(part[0][0], dataset="", backbone="") for part in parts.values()]
    for part, suffix in [*zip(parts.values(), suffixes(named), strict=True)][:MAX_SETTINGS]:
        numbers, random = forest.numbers(part, options.margin), any(setting.random_weights for setting, _ in part)
        drawings.append(Drawing(f"forest{suffix}", forest.caption(numbers, part), forest.draw, numbers, random))
    groups = groups_of(described)
    named = [replace(g[0][0], dataset=f"{len(g)}-sets" if len(g) > 1 else g[0][0].dataset) for g in groups]
    for group, suffix in zip(_shown(groups), suffixes(named), strict=False):
        drawings += [made for kind in _KINDS if (made := _drawing(kind, group, suffix))]
    over = [(group, found) for group in same_but_backbone(described) if (found := robustness.numbers(group))]
    named = [replace(group[0][0], backbone=f"{len(group)}-backbones") for group, _ in over]
    for (group, found), suffix in zip(over, suffixes(named), strict=True):
        drawings.append(Drawing(f"robustness{suffix}", robustness.caption(found, group), robustness.draw, found))
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
    panels = [(", ".join([name] * (len(found) > 1) + [of] * (len(titles) > 1)), panel) for name, of, panel in shown]
    parts = [one for one, _ in found]
    words = kind.caption([panel for _, panel in panels], parts[0][0])
    if len(shown) < sum(len(own) for _, own in found):
        words += f" Predictors that are drawn: {', '.join(titles)}."
    name = f"{kind.__name__.rpartition('.')[2]}{suffix}"
    return Drawing(name, _caption(parts, words), kind.draw, panels, parts[0][0].random_weights)


def _caption(described: Described, words: str) -> str:
    """Return what a figure shows, in words, with what must be known of settings that differ in the data set alone."""
    setting, selections = described[0]
    rules = {x.base_rule: f"{x.base_rule}: {rule_meaning(x.base_rule, s)}" for s, x in described}
    units, seeds = unit_words(setting), selections.seeds
    sizes = [
        f"n = {number(whole_size(x).units_per_seed)} in {len(x.held_outs)} ({s.dataset}"
        f"{'' if unit_words(s) == units else f', {unit_words(s)}'})"
        for s, x in described
    ]
    samples = dict.fromkeys(filter(None, [sample_words(x) for _, x in described]))
    return " ".join([
        f"{setting.banner}{words} {setting.backbone_label}, {setting.precision}; protocol {setting.protocol}; test "
        f"split {split_words(setting)}; seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        f"{f', {setting.folds} folds' if setting.folds else ''}. {units.capitalize()} per seed in "
        f"{setting.protocol_class.holdouts_in_words}: {', '.join(sizes)}. Rule {'; '.join(rules.values())}.",
        *samples,
    ])  # fmt: skip


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
