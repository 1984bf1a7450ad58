"""What lies behind a mean accuracy: worst environment and class, calibration, robustness, what selection costs."""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmark.method.evaluation.metrics import ACCURACY, METRICS
from benchmark.method.evaluation.selection import RULES
from reports.chosen import Selections, has_choice
from reports.methods import PLAIN, Method
from reports.settings import Setting
from reports.tables import held_out_names

# "class_group" is what published files call the half of the classes.
_SETTING_COLUMNS = ("dataset", "backbone", "random_weights", "protocol", "test_split", "class_group")
MIN_BACKBONES = 3  # through two points a line fits whatever they are


@dataclass(frozen=True)
class Metrics:
    """One method under one rule: macro means over held-out environments and seeds; None where unknown.

    Attributes:
        means: name of each of `METRICS` -> its mean, in percent if it is a share.
        worst_environment: the one in which the mean accuracy over seeds is lowest.
        worst_environment_accuracy: the accuracy there, in percent.
        ece: expected calibration error as it is, in percent.
        ece_scaled: the same with the temperature fitted on the sources.
        temperature: geometric mean of those temperatures.
        effective_robustness: points above what the line through the backbones' plain zero-shot predicts from the
            accuracy on the sources (Taori et al., 2020, arXiv 2007.00644, section 2).
    """

    method: Method
    rule: str
    means: Mapping[str, float | None]
    worst_environment: str
    worst_environment_accuracy: float
    ece: float | None
    ece_scaled: float | None
    temperature: float | None
    effective_robustness: float | None


@dataclass(frozen=True)
class AccuracyLine:
    """Accuracy on a held-out environment against accuracy on the sources, on a logit scale, over backbones."""

    slope: float
    intercept: float
    backbones: int

    def expected(self, source_accuracy: float) -> float:
        """Return the accuracy (fraction) that plain zero-shot would have at this accuracy on the sources."""
        return float(1 / (1 + np.exp(-(self.slope * _logit(source_accuracy) + self.intercept))))


Lines = Mapping[str, AccuracyLine]  # held-out environment -> line


def zero_shot_lines(parts: Iterable[tuple[Setting, Selections]]) -> dict[tuple[object, ...], dict[str, AccuracyLine]]:
    """Return, for settings that differ in the backbone alone, the line through the backbones' plain zero-shot.

    Random weights take no part. There is a line where `MIN_BACKBONES` or more backbones have such rows with the
    same held-out environment.
    """
    points: dict[tuple[object, ...], dict[str, list[tuple[float, float]]]] = {}
    for setting, selections in parts:
        plain = next((m for m in selections.parts if (m.projection, m.predictor) == (PLAIN, "zero_shot")), None)
        if plain is None or setting.random_weights:
            continue
        picks = selections.picks(plain, "training_domain")
        means = picks.groupby("held_out")[["training_domain", ACCURACY.name]].mean()
        for held_out, (x, y) in zip(means.index, means.to_numpy(float), strict=True):
            points.setdefault(setting.without_backbone, {}).setdefault(str(held_out), []).append((x, y))
    return {
        key: {name: _fit(pairs) for name, pairs in by_name.items() if len(pairs) >= MIN_BACKBONES}
        for key, by_name in points.items()
    }


def _fit(points: list[tuple[float, float]]) -> AccuracyLine:
    x, y = _logit(np.array(points)).T
    slope, intercept = np.polyfit(x, y, 1)
    return AccuracyLine(float(slope), float(intercept), len(points))


def _logit(p: float | np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-3, 1 - 1e-3)
    return np.asarray(np.log(p / (1 - p)))


def metrics_of(selections: Selections, rule: str, lines: Lines) -> list[Metrics]:
    """Return one line for each method that has a pick for every held-out environment under a rule."""
    names, metrics = held_out_names(selections.rows), []
    for method in selections.parts:
        picks = selections.picks(method, rule)
        if set(picks["held_out"]) == set(names):
            metrics.append(_metrics(method, rule, picks, lines))
    return metrics


