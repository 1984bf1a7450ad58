"""Two methods on the same images: difference, intervals, p-values, and the same over several data sets. No words.

Each method stands with what its rule picks. Everything is in fractions, not in points.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmark.method.evaluation.inference import (
    CONFIDENCE,
    ImageInterval,
    Scores,
    by_environment,
    equivalence,
    jackknife_interval,
    mcnemar,
    pooled_interval,
    smallest_gain,
)
from benchmark.method.evaluation.metrics import ACCURACY, BALANCED, Array, Metric
from benchmark.method.evaluation.multiplicity import Ranking, holm, rank_intervals
from benchmark.method.evaluation.other_environments import (
    OtherEnvironments,
    environment_interval,
    random_effects_interval,
)
from benchmark.method.evaluation.selection import RULES
from reports.analysis.answers import MethodAnswers, Size, together
from reports.analysis.chosen import Selections
from reports.analysis.methods import Method
from reports.analysis.whole import whole

ALPHA = 1 - CONFIDENCE


@dataclass(frozen=True)
class Changed:
    """Of one environment under one seed: images that the method alone answers correctly, and the baseline alone."""

    gained: int
    lost: int

    @property
    def p(self) -> float:
        """McNemar's exact p-value."""
        return mcnemar(self.gained, self.lost)


@dataclass(frozen=True)
class Adjusted:
    """What is said of an interval beside others of its family.

    Attributes:
        p: of no difference, adjusted by Holm over the family; NaN where there is no interval.
        family: number of comparisons in it.
    """

    p: float = np.nan
    family: int = 0

    @property
    def differs(self) -> bool:
        """Whether a difference is shown."""
        return self.p <= ALPHA


@dataclass(frozen=True)
class Comparison:
    """A method minus a baseline on what both were tested on.

    Attributes:
        method: whose accuracy counts.
        baseline: whose accuracy is subtracted; equal to `method` where two rules are compared.
        rule: what chooses for the method.
        baseline_rule: what chooses for the baseline.
        held_outs: what is held out, sorted.
        seeds: seeds, ascending.
        size: how much was tested.
        accuracies: of the method and of the baseline, averaged; the data set's metric where that was compared.
        interval: for these environments.
        single: the interval for each of `held_outs` alone.
        others: what is said of other environments.
        shared: whether what is held out has images in common, so that nothing can be said of others.
        grouped: whether images come in groups, which stand in several environments.
        changed: for each of `held_outs` the answers gained and lost; empty with several seeds, with groups, and for
            harmonic means.
        adjusted: as one of a family, see `in_family`; of none by default.
    """

    method: Method
    baseline: Method
    rule: str
    baseline_rule: str
    held_outs: tuple[str, ...]
    seeds: tuple[int, ...]
    size: Size
    accuracies: tuple[float, float]
    interval: ImageInterval
    single: tuple[ImageInterval, ...]
    others: OtherEnvironments
    shared: bool
    grouped: bool
    changed: tuple[Changed, ...]
    adjusted: Adjusted = Adjusted()


def compare(
    selections: Selections,
    method: Method,
    rule: str,
    baseline: Method,
    baseline_rule: str | None = None,
    metric: Metric = ACCURACY,
) -> Comparison | None:
    """Compare two methods, or two rules, on the same tested images.

    Args:
        selections: the rows of one setting.
        method: the method whose accuracy counts.
        rule: what chooses for it.
        baseline: the method whose accuracy is subtracted.
        baseline_rule: what chooses for that; by default `rule`.
        metric: what is compared. Of those that are no mean of images the interval is a jackknife's; of metrics of
            scores, which rows do not keep, there is none.

    Returns:
        The comparison over the seeds with answers of both on all that both were tested on, or None without such a seed.
    """
    asked = (method, rule), (baseline, baseline_rule or rule), metric
    return selections.once(("compared", *asked), lambda: _compared(selections, *asked))


def _compared(
    selections: Selections, ours: tuple[Method, str], theirs: tuple[Method, str], metric: Metric
) -> Comparison | None:
    is_mean = metric in (ACCURACY, BALANCED)
    weighed = metric if is_mean else ACCURACY
    of_ours, of_theirs = selections.pooled(*ours), selections.pooled(*theirs)
    answers, estimate = together([of_ours, of_theirs], weighed), of_ours.estimate(of_theirs, metric=weighed)
    if answers is None or estimate is None:
        return None
    if is_mean:
        means, interval = answers.means, estimate.interval  # of harmonic means the exact ones
        difference = replace(answers.scores, values=answers.scores.values[0] - answers.scores.values[1])
        exact = zip(by_environment(difference), (means[0] - means[1]).tolist(), strict=True)
        single = [replace(one, estimate=e) for one, e in exact]
    else:
        means, interval, *single = _of_no_mean(selections, answers, (ours, theirs), metric)
    others = environment_interval(means[0] - means[1], [one.standard_error**2 for one in single])
    countable = is_mean and len(answers.seeds) == 1 and not selections.grouped and selections.n_base is None
    changed = []
    for environment in range(len(answers.held_outs) if countable else 0):
        a, b = answers.correct[:, answers.scores.environment == environment]
        changed.append(Changed(int((a & ~b).sum()), int((b & ~a).sum())))
    return Comparison(
        ours[0],
        theirs[0],
        ours[1],
        theirs[1],
        answers.held_outs,
        answers.seeds,
        answers.size,
        (metric.over(means[0]), metric.over(means[1])),
        interval,
        tuple(single),
        replace(others, interval=None) if answers.shared else others,
        answers.shared,
        selections.grouped,
        tuple(changed),
    )


