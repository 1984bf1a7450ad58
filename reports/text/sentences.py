"""Sentences about comparisons, ranks, placebos and decodability, written from the numbers of `reports.analysis`."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from benchmark.method.evaluation.inference import smallest_gain
from benchmark.method.evaluation.judging import adjusted_interval
from benchmark.method.evaluation.other_environments import MIN_ENVIRONMENTS, OtherEnvironments
from benchmark.method.evaluation.seed_variance import MIN_UNITS
from benchmark.method.evaluation.selection import RULES
from reports.analysis.answers import Size
from reports.analysis.chosen import Selections
from reports.analysis.comparisons import Comparison, Overall, Ranked, ranked
from reports.analysis.findings import FEW_ENVIRONMENTS, Family, Findings
from reports.analysis.methods import Method
from reports.analysis.placebos import SAME, accuracies_of, p_value
from reports.analysis.predictions import read_of
from reports.analysis.settings import Setting
from reports.text.captions import environment_words, number, unit_words


def in_words(
    setting: Setting, selections: Selections, findings: Findings, families: Sequence[Family] = ()
) -> list[str]:
    """Return findings as sentences, intervals without a verdict; each has n, seeds, split and rule.

    Args:
        setting: what the rows share.
        selections: the rows of that setting.
        findings: its comparisons.
        families: what several data sets say together; a comparison in none of them answers for new environments alone.
    """
    said = [f"{setting.banner}what follows describes noise, not a model."] if setting.random_weights else []
    if setting.protocol_class.looks_at_target:
        return [*said, "Labels of what is tested enter the fits: bounds (†), which are not compared."]
    if RULES[selections.rule].score != "lodo":
        said.append("Not all that was tested has a lodo accuracy: the findings use the training_domain rule.")
    for one in findings.compared:
        said.append(_comparison(setting, selections, one, not any(family.has(setting, one) for family in families)))
    said += [f"{m.method.label} was not compared with {m.baseline.label}: {m.why}." for m in findings.missing]
    said += [_interval_words(setting, findings.compared)] if findings.compared else []
    said += [words for ranks in ranked(selections, selections.rule) if (words := _ranks(ranks, selections.rule))]
    return said + placebo_sentences(selections, selections.base_rule)


def overall_sentences(family: Family, gains_alone: bool = False) -> list[str]:
    """Return what several data sets say together in words.

    Args:
        family: their comparisons.
        gains_alone: whether to leave out all but what is gained over the plain space.
    """
    sentences, gains = [], sum(member.baseline.is_plain for member in family.members)
    for one in (member for member in family.members if member.baseline.is_plain or not gains_alone):
        left_out = f" Left out, for lack of an interval: {', '.join(one.left_out)}." if one.left_out else ""
        caveat = " Groups of images stand in several of them, which makes it too narrow." if one.grouped else ""
        ours, theirs, new = one.method.label, one.baseline.label, one.others.interval
        if new is not None and one.baseline.is_plain:
            new = adjusted_interval(new, gains)
        sentences.append(
            f"{ours} minus {theirs} over {len(one.datasets)} data sets ({', '.join(one.datasets)}), each counting "
            f"alike: {difference(one.interval.estimate)} in these environments, {interval_words(one, 'units')} "
            f"(rule {one.rule}, split {family.settings[0].test_split}). "
            f"{_new_environments(replace(one.others, interval=new), 'held-out environments')}{caveat}{left_out}"
        )
    sentences.append(
        "Of new environments: random effects of data sets, of environments within them and of images (Paule and "
        "Mandel; Hartung and Knapp), over the held-out environments of all; intervals of gains are adjusted for the "
        f"{gains} that there are (Bonferroni)."
    )
    return sentences


def _comparison(setting: Setting, selections: Selections, one: Comparison, alone: bool) -> str:
    untested = sorted(set(selections.held_outs) - set(one.held_outs))
    partial = f" Without {', '.join(untested)}: not both were tested." if untested else ""
    context = size_words(setting, one.rule, one.size, len(one.held_outs), one.seeds)
    fewest, units = one.interval.fewest, unit_words(setting)
    half = "" if selections.n_base is None else " of base or of new classes"
    few = f"no interval, since an environment has {fewest} {units}{half} where {MIN_UNITS} are needed"
    shown = few if fewest < MIN_UNITS else interval_words(one, units)
    return (
        f"{one.method.label} minus {one.baseline.label}: {difference(one.interval.estimate)} in these environments, "
        f"{shown} ({context}).{_changed(one)} {_others(setting, one, alone)}{partial}"
    )


def difference(value: float) -> str:
    """Return a difference of accuracies in points."""
    return f"{100 * value:+.1f} points"


def interval_words(one: Comparison | Overall, units: str) -> str:
    """Return an interval with the smallest gain that would have shown, or why there is none."""
    interval = one.interval
    if interval.same:
        return (
            f"the same answers on all {number(interval.clusters)} {units} (up to {100 * interval.may_differ:.1f} % of "
            "others may differ)"
        )
    if np.isnan(interval.low):
        return f"no interval ({'all values are the same' if interval.standard_error == 0 else 'unknown'})"
    least = 100 * smallest_gain(interval.standard_error)
    gain = f", smallest gain that would have shown {least:.1f}" if interval.standard_error else ""
    return f"95 % interval {100 * interval.low:+.1f} to {100 * interval.high:+.1f}{gain}"


def _changed(one: Comparison) -> str:
    if len(one.changed) != 1:
        return ""
    changed = one.changed[0]
    return f" {changed.gained} answers gained and {changed.lost} lost (McNemar's exact {p_words(changed.p)})."


def _others(setting: Setting, one: Comparison, alone: bool) -> str:
    """Return what is said of new environments."""
    n, words = len(one.held_outs), setting.protocol_class.holdouts_in_words
    if one.shared:
        return f"New environments: cannot be answered, for {words} have images in common."
    if not alone and n < FEW_ENVIRONMENTS:
        return f"{_counts(one.others, words)} New environments: see what all data sets say together."
    if n < MIN_ENVIRONMENTS:
        counts = _counts(one.others, words)
        return f"{counts} New environments: cannot be answered from {n}, {MIN_ENVIRONMENTS} are needed."
    caveat = " Groups stand in several of them, which makes it too narrow: it covers 84 %." if setting.grouped else ""
    return f"{_new_environments(one.others, words)}{caveat}"


def _new_environments(others: OtherEnvironments, words: str) -> str:
    interval = others.interval
    if interval is None:
        return _counts(others, words)
    if not interval.standard_error > 0:
        return f"New environments: no interval, for nothing varies over {words}. {_counts(others, words)}"
    low, high = 100 * interval.low, 100 * interval.high
    return (
        f"New environments: {difference(interval.estimate)}, 95 % interval {low:+.1f} to {high:+.1f}. "
        f"{_counts(others, words)}"
    )


def _counts(others: OtherEnvironments, words: str) -> str:
    ahead, level, behind = others.ahead, others.level, others.behind
    return f"Of {ahead + level + behind} {words} it is ahead in {ahead}, level in {level}, behind in {behind}."


def _interval_words(setting: Setting, compared: Sequence[Comparison]) -> str:
    units = "groups of images with all their answers" if setting.grouped else "images with all their answers"
    one_seed = any(len(one.seeds) == 1 for one in compared)
    seeds = (
        "variation between seeds is not in them"
        if one_seed
        else "with what seeds differ by beyond what their images explain"
    )
    words = (
        f"Intervals are for these environments: cluster-robust over {units}, {seeds}, Student's t. The difference is "
        "averaged over held-out environments, each method with what the rule picks for it. The smallest gain that "
        "would have shown is found in 80 % of cases (2.8 standard errors). They describe: what is shown, verdicts say."
    )
    return f"{words} {note}" if (note := setting.protocol_class.interval_note) else words


def _ranks(one: Ranked, rule: str) -> str:
    """Return the ranks in words, or why there are none; nothing where there is too little to rank by."""
    undefined = ", ".join(m.projection_label for m in one.undefined)
    without = f" Not ranked, for the harmonic mean of two zeros: {undefined}." if undefined else ""
    if one.ranking is None:
        names = ", ".join(m.label for m in one.methods)
        return without.strip() or f"Not ranked: {names}. No seed has all that is held out for all of them."
    if not one.tied:
        return without.strip()
    lowest, highest = one.ranking.lowest.tolist(), one.ranking.highest.tolist()
    ranks = [
        f"{m.projection_label} {high if high == low else f'{high} to {low}'}"
        for m, high, low in zip(one.methods, highest, lowest, strict=True)
    ]
    best = ", ".join(m.projection_label for m in one.tied)
    predictor, n = one.methods[0].predictor_label, len(one.ranking.differences)
    only = "Separated from all others as the best" if len(one.tied) == 1 else "Not separated from the best"
    return (
        f"Ranks among {predictor} (95 % together, {n} difference{'s' if n > 1 else ''}, Holm, "
        f"{seeds_in_words(one.seeds)}, rule {rule}): "
        f"{', '.join(ranks)}. {only}: {best}.{without}"
    )


def size_words(setting: Setting, rule: str, size: Size, environments: int, seeds: tuple[int, ...]) -> str:
    """Return how much was tested, under which seeds, split and rule."""
    where = f" in {environment_words(setting, environments)}" if environments > 1 else ""
    each = f", {number(size.units_per_seed)} per seed" if size.units_per_seed != size.units else ""
    return (
        f"n = {number(size.units)} {unit_words(setting)}{each}{where}, "
        f"{seeds_in_words(seeds)}, split {setting.test_split}, rule {rule}"
    )


def seeds_in_words(seeds: tuple[int, ...]) -> str:
    """Return "seeds 0, 1"."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def p_words(p: float) -> str:
    """Return "p = 0.012", or "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def points_with_ends(one: Comparison) -> str:
    """Return a difference in points with the ends of its interval, "+1.0 [-0.5, +2.5]"; without, where it has none."""
    interval = one.interval
    ends = f" [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]" if interval.standard_error > 0 else ""
    return f"{100 * interval.estimate:+.1f}{ends}"


def placebo_sentences(selections: Selections, rule: str) -> list[str]:
    """Return for each placebo with several draws where the real one stands among them.

    Args:
        selections: the rows of one setting.
        rule: what chooses for the real one and for each draw.
    """
    return [
        _sentence(selections, rule, method, draws)
        for method, draws in selections.draws.items()
        if draws[0].real in selections.parts
    ]


def _sentence(selections: Selections, rule: str, method: Method, draws: Sequence[Method]) -> str:
    real = draws[0].real
    of_real = accuracies_of(selections, real, rule)
    found = [accuracies for draw in draws if (accuracies := accuracies_of(selections, draw, rule)) is not None]
    if of_real is None or len(found) < len(draws):
        return f"{real.label} was not ranked among draws of {method.placebo}: not all have all that is held out."
    average, of_draws = float(of_real.mean()), [float(accuracies.mean()) for accuracies in found]
    ahead, tied = (
        sum(draw > average + SAME for draw in of_draws),
        sum(abs(draw - average) <= SAME for draw in of_draws),
    )
    rank = f"{1 + ahead}" if not tied else f"{1 + ahead} to {1 + ahead + tied}"
    low, high = np.quantile(of_draws, [0.025, 0.975])
    p = (
        f"p = {p_value(average, of_draws):.3f}, (1 + draws at least as good) / (1 + draws)"
        if real.learns_nothing
        else "no p-value, for the predictor is trained"
    )
    return (
        f"{real.label} with {100 * average:.1f} % ranks {rank} of {1 + len(draws)} among itself and {len(draws)} draws "
        f"of {method.placebo}, whose mean is {100 * np.mean(of_draws):.1f} % (95 % of them {100 * low:.1f} to "
        f"{100 * high:.1f}, rule {rule}, chosen for each draw as for the real one): {p}. The rank stands beside the "
        f"intervals and decides nothing alone."
    )


def decodability(described: Sequence[tuple[Setting, Selections]]) -> tuple[str, ...]:
    """Return sentences on how well the environment is read from embeddings, before and after each projection."""
    sentences = []
    for setting, selections in described:
        for method, found in read_of(selections).items():
            before, after, chance = (100 * fmean(one[k] for one in found) for k in range(3))
            sentences.append(
                f"{setting.banner}{setting.dataset}, {setting.backbone_label}: a linear classifier reads the "
                f"environment at {before:.1f} % from embeddings and at {after:.1f} % after "
                f"{method.label} (chance {chance:.1f} %)."
            )
    return tuple(sentences)
