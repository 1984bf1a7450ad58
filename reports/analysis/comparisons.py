"""Paired comparisons of methods on the same images: differences, intervals, p-values, and pooling over data sets.

Each method is evaluated at the configuration that its rule selects. All numbers are fractions, not points.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmark.method.evaluation import inference, other_environments
from benchmark.method.evaluation.answers import MethodAnswers, Size, together
from benchmark.method.evaluation.inference import ImageInterval, Interval, Scores
from benchmark.method.evaluation.metrics import ACCURACY, BALANCED, Array, Metric
from benchmark.method.evaluation.multiple_testing import Ranking, holm, rank_intervals
from benchmark.method.evaluation.other_environments import OtherEnvironments
from benchmark.method.evaluation.selection import RULES
from reports.analysis.methods import Method
from reports.analysis.selections import Selections, complete_answers, memoized
from reports.analysis.settings import grouped

ALPHA = 1 - inference.CONFIDENCE
EQUAL_WITHIN = 1e-9  # accuracies count as equal if they differ by less
T = TypeVar("T", bound=Hashable)
Compared = TypeVar("Compared", bound="Difference")


@dataclass(frozen=True)
class Adjusted:
    """P-value of a comparison, adjusted for its family.

    Attributes:
        p: Holm-adjusted p-value of no difference; NaN without an interval.
        family: number of comparisons in the family.
    """

    p: float = np.nan
    family: int = 0

    @property
    def differs(self) -> bool:
        """Whether the difference is significant at `ALPHA`."""
        return self.p <= ALPHA


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A metric of a method minus the same metric of a baseline.

    Attributes:
        method: the method (minuend).
        baseline: the baseline (subtrahend).
        rule: selection rule of both.
        interval: the difference with its interval for the tested environments.
        others: interval for new environments, and numbers of environments in which the method is ahead or behind.
        grouped: whether images come in groups, which may span several environments.
        adjusted: p-value adjusted for its family, see `in_family`; by default not adjusted yet (NaN).
    """

    method: Method
    baseline: Method
    rule: str
    interval: ImageInterval
    others: OtherEnvironments
    grouped: bool
    adjusted: Adjusted = Adjusted()


@dataclass(frozen=True, kw_only=True)
class Comparison(Difference):
    """A metric of a method minus the same metric of a baseline, on their common test images.

    Attributes:
        held_outs: held-out environments, sorted.
        seeds: seeds, ascending.
        size: number of tested units and images.
        accuracies: the metric of the method and of the baseline, averaged over `held_outs`; by default the accuracy.
        single: the difference with its interval in each of `held_outs`.
        shared: whether held-out environments share images. If so, there is no interval for new environments.
        changed: for each of `held_outs`, how many images only the method classifies correctly, and how many only the
            baseline. Empty with several seeds, with groups, and for harmonic means.
    """

    held_outs: tuple[str, ...]
    seeds: tuple[int, ...]
    size: Size
    accuracies: tuple[float, float]
    single: tuple[ImageInterval, ...]
    shared: bool
    changed: tuple[tuple[int, int], ...]


@memoized
def compare(
    selections: Selections, method: Method, rule: str, baseline: Method, metric: Metric = ACCURACY
) -> Comparison | None:
    """Return the comparison of two methods on the same test images.

    A metric that is not a mean over images gets a jackknife interval. Metrics of scores get no interval, since rows do
    not store scores. Return None if the methods share no seed with the same test images.
    """
    is_mean = metric in (ACCURACY, BALANCED)
    weighed = metric if is_mean else ACCURACY
    ours, theirs = selections.pooled(method, rule), selections.pooled(baseline, rule)
    answers, estimate = together([ours, theirs], weighed), ours.estimate(theirs, metric=weighed)
    if answers is None or estimate is None:
        return None
    if is_mean:
        means, interval = answers.means, estimate.interval  # exact for harmonic means too
        difference = replace(answers.scores, values=answers.scores.values[0] - answers.scores.values[1])
        exact = zip(inference.by_environment(difference), (means[0] - means[1]).tolist(), strict=True)
        single = [replace(one, estimate=e) for one, e in exact]
    else:
        means, interval, *single = _with_jackknife(selections, answers, (method, baseline), rule, metric)
    others = other_environments.environment_interval(means[0] - means[1], [one.standard_error**2 for one in single])
    countable = is_mean and len(answers.seeds) == 1 and not selections.grouped and selections.n_base is None
    changed = []
    for environment in range(len(answers.held_outs) if countable else 0):
        a, b = answers.correct[:, answers.scores.environment == environment]
        changed.append((int((a & ~b).sum()), int((b & ~a).sum())))
    return Comparison(
        method=method,
        baseline=baseline,
        rule=rule,
        interval=interval,
        others=replace(others, interval=None) if answers.shared else others,
        grouped=selections.grouped,
        held_outs=answers.held_outs,
        seeds=answers.seeds,
        size=answers.size,
        accuracies=(metric.over(means[0]), metric.over(means[1])),
        single=tuple(single),
        shared=answers.shared,
        changed=tuple(changed),
    )