def _of_no_mean(
    selections: Selections, answers: MethodAnswers, pair: Sequence[tuple[Method, str]], metric: Metric
) -> tuple[Any, ...]:
    """Return a metric of two methods in each environment, shape (2, E), and the intervals: of all, then of each."""
    scores, keys = answers.scores, [(name, seed) for seed in answers.seeds for name in answers.held_outs]
    values = np.array([[selections.measure(*one, metric).get(key, np.nan) for key in keys] for one in pair])
    means = values.reshape(2, len(answers.seeds), -1).mean(axis=1)
    computable = metric.needs != "scores" and not np.isnan(means).any()
    predicted = np.zeros(answers.correct.shape, dtype=np.int64)
    if computable and metric.needs == "predictions":
        predicted = np.array([np.concatenate([selections.predicted(*one)[key] for key in keys]) for one in pair])

    def interval(inside: NDArray[np.int64], of: Scores) -> ImageInterval:
        if not computable:
            over = metric.over(means[0]) - metric.over(means[1])
            return ImageInterval(over, np.nan, np.nan, clusters=of.clusters, fewest=of.fewest, seeds=of.seeds)
        places = [(s, e) for s in np.unique(of.seed).tolist() for e in np.unique(of.environment).tolist()]
        cells = [np.flatnonzero((of.seed == s) & (of.environment == e)) for s, e in places]

        def difference(kept: NDArray[np.bool_]) -> Array:
            where = [inside[cell[kept[cell]]] for cell in cells]
            each = [
                [selections.computed(metric, answers.label[w], answers.correct[k, w], predicted[k, w]) for w in where]
                for k in (0, 1)
            ]
            ours, theirs = (np.apply_along_axis(metric.over, 1, np.reshape(one, (of.seeds, -1))) for one in each)
            return np.asarray(ours - theirs)

        return jackknife_interval(difference, of)

    alone = [(np.flatnonzero(scores.environment == e), scores.of(e)) for e in range(len(answers.held_outs))]
    return means, *(interval(*one) for one in [(np.arange(len(scores.environment)), scores), *alone])


@dataclass(frozen=True)
class Overall:
    """A method minus a baseline over several data sets, each counting alike.

    Attributes:
        method: whose accuracy counts.
        baseline: whose accuracy is subtracted.
        rule: what chooses for both.
        datasets: names of the data sets.
        left_out: names of those with a comparison and without an interval in some environment.
        grouped: whether images of one of the data sets come in groups, which stand in several environments.
        interval: for these environments.
        others: what all held-out environments of all data sets say of a new environment of a new data set.
        adjusted: as one of a family, see `in_family`; of none by default.
    """

    method: Method
    baseline: Method
    rule: str
    datasets: tuple[str, ...]
    left_out: tuple[str, ...]
    grouped: bool
    interval: ImageInterval
    others: OtherEnvironments
    adjusted: Adjusted = Adjusted()


def over_data_sets(named: Sequence[tuple[str, Comparison]]) -> Overall | None:
    """Return what the comparisons of one pair of methods say together, or None with fewer than two data sets.

    Args:
        named: (data set, comparison) of each data set with an interval; others are left out.
    """
    usable = [(name, one) for name, one in named if not np.isnan([i.standard_error for i in one.single]).any()]
    if len(usable) < 2:
        return None
    first = usable[0][1]
    effects = [interval for _, one in usable for interval in one.single]
    sets = np.repeat(np.arange(len(usable)), [len(one.single) for _, one in usable])
    others = random_effects_interval([i.estimate for i in effects], [i.standard_error**2 for i in effects], sets)
    shared = any(one.shared for _, one in usable)
    return Overall(
        first.method,
        first.baseline,
        first.rule,
        tuple(name for name, _ in usable),
        tuple(name for name, one in named if (name, one) not in usable),
        any(one.grouped for _, one in usable),
        pooled_interval([one.interval for _, one in usable]),
        replace(others, interval=None) if shared else others,
    )


Compared = TypeVar("Compared", Comparison, Overall)


def in_family(members: Iterable[Compared]) -> list[Compared]:
    """Return comparisons with p-values that are adjusted for being made together (Holm)."""
    members = list(members)
    p = holm([one.interval.p for one in members]).tolist()
    return [replace(one, adjusted=Adjusted(of_one, len(members))) for one, of_one in zip(members, p, strict=True)]


