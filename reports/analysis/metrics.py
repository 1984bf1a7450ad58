"""What lies behind a mean accuracy: worst environment and class, calibration, robustness, what selection costs."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.method.evaluation.inference import ImageInterval, difference_interval
from benchmark.method.evaluation.metrics import (
    ACCURACY,
    BALANCED,
    ECE,
    WORST_CLASS,
    WORST_ENVIRONMENT,
    Array,
    Metric,
    per_class,
)
from benchmark.method.evaluation.selection import SOURCE_RULES
from benchmark.method.evaluation.tested import Tested
from reports.analysis.answers import Answered, Estimate, MethodAnswers, Pooled
from reports.analysis.chosen import Selections, has_choice
from reports.analysis.methods import Method
from reports.analysis.robustness import ZERO_SHOT, Above, Lines
from reports.analysis.settings import Setting
from reports.analysis.whole import mean_beside, whole, whole_estimate
from reports.render.records import csv_lines

# "class_group" is what published files call the half of the classes.
_SETTING_COLUMNS = ("dataset", "backbone", "random_weights", "protocol", "test_split", "class_group")
_LABELS = ("labels_fit", "labels_choice")
MIN_CLASS_IMAGES = 10  # with fewer, which class is worst says little
ORACLE = "oracle"  # the cross-fitted one


@dataclass(frozen=True)
class WorstClass:
    """The class and held-out environment with the lowest accuracy, all folds and seeds together.

    Attributes:
        name: the class.
        held_out: the environment.
        accuracy: in percent.
        n: number of its different tested images there.
    """

    name: str
    held_out: str
    accuracy: float
    n: int


@dataclass(frozen=True)
class Metrics:
    """One method under one rule: means over held-out environments, then seeds; None where unknown.

    All folds of a seed are taken together, and only seeds with every held-out environment count.

    Attributes:
        means: key of each metric but the worst class -> what stands for all held-out environments, mostly the mean; in
            percent if it is a share. Of metrics of scores, folds weigh as much as they have images.
        intervals: the same key of accuracy and of class-balanced accuracy -> its interval over images, fractions.
        source_accuracy: accuracy on the sources' judging images, in percent, at what the rule picks.
        worst_environment: the one in which the mean accuracy over seeds is lowest.
        worst_class: lowest of the classes with `MIN_CLASS_IMAGES` or more images in an environment, or None.
        ece_scaled: expected calibration error with the temperature fitted on the sources, in percent.
        temperature: geometric mean of those temperatures.
        labels_fit: labelled images that projection or predictor learn from, mean over fits; NaN where unknown.
        labels_choice: labelled images of the sources by which rules may choose, mean over fits; NaN where unknown.
        above_zero_shot_line: points above what plain zero-shot of other backbones makes expect.
        effective_robustness: points above what the plain linear probe of other backbones makes expect; of methods
            whose predictor learns from images.
    """

    method: Method
    rule: str
    means: Mapping[str, float | None]
    intervals: Mapping[str, ImageInterval]
    source_accuracy: float | None
    worst_environment: str
    worst_class: WorstClass | None
    ece_scaled: float | None
    temperature: float | None
    labels_fit: float
    labels_choice: float
    above_zero_shot_line: Above | None
    effective_robustness: Above | None

    def of(self, metric: Metric) -> float | None:
        """Return a metric as tables show it; None where it is unknown."""
        if metric == WORST_CLASS:
            return None if self.worst_class is None else self.worst_class.accuracy
        return self.means.get(metric.key)


def further(metrics: Iterable[Metric]) -> list[Metric]:
    """Return metrics without those of which tables say more than a number, or have it in a column of its own."""
    return [metric for metric in metrics if metric not in (ACCURACY, WORST_CLASS, WORST_ENVIRONMENT, ECE)]


def metrics_of(selections: Selections, rule: str, lines: Lines) -> list[Metrics]:
    """Return one line for each method that has answers for every held-out environment under a rule."""
    without_lines = selections.once(("metrics", rule), lambda: _without_lines(selections, rule))
    return [_on_lines(one, lines) for one in without_lines]


def _on_lines(one: Metrics, lines: Lines) -> Metrics:
    source, target = one.source_accuracy, one.means[ACCURACY.key]
    fractions = math.nan if source is None else source / 100, math.nan if target is None else target / 100
    trained = one.method.predictor != ZERO_SHOT.predictor
    return replace(
        one,
        above_zero_shot_line=lines.zero_shot.above(*fractions),
        effective_robustness=lines.linear_probe.above(*fractions) if trained else None,
    )


def _without_lines(selections: Selections, rule: str) -> list[Metrics]:
    """Return the metrics of each method that has answers for every held-out environment, without robustness."""
    found = ((method, whole_estimate(selections, selections.pooled(method, rule))) for method in selections.parts)
    return [_metrics(selections, method, rule, estimate) for method, estimate in found if estimate is not None]


def _metrics(selections: Selections, method: Method, rule: str, estimate: Estimate) -> Metrics:
    pooled, names, seeds = selections.pooled(method, rule), estimate.held_outs, estimate.seeds
    picks, fits = selections.picks(method, rule), selections.chosen_rows(method, rule, ("seed", *_LABELS))
    picks, fits = picks[picks["seed"].isin(seeds)], fits[fits["seed"].isin(seeds)]
    of_tests = {m: selections.measure(method, rule, m) for m in selections.metrics if m != WORST_CLASS}
    means = {
        m.key: m.shown(m.over(np.array([np.mean([of_test.get((name, s), math.nan) for s in seeds]) for name in names])))
        for m, of_test in of_tests.items()
    }
    of_two = {m.key: whole_estimate(selections, pooled, metric=m) for m in (ACCURACY, BALANCED)}
    temperatures = pd.to_numeric(picks["temperature"]).dropna()
    return Metrics(
        method=method,
        rule=rule,
        means={key: _known(value) for key, value in means.items()},
        intervals={key: one.interval for key, one in of_two.items() if one is not None},
        source_accuracy=_known(100 * mean_beside(picks, "training_domain")),
        worst_environment=names[int(estimate.means[0].argmin())],
        worst_class=_worst_class(pooled, names, seeds, selections.rows["classes"].iloc[0]),
        ece_scaled=_known(100 * mean_beside(picks, "ece_scaled", "n_test")),
        temperature=float(np.exp(np.log(temperatures).mean())) if len(temperatures) else None,
        labels_fit=float(fits["labels_fit"].mean()),
        labels_choice=float(fits["labels_choice"].mean()),
        above_zero_shot_line=None,
        effective_robustness=None,
    )


def _worst_class(
    pooled: Answered, names: Sequence[str], seeds: Sequence[int], classes: Sequence[str]
) -> WorstClass | None:
    worst = []
    for name in names:
        accuracy, n = by_class([pooled[name, seed] for seed in seeds], len(classes))
        enough = np.flatnonzero(n >= MIN_CLASS_IMAGES)
        worst += [WorstClass(classes[c], name, 100 * float(accuracy[c]), int(n[c])) for c in enough.tolist()]
    return min(worst, key=lambda one: (one.accuracy, -one.n), default=None)


def by_class(pooled: Sequence[Pooled], classes: int) -> tuple[Array, NDArray[np.int64]]:
    """Return accuracy and number of different images of every class, over all answers together.

    Args:
        pooled: answers on what is held out, of one or several seeds.
        classes: number of classes.

    Returns:
        Both of shape (classes,); accuracies are NaN where there is no image.
    """
    label, correct = (
        np.concatenate(column) for column in zip(*((one.tested.label, one.correct) for one in pooled), strict=True)
    )
    return per_class(correct, label, classes), _images_of_classes(tuple(one.tested for one in pooled), classes)


@lru_cache(maxsize=64)  # all methods are tested on the same images
def _images_of_classes(tested: tuple[Tested, ...], classes: int) -> NDArray[np.int64]:
    """Return the number of different images of every class, shape (classes,)."""
    label, position = (np.concatenate([getattr(one, name) for one in tested]) for name in ("label", "position"))
    _, first = np.unique(position, return_index=True)
    return np.bincount(label[first], minlength=classes)


def chance_and_majority(selections: Selections) -> tuple[float, float]:
    """Return the accuracy of guessing, and of the best answer that is always the same, in percent.

    The latter is averaged over held-out environments, as accuracies are, over all seeds together.

    Args:
        selections: the rows of one setting.
    """
    count, shares = selections.n_classes, []
    for _, tested in selections.rows[selections.rows["n_test"] > 0].groupby("held_out")["tested"]:
        labels = np.concatenate([selections.tested[one].label for one in sorted(set(tested))])
        shares.append(np.bincount(labels, minlength=count) / len(labels))
    return 100 / count, 100 * float(np.mean(shares, axis=0).max())


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None  # infinite: a class that occurs was ruled out


@dataclass(frozen=True)
class SelectionCost:
    """What a method's accuracy is under each rule, with the same seeds under all of them.

    Attributes:
        accuracies: rule -> mean over held-out environments, then seeds, in percent; rules without answers for all of
            them are absent.
        gaps: rule that looks at sources alone -> the cross-fitted oracle's accuracy minus its own, in points, and the
            cluster standard error of the difference (None where unknown, or where nothing differs). Never of the
            ceiling, which is biased upwards.
    """

    method: Method
    accuracies: Mapping[str, float]
    gaps: Mapping[str, tuple[float, float | None]]


def selection_costs(selections: Selections) -> list[SelectionCost]:
    """Return what each method with something to choose gets under each rule."""
    costs = []
    for method, part in selections.parts.items():
        rules = [one.name for one in selections.rules if has_choice(part) and selections.is_whole(method, one.name)]
        answers = whole(selections, [(method, rule) for rule in rules]) if rules else None
        if answers is not None:
            costs.append(_cost(method, rules, answers))
    return costs


def _cost(method: Method, rules: list[str], answers: MethodAnswers) -> SelectionCost:
    accuracies = dict(zip(rules, (100 * answers.means.mean(axis=1)).tolist(), strict=True))
    gaps = {}
    for rule in SOURCE_RULES:
        if rule in rules and ORACLE in rules:
            gap = difference_interval(answers.scores, rules.index(ORACLE), rules.index(rule))
            error = None if gap.plus_minus is None else 100 * gap.plus_minus
            gaps[rule] = (accuracies[ORACLE] - accuracies[rule], error)
    return SelectionCost(method, accuracies, gaps)


def metrics_csv(parts: Sequence[tuple[Setting, Selections, Lines]]) -> str:
    """Return the metrics of all methods of settings under all rules, shares in percent, with four decimals."""
    body: list[list[object]] = []
    for setting, selections, lines in parts:
        shared = [setting.dataset, setting.backbone_label, setting.random_weights, setting.protocol]
        shared += [setting.test_split, setting.class_half]
        for rule in selections.rules:
            for m in metrics_of(selections, rule.name, lines):
                own = _cells(m, lines, further(selections.metrics))
                body.append([*shared, rule.name, rule.looks_at_target, m.method.label, *own])
    headings = [metric.heading for metric in further(parts[0][1].metrics)]
    columns = [*_SETTING_COLUMNS, "rule", "selected_on_target", "method", ACCURACY.heading, "source_accuracy"]
    columns += ["worst_environment", WORST_ENVIRONMENT.heading]
    columns += ["worst_class", "worst_class_environment", WORST_CLASS.heading, "worst_class_n"]
    columns += [
        *headings,
        *(f"{BALANCED.heading}_{end}" for end in ("low", "high")),
        ECE.heading,
        "ece_scaled",
        "temperature",
        "labels_fit",
        "labels_choice",
    ]
    for name, count in (("above_zero_shot_line", "n_backbones"), ("effective_robustness", "n_probe_backbones")):
        columns += [name, f"{name}_low", f"{name}_high", count]
    return csv_lines(columns, body)


def _cells(m: Metrics, lines: Lines, among: Sequence[Metric]) -> list[object]:
    worst = m.worst_class
    named = ["", "", "", ""] if worst is None else [worst.name, worst.held_out, _four(worst.accuracy), str(worst.n)]
    cells = [_four(m.of(ACCURACY)), _four(m.source_accuracy), m.worst_environment, _four(m.of(WORST_ENVIRONMENT))]
    cells += [*named, *(_four(m.of(metric)) for metric in among)]
    balanced = m.intervals.get(BALANCED.key)
    cells += [_four(None if balanced is None else _known(100 * end)) for end in _ends(balanced)]
    cells += [*map(_four, (m.of(ECE), m.ece_scaled, m.temperature)), *map(_count, (m.labels_fit, m.labels_choice))]
    for above, line in ((m.above_zero_shot_line, lines.zero_shot), (m.effective_robustness, lines.linear_probe)):
        numbers = (None, None, None) if above is None else (above.points, above.low, above.high)
        cells += [*map(_four, numbers), "" if above is None else str(len(line.source))]
    return list(cells)


def per_class_csv(described: Iterable[tuple[Setting, Selections]]) -> str:
    """Return the accuracy of every class: a line for each setting, method, rule, environment, class.

    Folds and seeds together: n is the number of different images.
    """
    columns = ("method", "rule", "selected_on_target", "held_out", "class", "accuracy", "n", "n_seeds")
    names = ("dataset", "backbone", "protocol", "test_split", "class_group")
    return csv_lines((*names, *columns), (line for part in described for line in _class_lines(*part)))


def _class_lines(setting: Setting, selections: Selections) -> Iterator[list[object]]:
    classes = selections.rows["classes"].iloc[0]
    fixed = [setting.dataset, setting.backbone_label, setting.protocol, setting.test_split, setting.class_half]
    for method in selections.parts:
        for rule in selections.rules:
            of_rule = selections.pooled(method, rule.name)
            for held_out in dict.fromkeys(name for name, _ in of_rule):
                pooled = [one for (name, _), one in of_rule.items() if name == held_out]
                for name, accuracy, n in zip(classes, *by_class(pooled, len(classes)), strict=True):
                    numbers = ["" if np.isnan(accuracy) else _four(100 * accuracy), int(n), len(pooled)]
                    yield [*fixed, method.label, rule.name, rule.looks_at_target, held_out, name, *numbers]


def _ends(interval: ImageInterval | None) -> tuple[float, float]:
    return (math.nan, math.nan) if interval is None else (interval.low, interval.high)


def _count(value: float) -> str:
    return "" if np.isnan(value) else f"{value:g}"


def _four(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
