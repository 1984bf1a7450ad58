"""What stands below figures, and beside them in captions.md and captions.tex. Nothing of it is drawn."""

from collections.abc import Iterable, Sequence

from benchmark.method.evaluation.seed_variance import MIN_UNITS
from reports.analysis.chosen import Selections
from reports.analysis.comparisons import Comparison
from reports.analysis.robustness import MIN_BACKBONES
from reports.analysis.settings import BANNER, Setting
from reports.analysis.spectra import Spectra
from reports.figures.environments import MAX_ENVIRONMENTS, EnvironmentNumbers
from reports.figures.forest import ForestNumbers
from reports.figures.heat_maps import HeatMapNumbers
from reports.figures.interventions import InterventionNumbers
from reports.figures.pairs import PairNumbers
from reports.figures.rank import RankNumbers
from reports.figures.robustness import RobustnessNumbers
from reports.figures.selection import SelectionNumbers
from reports.figures.style import PAGE, points_word, signed
from reports.figures.writing import Figure
from reports.render.latex_signs import latex_escape
from reports.render.markdown import markdown_escape
from reports.text.captions import (
    environment_words,
    number,
    rule_meaning,
    sample_words,
    split_words,
    unit_words,
    whole_size,
)

MAX_SETTINGS = 4  # with figures of their own: each takes some seconds


def drawable(described: Sequence[tuple[Setting, Selections]]) -> list[tuple[Setting, Selections]]:
    """Return the settings of which figures are drawn: those without a label of what is tested in their fits."""
    return [(s, selections) for s, selections in described if not s.protocol_class.looks_at_target]


def left_out(described: Sequence[tuple[Setting, Selections]]) -> list[str]:
    """Return which figures there are none of, and why, in sentences."""
    fair, sentences = drawable(described), []
    bounds = sorted({s.protocol for s, _ in described if s.protocol_class.looks_at_target})
    if bounds:
        sentences.append(f"No figures of protocol {', '.join(bounds)}: labels of what is tested enter its fits.")
    if len(fair) > MAX_SETTINGS:
        sentences.append(
            f"The first {MAX_SETTINGS} of {len(fair)} settings have figures of their own; a report of fewer rows has "
            "those of the others (`--where dataset=NAME`)."
        )
    backbones = {s.backbone_fingerprint for s, _ in fair if not s.random_weights}
    if 1 < len(backbones) < MIN_BACKBONES:
        sentences.append(f"No effective robustness: {len(backbones)} backbones, where {MIN_BACKBONES} are needed.")
    return sentences


def caption(setting: Setting, selections: Selections, rule: str, words: str) -> str:
    """Return the caption of a figure of one setting.

    Args:
        setting: what the rows share.
        selections: the rows of that setting.
        rule: what chooses.
        words: what the figure shows.
    """
    seeds, size = selections.seeds, whole_size(selections)
    folds = f", {setting.folds} folds" if setting.folds else ""
    return (
        f"{setting.banner}{words} {setting.dataset}, {setting.backbone_label}, {setting.precision}; protocol "
        f"{setting.protocol}; test split {split_words(setting)}; seed{'s' if len(seeds) > 1 else ''} "
        f"{', '.join(map(str, seeds))}{folds}; n = {number(size.units_per_seed)} {unit_words(setting)} per seed in "
        f"{environment_words(setting, selections.rows['held_out'].nunique())}. Rule {rule}: "
        f"{rule_meaning(rule, setting)}."
    ) + (f" {few}" if (few := sample_words(selections.rows)) else "")


def caption_of_several(described: Sequence[tuple[Setting, Selections]], words: str) -> str:
    """Return the caption of a figure of several data sets under one backbone, protocol and split.

    Args:
        described: the settings and their rows, one of each data set.
        words: what the figure shows.
    """
    setting, selections = described[0]
    rules = {x.base_rule: f"{x.base_rule}: {rule_meaning(x.base_rule, s)}" for s, x in described}
    units = unit_words(setting)
    sizes = [
        f"n = {number(whole_size(x).units_per_seed)} in {x.rows['held_out'].nunique()} ({s.dataset}"
        f"{'' if unit_words(s) == units else f', {unit_words(s)}'})"
        for s, x in described
    ]
    seeds = selections.seeds
    return (
        f"{setting.banner}{words} {setting.backbone_label}, {setting.precision}; protocol {setting.protocol}; test "
        f"split {split_words(setting)}; seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}. "
        f"{units.capitalize()} per seed in {setting.protocol_class.holdouts_in_words}: {', '.join(sizes)}. "
        f"Rule {'; '.join(rules.values())}."
    )


