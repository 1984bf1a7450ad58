"""The answer of a report: does a method help, by how much, how sure, and compared with what. From intervals alone.

A gain over the plain space is judged by its interval for these environments (METHOD, section 9), adjusted by Holm for
all gains that the report judges; what could explain it away is adjusted within its setting and predictor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from benchmark.method.evaluation.inference import CONFIDENCE
from benchmark.method.evaluation.metrics import ACCURACY
from benchmark.method.evaluation.multiplicity import holm
from benchmark.method.evaluation.seed_variance import MIN_UNITS
from reports.chosen import Selections
from reports.comparisons import Comparison
from reports.credit import INTERVENTIONS
from reports.findings import Findings, largest, shrinkages
from reports.methods import ICM, PLAIN, REPLACED, Method
from reports.metrics import metrics_of
from reports.options import Options
from reports.placebos import p_of_draws
from reports.robustness import Lines
from reports.settings import Setting, named

HELPS = "helps"
ONLY_AS_BASELINES = "helps, but a baseline does too"
ONLY_AS_PLACEBOS = "helps, but placebos do too"
HURTS = "hurts"
NO_DIFFERENCE = "no difference found"
TOO_FEW = "too few images"
NOTHING = "nothing to compare"
ALL_PLAIN = "is plain"
GAINS = (HELPS, ONLY_AS_BASELINES, ONLY_AS_PLACEBOS)
_UNDECIDED = (ALL_PLAIN, TOO_FEW, NOTHING)
KINDS = (*GAINS, HURTS, NO_DIFFERENCE, *_UNDECIDED)
ALPHA = 1 - CONFIDENCE


@dataclass(frozen=True)
class Verdict:
    """What one method does for one predictor in one setting, against what could explain its gain away.

    Attributes:
        setting: what its rows share.
        method: CLIP-ICM (largest) or shrinkage.
        rule: by which everything was chosen.
        kind: one of `KINDS`.
        gain: the comparison with the plain space, adjusted over all verdicts of the report; None without one.
        against: the other comparisons, in the order in which they are shown.
        unbeaten: projection, in words, of the strongest thing that it is not shown to be ahead of, or None.
        plain_picks: (k, n): of n picks k are the full space.
        why: why there is nothing to compare, else empty.
        by_metric: sentence with the metric of the data set, where that is not accuracy; else empty.
    """

    setting: Setting
    method: Method
    rule: str
    kind: str
    gain: Comparison | None = None
    against: tuple[Comparison, ...] = ()
    unbeaten: str | None = None
    plain_picks: tuple[int, int] = (0, 0)
    why: str = ""
    by_metric: str = ""

    @property
    def where(self) -> str:
        """Data set, backbone and what else tells its setting from others, in words."""
        setting = self.setting
        return f"{setting.dataset}, {setting.backbone_label}, {self.method.predictor_label}{setting.half_words}"

    @property
    def name(self) -> str:
        """The projection in words: "CLIP-ICM"."""
        return "CLIP-ICM" if self.method.projection == ICM else self.method.projection_label

    @property
    def bound(self) -> float:
        """The largest difference that the interval of the gain leaves, in points; NaN without an interval."""
        if self.gain is None:
            return np.nan
        interval = self.gain.interval
        if interval.same:
            return 100 * interval.may_differ
        return 100 * float(max(abs(interval.low), abs(interval.high)))

    @property
    def sentence(self) -> str:
        """The whole answer in one or two sentences."""
        return " ".join(filter(None, [f"{self.setting.banner}{self.where}: {_said(self)}", self.by_metric]))

    def record(self) -> dict[str, Any]:
        """Return it as a line of numbers, in points."""
        gain = self.gain
        low, high = (None, None) if gain is None else (_points(gain.interval.low), _points(gain.interval.high))
        others = gain.others if gain else None
        return {
            **named(self.setting),
            "predictor": self.method.predictor,
            "method": self.method.label,
            "rule": self.rule,
            "verdict": self.kind,
            "difference": None if gain is None else _points(gain.interval.estimate),
            "low": low,
            "high": high,
            "p_holm": None if gain is None else _known(gain.adjusted.p),
            "verdicts": None if gain is None else gain.adjusted.family,
            "not_ahead_of": self.unbeaten,
            "plain_picks": self.plain_picks[0],
            "picks": self.plain_picks[1],
            "ahead": None if others is None else others.ahead,
            "environments": None if gain is None else len(gain.held_outs),
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class Answer:
    """What a report says first.

    Attributes:
        headline: of all verdicts together.
        verdicts: one for each setting, predictor and method, in the order of the tables.
        left_out: sentences on what has no verdict, and why.
        decodability: sentences on how well the environment is read from embeddings, before and after projecting.
    """

    headline: str
    verdicts: tuple[Verdict, ...]
    left_out: tuple[str, ...] = ()
    decodability: tuple[str, ...] = field(default=())


def answer(described: Sequence[tuple[Setting, Selections]], findings: Sequence[Findings], options: Options) -> Answer:
    """Return the answer of a report.

    Args:
        described: its settings with their rows.
        findings: of each setting its comparisons, see `findings.comparisons`.
        options: what the reader asks for.
    """
    verdicts: list[Verdict] = []
    left_out: list[str] = []
    together = {_whole(setting) for setting, _ in described if setting.class_half == "harmonic"}
    for (setting, selections), made in zip(described, findings, strict=True):
        if setting.protocol_class.looks_at_target:
            continue  # bounds: the tables show them
        if setting.class_half in ("base", "new") and _whole(setting) in together:
            continue  # their harmonic mean is judged
        of_setting = [_verdict(setting, selections, m, made) for m in _judged(selections)]
        kept = [one for one in of_setting if not _cannot_predict(one)]
        left_out += [
            f"{one.where}: left out, for a {one.method.predictor_label} cannot predict new classes."
            for one in of_setting
            if _cannot_predict(one)
        ]
        if not of_setting:
            left_out.append(f"{setting.title}: nothing to compare, for there are no rows of CLIP-ICM or shrinkage.")
        verdicts += kept
    adjusted = _adjusted(verdicts, options.margin)
    return Answer(_headline(adjusted), tuple(adjusted), tuple(dict.fromkeys(left_out)))


def _whole(setting: Setting) -> Setting:
    return replace(setting, class_half="all", prompts=(), rounding=None)


def _judged(selections: Selections) -> list[Method]:
    """Return the methods that are judged, CLIP-ICM as the paper has it and shrinkage, in the order of tables."""
    judged = [*largest(selections), *shrinkages(selections)]
    return [m for m in selections.parts if m in judged]


def _cannot_predict(one: Verdict) -> bool:
    return one.setting.class_half in ("new", "harmonic") and one.method.learns_classes


def _verdict(setting: Setting, selections: Selections, method: Method, made: Findings) -> Verdict:
    """Return the verdict on a method with p-values that are not yet adjusted over verdicts."""
    rule = selections.rule
    mine = [one for one in made.compared if one.method == method]
    gain = next((one for one in mine if one.baseline.projection == PLAIN and one.baseline.is_plain), None)
    against = tuple(one for one in mine if one is not gain and not one.baseline.imported)
    picks = selections.plain_picks(method, rule)
    if gain is None:
        why = made.why_not(method) or "the plain space has no rows on the same images"
        return Verdict(setting, method, rule, NOTHING, None, against, None, picks, why)
    placebos = _unbeaten_draws(selections, method, rule)
    by_metric = _by_metric(selections, method, gain.baseline)
    found = Verdict(setting, method, rule, NO_DIFFERENCE, gain, against, None, picks, by_metric=by_metric)
    return replace(found, unbeaten=_strongest(against) or (placebos[0] if placebos else None))


def _by_metric(selections: Selections, method: Method, plain: Method) -> str:
    """Return what plain prediction and a method have by the metric of the data set; nothing of accuracy."""
    if (metric := selections.metric) == ACCURACY:
        return ""
    found = {one.method: one.of(metric) for one in metrics_of(selections, selections.rule, Lines())}
    values = found.get(plain), found.get(method)
    if None in values:
        return f"Its rows do not have {metric.title}, the metric of this data set."
    shown = [f"{value:.{1 if metric.percent else 3}f}" for value in values]
    return f"By {metric.title}, the metric of this data set: plain {shown[0]}, {method.projection_label} {shown[1]}."


def _strongest(against: Sequence[Comparison]) -> str | None:
    """Return what has the highest accuracy among what a method is not shown to be ahead of."""
    unbeaten = _unbeaten(against)
    baselines = [one for one in unbeaten if not one.baseline.placebo]
    return (
        min(baselines or unbeaten, key=lambda one: one.interval.estimate).baseline.projection_label
        if unbeaten
        else None
    )


def _unbeaten(against: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons in which a method is not shown to be ahead, but for those with parts of itself."""
    return [one for one in against if not _ahead(one) and not _is_part(one.baseline)]


