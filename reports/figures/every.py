"""All figures of a report, and each as PDF, SVG and PNG: equal sheets give equal bytes, without dates and random names.

Settings that differ in the data set alone stand in one figure, with panels of each.
"""

import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from types import ModuleType
from typing import Any

from reports.analysis.backbones import MIN_BACKBONES, same_but_backbone
from reports.analysis.chosen import SettingResults
from reports.analysis.comparisons import Comparison
from reports.analysis.settings import BANNER, OF_DATA, Options, Setting, grouped, split_place, suffixes
from reports.figures import environments, forest, interventions, lambda_rank, rank, robustness, selection, spectrum
from reports.figures.style import PAGE, Sheet, in_style
from reports.render.forms import markdown_escape
from reports.render.latex import latex_escape
from reports.text.captions import number, rule_meaning, sample_words, split_words, unit_words, whole_size

DPI = 200
# What Matplotlib would write into each form: dates, and versions of programs.
_LEFT_OUT = {"pdf": ("CreationDate", "Creator", "Producer"), "svg": ("Date", "Creator"), "png": ("Software",)}


MAX_SETTINGS = 5  # in the groups that have figures of their own, the first one aside: each takes some seconds
MAX_PANELS = 9  # that fit on a page
# Modules with one figure each, which is named as its file: `panels(selections, rule)` returns title -> numbers, `draw`
# takes (title, numbers) of one setting or of several, `caption(numbers, setting)` says what it shows.
_KINDS: tuple[ModuleType, ...] = (environments, rank, lambda_rank, selection, interventions, spectrum)


@dataclass(frozen=True)
class Figure:
    """A finished figure: names of files have neither folder nor suffix, nothing of the caption is drawn.

    Attributes:
        contents: suffix ("pdf", "svg", "png") -> bytes.
        width: in inches.
    """

    name: str
    contents: Mapping[str, bytes]
    caption: str
    width: float


@dataclass(frozen=True)
class Drawing:
    """A figure that is still to be drawn, here or by another process.

    Attributes:
        name: of its files, without folder and suffix.
        caption: what stands below.
        draw: at the top of a module: numbers -> sheet.
        numbers: what is drawn.
        random_weights: whether it is of random weights, even in part: then it gets the banner.
    """

    name: str
    caption: str
    draw: Callable[[Any], Sheet]
    numbers: Any
    random_weights: bool = False


def drawn(drawings: Iterable[Drawing]) -> Iterator[Figure]:
    """Draw figures in the style of all, one after the other."""
    for drawing in drawings:
        with in_style(), warnings.catch_warnings():  # a letter that the font lacks is a box in PDF and PNG
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            sheet, contents = drawing.draw(drawing.numbers), {}
            if drawing.random_weights:
                banner(sheet)
            for form, names in _LEFT_OUT.items():
                sink = io.BytesIO()
                sheet.savefig(sink, format=form, dpi=DPI, metadata=dict.fromkeys(names))
                contents[form] = sink.getvalue()
        yield Figure(drawing.name, contents, drawing.caption, float(sheet.get_size_inches()[0]))


def banner(sheet: Sheet) -> None:
    """Write across a sheet that its weights are random."""
    wide, tall = map(float, sheet.get_size_inches())
    size = min(3.2 * wide, 16.0 * tall)  # nine tenths of the width, where that is not too high
    sheet.text(
        0.5, 0.5, BANNER, fontsize=max(size, 6.5), color="#B00020", alpha=0.35, rotation=12 if tall > 1.5 else 0,
        ha="center", va="center", zorder=10,
    )  # fmt: skip


def captions(figures: Sequence[Figure], left_out: Sequence[str] = ()) -> tuple[str, str]:
    """Return the captions of all figures as Markdown and as LaTeX."""
    parts = ["# Figures", *(markdown_escape(sentence) for sentence in left_out)]
    for one in figures:
        name, links = markdown_escape(one.name), f"([PDF]({one.name}.pdf), [SVG]({one.name}.svg))"
        parts += [f"## {name}", f"![{name}]({one.name}.png)", f"{markdown_escape(one.caption)} {links}"]
    head = "% At their own size; from a folder above: \\graphicspath{{figures/}}\n"
    return "\n\n".join(parts) + "\n", head + "\n".join(map(latex_figure, figures))


def latex_figure(one: Figure) -> str:
    """Return a figure as LaTeX, in a file that knows by `graphicx` where figures lie."""
    star, caption = "*" if one.width >= PAGE else "", latex_escape(one.caption).replace("λ", r"$\lambda$")
    return (
        f"\\begin{{figure{star}}}[t]\n  \\centering\n  \\includegraphics{{{one.name}.pdf}}\n"
        f"  \\caption{{{caption}}}\n  \\label{{fig:{one.name}}}\n\\end{{figure{star}}}\n"
    )


def groups_of(described: Sequence[SettingResults]) -> list[list[SettingResults]]:
    """Return the settings that figures show, those that differ in the data set alone together.

    Those with a label of what is tested in their fits are left out. Environments that are held out come first, then new
    classes, then variants of a data set; of splits the released code's. So the first group is what a paper shows.
    """
    groups: list[list[SettingResults]] = []
    for one in sorted(described, key=lambda one: _place(one[0])):
        setting = one[0]
        alike = [group for group in groups if group[0][0].without(*OF_DATA) == setting.without(*OF_DATA)]
        group = next((g for g in alike if setting.dataset not in {s.dataset for s, _ in g}), None)
        if group is not None:
            group.append(one)
        elif not setting.protocol_class.looks_at_target:
            groups.append([one])
    return groups


def _shown(groups: list[list[SettingResults]]) -> list[list[SettingResults]]:
    """Return the groups with figures of their own: the first, and others while all are of few settings."""
    return groups[: max(1, sum(size <= MAX_SETTINGS for size in accumulate(map(len, groups))))]


def _place(setting: Setting) -> tuple[bool, bool, int, str]:
    protocol = setting.protocol_class
    return protocol.across_sets, protocol.open_class, split_place(setting.test_split), setting.protocol


def all_drawings(
    described: Sequence[SettingResults], compared: Sequence[tuple[Setting, Comparison]], options: Options
) -> list[Drawing]:
    """Return all figures for which there are data: forests, those of each group of settings, those over backbones.

    Of many groups the first have figures of their own, see `left_out`.
    """
    drawings, ordered = list[Drawing](), sorted(compared, key=lambda one: _place(one[0]))
    parts = grouped(ordered, lambda one: (one[0].protocol, one[0].test_split, one[0].class_half))
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


def _drawing(kind: ModuleType, group: Sequence[SettingResults], suffix: str) -> Drawing | None:
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


def _caption(described: Sequence[SettingResults], words: str) -> str:
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


def left_out(described: Sequence[SettingResults]) -> list[str]:
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
