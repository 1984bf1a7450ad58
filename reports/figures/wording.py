"""What stands below figures, and beside them in captions.md and captions.tex. Nothing of it is drawn."""

from collections.abc import Iterable, Sequence

from benchmark.method.evaluation.seed_variance import MIN_UNITS
from reports.analysis.chosen import Selections
from reports.analysis.comparisons import Comparison
from reports.analysis.settings import BANNER, Setting
from reports.analysis.spectra import Spectra
from reports.figures.environments import MAX_ENVIRONMENTS, Panel
from reports.figures.forest import ForestNumbers
from reports.figures.heat_maps import Maps
from reports.figures.interventions import InterventionNumbers, lines_of_each
from reports.figures.rank import Curve
from reports.figures.robustness import RobustnessNumbers
from reports.figures.selection import Panel as SelectionPanel
from reports.figures.style import PAGE, points_word, signed
from reports.figures.writing import Figure
from reports.render.latex_signs import latex_escape
from reports.render.markdown import markdown_escape
from reports.text.captions import (
    number,
    rule_meaning,
    sample_words,
    split_words,
    unit_words,
    whole_size,
)


def caption(described: Sequence[tuple[Setting, Selections]], words: str) -> str:
    """Return the caption of a figure.

    Args:
        described: the settings that it shows and their rows, which differ in the data set alone.
        words: what the figure shows.
    """
    setting, selections = described[0]
    rules = {x.base_rule: f"{x.base_rule}: {rule_meaning(x.base_rule, s)}" for s, x in described}
    units, seeds = unit_words(setting), selections.seeds
    sizes = [
        f"n = {number(whole_size(x).units_per_seed)} in {x.rows['held_out'].nunique()} ({s.dataset}"
        f"{'' if unit_words(s) == units else f', {unit_words(s)}'})"
        for s, x in described
    ]
    samples = dict.fromkeys(filter(None, [sample_words(x.rows) for _, x in described]))
    return " ".join([
        f"{setting.banner}{words} {setting.backbone_label}, {setting.precision}; protocol {setting.protocol}; test "
        f"split {split_words(setting)}; seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        f"{f', {setting.folds} folds' if setting.folds else ''}. {units.capitalize()} per seed in "
        f"{setting.protocol_class.holdouts_in_words}: {', '.join(sizes)}. Rule {'; '.join(rules.values())}.",
        *samples,
    ])  # fmt: skip


def of_forest(numbers: ForestNumbers, compared: Sequence[tuple[Setting, Comparison]]) -> str:
    """Return the caption of the forest."""
    settings = [setting for setting, _ in compared]
    banner = f"{BANNER}: " if any(setting.random_weights for setting in settings) else ""
    rules = sorted({one.rule for _, one in compared})
    sizes = [one.size.units_per_seed for _, one in compared]
    low, high = number(min(sizes)), number(max(sizes))
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
        f"5 %); a stroke: not tested.{new} Grey band: within {points_word(numbers.margin)}.{some} Protocol and split: "
        f"{settings[0].protocol}, {settings[0].test_split}; rule {', '.join(rules)}; n = "
        f"{low if low == high else f'{low} to {high}'} test units per seed."
    )


def of_rank(panels: Sequence[Sequence[Curve]], setting: Setting) -> str:
    """Return what the figure of ranks shows."""
    return (
        "Accuracy minus plain prediction's on the same images against the rank kept; everything but the rank is chosen "
        f"at each rank. {_band(p.known for curves in panels for c in curves for p in c.points)} Below: "
        "how often the rule picks each rank, by area. Lines that fall far below leave the panel. Reading the best rank "
        f"off this figure would be choosing on the {setting.protocol_class.tested}."
    )


def _band(known: Iterable[bool]) -> str:
    if any(known):
        return "Bands: 95 % intervals of the paired difference for these environments."
    return f"No band: one takes {MIN_UNITS} units in every environment, and answers that vary."


def of_heat_maps(panels: Sequence[Maps], setting: Setting) -> str:
    """Return what the twin maps show."""
    picks = sorted({int(maps.picks.sum()) for maps in panels})
    every = f"{picks[0]}" if len(picks) == 1 else f"{picks[0]} to {picks[-1]}"
    return (
        f"{panels[0].method.projection_label}: score of the rule on the sources (left) and accuracy on the "
        f"{setting.protocol_class.tested} (right), in %, by λ and rank; everything else is chosen at each of them. "
        f"Framed: what the rule picks, with how many of its {every} picks."
    )


def of_environments(panels: Sequence[Panel], setting: Setting) -> str:
    """Return what the figure of environments shows."""
    left = max(panel.left_out for panel in panels)
    some = f" The first {MAX_ENVIRONMENTS} are drawn, {left} more are in the tables." if left else ""
    return (
        f"Accuracy minus plain prediction's on the same images, in points: average, and each "
        f"{setting.protocol_class.tested} by itself, with 95 % intervals (not adjusted). On the right: accuracy of "
        f"plain prediction in %.{some}"
    )


def of_selection(panels: Sequence[SelectionPanel], setting: Setting) -> str:
    """Return what the figure of the selection shows."""
    thin = " Not every setting is drawn." if any(panel.thinned for panel in panels) else ""
    return (
        "Score by which the rule chooses, on the sources, against accuracy on the "
        f"{setting.protocol_class.tested}: every setting (λ, rank, intervention set, nuisance) that was tested "
        f"everywhere, means over all tests. Rings: what the rule picks, test by test. Dashes: equal accuracy.{thin} "
        "Settings share images, so the rank correlation has no p-value."
    )


def of_interventions(panels: Sequence[InterventionNumbers], setting: Setting) -> str:
    """Return what the figure of interventions shows."""
    titles = dict.fromkeys(panel.title for panel in panels if panel.by_set)
    sets = f"Intervention sets of {' and '.join(titles)}, each as a method of its own. " if titles else ""
    gains = " Right: accuracy minus plain prediction's, 95 % intervals, not adjusted." if titles else ""
    left_out = sum(p.left_out + max(0, len(p.lines) - lines_of_each(len(panels))) for p in panels)
    some = f" {left_out} more are not drawn." if left_out else ""
    return (
        f"{sets}C_d along the shift: how much interventions (or their placebo) move what shifts between source "
        "environments, 1 as the average direction. Kept: share of the embeddings' energy, and of the shift of class "
        f"means, that is left at what the rule picks. † by labels of the {setting.protocol_class.tested}, at which no "
        f"rule looks.{gains}{some}"
    )


def of_spectrum(panels: Sequence[Spectra], _: Setting) -> str:
    """Return what the figure of spectra shows."""
    shown = {(one.intervention_set, one.normalize) for one in panels}
    which = " Intervention set and normalize of each data set: those picked most often."
    if len(shown) == 1:
        name, normalize = next(iter(shown))
        which = "" if name is None else f" Intervention set {name}, normalize {normalize}: picked most often."
    fewer = " Not every λ is drawn." if any(one.thinned for one in panels) else ""
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
