"""Metrics beyond mean accuracy: worst environment and class, calibration, robustness, and cost of selection."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from benchmark.method.evaluation.answers import Pooled
from benchmark.method.evaluation.inference import ImageInterval, difference_interval
from benchmark.method.evaluation.metrics import ACCURACY, BALANCED, ECE, WORST_CLASS, WORST_ENVIRONMENT, Answers, Metric
from benchmark.method.evaluation.selection import SOURCE_RULES
from benchmark.method.evaluation.tested import Tested
from reports.analysis import selections as chosen
from reports.analysis.backbones import LINEAR_PROBE, ZERO_SHOT, Lines, ValueInterval
from reports.analysis.methods import Method
from reports.analysis.settings import Setting, named
from reports.render.formats import csv_lines

MIN_CLASS_IMAGES = 10  # classes with fewer test images are not candidates for the worst class
ORACLE = "oracle"  # cross-fitted oracle rule


@dataclass(frozen=True)
class WorstClass:
    """The class and held-out environment with the lowest accuracy (percent, all folds and seeds); n images."""

    name: str
    held_out: str
    accuracy: float
    n: int


@dataclass(frozen=True)
class Metrics:
    """Metrics of one method under one rule. A field is None if it is unknown.

    Folds of a seed are pooled; only seeds with all held-out environments count.

    Attributes:
        method: the method.
        means: key of a metric -> aggregate over held-out environments (for most metrics the mean), shares in percent.
            The worst class is not included. For metrics of scores, folds are weighted by their number of images.
        intervals: key of a metric (accuracy, class-balanced accuracy) -> `ImageInterval`, fractions.
        source_accuracy: accuracy on the sources' validation images at the rule's picks, in percent.
        worst_environment: environment with the lowest accuracy, averaged over seeds.
        worst_class: worst class with `MIN_CLASS_IMAGES` images or more in an environment; None if no class has them.
        ece_scaled: expected calibration error with the temperature fitted on the sources, in percent.
        temperature: geometric mean of the fitted temperatures.
        labels_fit: number of labelled images used by projection or predictor, mean over fits; NaN if unknown.
        labels_choice: number of labelled source images available to rules, mean over fits; NaN if unknown.
    """

    method: Method
    means: Mapping[str, float | None]
    intervals: Mapping[str, ImageInterval]
    source_accuracy: float | None
    worst_environment: str
    worst_class: WorstClass | None
    ece_scaled: float | None
    temperature: float | None
    labels_fit: float
    labels_choice: float

    def of(self, metric: Metric) -> float | None:
        """Return a metric in the unit of tables; None if unknown."""
        if metric == WORST_CLASS:
            return None if self.worst_class is None else self.worst_class.accuracy
        return self.means.get(metric.key)


def further(metrics: Iterable[Metric]) -> list[Metric]:
    """Return the metrics that have no fixed column in the table `behind` and in metrics.csv."""
    return [metric for metric in metrics if metric not in (ACCURACY, WORST_CLASS, WORST_ENVIRONMENT, ECE)]


_LABELS = ("labels_fit", "labels_choice")


@chosen.memoized
def metrics_of(selections: chosen.Selections, rule: str) -> list[Metrics]:
    """Return the metrics of each method that has results for all held-out environments under a rule."""
    found = []
    for method in selections.parts:
        pooled = selections.pooled(method, rule)
        of_two = {m.key: chosen.complete_estimate(selections, pooled, metric=m) for m in (ACCURACY, BALANCED)}
        estimate = of_two[ACCURACY.key]
        if estimate is None:
            continue
        names, seeds = estimate.held_outs, estimate.seeds
        picks = selections.picks(method, rule)
        there = np.isin(picks["seed"], seeds)
        fits, picks = selections.chosen_rows(method, rule, _LABELS).where(there), picks.where(there)
        means = {}
        for metric in (m for m in selections.metrics if m != WORST_CLASS):
            values = selections.measure(method, rule, metric)
            single = np.array([[values.get((name, seed), math.nan) for seed in seeds] for name in names]).mean(axis=1)
            means[metric.key] = _known(metric.shown(metric.over(single)))
        worst, classes = [], selections.rows["classes"].iloc[0]
        for name in names:
            accuracy, n = by_class([pooled[name, seed] for seed in seeds], len(classes))
            enough = np.flatnonzero(n >= MIN_CLASS_IMAGES).tolist()
            worst += [WorstClass(classes[c], name, 100 * float(accuracy[c]), int(n[c])) for c in enough]
        temperatures = picks["temperature"].astype(np.float64)
        temperatures = temperatures[~np.isnan(temperatures)]
        line = Metrics(
            method=method,
            means=means,
            intervals={key: one.interval for key, one in of_two.items() if one is not None},
            source_accuracy=_known(100 * chosen.mean_over_tests(picks, "training_domain")),
            worst_environment=names[int(estimate.means[0].argmin())],
            worst_class=min(worst, key=lambda one: (one.accuracy, -one.n), default=None),
            ece_scaled=_known(100 * chosen.mean_over_tests(picks, "ece_scaled", "n_test")),
            temperature=float(np.exp(np.log(temperatures).mean())) if len(temperatures) else None,
            **{name: float(fits.frame()[name].mean()) for name in _LABELS},
        )
        found.append(line)
    return found


def by_class(pooled: Sequence[Pooled], classes: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return two arrays of shape (classes,): accuracy and number of distinct images by class, over all of `pooled`.

    The accuracy of a class without images is NaN.
    """
    correct = np.concatenate([one.correct for one in pooled])
    label = np.concatenate([one.tested.label for one in pooled])
    return Answers(correct, label, classes).by_class, _images_of_classes(tuple(one.tested for one in pooled), classes)