def _with_jackknife(
    selections: Selections, answers: MethodAnswers, pair: Sequence[Method], rule: str, metric: Metric
) -> tuple[Any, ...]:
    """Return a metric of two methods in E environments, shape (2, E), then 1 + E jackknife intervals.

    The first interval is for the difference over all environments, the others for the difference in each environment.
    """
    scores, keys = answers.scores, [(name, seed) for seed in answers.seeds for name in answers.held_outs]
    values = np.array([[selections.measure(one, rule, metric).get(key, np.nan) for key in keys] for one in pair])
    means = values.reshape(2, len(answers.seeds), -1).mean(axis=1)
    computable = metric.needs != "scores" and not np.isnan(means).any()
    predicted = np.zeros(answers.correct.shape, dtype=np.int64)
    if computable and metric.needs == "predictions":
        predicted = np.array([np.concatenate([selections.predicted(one, rule)[key] for key in keys]) for one in pair])

    def interval(inside: NDArray[np.int64], of: Scores) -> ImageInterval:
        if not computable:
            over = metric.over(means[0]) - metric.over(means[1])
            return ImageInterval(
                over, np.nan, np.nan, clusters=of.clusters, min_clusters=of.min_clusters, seeds=of.seeds
            )
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

        return inference.jackknife_interval(difference, of)

    alone = [(np.flatnonzero(scores.environment == e), scores.of(e)) for e in range(len(answers.held_outs))]
    return means, *(interval(*one) for one in [(np.arange(len(scores.environment)), scores), *alone])


@dataclass(frozen=True, kw_only=True)
class Overall(Difference):
    """A metric of a method minus the same metric of a baseline, averaged over data sets with equal weights.

    The interval in `others` is for a new environment of a new data set. `grouped` is true if any data set has groups.

    Attributes:
        datasets: names of the data sets.
        left_out: names of data sets that lack an interval in some environment.
    """

    datasets: tuple[str, ...]
    left_out: tuple[str, ...]


def over_data_sets(named: Sequence[tuple[str, Comparison]]) -> Overall | None:
    """Return the comparison of two methods pooled over data sets; None if fewer than two have all intervals."""
    usable = [(name, one) for name, one in named if not np.isnan([i.standard_error for i in one.single]).any()]
    if len(usable) < 2:
        return None
    first = usable[0][1]
    effects = [interval for _, one in usable for interval in one.single]
    sets = np.repeat(np.arange(len(usable)), [len(one.single) for _, one in usable])
    others = other_environments.random_effects_interval(
        [i.estimate for i in effects], [i.standard_error**2 for i in effects], sets
    )
    shared = any(one.shared for _, one in usable)
    return Overall(
        method=first.method,
        baseline=first.baseline,
        rule=first.rule,
        interval=inference.pooled_interval([one.interval for _, one in usable]),
        others=replace(others, interval=None) if shared else others,
        grouped=any(one.grouped for _, one in usable),
        datasets=tuple(name for name, _ in usable),
        left_out=tuple(name for name, one in named if (name, one) not in usable),
    )


def in_family(members: Iterable[Compared]) -> list[Compared]:
    """Return the comparisons with p-values adjusted by Holm over all of them."""
    members = list(members)
    p = holm([one.interval.p for one in members]).tolist()
    return [replace(one, adjusted=Adjusted(of_one, len(members))) for one, of_one in zip(members, p, strict=True)]


@dataclass(frozen=True)
class Ranked:
    """Ranking of the methods of one predictor.

    Attributes:
        methods: the methods; if `tied` is empty, they cannot be ranked.
        tied: the best method and the methods without a significant difference to it.
        ranking: intervals of ranks on one data set; None if no seed has all held-out environments for all methods.
    """

    methods: tuple[Method, ...]
    tied: tuple[Method, ...] = ()
    ranking: Ranking | None = None


