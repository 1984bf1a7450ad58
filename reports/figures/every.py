"""All figures of a report as PDF, SVG and PNG. Equal data give equal bytes: files have no dates or random names.

Settings that differ only in the data set share a figure, with panels for each.
"""

import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from types import ModuleType
from typing import Any

from reports.analysis.backbones import MIN_BACKBONES, same_but_backbone
from reports.analysis.comparisons import Comparison
from reports.analysis.selections import SettingResults
from reports.analysis.settings import BANNER, DATA_FIELDS, Options, Setting, grouped, split_place, suffixes
from reports.figures import environments, forest, interventions, lambda_rank, rank, robustness, selection, spectrum
from reports.figures.style import PAGE, Sheet, in_style
from reports.render.formats import markdown_escape
from reports.render.latex import latex_escape
from reports.text.captions import number, rule_meaning, sample_words, split_words, total_size, unit_words

DPI = 200
# Format -> metadata that Matplotlib would write and that are left out: dates and program versions.
_LEFT_OUT = {"pdf": ("CreationDate", "Creator", "Producer"), "svg": ("Date", "Creator"), "png": ("Software",)}


MAX_SETTINGS = 5  # settings that get figures, each of which takes seconds; the first group gets them in any case
MAX_PANELS = 9  # panels that fit on a page
# Figure modules, each named like its figure. `panels(selections, rule)` returns title -> numbers, `draw` takes (title,
# numbers) pairs of one or several settings, `caption(numbers, setting)` returns the caption. A new figure also needs a
# name in docs/report.md, in tests/reports/figures/test_drawing.py and, for the paper, in reports/document/paper.py.
_KINDS: tuple[ModuleType, ...] = (environments, rank, lambda_rank, selection, interventions, spectrum)


@dataclass(frozen=True)
class Figure:
    """A finished figure.

    Attributes:
        name: name of its files, without folder and suffix.
        contents: suffix ("pdf", "svg", "png") -> bytes.
        caption: caption, not part of the drawing.
        width: width in inches.
    """

    name: str
    contents: Mapping[str, bytes]
    caption: str
    width: float


@dataclass(frozen=True)
class Drawing:
    """A figure that is not drawn yet; picklable, so that a worker process can draw it.

    Attributes:
        name: name of its files, without folder and suffix.
        caption: caption.
        draw: module-level function, numbers -> sheet.
        numbers: data of the figure.
        random_weights: whether any weights are random; the figure then gets the banner.
    """

    name: str
    caption: str
    draw: Callable[[Any], Sheet]
    numbers: Any
    random_weights: bool = False


def drawn(drawings: Iterable[Drawing]) -> Iterator[Figure]:
    """Yield the drawn figures, all in the same style."""
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
    """Write the warning of random weights across a sheet."""
    wide, tall = map(float, sheet.get_size_inches())
    size = min(3.2 * wide, 16.0 * tall)  # nine tenths of the width, unless that is too high
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
    """Return a figure as LaTeX, for a document whose `graphicspath` has the folder of figures."""
    star, caption = "*" if one.width >= PAGE else "", latex_escape(one.caption).replace("λ", r"$\lambda$")
    return (
        f"\\begin{{figure{star}}}[t]\n  \\centering\n  \\includegraphics{{{one.name}.pdf}}\n"
        f"  \\caption{{{caption}}}\n  \\label{{fig:{one.name}}}\n\\end{{figure{star}}}\n"
    )


def groups_of(results: Sequence[SettingResults]) -> list[list[SettingResults]]:
    """Return groups of settings that differ only in the data set, for figures.

    Settings whose fits use target labels are left out. Protocols over environments come first, then open-class ones,
    then protocols over ImageNet variants. Within each kind, the test split of the released code comes first. A paper
    shows the first group.
    """
    groups: list[list[SettingResults]] = []
    for one in sorted(results, key=lambda one: _place(one[0])):
        setting = one[0]
        same = [group for group in groups if group[0][0].without(*DATA_FIELDS) == setting.without(*DATA_FIELDS)]
        group = next((g for g in same if setting.dataset not in {s.dataset for s, _ in g}), None)
        if group is not None:
            group.append(one)
        elif not setting.protocol_class.looks_at_target:
            groups.append([one])
    return groups


def _shown(groups: list[list[SettingResults]]) -> list[list[SettingResults]]:
    """Return the groups that get figures: the first, and further ones up to `MAX_SETTINGS` settings in total."""
    return groups[: max(1, sum(size <= MAX_SETTINGS for size in accumulate(map(len, groups))))]


def _place(setting: Setting) -> tuple[bool, bool, int, str]:
    protocol = setting.protocol_class
    return protocol.across_sets, protocol.open_class, split_place(setting.test_split), setting.protocol