@lru_cache(maxsize=64)  # methods share their test images
def _images_of_classes(tested: tuple[Tested, ...], classes: int) -> NDArray[np.int64]:
    """Return the number of distinct images by class, shape (classes,)."""
    label, position = (np.concatenate([getattr(one, name) for one in tested]) for name in ("label", "position"))
    _, first = np.unique(position, return_index=True)
    return np.bincount(label[first], minlength=classes)


def chance_and_majority(selections: chosen.Selections) -> tuple[float, float]:
    """Return two accuracies in percent: of uniform guessing, and of always predicting the most frequent class.

    The second accuracy is averaged over held-out environments, with all seeds pooled.
    """
    count, shares = selections.n_classes, []
    for _, tested in selections.rows[selections.rows["n_test"] > 0].groupby("held_out")["tested"]:
        labels = np.concatenate([selections.tested[one].label for one in sorted(set(tested))])
        shares.append(np.bincount(labels, minlength=count) / len(labels))
    return 100 / count, 100 * float(np.mean(shares, axis=0).max())


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None  # infinite NLL: a class that occurs got probability 0


@dataclass(frozen=True)
class SelectionCost:
    """Accuracy of one method under each rule, on common seeds.

    Attributes:
        method: the method.
        accuracies: rule -> mean accuracy in percent; without rules that lack a held-out environment.
        gaps: source rule -> (gap, error) in points. The gap is the accuracy of the cross-fitted oracle minus the
            rule's accuracy. The error is the gap's cluster-robust standard error; None if unknown or 0.
    """

    method: Method
    accuracies: Mapping[str, float]
    gaps: Mapping[str, tuple[float, float | None]]


def selection_costs(selections: chosen.Selections) -> list[SelectionCost]:
    """Return a `SelectionCost` for each method with more than one configuration."""
    costs = []
    for method, part in selections.parts.items():
        candidates = selections.rules if chosen.has_choice(part) else ()
        rules = [one.name for one in candidates if selections.is_complete(method, one.name)]
        answers = chosen.complete_answers(selections, [(method, rule) for rule in rules]) if rules else None
        if answers is None:
            continue
        accuracies = dict(zip(rules, (100 * answers.means.mean(axis=1)).tolist(), strict=True))
        gaps = {}
        for rule in (one for one in SOURCE_RULES if one in rules and ORACLE in rules):
            gap = difference_interval(answers.scores, rules.index(ORACLE), rules.index(rule))
            error = None if gap.plus_minus is None else 100 * gap.plus_minus
            gaps[rule] = (accuracies[ORACLE] - accuracies[rule], error)
        costs.append(SelectionCost(method, accuracies, gaps))
    return costs


