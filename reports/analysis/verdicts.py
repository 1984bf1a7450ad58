"""Verdicts: whether a method helps, by which metric, with which certainty, and which component explains the gain.

In each setting, a method with a verdict has two gains over plain prediction: by the metric of the data set and by
class-balanced accuracy. P-values are adjusted over all gains of the report (see `multiple_testing`). Three questions
attribute each gain that is significant by the metric (see `findings`). Other numbers are descriptive.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np

from benchmark.method.evaluation import multiple_testing
from benchmark.method.evaluation.inference import ImageInterval, Interval
from benchmark.method.evaluation.metrics import ACCURACY, BALANCED, Metric
from benchmark.method.evaluation.multiple_testing import KINDS, AdjustedGain, adjusted_interval
from benchmark.method.evaluation.seed_variance import MIN_UNITS
from reports.analysis.comparisons import Adjusted, Comparison, compare, rounded
from reports.analysis.findings import FIXED, QUESTIONS, Findings, Question, judged, questions_for, why_not
from reports.analysis.methods import Method, plain_for
from reports.analysis.selections import Selections, SettingResults
from reports.analysis.settings import Setting, grouped, named

IS_PLAIN, NO_VERDICT = "is plain", "cannot be said"
DECIDED = tuple(kind for kind in KINDS if kind != multiple_testing.NO_DIFFERENCE)  # verdicts with a shown difference


@dataclass(frozen=True)
class Verdict:
    """Verdict on one method with one predictor in one setting.

    Attributes:
        setting: setting of its rows.
        method: the method.
        rule: selection rule.
        kind: one of `KINDS`, `IS_PLAIN` or `NO_VERDICT`.
        metric: metric of the data set.
        accuracy: accuracy of the method; NaN if the rule picks nothing.
        gain: method minus plain prediction by the metric, with adjusted p-value; None if not comparable.
        balanced: method minus plain prediction by class-balanced accuracy.
        judged: tests of both gains, adjusted over all gains of the report; None without a gain.
        ungated: gain by the metric under the base rule, which has no preference for plain prediction.
        questions: attribution of the gain; empty if it is not significant by the metric.
        others: other comparisons of the method, in display order.
        plain_picks: (k, n): k of n picks equal plain prediction.
        shares: distance between predicted and true class shares for plain prediction and the method, see
            `class_share_distance`.
        images: smallest number of fit images per dimension; NaN if unknown.
        why: reason for `NO_VERDICT`, else empty.
        requested: whether the method is the user's own or named by `--compare`; such methods are shown first.
    """

    setting: Setting
    method: Method
    rule: str
    kind: str
    metric: Metric
    accuracy: float
    gain: Comparison | None = None
    balanced: Comparison | None = None
    judged: AdjustedGain | None = None
    ungated: Comparison | None = None
    questions: tuple[Question, ...] = ()
    others: tuple[Comparison, ...] = ()
    plain_picks: tuple[int, int] = (0, 0)
    shares: tuple[float | None, float | None] = (None, None)
    images: float = np.nan
    why: str = ""
    requested: bool = False

    @property
    def where(self) -> str:
        """Data set, backbone, predictor and class half, in words."""
        setting = self.setting
        return f"{setting.dataset}, {setting.backbone_label}, {self.method.predictor_label}{setting.half_words}"

    @property
    def kind_label(self) -> str:
        """The kind in words, with the name of the metric: "helps in accuracy only"."""
        return self.kind.replace("the metric", self.metric.title)

    @property
    def family(self) -> int:
        """Number of gains tested together."""
        return self.judged.family if self.judged else 0

    @property
    def bound(self) -> float:
        """Largest absolute difference inside the adjusted interval of the gain, in points; NaN without a gain."""
        if self.gain is None:
            return np.nan
        interval = adjusted_interval(self.gain.interval, self.family)
        end = interval.may_differ if interval.same else max(abs(interval.low), abs(interval.high))
        return self.metric.shown(float(end))

    @property
    def chosen_freely(self) -> Comparison | None:
        """The gain without the rule's preference for plain prediction; None if the rule never keeps it."""
        return self.ungated if self.plain_picks[0] and self.ungated and self.ungated.rule != self.rule else None

    @property
    def in_new(self) -> Interval | None:
        """Adjusted interval of the gain in new environments; None if it cannot be computed."""
        return self.gain.others.interval if self.gain else None

    @property
    def holds_in_new(self) -> bool:
        """Whether the gain is significant and its interval for new environments lies on the same side of 0."""
        new = self.in_new
        sign = np.sign(self.gain.interval.estimate) if self.gain is not None and self.gain.adjusted.differs else 0
        return new is not None and new.standard_error > 0 and bool(min(sign * new.low, sign * new.high) > 0)

    def record(self) -> dict[str, Any]:
        """Return the verdict as a record of tables/verdicts.csv: shares in percent, differences in points."""
        gain, judged, others = self.gain, self.judged, self.gain.others if self.gain else None
        questions = {one.name: one for one in self.questions}
        new = self.in_new
        return {
            **named(self.setting),
            "predictor": self.method.predictor,
            "method": self.method.label,
            "rule": self.rule,
            "verdict": self.kind_label,
            "why": self.why,
            "accuracy": _shown(ACCURACY, self.accuracy),
            "metric": self.metric.title,
            "value": _shown(self.metric, gain.accuracies[0] if gain else None),
            "plain": _shown(self.metric, gain.accuracies[1] if gain else None),
            **_of_interval("", self.metric, gain.interval if gain else None),
            "p_holm": rounded(judged.p_metric if judged else None),
            **_of_interval("balanced_", BALANCED, self.balanced.interval if self.balanced else None),
            "balanced_p_holm": rounded(judged.p_balanced if judged else None),
            "both_p_holm": rounded(judged.p_both if judged else None),
            "verdicts": self.family or None,
            "difference_ungated": _shown(self.metric, self.ungated.interval.estimate if self.ungated else None),
            "value_ungated": _shown(self.metric, self.ungated.accuracies[0] if self.ungated else None),
            **{f"by_{name}": questions[name].answer if name in questions else None for name in QUESTIONS},
            **{f"by_{name}_p": rounded(questions[name].p if name in questions else None) for name in QUESTIONS},
            "shares_before": _shown(ACCURACY, self.shares[0]),
            "shares_after": _shown(ACCURACY, self.shares[1]),
            "plain_picks": self.plain_picks[0],
            "picks": self.plain_picks[1],
            "ahead": None if others is None else others.ahead,
            "environments": None if gain is None else len(gain.held_outs),
            "new_low": _shown(self.metric, new.low if new else None),
            "new_high": _shown(self.metric, new.high if new else None),
            "grouped": self.setting.grouped,
            "images_per_dimension": rounded(self.images),
        }


