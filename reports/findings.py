"""Sentences computed from result rows, whatever they turn out to say. What they claim is the inference module's."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.common.errors import IcmBenchError, nearest
from benchmark.method.evaluation.inference import smallest_gain
from benchmark.method.evaluation.other_environments import MIN_ENVIRONMENTS, OtherEnvironments
from benchmark.method.evaluation.seed_variance import MIN_UNITS
from reports.answers import Size
from reports.captions import environment_words, number, unit_words
from reports.chosen import Selections
from reports.comparisons import Adjusted, Comparison, Overall, Ranked, compare, in_family, over_data_sets, ranked
from reports.credit import BORROWED, credit
from reports.credit import pairs as credit_pairs
from reports.methods import ENVIRONMENTS, PLAIN, SHRINKAGE, Method
from reports.options import Options
from reports.placebos import placebo_sentences
from reports.settings import Setting

_BASELINES = {PLAIN: "Plain", "pca": "PCA", "random": "Random projection"}
# Baselines that use no intervention: where they do as well, interventions add nothing.
_CONTROLS = ("pca", "random")
FEW_ENVIRONMENTS = 6  # of a data set: with fewer, only several data sets together say something of new environments


@dataclass(frozen=True)
class Findings:
    """What a setting's comparisons are, among the sentences that stand before and after them; see `in_words`."""

    parts: tuple[Comparison | str, ...]

    @property
    def compared(self) -> list[Comparison]:
        """The family of comparisons under the rule."""
        return [one for one in self.parts if isinstance(one, Comparison)]

    def why_not(self, method: Method) -> str:
        """Return why a method was not compared with the plain space; empty where nothing says so."""
        head = f"{method.label} was not compared with {method.plain.label}: "
        return next((one.removeprefix(head) for one in self.parts if isinstance(one, str) and one.startswith(head)), "")


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
    """Compare CLIP-ICM, and shrinkage, with what could explain their gains away.

    Args:
        setting: what the rows share.
        selections: the rows of that setting.
        options: what the reader asks for.
    """
    rule = selections.rule
    icms = largest(selections)
    sentences = [f"{setting.banner}what follows describes noise, not a model."] if setting.random_weights else []
    if setting.protocol_class.looks_at_target:
        return Findings((*sentences, "Labels of what is tested enter the fits: bounds (†), which are not compared."))
    if rule != "lodo":
        sentences.append("Not all that was tested has a lodo accuracy: the findings use the training_domain rule.")
    if not icms:
        sentences.append("There are no rows of CLIP-ICM (largest): nothing is compared with it.")
    every: list[Comparison | str] = []
    families = []
    for predictor in dict.fromkeys(method.predictor for method in selections.parts):
        made = _of_predictor(
            selections, [m for m in icms if m.predictor == predictor], predictor, rule, options.compare
        )
        family = in_family([one for one in made if isinstance(one, Comparison)], options.margin)
        adjusted = iter(family)
        every += [one if isinstance(one, str) else next(adjusted) for one in made]
        every += credit(family, family[0].method.predictor_label) if family else []
        families += [family] if family else []
    after = [_interval_words(setting, families)] if families else []
    after += [words for one in ranked(selections, rule) if (words := _ranks(one, rule))]
    after += placebo_sentences(selections, rule)
    return Findings((*sentences, *every, *after, *_with_imported(selections, rule, options)))


def _of_predictor(
    selections: Selections, icms: Sequence[Method], predictor: str, rule: str, asked: Sequence[tuple[str, str]]
) -> list[Comparison | str]:
    """Return the comparisons that are made for a predictor, or why one is not made; they are adjusted together."""
    ours = [m for m in shrinkages(selections) if m.predictor == predictor]
    without_interventions = [m for m in ours if m.variant]
    made = [_made_with(selections, m, n, rule) for m in (*icms, *without_interventions) for n in _BASELINES]
    pairs = credit_pairs(selections.compared, predictor)
    pairs += _explaining_pairs(selections, [*icms, *ours], rule)
    pairs = [pair for pair in pairs if pair[0] not in without_interventions or pair[1].projection not in _BASELINES]
    known = {(one.method, one.baseline) for one in made if isinstance(one, Comparison)} | set(pairs)
    pairs += [pair for pair in _asked_for(selections, predictor, asked) if pair not in known]
    return made + [_made(selections, *pair, rule) for pair in pairs]


def _asked_for(selections: Selections, predictor: str, asked: Sequence[tuple[str, str]]) -> list[tuple[Method, Method]]:
    """Return the pairs that the reader asks for by their labels, of those whose first method has this predictor."""
    known = {method.label: method for method in selections.compared}
    pairs = [(known[ours], known[theirs]) for ours, theirs in asked if ours in known and theirs in known]
    return [(ours, theirs) for ours, theirs in pairs if ours.predictor == predictor]