def _is_part(method: Method) -> bool:
    """Say whether a method is shrinkage with less chosen: that it does as well takes nothing from shrinkage."""
    return method.projection == "fixed" or method.variant in (INTERVENTIONS, REPLACED)


def _unbeaten_draws(selections: Selections, method: Method, rule: str) -> list[str]:
    """Return the placebos with several draws that a method is not shown to be better than, by its rank among them."""
    ranked = {mean: p_of_draws(selections, rule, draws) for mean, draws in selections.draws.items()}
    of_method = [(mean, p) for mean, p in ranked.items() if mean.projection == method.projection]
    same = [(mean, p) for mean, p in of_method if selections.draws[mean][0].real == method]
    return [mean.projection_label for mean, p in same if p is not None and p > ALPHA]


def _ahead(one: Comparison) -> bool:
    return bool(one.adjusted.differs and one.interval.estimate > 0)


def _adjusted(verdicts: Sequence[Verdict], margin: float) -> list[Verdict]:
    """Return verdicts of the kind that their gain has once all gains are adjusted together."""
    gains = [one.gain.interval.p for one in verdicts if one.gain is not None]
    p = iter(holm(gains).tolist() if gains else ())
    done = []
    for one in verdicts:
        if one.gain is None:
            done.append(one)
            continue
        adjusted = replace(one.gain.adjusted, p=next(p), family=len(gains), margin=margin)
        moved = replace(one, gain=replace(one.gain, adjusted=adjusted))
        done.append(replace(moved, kind=_kind(moved)))
    return done