@dataclass(frozen=True)
class Entry:
    """Accuracy and gain of one method in a setting, with or without a verdict.

    Attributes:
        method: the method.
        accuracy: accuracy at the rule's picks.
        gain: the method minus plain prediction; None for plain prediction itself, and if not comparable.
    """

    method: Method
    accuracy: float
    gain: Comparison | None


@dataclass(frozen=True)
class Standing:
    """Results of one predictor in one setting: plain prediction, verdicts and accuracies of all methods.

    Attributes:
        setting: setting of its rows.
        predictor: label of the predictor: "zero-shot".
        rule: selection rule.
        metric: metric of the data set.
        plain: the metric of plain prediction; NaN without rows.
        verdicts: verdicts on the predictor's methods: first those named by `--compare`, then the user's own methods,
            then the others in table order.
        entries: methods with an accuracy, highest first. Methods that look at test images are left out unless they have
            a verdict.
        direct: direct comparisons requested by `--compare`.
    """

    setting: Setting
    predictor: str
    rule: str
    metric: Metric
    plain: float
    verdicts: tuple[Verdict, ...]
    entries: tuple[Entry, ...]
    direct: tuple[Comparison, ...] = ()

    def shown(self, best: int) -> list[Entry]:
        """Return plain prediction, requested methods and the paper's method, and the method with the largest gain.

        If `best` is not 0, the `best` most accurate methods and all other methods with a verdict follow.
        """
        leading = [one.method for one in self.verdicts if one.requested or one.method.is_paper]
        leading += [one.method for one in [best_of(self.verdicts)] if one and one.method not in leading]
        others = [one for one in self.entries if not one.method.is_plain]
        first = sorted((one for one in others if one.method in leading), key=lambda one: leading.index(one.method))
        plain = [one for one in self.entries if one.method.is_plain]
        highest = sorted(others[:best], key=lambda one: one.method.is_control)
        judged = [entry for entry in others if entry.method in {one.method for one in self.verdicts}]
        return list({one.method: one for one in (*plain, *first, *highest, *(judged if best else ()))}.values())