@dataclass(frozen=True)
class Ranked:
    """Methods of one predictor, and what their differences say of their order.

    Attributes:
        methods: those that are ranked; or that cannot be, where there is no `ranking`.
        ranking: what their differences say; None where no seed has all that is held out for all of them.
        seeds: under which all of them were tested on all that is held out, ascending.
    """

    methods: tuple[Method, ...]
    ranking: Ranking | None
    seeds: tuple[int, ...] = ()

    @property
    def tied(self) -> list[Method]:
        """The methods that are not separated from the best."""
        if self.ranking is None:
            return []
        return [m for m, tied in zip(self.methods, self.ranking.tied_with_best, strict=True) if tied]


def ranked(selections: Selections, rule: str, among: Collection[Method] | None = None) -> list[Ranked]:
    """Rank the methods of each predictor that has two or more, in the order of the tables.

    Methods take part that were tested on all that is held out, by the seeds under which all of them were; those that
    look at the tested images do not, since the others have no such images.

    Args:
        selections: the rows of one setting.
        rule: what chooses for every method.
        among: the methods that are ranked; by default all.
    """
    taken = None if among is None else frozenset(among)
    return selections.once(("ranked", rule, taken), lambda: _ranked_by_predictor(selections, rule, taken))


def _ranked_by_predictor(selections: Selections, rule: str, among: Collection[Method] | None) -> list[Ranked]:
    blocks: dict[str, list[Method]] = {}
    for method in selections.parts if among is None else [m for m in selections.parts if m in among]:
        if selections.is_whole(method, rule) and not method.looks_at_target_images:
            blocks.setdefault(method.predictor, []).append(method)
    return [_ranked(selections, rule, methods) for methods in blocks.values() if len(methods) > 1]


def _ranked(selections: Selections, rule: str, methods: Sequence[Method]) -> Ranked:
    answers = whole(selections, [(method, rule) for method in methods])
    if answers is None:
        return Ranked(tuple(methods), None)
    values = answers.scores.values
    known = np.flatnonzero(~np.isnan(values).any(axis=1)).tolist()
    defined = tuple(methods[k] for k in known)
    ranking = rank_intervals(replace(answers.scores, values=values[known])) if len(defined) > 1 else None
    return Ranked(defined, ranking, answers.seeds)


def in_columns(one: Comparison, margin: float) -> list[dict[str, object]]:
    """Return a comparison as lines of numbers, in points: over all that is held out, then each alone.

    Args:
        one: the comparison; p-values are not adjusted.
        margin: within which two methods count as level.
    """
    shared: dict[str, object] = {
        "rule": one.rule,
        "baseline_rule": one.baseline_rule,
        "looks_at_target": any(RULES[rule].looks_at_target for rule in (one.rule, one.baseline_rule)),
        "method": one.method.label,
        "baseline": one.baseline.label,
        "seeds": " ".join(map(str, one.seeds)),
    }
    single = zip(one.held_outs, one.single, one.changed or [None] * len(one.single), strict=True)
    return [
        {
            **shared,
            "held_out": "average",
            **_numbers(one.interval),
            "margin": _known(100 * margin),
            "p_level": _known(equivalence(one.interval, margin)),
            **_others(one.others),
            "n_units": one.size.units,
            "n_units_per_seed": one.size.units_per_seed,
            "n_images_per_seed": one.size.images_per_seed,
        },
        *(
            {**shared, "held_out": name, **_numbers(interval), "n_units": interval.clusters, **_changed(changed)}
            for name, interval, changed in single
        ),
    ]


def overall_in_columns(one: Overall) -> dict[str, object]:
    """Return what several data sets say together as a line of numbers, in points."""
    return {
        "datasets": " ".join(one.datasets),
        "rule": one.rule,
        "method": one.method.label,
        "baseline": one.baseline.label,
        **_numbers(one.interval),
        **_others(one.others),
    }


def _numbers(interval: ImageInterval) -> dict[str, object]:
    points = {
        "difference": interval.estimate,
        "standard_error": interval.standard_error,
        "low": interval.low,
        "high": interval.high,
        "smallest_gain": smallest_gain(interval.standard_error),
    }
    named: dict[str, object] = {name: _known(100 * value) for name, value in points.items()}
    return {**named, "degrees_of_freedom": _known(interval.degrees_of_freedom), "p": _known(interval.p)}


def _others(others: OtherEnvironments) -> dict[str, object]:
    ends = (others.interval.low, others.interval.high) if others.interval else (np.nan, np.nan)
    low, high = (_known(100 * end) for end in ends)
    mean = _known(100 * others.interval.estimate) if others.interval else None
    counts: dict[str, object] = {"ahead": others.ahead, "level": others.level, "behind": others.behind}
    return {"new_environment": mean, "new_environment_low": low, "new_environment_high": high, **counts}


def _changed(changed: Changed | None) -> dict[str, object]:
    return {} if changed is None else {"gained": changed.gained, "lost": changed.lost, "p_mcnemar": changed.p}


def _known(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