def of_forest(numbers: ForestNumbers, compared: Sequence[tuple[Setting, Comparison]]) -> str:
    """Return the caption of the forest."""
    settings = [setting for setting, _ in compared]
    banner = f"{BANNER}: " if any(setting.random_weights for setting in settings) else ""
    rules = sorted({one.rule for _, one in compared})
    sizes = [one.size.units_per_seed for _, one in compared]
    low, high = number(min(sizes)), number(max(sizes))
    protocols = sorted({f"{setting.protocol}, {setting.test_split}" for setting in settings})
    new = (
        " Thin lines: 95 % for new environments, from 4 held-out ones on, adjusted as gains are; one that leaves the "
        "panel is cut."
        if any(line.new for line in numbers.lines)
        else ""
    )
    some = f" {numbers.left_out} comparisons with other baselines are not drawn." if numbers.left_out else ""
    return (
        f"{banner}Accuracy of a method minus that of a baseline on the same images, in points. Thick lines: 95 % "
        f"intervals for these environments, cluster-robust over images. Filled: a difference is shown (Holm, "
        f"5 %).{new} Grey: within {points_word(numbers.margin)}.{some} Protocol and split: {'; '.join(protocols)}; "
        f"rule {', '.join(rules)}; n = {low if low == high else f'{low} to {high}'} test units per seed."
    )


def of_rank(numbers: RankNumbers, setting: Setting) -> str:
    """Return what the figure of ranks shows."""
    return (
        "Accuracy minus plain prediction's on the same images against the rank kept; everything but the rank is chosen "
        f"at each rank. {_band(p.known for _, curves in numbers.panels for c in curves for p in c.points)} Below: "
        "how often the rule picks each rank, by area. Lines that fall far below leave the panel. Reading the best rank "
        f"off this figure would be choosing on the {setting.protocol_class.tested}."
    )


def _band(known: Iterable[bool]) -> str:
    if any(known):
        return "Bands: 95 % intervals of the paired difference for these environments."
    return f"No band: one takes {MIN_UNITS} units in every environment, and answers that vary."


def of_heat_maps(numbers: HeatMapNumbers, setting: Setting) -> str:
    """Return what the twin maps show."""
    picks = sorted({int(maps.picks.sum()) for maps in numbers.maps})
    every = f"{picks[0]}" if len(picks) == 1 else f"{picks[0]} to {picks[-1]}"
    return (
        f"{numbers.maps[0].method.projection_label}: score of the rule on the sources (left) and accuracy on the "
        f"{setting.protocol_class.tested} (right), in %, by λ and rank; everything else is chosen at each of them. "
        f"Framed: what the rule picks, with how many of its {every} picks."
    )


def of_environments(numbers: EnvironmentNumbers, setting: Setting) -> str:
    """Return what the figure of environments shows."""
    left = max(panel.left_out for panel in numbers.panels)
    some = f" The first {MAX_ENVIRONMENTS} are drawn, {left} more are in the tables." if left else ""
    return (
        f"Accuracy minus plain prediction's on the same images, in points: average, and each {_tested(setting)} by "
        f"itself, with 95 % intervals (not adjusted). On the right: accuracy of plain prediction in %.{some}"
    )


def _tested(setting: Setting) -> str:
    return setting.protocol_class.tested


def of_selection(numbers: SelectionNumbers, setting: Setting) -> str:
    """Return what the figure of the selection shows."""
    thin = " Not every setting is drawn." if any(panel.thinned for panel in numbers.panels) else ""
    return (
        "Score by which the rule chooses, on the sources, against accuracy on the "
        f"{setting.protocol_class.tested}: every setting (λ, rank, intervention set, nuisance) that was tested "
        f"everywhere, means over all tests. Rings: what the rule picks, test by test. Dashes: equal accuracy.{thin} "
        "Settings share images, so the rank correlation has no p-value."
    )