@dataclass(frozen=True)
class Answer:
    """The answer of a report.

    Attributes:
        standings: results of each setting and predictor, in table order.
        left_out: (setting, method) if the method has no verdict since it cannot predict the classes; (setting, None) if
            no method of the setting has a verdict.
    """

    standings: tuple[Standing, ...]
    left_out: tuple[tuple[Setting, Method | None], ...] = ()

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """All verdicts, over all settings and predictors."""
        return tuple(verdict for standing in self.standings for verdict in standing.verdicts)

    @property
    def places(self) -> list[str]:
        """Distinguishing name of each standing, such as "PACS, ViT-B-32"; empty if there is only one."""
        every = [(one, one.setting) for one in self.standings]
        fields = [
            (s.dataset, s.backbone_label, s.protocol, s.test_split, s.half_words[2:] or "all classes", one.predictor)
            for one, s in every
        ]
        places: list[tuple[str, ...]] = [() for _ in fields]
        for column in zip(*fields, strict=True):
            longer = [(*place, words) for place, words in zip(places, column, strict=True)]
            places = longer if len(set(longer)) > len(set(places)) else places
        titles = [f"{s.title}, {one.predictor}" for one, s in every]
        return [", ".join(place) for place in places] if len(set(places)) == len(places) else titles


def best_of(verdicts: Sequence[Verdict]) -> Verdict | None:
    """Return the verdict with the largest significant gain, or None. Controls count only if no other method helps."""
    helping = [one for one in verdicts if one.kind in (multiple_testing.HELPS, multiple_testing.METRIC_ONLY)]
    chosen = [one for one in helping if one.method.projection != FIXED]
    return max(chosen or helping, key=lambda one: one.gain.interval.estimate if one.gain else 0.0, default=None)


def answer(results: Sequence[SettingResults], findings: Sequence[Findings]) -> Answer:
    """Return the answer of a report."""
    waiting: list[tuple[Setting, Selections, Findings, list[Method]]] = []
    gains: dict[tuple[Setting, Method], multiple_testing.Gain] = {}
    left_out: list[tuple[Setting, Method | None]] = []
    together = {_whole(setting) for setting, _ in results if setting.class_half == "harmonic"}
    for (setting, selections), made in zip(results, findings, strict=True):
        if setting.protocol_class.looks_at_target:
            continue  # bounds are only shown in tables
        if setting.class_half in ("base", "new") and _whole(setting) in together:
            continue  # base and new classes have one verdict, on their harmonic mean
        requested = [m for m in made.requested if not m.is_plain]
        methods = dict.fromkeys([*requested, *sorted(judged(selections.parts), key=lambda m: not m.is_custom)])
        never = [m for m in methods if setting.class_half in ("new", "harmonic") and m.learns_classes]
        left_out += [(setting, method) for method in never] if methods else [(setting, None)]
        waiting.append((setting, selections, made, [m for m in methods if m not in never]))
        for method in waiting[-1][-1]:
            if of_both := _gains(selections, method):
                gains[setting, method] = multiple_testing.Gain(of_both[0].interval, of_both[1].interval)
    of_gains = dict(zip(gains, multiple_testing.adjusted_gains([*gains.values()]), strict=True))
    standings: list[Standing] = []
    for setting, selections, made, kept in waiting:
        verdicts = [_verdict(setting, selections, m, made, of_gains.get((setting, m))) for m in kept]
        standings += _standings(setting, selections, made.direct, verdicts)
    return Answer(tuple(standings), tuple(left_out))


def _standings(
    setting: Setting, selections: Selections, direct: Sequence[Comparison], verdicts: Sequence[Verdict]
) -> Iterator[Standing]:
    """Yield the results of each predictor. Imported methods are listed with the first predictor."""
    rule, metric, of_verdicts = selections.rule, selections.metric, [one.method for one in verdicts]
    either = dict.fromkeys([*selections.parts, *of_verdicts])
    every = [m for m in either if m in of_verdicts or not m.looks_at_target_images]
    for methods in grouped(every, lambda method: (plain_for(method, every) or method).predictor).values():
        own = tuple(one for one in verdicts if one.method in methods)
        accuracies = {m: value for m in methods if not np.isnan(value := _accuracy(selections, m))}
        plain = next((m for m in methods if m.is_plain), None)
        known = accuracies.get(plain, np.nan) if plain and metric == ACCURACY else np.nan
        known = next((one.gain.accuracies[1] for one in own if one.gain), known)
        gains = {m: compare(selections, m, rule, plain) if plain not in (None, m) else None for m in accuracies}
        entries = [Entry(m, of.accuracies[0] if (of := gains[m]) else v, of) for m, v in accuracies.items()]
        entries.sort(key=lambda one: -one.accuracy)
        of_predictor = tuple(one for one in direct if one.method in methods)
        label = (plain or methods[0]).predictor_label
        yield Standing(setting, label, rule, metric, known, own, tuple(entries), of_predictor)