def _kind(one: Verdict) -> str:
    assert one.gain is not None
    k, n = one.plain_picks
    if n and k == n:
        return ALL_PLAIN
    if one.gain.interval.fewest < MIN_UNITS or np.isnan(one.gain.interval.p):
        return TOO_FEW
    if not one.gain.adjusted.differs:
        return NO_DIFFERENCE
    if one.gain.interval.estimate < 0:
        return HURTS
    if one.unbeaten is None:
        return HELPS
    of_baselines = any(not c.baseline.placebo for c in _unbeaten(one.against))
    return ONLY_AS_BASELINES if of_baselines else ONLY_AS_PLACEBOS


def _headline(verdicts: Sequence[Verdict]) -> str:
    """Return what all verdicts say together, random weights named first."""
    banner = next((one.setting.banner for one in verdicts if one.setting.random_weights), "")
    by_name: dict[str, list[Verdict]] = {}
    for one in verdicts:
        by_name.setdefault(one.name, []).append(one)
    if not by_name:
        return "Nothing to compare: there are no rows of CLIP-ICM or shrinkage beside plain prediction."
    parts = [_of_name(name, of_name) for name, of_name in by_name.items()]
    return f"{banner}{'; '.join(parts)}."


def _of_name(name: str, verdicts: Sequence[Verdict]) -> str:
    """Return what the verdicts on one method say together."""
    n = len(verdicts)
    if n == 1:
        return _alone(verdicts[0])
    counts = {kind: [one for one in verdicts if one.kind == kind] for kind in KINDS}
    helps = [one for kind in GAINS for one in counts[kind]]
    shown = {"helps": helps} | {kind: counts[kind] for kind in (HURTS, NO_DIFFERENCE, *_UNDECIDED)}
    words = [f"{kind} in {len(of_kind)}" for kind, of_kind in shown.items() if of_kind]
    words[0] += f" of {n}{_but(helps) if helps else ''}"
    unseen = [one.bound for one in counts[NO_DIFFERENCE]]
    below = f"below {max(unseen):.1f} points at 95 %, " if unseen and not helps else ""
    return f"{name}: {', '.join(words)} ({below}Holm)"