def robustness(one: Metrics, lines: Lines) -> tuple[ValueInterval | None, ValueInterval | None]:
    """Return two effective robustnesses: points above the zero-shot line, and above the linear-probe line.

    The second number is None for zero-shot methods. A number is None if its line is unknown.
    """
    shares = one.source_accuracy, one.means[ACCURACY.key]
    source, target = (math.nan if share is None else share / 100 for share in shares)
    learns = one.method.predictor != ZERO_SHOT.predictor
    return lines[ZERO_SHOT].above(source, target), lines[LINEAR_PROBE].above(source, target) if learns else None


def metrics_csv(parts: Sequence[tuple[Setting, chosen.Selections, Lines]]) -> str:
    """Return metrics.csv: metrics of all methods under all rules, shares in percent, four decimals."""
    # `_cells` yields the fields in the order of `columns`; a new column must be added to both.
    setting, selections, _ = parts[0]
    among = further(selections.metrics)
    columns = [
        *named(setting), "rule", "selected_on_target", "method", ACCURACY.heading, "source_accuracy",
        "worst_environment", WORST_ENVIRONMENT.heading, "worst_class", "worst_class_environment", WORST_CLASS.heading,
        "worst_class_n", *(metric.heading for metric in among), f"{BALANCED.heading}_low", f"{BALANCED.heading}_high",
        ECE.heading, "ece_scaled", "temperature", "labels_fit", "labels_choice",
        "above_zero_shot_line", "above_zero_shot_line_low", "above_zero_shot_line_high", "n_backbones",
        "effective_robustness", "effective_robustness_low", "effective_robustness_high", "n_probe_backbones",
    ]  # fmt: skip
    body = [
        [*named(setting).values(), rule.name, rule.looks_at_target, m.method.label, *_cells(m, lines, among)]
        for setting, selections, lines in parts
        for rule in selections.rules
        for m in metrics_of(selections, rule.name)
    ]
    return csv_lines(columns, body)


def _cells(m: Metrics, lines: Lines, among: Sequence[Metric]) -> Iterator[object]:
    """Yield the fields of a line of metrics.csv after the method's name."""
    yield from (four(m.of(ACCURACY)), four(m.source_accuracy), m.worst_environment, four(m.of(WORST_ENVIRONMENT)))
    worst = m.worst_class
    yield from (worst.name, worst.held_out, four(worst.accuracy), worst.n) if worst else ("", "", "", "")
    balanced = m.intervals.get(BALANCED.key)
    ends = (balanced.low, balanced.high) if balanced else (math.nan, math.nan)
    numbers = *(m.of(metric) for metric in among), *(_known(100 * end) for end in ends)
    yield from map(four, (*numbers, m.of(ECE), m.ece_scaled, m.temperature))
    yield from ("" if np.isnan(count) else f"{count:g}" for count in (m.labels_fit, m.labels_choice))
    for above, line in zip(robustness(m, lines), lines.values(), strict=True):
        yield from (*map(four, (above.value, above.low, above.high)), len(line.source)) if above else ("", "", "", "")


def per_class_csv(results: Iterable[chosen.SettingResults]) -> str:
    """Return per_class.csv: the accuracy of each class by setting, method, rule and environment.

    Folds and seeds are pooled; n is the number of distinct images.
    """
    columns = (
        "dataset", "backbone", "protocol", "test_split", "class_group",
        "method", "rule", "selected_on_target", "held_out", "class", "accuracy", "n", "n_seeds",
    )  # fmt: skip
    body: list[list[object]] = []
    for setting, selections in results:
        classes = selections.rows["classes"].iloc[0]
        fixed = [setting.dataset, setting.backbone_label, setting.protocol, setting.test_split, setting.class_half]
        for method, rule in product(selections.parts, selections.rules):
            of_rule = selections.pooled(method, rule.name)
            shared = [*fixed, method.label, rule.name, rule.looks_at_target]
            for held_out in dict.fromkeys(name for name, _ in of_rule):
                pooled = [one for (name, _), one in of_rule.items() if name == held_out]
                for name, accuracy, n in zip(classes, *by_class(pooled, len(classes)), strict=True):
                    body.append([*shared, held_out, name, four(100 * accuracy), int(n), len(pooled)])
    return csv_lines(columns, body)


def four(value: float | None) -> str | None:
    """Return a number with four decimals for CSV files; None (an empty field) if the number is unknown."""
    return None if value is None or math.isnan(value) else f"{value:.4f}"