def class_share_distance(selections: Selections, method: Method, rule: str) -> float | None:
    """Return the total variation distance between predicted and true class shares, from 0 to 1.

    It is half the sum over classes of |share of predictions - share of images|, averaged over held-out environments and
    seeds. It is None if rows lack predictions.
    """
    pooled, predicted = selections.pooled(method, rule), selections.predicted(method, rule)
    if not pooled or len(predicted) < len(pooled):
        return None
    n, apart = selections.n_classes, []
    for key, one in pooled.items():
        counts = [np.bincount(of, minlength=n) / len(one.correct) for of in (predicted[key], one.tested.label)]
        apart.append(abs(counts[0] - counts[1]).sum() / 2)
    return float(np.mean(apart))


def _whole(setting: Setting) -> Setting:
    return replace(setting, class_half="all", prompts=(), rounding=None)


def _accuracy(selections: Selections, method: Method) -> float:
    """Return the accuracy at the rule's picks, averaged over seeds, then held-out environments; NaN without rows.

    If the rule picks nothing because there are no rows of plain prediction, the base rule is used. If folds are missing
    everywhere, the accuracy is that of the other folds.
    """
    rule = selections.rule if len(selections.picks(method, selections.rule)) else selections.base_rule
    picks, values = selections.picks(method, rule), selections.pooled(method, rule).measure()
    if not values and selections.n_base is None:
        right = (answers.mean() for answers in picks["correct"].tolist())
        values = {(name, i): accuracy for i, (name, accuracy) in enumerate(zip(picks["held_out"], right, strict=True))}
    by_environment = grouped(values, lambda key: key[0]).values()
    return fmean(fmean(values[key] for key in keys) for keys in by_environment) if values else np.nan


def _gains(selections: Selections, method: Method) -> tuple[Comparison, Comparison] | None:
    """Return two gains over plain prediction: by the metric, and by class-balanced accuracy. None if not comparable."""
    if plain := plain_for(method, selections.parts):
        gain = compare(selections, method, selections.rule, plain, metric=selections.metric)
        balanced = compare(selections, method, selections.rule, plain, metric=BALANCED)
        return (gain, balanced) if gain and balanced else None
    return None


def _verdict(
    setting: Setting, selections: Selections, method: Method, made: Findings, judged: AdjustedGain | None
) -> Verdict:
    """Return the verdict on a method, given the test of its gain."""
    rule, base, metric = selections.rule, selections.base_rule, selections.metric
    plain, of_both = plain_for(method, selections.parts), _gains(selections, method)
    fits = selections.chosen_rows(method, base, ("n_train", "dim"))
    k, n = selections.plain_picks(method, rule)
    found = Verdict(
        setting,
        method,
        rule,
        NO_VERDICT,
        metric,
        _accuracy(selections, method),
        others=tuple(one for one in made.compared if one.method == method and one.baseline != plain),
        plain_picks=(k, n),
        images=np.nan if method.imported or not len(fits) else float((fits["n_train"] / fits["dim"]).min()),
        requested=method.is_custom or method in made.requested,
    )
    if plain is None or of_both is None or judged is None:
        return replace(found, why=why_not(selections, method, plain or method.plain))
    adjusted = []
    for one, p in zip(of_both, (judged.p_metric, judged.p_balanced), strict=True):
        new = one.others.interval  # the interval for new environments is adjusted likewise
        others = replace(one.others, interval=None if new is None else adjusted_interval(new, judged.family))
        adjusted.append(replace(one, adjusted=Adjusted(p, judged.family), others=others))
    gain, balanced = adjusted
    n_units, why = gain.interval.min_clusters, ""
    if n_units < MIN_UNITS:
        why = f"an environment has {n_units} images, or groups of them, and {MIN_UNITS} are needed"
    elif np.isnan(gain.interval.p):
        of_scores = f"rows do not keep what an interval of {metric.title} needs"
        why = "there is no standard error" if metric.needs == "correct" else of_scores
    kind = IS_PLAIN if n and k == n else NO_VERDICT if why else judged.kind
    return replace(
        found,
        kind=kind,
        accuracy=gain.accuracies[0] if metric == ACCURACY else found.accuracy,
        gain=gain,
        balanced=balanced,
        judged=judged,
        ungated=compare(selections, method, base, plain, metric=metric),
        questions=questions_for(found.others, method) if judged.shown and kind != IS_PLAIN else (),
        shares=(class_share_distance(selections, plain, rule), class_share_distance(selections, method, rule)),
        why=why,
    )


def _of_interval(name: str, metric: Metric, interval: ImageInterval | None) -> dict[str, float | None]:
    values = (interval.estimate, interval.low, interval.high) if interval is not None else (None,) * 3
    return {f"{name}{what}": _shown(metric, v) for what, v in zip(("difference", "low", "high"), values, strict=True)}


def _shown(metric: Metric, value: float | None) -> float | None:
    return None if value is None else rounded(metric.shown(value))