def _alone(one: Verdict) -> str:
    """Return the verdict on a method that has only this one."""
    name = f"{one.name} + {one.method.predictor_label}"
    if one.gain is None or one.kind in (ALL_PLAIN, TOO_FEW):
        return f"{name}: {one.kind}"
    if one.kind == NO_DIFFERENCE:
        return f"{name}: no difference found, below {one.bound:.1f} points at 95 %"
    points = f"{100 * one.gain.interval.estimate:+.1f} points, {_environments(one.gain)}"
    return f"{name} hurts ({points})" if one.kind == HURTS else f"{name} helps ({points}){_but([one])}"


def _but(helps: Sequence[Verdict]) -> str:
    """Return the strongest thing that gains do not beat; that nothing is left, where they beat all."""
    not_beaten = [str(one.unbeaten) for one in helps if one.unbeaten]
    if not not_beaten:
        return f" beyond {beaten}" if (beaten := _beaten_by_all(helps)) else ""
    commonest = max(dict.fromkeys(not_beaten), key=not_beaten.count)
    if len(helps) == 1:
        return f", but is not shown ahead of {commonest}"
    return f" ({len(not_beaten)} of them not shown ahead of {commonest})"


def _beaten_by_all(helps: Sequence[Verdict]) -> str:
    """Return in words what stood against every one of some gains, and was beaten; empty where nothing did."""
    against = [[c.baseline for c in one.against] for one in helps]
    words = {"PCA": lambda m: m.projection == "pca", "random": lambda m: m.projection == "random"}
    words["placebos"] = lambda m: m.placebo is not None
    there = [name for name, is_it in words.items() if all(any(map(is_it, baselines)) for baselines in against)]
    return " and ".join(filter(None, [", ".join(there[:-1]), *there[-1:]]))


def _said(one: Verdict) -> str:
    k, n = one.plain_picks
    name = one.name
    if one.gain is None:
        return f"nothing to compare {name} with: {one.why.rstrip('.')}."
    if one.kind == ALL_PLAIN:
        return f"{name} is plain prediction here: all {n} picks keep the full space."
    gain, shown = one.gain, _with_interval(one.gain)
    plain = f" It is plain in {k} of {n} picks." if k else ""
    if one.kind == TOO_FEW:
        fewest = gain.interval.fewest
        return f"too few images to say whether {name} helps ({shown}; an environment has {fewest}, {MIN_UNITS} needed)."
    if one.kind == NO_DIFFERENCE:
        apart = not gain.interval.low <= 0 <= gain.interval.high
        why = f"; p = {gain.adjusted.p:.2f} among {gain.adjusted.family} gains, Holm" if apart else ""
        return f"no difference found between {name} and plain ({shown}{why}): below {one.bound:.1f} points.{plain}"
    if one.kind == HURTS:
        return f"{name} hurts ({shown} against plain, {_environments(gain)}).{plain}"
    beaten = _beaten_by_all([one])
    but = f", but is not shown ahead of {one.unbeaten}" if one.unbeaten else f" beyond {beaten}" if beaten else ""
    return f"{name} helps{but} ({shown} against plain, {_environments(gain)}).{plain}"


def _environments(gain: Comparison) -> str:
    """Return for which environments a gain is shown, and in how many of them the method is ahead."""
    others = gain.others
    total = others.ahead + others.level + others.behind
    counts = f"in these environments, ahead in {others.ahead} of {total}"
    low = others.interval.low if others.interval is not None else np.nan
    high = others.interval.high if others.interval is not None else np.nan
    return f"{counts}, and in new environments" if low > 0 or high < 0 else counts


def _with_interval(gain: Comparison) -> str:
    interval = gain.interval
    words = f"{100 * interval.estimate:+.1f} points"
    if interval.same:
        return f"{words}, the same answers on all {interval.clusters:,}"
    if np.isnan(interval.low):
        return words
    return f"{words}, 95 % {100 * interval.low:+.1f} to {100 * interval.high:+.1f}"


def _points(value: float) -> float | None:
    return None if np.isnan(value) else round(100 * float(value), 6)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)


def counts_of(verdicts: Sequence[Verdict]) -> Mapping[str, int]:
    """Return kind -> number of verdicts of it, of the kinds that there are."""
    return {kind: n for kind in KINDS if (n := sum(one.kind == kind for one in verdicts))}