def check_asked(every: Sequence[Selections], asked: Sequence[tuple[str, str]]) -> None:
    """Refuse methods that are to be compared and that no setting has.

    Raises:
        IcmBenchError: a label is unknown; names it and the nearest one.
    """
    known = sorted({method.label for selections in every for method in selections.compared})
    for label in dict.fromkeys(label for pair in asked for label in pair):
        if label not in known:
            raise IcmBenchError(f"--compare '{label}': there are no rows of it; {nearest(label, known)}")


def shrinkages(selections: Selections) -> list[Method]:
    """Return the methods of shrinkage that are judged, one for each predictor.

    Where nothing was chosen among interventions, as where there are no views, that is shrinkage by environments alone.
    """
    every = [m for m in selections.parts if m.projection == SHRINKAGE and m.variant in ("", ENVIRONMENTS)]
    whole = {m.predictor for m in every if not m.variant}
    return [m for m in every if not m.variant or m.predictor not in whole]


def _explaining_pairs(selections: Selections, judged: Sequence[Method], rule: str) -> list[tuple[Method, Method]]:
    """Return what else could explain a gain away: of shrinkage PCA, random and the best rival; of all their placebos.

    The rival is the one that looks at no label and whose source score under the rule is highest. Of placebos with
    several draws the rank decides, see `reports.placebos`; `borrowed` is compared with already.
    """
    pairs: list[tuple[Method, Method]] = []
    for method in judged:
        same = [m for m in selections.parts if m.predictor == method.predictor]
        if method.projection == SHRINKAGE:
            pairs += [(method, m) for name in _CONTROLS for m in same if m.projection == name and not m.variant]
            rivals = [(score, m) for m in same if m.is_rival and (score := _score(selections, m, rule)) is not None]
            pairs += [(method, max(rivals, key=lambda rival: rival[0])[1])] if rivals else []
        placebos = [
            m for m in same if m.placebo not in (None, BORROWED) and m.real == method and m not in selections.draws
        ]
        pairs += [(method, m) for m in placebos]
    return pairs


def _score(selections: Selections, method: Method, rule: str) -> float | None:
    """Return the mean score on the sources of what a rule picks for a method; None where it picks nothing."""
    scores = selections.picks(method, rule)["score"]
    return float(scores.mean()) if len(scores) else None


def in_words(
    setting: Setting, selections: Selections, findings: Findings, families: Sequence[Family] = ()
) -> list[str]:
    """Return findings as sentences; each comparison's has n, seeds, split and rule.

    Args:
        setting: what the rows share.
        selections: the rows of that setting.
        findings: its comparisons.
        families: what several data sets say together; a comparison in none of them answers for new environments alone.
    """
    sentences = []
    for one in findings.parts:
        if isinstance(one, Comparison):
            alone = not any(family.has(setting, one) for family in families)
            sentences.append(_comparison(setting, selections, one, alone))
        else:
            sentences.append(one)
    return sentences


