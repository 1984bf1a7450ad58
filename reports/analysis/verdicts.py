"""The answer of a report: does a method help, by which accuracy, how sure, and what explains it: records.

The plan of tests is METHOD's, section 11: every judged method has one gain over plain prediction in each setting, by
the metric of the data set and by class-balanced accuracy, adjusted for all gains of the report (see
`multiple_testing`). For each gain that is significant by the metric, three questions ask what explains it (see
`findings`). Everything else in a report is descriptive.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmark.method.evaluation import multiple_testing
from benchmark.method.evaluation.inference import ImageInterval, Interval
from benchmark.method.evaluation.metrics import ACCURACY, BALANCED, Metric
from benchmark.method.evaluation.multiple_testing import KINDS, AdjustedGain, adjusted_interval
from benchmark.method.evaluation.seed_variance import MIN_UNITS
from reports.analysis.chosen import Selections, SettingResults
from reports.analysis.comparisons import Adjusted, Comparison, compare, rounded
from reports.analysis.findings import FIXED, QUESTIONS, Findings, Question, asked, judged, plain_for, why_not
from reports.analysis.methods import Method
from reports.analysis.settings import Setting, grouped, named

IS_PLAIN, UNSAID = "is plain", "cannot be said"
DECIDED = tuple(kind for kind in KINDS if kind != multiple_testing.NO_DIFFERENCE)  # that a difference is shown
MIN_IMAGES = 4  # of a fit, for each dimension: with fewer, choices were found to harm (METHOD, section 10)


@dataclass(frozen=True)
class Verdict:
    """What one method does for one predictor in one setting.

    Attributes:
        setting: what its rows share.
        method: the judged method.
        rule: by which everything was chosen.
        kind: one of `multiple_testing.KINDS`, `IS_PLAIN` or `UNSAID`.
        metric: of the data set.
        accuracy: the method's own, whatever can be said of its gain; NaN where the rule picks nothing.
        gain: method minus plain prediction by the metric, with its adjusted p-value; None without one.
        balanced: the same by class-balanced accuracy.
        judged: both as three families; None without a gain.
        ungated: the gain by the metric with what the rule picks that keeps nothing back.
        questions: what explains a gain; empty where none is shown by the metric.
        others: the other comparisons of the method, in the order in which they are shown.
        plain_picks: (k, n): of n picks k are plain prediction.
        shares: how far the shares of answers lie from those of the classes, see `shares_apart`: plain, method.
        images: of a fit, for each dimension, the fewest; NaN where it is unknown.
        why: why nothing can be said, else empty.
        asked: whether the reader brought the method or names it, so that it stands first.
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
    asked: bool = False

    @property
    def where(self) -> str:
        """Data set, backbone and what else tells its setting from others, in words."""
        setting = self.setting
        return f"{setting.dataset}, {setting.backbone_label}, {self.method.predictor_label}{setting.half_words}"

    @property
    def name(self) -> str:
        """The method in words: "CLIP-ICM", and an imported one by its own name."""
        own = self.method.label if self.method.imported else self.method.projection_label
        return "CLIP-ICM" if self.method.is_paper else own

    @property
    def said(self) -> str:
        """The kind in words, with the metric where that is what it is about: "helps in accuracy only"."""
        return self.kind.replace("the metric", self.metric.title)

    @property
    def family(self) -> int:
        """Number of gains that are judged together."""
        return self.judged.family if self.judged else 0

    @property
    def bound(self) -> float:
        """The largest difference that the adjusted interval of the gain leaves, in points; NaN without one."""
        if self.gain is None:
            return np.nan
        interval = adjusted_interval(self.gain.interval, self.family)
        end = interval.may_differ if interval.same else max(abs(interval.low), abs(interval.high))
        return self.metric.shown(float(end))

    @property
    def in_new(self) -> Interval | None:
        """The interval of the gain in new environments, adjusted as gains are; None where it cannot be answered."""
        return self.gain.others.interval if self.gain else None

    @property
    def holds_in_new(self) -> bool:
        """Whether that interval has no 0 in it and what is shown on its side."""
        new = self.in_new
        sign = np.sign(self.gain.interval.estimate) if self.gain is not None and self.gain.adjusted.differs else 0
        return new is not None and new.standard_error > 0 and bool(min(sign * new.low, sign * new.high) > 0)

    def record(self) -> dict[str, Any]:
        """Return it as a line of numbers: shares in percent and differences in points."""
        gain, judged, others = self.gain, self.judged, self.gain.others if self.gain else None
        questions = {one.name: one for one in self.questions}
        new = self.in_new
        return {
            **named(self.setting),
            "predictor": self.method.predictor,
            "method": self.method.label,
            "rule": self.rule,
            "verdict": self.said,
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
    """One method in a setting, whether it is judged or not.

    Attributes:
        method: the method.
        accuracy: of what the rule picks.
        gain: the method minus plain prediction; None for that itself, and where they were not compared.
    """

    method: Method
    accuracy: float
    gain: Comparison | None


@dataclass(frozen=True)
class Standing:
    """How good plain prediction with one predictor is in one setting, and what methods make of it.

    Attributes:
        setting: what its rows share.
        predictor: in words: "zero-shot".
        rule: by which everything was chosen.
        metric: of the data set.
        plain: of plain prediction by the metric; NaN without rows.
        verdicts: on the predictor's methods: what the reader names, what the reader brings, then the order of tables.
        entries: all methods with an accuracy, the highest first; of those that look at tested images the judged ones.
        direct: comparisons of the predictor's methods that the reader asks for.
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
        """Return plain prediction, the methods in question, the largest gain, then the most accurate, controls last."""
        asked = [one.method for one in self.verdicts if one.asked or one.method.is_paper]
        asked += [one.method for one in [best_of(self.verdicts)] if one and one.method not in asked]
        others = [one for one in self.entries if not one.method.is_plain]
        first = sorted((one for one in others if one.method in asked), key=lambda one: asked.index(one.method))
        plain = [one for one in self.entries if one.method.is_plain]
        highest = sorted(others[:best], key=lambda one: one.method.is_control)
        judged = [entry for entry in others if entry.method in {one.method for one in self.verdicts}]
        return list({one.method: one for one in (*plain, *first, *highest, *(judged if best else ()))}.values())


@dataclass(frozen=True)
class Answer:
    """What a report says first.

    Attributes:
        standings: of each setting and predictor, in the order of the tables.
        left_out: what has no verdict: a setting with a method that cannot predict its classes, or with None where it
            has no judged method.
    """

    standings: tuple[Standing, ...]
    left_out: tuple[tuple[Setting, Method | None], ...] = ()

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """One for each judged method, predictor and setting."""
        return tuple(verdict for standing in self.standings for verdict in standing.verdicts)

    @property
    def places(self) -> list[str]:
        """What tells each standing from the others, such as "PACS, ViT-B-32"; empty where there is one."""
        every = [(one, one.setting) for one in self.standings]
        told = [
            (s.dataset, s.backbone_label, s.protocol, s.test_split, s.half_words[2:] or "all classes", one.predictor)
            for one, s in every
        ]
        places: list[tuple[str, ...]] = [() for _ in told]
        for column in zip(*told, strict=True):
            longer = [(*place, words) for place, words in zip(places, column, strict=True)]
            places = longer if len(set(longer)) > len(set(places)) else places
        titles = [f"{s.title}, {one.predictor}" for one, s in every]
        return [", ".join(place) for place in places] if len(set(places)) == len(places) else titles


def best_of(verdicts: Sequence[Verdict]) -> Verdict | None:
    """Return the verdict of the largest gain that is shown, the control's only where nothing else helps; or None."""
    helping = [one for one in verdicts if one.kind in (multiple_testing.HELPS, multiple_testing.METRIC_ONLY)]
    chosen = [one for one in helping if one.method.projection != FIXED]
    return max(chosen or helping, key=lambda one: one.gain.interval.estimate if one.gain else 0.0, default=None)


def answer(described: Sequence[SettingResults], findings: Sequence[Findings]) -> Answer:
    """Return the answer of a report."""
    waiting: list[tuple[Setting, Selections, Findings, list[Method]]] = []
    gains: dict[tuple[Setting, Method], multiple_testing.Gain] = {}
    left_out: list[tuple[Setting, Method | None]] = []
    together = {_whole(setting) for setting, _ in described if setting.class_half == "harmonic"}
    for (setting, selections), made in zip(described, findings, strict=True):
        if setting.protocol_class.looks_at_target:
            continue  # bounds: the tables show them
        if setting.class_half in ("base", "new") and _whole(setting) in together:
            continue  # their harmonic mean is judged
        named_ = [m for m in made.asked if not m.is_plain]
        methods = dict.fromkeys([*named_, *sorted(judged(selections.parts), key=lambda m: not m.brought)])
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
    """Yield how each predictor stands; what was imported is held against the first one's plain prediction."""
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
        asked_for = tuple(one for one in direct if one.method in methods)
        words = (plain or methods[0]).predictor_label
        yield Standing(setting, words, rule, metric, known, own, tuple(entries), asked_for)


def shares_apart(selections: Selections, method: Method, rule: str) -> float | None:
    """Return how far the shares of a method's answers lie from the shares of the classes, from 0 to 1.

    The total variation distance, half the sum over classes of |share of answers - share of images|, averaged over
    held-out environments and seeds; None where rows do not keep all predictions.
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
    """Return the accuracy of what the rule picks, of the folds and environments that there are; NaN without any.

    Where there is no plain prediction to keep, that is the rule that keeps nothing back.
    """
    picks = selections.picks(method, selections.rule)
    picks = picks if len(picks) else selections.picks(method, selections.base_rule)
    if not len(picks):
        return np.nan
    of = np.unique(picks["held_out"], return_inverse=True)[1]
    right = np.bincount(of, [answers.sum() for answers in picks["correct"].tolist()])
    return float((right / np.bincount(of, picks["n_test"])).mean())


def _gains(selections: Selections, method: Method) -> tuple[Comparison, Comparison] | None:
    """Return a method minus plain prediction by the metric and by class-balanced accuracy; None where it has none."""
    if plain := plain_for(method, selections.parts):
        gain = compare(selections, method, selections.rule, plain, metric=selections.metric)
        balanced = compare(selections, method, selections.rule, plain, metric=BALANCED)
        return (gain, balanced) if gain and balanced else None
    return None


def _verdict(
    setting: Setting, selections: Selections, method: Method, made: Findings, judged: AdjustedGain | None
) -> Verdict:
    """Return the verdict on a method, whose gain was judged with all others."""
    rule, base, metric = selections.rule, selections.base_rule, selections.metric
    plain, of_both = plain_for(method, selections.parts), _gains(selections, method)
    fits = selections.chosen_rows(method, base, ("n_train", "dim"))
    k, n = selections.plain_picks(method, rule)
    found = Verdict(
        setting,
        method,
        rule,
        UNSAID,
        metric,
        _accuracy(selections, method),
        others=tuple(one for one in made.compared if one.method == method and one.baseline != plain),
        plain_picks=(k, n),
        images=np.nan if method.imported or not len(fits) else float((fits["n_train"] / fits["dim"]).min()),
        asked=method.brought or method in made.asked,
    )
    if plain is None or of_both is None or judged is None:
        return replace(found, why=why_not(selections, method, plain or method.plain))
    adjusted = []
    for one, p in zip(of_both, (judged.p_metric, judged.p_balanced), strict=True):
        new = one.others.interval  # what is said of new environments is adjusted likewise
        others = replace(one.others, interval=None if new is None else adjusted_interval(new, judged.family))
        adjusted.append(replace(one, adjusted=Adjusted(p, judged.family), others=others))
    gain, balanced = adjusted
    fewest, why = gain.interval.min_clusters, ""
    if fewest < MIN_UNITS:
        why = f"an environment has {fewest} images, or groups of them, and {MIN_UNITS} are needed"
    elif np.isnan(gain.interval.p):
        of_scores = f"rows do not keep what an interval of {metric.title} needs"
        why = "there is no standard error" if metric.needs == "correct" else of_scores
    kind = IS_PLAIN if n and k == n else UNSAID if why else judged.kind
    return replace(
        found,
        kind=kind,
        accuracy=gain.accuracies[0] if metric == ACCURACY else found.accuracy,
        gain=gain,
        balanced=balanced,
        judged=judged,
        ungated=compare(selections, method, base, plain, metric=metric),
        questions=asked(found.others, method) if judged.shown and kind != IS_PLAIN else (),
        shares=(shares_apart(selections, plain, rule), shares_apart(selections, method, rule)),
        why=why,
    )


def _of_interval(name: str, metric: Metric, interval: ImageInterval | None) -> dict[str, float | None]:
    values = (interval.estimate, interval.low, interval.high) if interval is not None else (None,) * 3
    return {f"{name}{what}": _shown(metric, v) for what, v in zip(("difference", "low", "high"), values, strict=True)}


def _shown(metric: Metric, value: float | None) -> float | None:
    return None if value is None else rounded(metric.shown(value))