def all_drawings(
    results: Sequence[SettingResults], compared: Sequence[tuple[Setting, Comparison]], options: Options
) -> list[Drawing]:
    """Return all figures with data: forests, figures of each group of settings, and figures over backbones.

    With many groups only the first ones get figures, see `left_out`.
    """
    drawings, ordered = list[Drawing](), sorted(compared, key=lambda one: _place(one[0]))
    parts = grouped(ordered, lambda one: (one[0].protocol, one[0].test_split, one[0].class_half))
    named = [replace(part[0][0], dataset="", backbone="") for part in parts.values()]
    for part, suffix in [*zip(parts.values(), suffixes(named), strict=True)][:MAX_SETTINGS]:
        numbers, random = forest.numbers(part, options.margin), any(setting.random_weights for setting, _ in part)
        drawings.append(Drawing(f"forest{suffix}", forest.caption(numbers, part), forest.draw, numbers, random))
    groups = groups_of(results)
    named = [replace(g[0][0], dataset=f"{len(g)}-sets" if len(g) > 1 else g[0][0].dataset) for g in groups]
    for group, suffix in zip(_shown(groups), suffixes(named), strict=False):
        drawings += [made for kind in _KINDS if (made := _drawing(kind, group, suffix))]
    over = [(group, found) for group in same_but_backbone(results) if (found := robustness.numbers(group))]
    named = [replace(group[0][0], backbone=f"{len(group)}-backbones") for group, _ in over]
    for (group, found), suffix in zip(over, suffixes(named), strict=True):
        drawings.append(Drawing(f"robustness{suffix}", robustness.caption(found, group), robustness.draw, found))
    return drawings


def _drawing(kind: ModuleType, group: Sequence[SettingResults], suffix: str) -> Drawing | None:
    """Return the figure that the module `kind` makes of a group, with as many predictors as fit; None without data."""
    found = [(one, own) for one in group[:MAX_PANELS] if (own := kind.panels(one[1], one[1].rule))]
    if not found:
        return None
    max_titles = MAX_PANELS // len(found)
    shown = [(s.dataset, title, panel) for (s, _), own in found for title, panel in [*own.items()][:max_titles]]
    titles = dict.fromkeys(title for _, title, _ in shown)
    panels = [(", ".join([name] * (len(found) > 1) + [of] * (len(titles) > 1)), panel) for name, of, panel in shown]
    parts = [one for one, _ in found]
    words = kind.caption([panel for _, panel in panels], parts[0][0])
    if len(shown) < sum(len(own) for _, own in found):
        words += f" Predictors that are drawn: {', '.join(titles)}."
    name = f"{kind.__name__.rpartition('.')[2]}{suffix}"
    return Drawing(name, _caption(parts, words), kind.draw, panels, parts[0][0].random_weights)


def _caption(results: Sequence[SettingResults], words: str) -> str:
    """Return a caption with the facts of settings that differ only in the data set: protocol, split, seeds, n, rule."""
    setting, selections = results[0]
    rules = {x.rule: f"{x.rule}: {rule_meaning(x.rule, s)}" for s, x in results}
    units, seeds = unit_words(setting), selections.seeds
    sizes = [
        f"n = {number(total_size(x).units_per_seed)} in {len(x.held_outs)} ({s.dataset}"
        f"{'' if unit_words(s) == units else f', {unit_words(s)}'})"
        for s, x in results
    ]
    samples = dict.fromkeys(filter(None, [sample_words(x) for _, x in results]))
    return " ".join([
        f"{setting.banner}{words} {setting.backbone_label}, {setting.precision}; protocol {setting.protocol}; test "
        f"split {split_words(setting)}; seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        f"{f', {setting.folds} folds' if setting.folds else ''}. {units.capitalize()} per seed in "
        f"{setting.protocol_class.holdouts_in_words}: {', '.join(sizes)}. Rule {'; '.join(rules.values())}.",
        *samples,
    ])  # fmt: skip


def left_out(results: Sequence[SettingResults]) -> list[str]:
    """Return sentences on omitted figures with the reasons."""
    groups, sentences = groups_of(results), []
    bounds = sorted({s.protocol for s, _ in results if s.protocol_class.looks_at_target})
    if bounds:
        sentences.append(f"No figures of protocol {', '.join(bounds)}: its fits use target labels.")
    if (shown := len(_shown(groups))) < len(groups):
        sentences.append(
            f"{shown} of {len(groups)} backbones, protocols and splits have figures of their own; a report of "
            "fewer rows has those of the others (`--where backbone=NAME`)."
        )
    if any(len(group) > MAX_PANELS for group in groups):
        sentences.append(f"A figure shows {MAX_PANELS} data sets at most (`--where dataset=NAME` for others).")
    backbones = {s.backbone_fingerprint for group in groups for s, _ in group if not s.random_weights}
    if 1 < len(backbones) < MIN_BACKBONES:
        sentences.append(f"No effective robustness: {len(backbones)} backbones, but {MIN_BACKBONES} are needed.")
    return sentences