@memoized
def ranked(selections: Selections, rule: str, among: frozenset[Method] | None = None) -> list[Ranked]:
    """Return a ranking for each predictor with two or more methods, in table order.

    Only methods in `among` (default: all) that are tested on all held-out environments are ranked, on the seeds that
    they share. Methods that look at test images are excluded, since other methods do not see these images.
    """
    taken = [m for m in selections.parts if (among is None or m in among) and not m.looks_at_target_images]
    blocks, found = grouped((m for m in taken if selections.is_complete(m, rule)), lambda m: m.predictor), []
    for methods in (block for block in blocks.values() if len(block) > 1):
        answers = complete_answers(selections, [(method, rule) for method in methods])
        if answers is None:
            found.append(Ranked(tuple(methods)))
            continue
        values = answers.scores.values
        known = np.flatnonzero(~np.isnan(values).any(axis=1)).tolist()
        ranking = rank_intervals(replace(answers.scores, values=values[known])) if len(known) > 1 else None
        places = [] if ranking is None else np.array(known)[ranking.tied_with_best].tolist()
        found.append(Ranked(tuple(methods[k] for k in known), tuple(methods[k] for k in places), ranking))
    return found


@dataclass(frozen=True)
class Ties(Generic[T]):
    """The best of some items, and the items tied with it: those without a significant difference to it.

    Attributes:
        best: item with the highest mean, the first of equals.
        tied: the best and the items tied with it, in input order; empty if no pair has an interval.
        equal: whether all means are equal.
        adjusted: (one, other) -> p-value of no difference, adjusted by Holm over all pairs; NaN without an interval.
    """

    best: T
    tied: tuple[T, ...]
    equal: bool
    adjusted: Mapping[tuple[T, T], float]


def ties(items: Sequence[T], differences: Mapping[tuple[T, T], Interval]) -> Ties[T]:
    """Return the best item and the items tied with it; `differences[one, other]` is one minus the other."""
    adjusted = holm([interval.p for interval in differences.values()]).tolist()
    ahead = dict.fromkeys(items, 0.0)
    for (one, other), interval in differences.items():
        ahead[one] += interval.estimate
        ahead[other] -= interval.estimate
    best = max(items, key=lambda item: ahead[item])
    equal = bool(np.ptp(list(ahead.values())) <= 1e-12)
    separated = {pair for pair, p in zip(differences, adjusted, strict=True) if p <= ALPHA}  # false for NaN
    not_separated = tuple(item for item in items if not {(best, item), (item, best)} & separated)
    tied = () if np.isnan(adjusted).all() else not_separated
    return Ties(best, tied, equal, dict(zip(differences, adjusted, strict=True)))


def p_value(real: float, draws: Sequence[float]) -> float:
    """Return the permutation p-value of the real C_d: (1 + number of placebo draws at least as good) / (1 + draws).

    Reports show the p-value with intervals. No verdict depends on it alone.
    """
    return (1 + sum(draw >= real - EQUAL_WITHIN for draw in draws)) / (1 + len(draws))


def to_records(one: Comparison, margin: float) -> list[dict[str, object]]:
    """Return a comparison as records of tables/differences.csv: the average, then each held-out environment.

    Differences are in points. P-values are not adjusted.
    """
    # docs/report.md describes the columns.
    shared: dict[str, object] = {
        "rule": one.rule,
        "baseline_rule": one.rule,
        "looks_at_target": RULES[one.rule].looks_at_target,
        "method": one.method.label,
        "baseline": one.baseline.label,
        "seeds": " ".join(map(str, one.seeds)),
    }
    average = {
        **_numbers(one.interval),
        "margin": rounded(100 * margin),
        "p_level": rounded(inference.equivalence(one.interval, margin)),
        **_others(one.others),
        **{f"n_{name}": value for name, value in vars(one.size).items()},
    }
    lines = [{**shared, "held_out": "average", **average}]
    for name, interval, of in zip(one.held_outs, one.single, one.changed or [None] * len(one.single), strict=True):
        changed = {"gained": of[0], "lost": of[1], "p_mcnemar": inference.mcnemar(*of)} if of else {}
        lines.append({**shared, "held_out": name, **_numbers(interval), "n_units": interval.clusters, **changed})
    return lines


def overall_record(one: Overall) -> dict[str, object]:
    """Return a comparison over data sets as a record, in points."""
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
        "smallest_gain": inference.smallest_gain(interval.standard_error),
    }
    named: dict[str, object] = {name: rounded(100 * value) for name, value in points.items()}
    return {**named, "degrees_of_freedom": rounded(interval.degrees_of_freedom), "p": rounded(interval.p)}


def _others(others: OtherEnvironments) -> dict[str, object]:
    new = others.interval
    mean, low, high = (rounded(100 * v) for v in ((new.estimate, new.low, new.high) if new else (np.nan,) * 3))
    counts: dict[str, object] = {"ahead": others.ahead, "level": others.tied, "behind": others.behind}
    return {"new_environment": mean, "new_environment_low": low, "new_environment_high": high, **counts}


def rounded(value: float | None) -> float | None:
    """Return a number rounded to six decimals, for CSV files; None if unknown."""
    return None if value is None or np.isnan(value) else round(float(value), 6)
