"""The headline: how good plain prediction is, what methods make of it, and what explains that; at most 45 words."""

from collections import Counter
from collections.abc import Sequence

from benchmark.method.evaluation.judging import BALANCED_ONLY, HELPS, HURTS, METRIC_ONLY, NO_DIFFERENCE, TRADES
from benchmark.method.evaluation.metrics import ACCURACY, BALANCED
from reports.analysis.credit import ENVIRONMENTS, FIXED, INTERVENTIONS, SHRINKING
from reports.analysis.methods import SHRINKAGE, Method
from reports.analysis.verdicts import IS_PLAIN, Answer, Standing, Verdict

MAX_WORDS = 45
_NAMES = {
    (SHRINKAGE, ENVIRONMENTS): "shrinkage without interventions",
    (SHRINKAGE, INTERVENTIONS): "shrinkage by interventions alone",
    (FIXED, ""): "fixed shrinkage",
    ("isotropic", ""): "uniform shrinkage",
    ("isotropic_environments", ""): "uniform shrinkage of environments",
}
_CAUSES = {ENVIRONMENTS: "environment means", INTERVENTIONS: "interventions", SHRINKING: "shrinking, not cutting"}


def headline(answer: Answer) -> str:
    """Return the answer of a report in at most `MAX_WORDS` words: plain prediction first, then methods."""
    standings = [one for one in answer.standings if one.verdicts or one.plain == one.plain]
    if not standings:
        return "No accuracy can be given: there are bounds alone, or nothing that a fair rule chooses."
    banner = next((one.setting.banner for one in standings if one.setting.random_weights), "")
    verdicts = [one for standing in standings for one in standing.verdicts]
    sentences = [_plain(standings)]
    if verdicts:
        asked = _asked_about(verdicts)
        helping = [one for one in verdicts if one.kind in (HELPS, METRIC_ONLY)]
        best = max(helping, key=_gain, default=None)
        several = len(standings) > 1
        sentences.append(_alone(asked[0], several) if len(asked) == 1 else _together(asked))
        if best is not None and best.name != asked[0].name:
            others = [one for one in verdicts if one.name == best.name]
            sentences.append(_alone(best, several) if len(others) == 1 else _together(others))
        if best is not None:
            sentences.append(_explained(best))
    return banner + " ".join(filter(None, sentences))


def short_name(method: Method) -> str:
    """Return a method's name in plain words, as it stands within a sentence."""
    if method.imported:
        return method.predictor
    known = _NAMES.get((method.projection, method.variant)) or method.of_projection.short
    label = method.projection_label.partition(" (")[0]
    return known or (label if label[:2].isupper() or ":" in label else label[:1].lower() + label[1:])


def _plain(standings: Sequence[Standing]) -> str:
    first = standings[0]
    where = first.setting.protocol_class.holdouts_in_words
    known = [one for one in standings if one.plain == one.plain]
    if not known:
        return f"Plain prediction was not tested on all {where}."
    every = [one.metric.shown(one.plain) for one in known]
    alike = len({one.setting for one in known}) == 1
    if first.metric == ACCURACY:
        does, end = "gets", f" % of images of {where} right"
    else:
        does, end = f"has a {first.metric.title} of", f" on {where}"
    if len(known) == 1:
        return f"Plain {_predictor(known[0])} {does} {every[0]:.1f}{end}."
    if alike and len(known) == 2:
        both = " and ".join(f"{value:.1f} ({one.predictor})" for one, value in zip(known, every, strict=True))
        return f"Plain prediction {does} {both}{end}."
    low, high = f"{min(every):.1f}", f"{max(every):.1f}"
    return f"Over {_settings(standings)}, plain prediction {does} {low if low == high else f'{low} to {high}'}{end}."


def _predictor(standing: Standing) -> str:
    return "prediction" if standing.predictor == "zero-shot" else f"prediction by a {standing.predictor}"