def overall(parts: Sequence[tuple[Setting, Findings]], options: Options) -> list[Family]:
    """Return what settings that differ in the data set alone say together: a family for each of their kinds.

    Comparisons with imported methods are a family of their own. Of a data set that comes with several prompts, only
    settings with the same prompts are taken together.
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
            for imported in (False, True):
                chosen = [named for (m, b, _), named in pairs.items() if (m.imported or b.imported) == imported]
                if members := [whole for named in chosen if (whole := over_data_sets(named))]:
                    families.append(Family(settings, tuple(in_family(members, options.margin))))
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
    sentences = []
    for one in (member for member in family.members if member.baseline.is_plain or not gains_alone):
        left_out = f" Left out, for lack of an interval: {', '.join(one.left_out)}." if one.left_out else ""
        caveat = " Groups of images stand in several of them, which makes it too narrow." if one.grouped else ""
        ours, theirs = one.method.label, one.baseline.label
        sentences.append(
            f"{ours} minus {theirs} over {len(one.datasets)} data sets ({', '.join(one.datasets)}), each counting "
            f"alike: {difference(one.interval.estimate)} in these environments, {interval_words(one, 'units')} "
            f"(rule {one.rule}, split {family.settings[0].test_split}). {verdict(one)} "
            f"{_new_environments(one.others, 'held-out environments')}{caveat}{left_out}"
        )
    sentences.append(
        "Of new environments: random effects of data sets, of environments within them and of images (Paule and "
        f"Mandel; Hartung and Knapp), over the held-out environments of all. "
        f"{_holm_words([family.members[0].adjusted])}"
    )
    return sentences


def largest(selections: Selections) -> list[Method]:
    """Return the methods of CLIP-ICM as the paper has it: largest first, C_d alone."""
    return [m for m in selections.parts if m.is_paper]


def _made_with(selections: Selections, icm: Method, projection: str, rule: str) -> Comparison | str:
    """Return the comparison with a baseline projection, or the sentence that says why there is none."""
    same = [m for m in selections.parts if (m.projection, m.predictor) == (projection, icm.predictor)]
    baseline = next((m for m in same if m.order != "released"), None)
    if baseline is None:
        named = f"{_BASELINES[projection]} + {icm.predictor_label}"
        missing = icm.plain.label if projection == PLAIN else named
        return f"{icm.label} was not compared with {missing}: there are no such rows."
    return _made(selections, icm, baseline, rule)


def _made(selections: Selections, ours: Method, baseline: Method, rule: str) -> Comparison | str:
    made = compare(selections, ours, rule, baseline)
    if made is None:
        for method in (ours, baseline):
            if there := selections.folds_there(method):
                folds = f"{method.label} has {there[0]} of {there[1]} folds"
                return f"{ours.label} was not compared with {baseline.label}: {folds}."
    return made or f"{ours.label} was not compared with {baseline.label}: no seed has both on the same test images."


def _with_imported(selections: Selections, rule: str, options: Options) -> list[Comparison | str]:
    """Compare imported methods with CLIP-ICM, shrinkage and plain prediction, as a family of their own."""
    imported = [m for m in selections.parts if m.imported]
    leaders = [*largest(selections), *(m for m in selections.parts if m.is_shrinkage)]
    plain = [m for m in selections.parts if m.is_plain]
    pairs = [(leader, m) for m in imported for leader in leaders] + [(m, p) for m in imported for p in plain]
    made = [_made(selections, method, baseline, rule) for method, baseline in pairs]
    family = in_family([one for one in made if isinstance(one, Comparison)], options.margin)
    adjusted = iter(family)
    words = [f"Imported methods are a family of their own: {_holm_words([family[0].adjusted])}"] if family else []
    return [*(one if isinstance(one, str) else next(adjusted) for one in made), *words]


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
        f"{shown} ({context}). {verdict(one)}{_changed(one)} {_others(setting, one, alone)}{partial}"
    )


def verdict(one: Comparison | Overall) -> str:
    """Return in words whether two methods are separated, by which of them, or whether they are level."""
    ours, theirs = one.method.label, one.baseline.label
    control = one.baseline.projection in _CONTROLS
    margin = f"{100 * one.adjusted.margin:g} point{'s' if one.adjusted.margin != 0.01 else ''}"
    if one.interval.fewest < MIN_UNITS:
        return "Too few images to say which is ahead."
    if np.isnan(one.interval.p):
        return "Without a standard error nothing says which is ahead."
    if one.adjusted.differs:
        ahead = one.interval.estimate > 0
        within = f", by less than {margin}" if one.adjusted.level else ""
        none = ", which uses no intervention, is" if control and not ahead else " is"
        return f"{ours} is ahead of {theirs}{within}." if ahead else f"{theirs}{none} ahead of {ours}{within}."
    words = "Not shown that they differ, nor that they are level"
    words = f"Level within {margin}" if one.adjusted.level else f"{words} within {margin}"
    return f"{words}. That interventions help is not shown: {theirs} uses none." if control else f"{words}."


def difference(value: float) -> str:
    """Return a difference of accuracies in points."""
    return f"{100 * value:+.1f} points"


def interval_words(one: Comparison | Overall, units: str) -> str:
    """Return an interval with its p-value and the smallest gain that would have shown, or why there is none."""
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
    return f"95 % interval {100 * interval.low:+.1f} to {100 * interval.high:+.1f}, {p_words(one.adjusted.p)}{gain}"


def p_words(p: float) -> str:
    """Return "p = 0.012", or "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


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


def _interval_words(setting: Setting, families: Sequence[Sequence[Comparison]]) -> str:
    units = "groups of images with all their answers" if setting.grouped else "images with all their answers"
    one_seed = any(len(one.seeds) == 1 for family in families for one in family)
    seeds = (
        "variation between seeds is not in them"
        if one_seed
        else "with what seeds differ by beyond what their images explain"
    )
    words = (
        f"Intervals are for these environments: cluster-robust over {units}, {seeds}, Student's t. The difference is "
        "averaged over held-out environments, each method with what the rule picks for it. The smallest gain that "
        "would have shown is found in 80 % of cases (2.8 standard errors). "
        f"{_holm_words([family[0].adjusted for family in families])}"
    )
    if note := setting.protocol_class.interval_note:
        words += f" {note}"
    return words


def _holm_words(families: Sequence[Adjusted]) -> str:
    """Return how p-values are adjusted: in one family, or in one for each predictor."""
    sizes = [adjusted.family for adjusted in families]
    count = f"{sizes[0]} comparison{'s' if sizes[0] > 1 else ''}"
    if len(sizes) > 1:
        alike = len(set(sizes)) == 1
        count = f"the {sizes[0] if alike else ', '.join(map(str, sizes))} comparisons of each predictor"
    margin = families[0].margin
    return (
        f"p-values, of no difference and of two one-sided tests for being level within {100 * margin:g} "
        f"point{'s' if margin != 0.01 else ''}, are adjusted for {count} (Holm)."
    )


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