def _metrics(method: Method, rule: str, picks: pd.DataFrame, lines: Lines) -> Metrics:
    columns = [*(metric.name for metric in METRICS), "training_domain", "ece", "ece_scaled"]
    means = picks.assign(**{c: pd.to_numeric(picks[c]) for c in columns}).groupby("held_out")[columns].mean()
    accuracies = means[ACCURACY.name]
    temperatures = pd.to_numeric(picks["temperature"]).dropna()
    robustness = [
        row[ACCURACY.name] - lines[str(name)].expected(row["training_domain"])
        for name, row in means.iterrows()
        if str(name) in lines
    ]
    return Metrics(
        method=method,
        rule=rule,
        means={metric.name: _known(metric.shown(means[metric.name].mean())) for metric in METRICS},
        worst_environment=str(accuracies.idxmin()),
        worst_environment_accuracy=100 * accuracies.min(),
        ece=_known(100 * means["ece"].mean()),
        ece_scaled=_known(100 * means["ece_scaled"].mean()),
        temperature=float(np.exp(np.log(temperatures).mean())) if len(temperatures) else None,
        effective_robustness=100 * float(np.mean(robustness)) if len(robustness) == len(means) else None,
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def selection_costs(selections: Selections) -> list[tuple[Method, dict[str, float]]]:
    """Return, for each method with something to choose, its average accuracy in percent under each rule.

    Only rules with a pick for every held-out environment are there.
    """
    names, costs = held_out_names(selections.rows), []
    for method, part in selections.parts.items():
        if not has_choice(part):
            continue
        picks = {rule: selections.picks(method, rule) for rule in RULES}
        whole = {rule: of_rule for rule, of_rule in picks.items() if set(of_rule["held_out"]) == set(names)}
        means = {rule: 100 * rows.groupby("held_out")[ACCURACY.name].mean().mean() for rule, rows in whole.items()}
        costs.append((method, {rule: float(mean) for rule, mean in means.items()}))
    return costs


def metrics_csv(setting: Setting, selections: Selections, lines: Lines) -> str:
    """Return the metrics of all methods under all rules, numbers in percent with four decimals."""
    backbones = max((line.backbones for line in lines.values()), default=0)
    shared = [setting.dataset, setting.backbone_label, setting.random_weights, setting.protocol]
    shared += [setting.test_split, setting.class_half]
    body = []
    for rule in RULES.values():
        for m in metrics_of(selections, rule.name, lines):
            others = [m.means[metric.name] for metric in METRICS if metric is not ACCURACY]
            numbers = [
                m.worst_environment_accuracy,
                *others,
                m.ece,
                m.ece_scaled,
                m.temperature,
                m.effective_robustness,
            ]
            words = [_four(m.means[ACCURACY.name]), m.worst_environment, *map(_four, numbers)]
            body.append([*shared, rule.name, rule.looks_at_target, m.method.label, *words, backbones or ""])
    headings = [metric.heading for metric in METRICS if metric is not ACCURACY]
    columns = [*_SETTING_COLUMNS, "rule", "selected_on_target", "method", ACCURACY.heading, "worst_environment"]
    columns += ["worst_environment_accuracy", *headings, "ece", "ece_scaled", "temperature", "effective_robustness"]
    return _csv([*columns, "n_backbones"], body)


def per_class_csv(setting: Setting, selections: Selections) -> str:
    """Return the accuracy of every class, averaged over seeds: a line for each method, rule, environment, class."""
    body: list[list[object]] = []
    classes = selections.rows["classes"].iloc[0]
    for method in selections.parts:
        for rule in RULES.values():
            for held_out, picks in selections.picks(method, rule.name).groupby("held_out", sort=True):
                curves = [c for c in picks["per_class"] if isinstance(c, list) and len(c) == len(classes)]
                if not curves:
                    continue
                table = pd.DataFrame(curves)
                for name, mean, n in zip(classes, table.mean(), table.notna().sum(), strict=True):
                    accuracy = "" if np.isnan(mean) else _four(100 * mean)
                    body.append([method.label, rule.name, rule.looks_at_target, held_out, name, accuracy, int(n)])
    columns = ("method", "rule", "selected_on_target", "held_out", "class", "accuracy", "n_seeds")
    fixed = [setting.dataset, setting.backbone_label, setting.protocol, setting.test_split, setting.class_half]
    names = ("dataset", "backbone", "protocol", "test_split", "class_group")
    return _csv((*names, *columns), [[*fixed, *line] for line in body])


def _csv(columns: Iterable[str], body: list[list[object]]) -> str:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerows([list(columns), *body])
    return sink.getvalue()


def _four(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