def _settings(standings: Sequence[Standing]) -> str:
    counts = {
        "data set": len({one.setting.dataset for one in standings}),
        "encoder": len({one.setting.backbone for one in standings}),
        "predictor": len({one.predictor for one in standings}),
        "protocol": len({one.setting.protocol for one in standings}),
    }
    named = [f"{n} {name}s" for name, n in counts.items() if n > 1]
    return " and ".join(named) or f"{len(standings)} settings"


def _asked_about(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts on the method in question: what the user brought, else the paper's, else the first."""
    first = next((one for one in verdicts if one.method.brought), None)
    first = first or next((one for one in verdicts if one.method.is_paper), verdicts[0])
    return [one for one in verdicts if one.name == first.name]


def _gain(one: Verdict) -> float:
    return one.gain.interval.estimate if one.gain else 0.0


def _capital(words: str) -> str:
    return words if ":" in words else words[:1].upper() + words[1:]


def _alone(one: Verdict, several: bool) -> str:
    """Return what the only verdict on a method says."""
    name, gain, balanced = _capital(short_name(one.method)), one.gain, one.balanced
    if one.kind == IS_PLAIN:
        return f"{name} was never chosen over plain prediction."
    if gain is None or balanced is None or one.kind not in _ALONE:
        known = f" has {100 * one.accuracy:.1f} %;" if one.accuracy == one.accuracy else ":"
        return f"{name}{known} what it gains cannot be said."
    interval, shown = gain.interval, one.metric.shown
    return _ALONE[one.kind].format(
        name=name,
        what=one.method.predictor_label if several and not one.method.imported else "it",
        value=f"{shown(gain.accuracies[0]):.1f}",
        points=f"{shown(interval.estimate):+.1f}",
        ends=f"{shown(interval.low):.1f} to {shown(interval.high):.1f}",
        of_classes=f"{BALANCED.shown(balanced.interval.estimate):+.1f}",
    )


_ALONE = {
    HELPS: "{name} raises {what} to {value} % ({points}, {ends}).",
    METRIC_ONLY: "{name} raises {what} to {value} % ({points}, {ends}), but not averaged over classes.",
    BALANCED_ONLY: "{name} helps only averaged over classes ({of_classes}; over images {points}).",
    TRADES: "{name} trades images for classes: {points} over images, {of_classes} averaged over classes.",
    HURTS: "{name} lowers {what} to {value} % ({points}, {ends}).",
    NO_DIFFERENCE: "{name} makes no measurable difference ({value} %).",
}
_IN_SEVERAL = {
    HELPS: "helps",
    METRIC_ONLY: "helps, but not averaged over classes,",
    BALANCED_ONLY: "helps only averaged over classes",
    TRADES: "trades images for classes",
    HURTS: "hurts",
    NO_DIFFERENCE: "makes no measurable difference",
    IS_PLAIN: "is never chosen",
}


def _together(verdicts: Sequence[Verdict]) -> str:
    """Return what several verdicts on a method say."""
    name, n = _capital(short_name(verdicts[0].method)), len(verdicts)
    counts = Counter(_IN_SEVERAL.get(one.kind, "cannot be judged") for one in verdicts)
    if len(counts) == 1:
        none = verdicts[0].kind in (NO_DIFFERENCE, IS_PLAIN)
        every = f"any of {n} settings" if none else f"all {n} settings"
        both = "either" if none else "both"
        return f"{name} {next(iter(counts))} in {both if n == 2 else every}."
    ordered = [f"{said} in {k}" for said, k in counts.most_common()]
    return f"{name} {', '.join(ordered[:-1])} and {ordered[-1]} of {n} settings."


def _explained(one: Verdict) -> str:
    """Return what explains a gain; nothing where it was not asked."""
    asked = {question.name: question for question in one.questions if not question.missing}
    yes = [_CAUSES[name] for name, question in asked.items() if question.yes]
    if not asked:
        return ""
    if not yes:
        return "What explains the gain is not shown."
    without = (
        "; interventions are not shown to add to it" if INTERVENTIONS in asked and not asked[INTERVENTIONS].yes else ""
    )
    return f"{_capital(' and '.join(yes))} explain the gain{without}."