def of_interventions(numbers: InterventionNumbers, setting: Setting) -> str:
    """Return what the figure of interventions shows."""
    sets = f"Intervention sets of {numbers.title}, each as a method of its own. " if numbers.by_set else ""
    gains = " Right: accuracy minus plain prediction's, 95 % intervals, not adjusted." if numbers.by_set else ""
    some = f" {numbers.left_out} more are not drawn." if numbers.left_out else ""
    return (
        f"{sets}C_d along the shift: how much interventions (or their placebo) move what shifts between source "
        "environments, 1 as the average direction. Kept: share of the embeddings' energy, and of the shift of class "
        f"means, that is left at what the rule picks. † by labels of the {setting.protocol_class.tested}, at which no "
        f"rule looks.{gains}{some}"
    )


def of_pairs(numbers: PairNumbers, _: Setting) -> str:
    """Return what the figure of pairs shows."""
    parts = []
    if numbers.kinds:
        parts.append("Points over plain prediction with two interventions alone; on the diagonal with one.")
    if numbers.shares:
        parts.append(
            "Points over plain prediction against the share of images whose views enter C_d. Bands: 95 % intervals "
            "for these environments; of several draws the lowest and the highest."
        )
    return " ".join(parts)


def of_spectrum(numbers: Spectra, _: Setting) -> str:
    """Return what the figure of spectra shows."""
    which = ""
    if numbers.intervention_set is not None:
        which = f" Intervention set {numbers.intervention_set}, normalize {numbers.normalize}: picked most often."
    fewer = " Not every λ is drawn." if numbers.thinned else ""
    return (
        "Eigenvalues of M = C_z - λ C_d, fitted on the sources, largest first, on a symmetric log scale; mean over "
        f"held-out environments, seeds and folds.{which}{fewer} PCA: eigenvalues of its own second moment. The "
        "released order keeps directions from the right-hand end."
    )


def of_robustness(numbers: RobustnessNumbers, group: Sequence[tuple[Setting, Selections]]) -> str:
    """Return the caption of effective robustness."""
    setting, selections = group[0]
    above = "; ".join(f"{method.projection_label} {signed(points)}" for method, points in numbers.above)
    mean = f" Mean distance from the line in points: {above}." if above else ""
    return (
        f"Zero-shot accuracy on the {setting.protocol_class.tested} against accuracy on the sources, logit axes, "
        f"{numbers.line.backbones} backbones. Line: least squares through plain zero-shot, with its 95 % prediction "
        "interval; dashes: equal accuracy. Bars: Clopper and Pearson's 95 % intervals for the number of images."
        f"{mean} {setting.dataset}; protocol {setting.protocol}; test split {split_words(setting)}; n = "
        f"{number(whole_size(selections).units_per_seed)} {unit_words(setting)} per seed. Rule training_domain."
    )


def captions(figures: Sequence[Figure], left_out: Sequence[str] = ()) -> tuple[str, str]:
    """Return the captions of all figures as Markdown and as LaTeX.

    Args:
        figures: in the order of the report.
        left_out: sentences on what is not there.
    """
    parts = ["# Figures", *(markdown_escape(sentence) for sentence in left_out)]
    for one in figures:
        links = ", ".join(f"[{form.upper()}]({one.name}.{form})" for form in one.contents if form != "png")
        parts += [f"## {markdown_escape(one.name)}", f"![{markdown_escape(one.name)}]({one.name}.png)"]
        parts.append(f"{markdown_escape(one.caption)} ({links})")
    head = "% At their own size; from a folder above: \\graphicspath{{figures/}}\n"
    return "\n\n".join(parts) + "\n", head + "\n".join(map(latex_figure, figures))


def latex_figure(one: Figure, placement: str = "t") -> str:
    """Return a figure as LaTeX, in a file that knows by `graphicx` where figures lie.

    Args:
        one: the figure, as PDF.
        placement: where LaTeX may set it, in its letters.
    """
    star = "*" if one.width >= PAGE else ""
    return (
        f"\\begin{{figure{star}}}[{placement}]\n  \\centering\n  \\includegraphics{{{one.name}.pdf}}\n"
        f"  \\caption{{{_escaped(one.caption)}}}\n  \\label{{fig:{one.name}}}\n\\end{{figure{star}}}\n"
    )


def _escaped(text: str) -> str:
    return latex_escape(text).replace("λ", r"$\lambda$")
