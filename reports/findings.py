"""Sentences computed from result rows, whatever they turn out to say. What they claim is the inference module's."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmark.common.errors import IcmBenchError, nearest
from benchmark.method.evaluation.inference import smallest_gain
from benchmark.method.evaluation.judging import adjusted_interval
from benchmark.method.evaluation.other_environments import MIN_ENVIRONMENTS, OtherEnvironments
from benchmark.method.evaluation.seed_variance import MIN_UNITS
from benchmark.method.evaluation.selection import RULES
from reports.answers import Size
from reports.captions import environment_words, number, unit_words
from reports.chosen import Selections
from reports.comparisons import Comparison, Overall, Ranked, compare, over_data_sets, p_words, ranked
from reports.credit import BORROWED, FIXED, baselines, judged, plain_for
from reports.methods import Method
from reports.options import Options
from reports.placebos import placebo_sentences
from reports.settings import Setting

_CONTROLS = ("pca", "random")  # which use no intervention
FEW_ENVIRONMENTS = 6  # of a data set: with fewer, only several data sets together say something of new environments


@dataclass(frozen=True)
class Missing:
    """Two methods that were not compared, and why: the whole of the sentence's end."""

    method: Method
    baseline: Method
    why: str


@dataclass(frozen=True)
class Findings:
    """The comparisons of a setting: of each judged method its gain, then what else it is compared with.

    Attributes:
        compared: gains by the rule, the same by the rule that keeps nothing back, and all others by that.
        missing: those that could not be made.
    """

    compared: tuple[Comparison, ...] = ()
    missing: tuple[Missing, ...] = ()


@dataclass(frozen=True)
class Family:
    """What several data sets say together.

    Attributes:
        settings: which differ in the data set alone.
        members: a comparison over data sets for each pair of methods that two of them or more compare.
    """

    settings: tuple[Setting, ...]
    members: tuple[Overall, ...]

    def has(self, setting: Setting, one: Comparison) -> bool:
        """Say whether a comparison of a setting is part of it."""
        key = (one.method, one.baseline, one.rule)
        return setting in self.settings and any(
            (member.method, member.baseline, member.rule) == key and setting.dataset in member.datasets
            for member in self.members
        )


def comparisons(setting: Setting, selections: Selections, options: Options) -> Findings:
    """Compare what is judged with plain prediction, and with what could explain its gain away.

    Args:
        setting: what the rows share.
        selections: the rows of that setting.
        options: what the reader asks for.
    """
    if setting.protocol_class.looks_at_target:
        return Findings()
    compared, missing = [], []
    for method, baseline, rule in _pairs(selections, options.compare):
        one = compare(selections, method, rule, baseline) if baseline in selections.compared else None
        if one is not None:
            compared.append(one)
        elif rule == selections.base_rule:
            missing.append(Missing(method, baseline, why_not(selections, method, baseline)))
    return Findings(tuple(compared), tuple(missing))


def _pairs(selections: Selections, asked: Sequence[tuple[str, str]]) -> list[tuple[Method, Method, str]]:
    """Return method, baseline and rule of all comparisons, each once."""
    rule, pairs = selections.base_rule, list[tuple[Method, Method, str]]()
    every = judged(selections.parts)
    for method in every:
        plain = plain_for(method, selections.parts) or method.plain
        others = [] if method.imported else [*baselines(selections.compared, method), *_explaining(selections, method)]
        pairs += [(method, plain, selections.rule), (method, plain, rule), *((method, m, rule) for m in others)]
    imported = [m for m in every if m.imported]
    pairs += [(m, other, rule) for m in every if not m.imported and m.projection != FIXED for other in imported]
    known = {method.label: method for method in selections.compared}
    pairs += [(known[ours], known[theirs], rule) for ours, theirs in asked if ours in known and theirs in known]
    return list(dict.fromkeys(pairs))


def check_asked(every: Sequence[Selections], asked: Sequence[tuple[str, str]]) -> None:
    """Refuse methods that are to be compared and that no setting has.

    Raises:
        IcmBenchError: a label is unknown; names it and the nearest one.
    """
    known = sorted({method.label for selections in every for method in selections.compared})
    for label in dict.fromkeys(label for pair in asked for label in pair):
        if label not in known:
            raise IcmBenchError(f"--compare '{label}': there are no rows of it; {nearest(label, known)}")


def _explaining(selections: Selections, method: Method) -> list[Method]:
    """Return what else could explain a gain away: PCA, random, the best rival, and placebos.

    The rival is the one that looks at no label and whose source score under the rule is highest. Of placebos with
    several draws the rank says more, see `reports.placebos`; `borrowed` is compared with already.
    """
    same = [m for m in selections.parts if m.predictor == method.predictor]
    found = [m for name in _CONTROLS for m in same if m.projection == name and not m.variant]
    scores = {m: selections.picks(m, selections.base_rule)["score"] for m in same if m.is_rival}
    found += [max(known, key=lambda m: scores[m].mean())] if (known := [m for m in scores if len(scores[m])]) else []
    return found + [
        m for m in same if m.placebo not in (None, BORROWED) and m.real == method and m not in selections.draws
    ]


def why_not(selections: Selections, method: Method, baseline: Method) -> str:
    """Return why two methods are not compared."""
    if baseline not in selections.compared:
        return "there are no such rows"
    for one in (method, baseline):
        if there := selections.folds_there(one):
            return f"{one.label} has {there[0]} of {there[1]} folds"
    return "no seed has both on the same test images"


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


def overall(parts: Sequence[tuple[Setting, Findings]]) -> list[Family]:
    """Return what settings that differ in the data set alone say together: a family for each of their kinds.

    Of a data set that comes with several prompts, only settings with the same prompts are taken together.
    """
    kinds: dict[tuple[object, ...], list[tuple[Setting, Findings]]] = {}
    for setting, findings in parts:
        kinds.setdefault(setting.without_data, []).append((setting, findings))
    families = []
    for of_kind in kinds.values():
        for alike in _each_set_once(of_kind):
            pairs: dict[tuple[Method, Method, str], list[tuple[str, Comparison]]] = {}
            for setting, findings in alike:
                for one in findings.compared:
                    pairs.setdefault((one.method, one.baseline, one.rule), []).append((setting.dataset, one))
            settings = tuple(setting for setting, _ in alike)
            if members := [whole for named in pairs.values() if (whole := over_data_sets(named))]:
                families.append(Family(settings, tuple(members)))
    return families


def _each_set_once(parts: list[tuple[Setting, Findings]]) -> list[list[tuple[Setting, Findings]]]:
    if len({setting.dataset for setting, _ in parts}) == len(parts):
        return [parts]
    by_prompts: dict[tuple[str, ...], list[tuple[Setting, Findings]]] = {}
    for setting, findings in parts:
        by_prompts.setdefault(setting.prompts, []).append((setting, findings))
    return [alike for alike in by_prompts.values() if len({setting.dataset for setting, _ in alike}) == len(alike)]


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
