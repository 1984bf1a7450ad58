"""The headline: how good plain prediction is, what methods make of it, and what explains that; at most 45 words."""

from collections import Counter
from collections.abc import Sequence

from benchmark.method.evaluation.judging import BALANCED_ONLY, HELPS, HURTS, METRIC_ONLY, NO_DIFFERENCE, TRADES
from benchmark.method.evaluation.metrics import ACCURACY, BALANCED
from reports.analysis.comparisons import Comparison
from reports.analysis.credit import ENVIRONMENTS, FIXED, INTERVENTIONS, SHRINKING, Question
from reports.analysis.methods import SHRINKAGE, Method
from reports.analysis.verdicts import IS_PLAIN, UNSAID, Answer, Standing, Verdict, best_of

MAX_WORDS = 45
KIND_WORDS = {  # of a verdict, behind the name of its method
    HELPS: "helps",
    METRIC_ONLY: "helps, but not with classes counted equally",
    BALANCED_ONLY: "helps only with classes counted equally",
    TRADES: "helps by one accuracy and hurts by the other",
    HURTS: "hurts",
    NO_DIFFERENCE: "makes no measurable difference",
    IS_PLAIN: "is never chosen over plain prediction",
    UNSAID: "cannot be judged",
}
_NAMES = {
    (SHRINKAGE, ENVIRONMENTS): "shrinkage without interventions",
    (SHRINKAGE, INTERVENTIONS): "shrinkage by interventions alone",
    (FIXED, ""): "fixed shrinkage",
    ("isotropic", ""): "uniform shrinkage",
    ("isotropic_environments", ""): "uniform shrinkage of environments",
}
_NOTHING = (NO_DIFFERENCE, IS_PLAIN)
CAUSES = {ENVIRONMENTS: "environment averages", INTERVENTIONS: "interventions", SHRINKING: "shrinking, not cutting"}


def headline(answer: Answer) -> str:
    """Return the answer of a report in at most `MAX_WORDS` words.

    Plain prediction comes first, then the methods in question, then what does best if that is another, then what
    explains its gain. What does not fit is left out from the end.
    """
    standings = [one for one in answer.standings if one.verdicts or one.plain == one.plain]
    if not standings:
        return "No accuracy can be given: there are bounds alone, or nothing that a fair rule chooses."
    words = next((one.setting.banner for one in standings if one.setting.random_weights), "") + _plain(standings)
    verdicts = [one for standing in standings for one in standing.verdicts]
    sentences = _of_methods(verdicts, len(standings)) if verdicts else []
    for sentence in filter(None, sentences):
        if count_words(f"{words} {sentence}") > MAX_WORDS:
            break
        words = f"{words} {sentence}"
    return words


def count_words(text: str) -> int:
    """Return the number of words and numbers in a text."""
    return sum(any(map(str.isalnum, word)) for word in text.split())


def short_name(method: Method) -> str:
    """Return a method's name in plain words, as it stands within a sentence; what a user brings has its own."""
    if method.imported:
        return method.predictor
    if known := _NAMES.get((method.projection, method.variant)):
        return known
    label = method.projection_label.partition(" (")[0]
    label = label if label[:2].isupper() or ":" in label else label[:1].lower() + label[1:]
    of_more = [method.variant, "released order" if method.order == "released" else ""]
    more = ", ".join(filter(None, of_more))
    name = label if method.brought else method.of_projection.short or label
    return f"{name} ({more})" if more else name


def pair_name(one: Comparison) -> str:
    """Return "CLIP-ICM minus PCA"; with predictors, where the projection is the same or plain prediction is one."""
    both = (one.method, one.baseline)
    names = [short_name(method) for method in both]
    if names[0] == names[1] or any(method.is_plain for method in both):
        names = [method.label for method in both]
    return " minus ".join(names)


def capital(words: str) -> str:
    """Return words as a sentence begins with them; the place of a class stays as it is."""
    return words if ":" in words else words[:1].upper() + words[1:]


def explained(questions: Sequence[Question]) -> str:
    """Return what a gain is not reached without; nothing where it was not asked."""
    found = {question.name: question for question in questions if not question.missing}
    yes = [CAUSES[name] for name, question in found.items() if question.yes]
    if not found:
        return ""
    if not yes:
        return "What explains the gain is not shown."
    not_shown = INTERVENTIONS in found and not found[INTERVENTIONS].yes
    return f"The gain needs {' and '.join(yes)}{'; interventions are not shown to add' if not_shown else ''}."


def level(one: Verdict, who: str) -> str:
    """Return which baselines a method that helps is not shown to be ahead of; nothing where it is ahead of all."""
    if one.kind not in (HELPS, METRIC_ONLY):
        return ""
    baselines = [c for c in one.others if c.baseline.of_projection.role == "baseline" and not c.interval.low > 0]
    names = " or ".join(dict.fromkeys(short_name(c.baseline) for c in baselines))
    return f"{who} is not shown to be ahead of {names}." if names else ""


def in_question(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts that a headline is about.

    First on what the reader brought or named, then on the paper's method, else on the first; then on what helps most.
    """
    about, best = [one for one in verdicts if one.asked], best_of(verdicts)
    about += [one for one in verdicts if one.method.is_paper and not one.asked]
    about = about or [one for one in verdicts if one.name == verdicts[0].name]
    more = best is not None and best.name not in {one.name for one in about}
    return [*about, *(one for one in verdicts if more and best and one.name == best.name)]


def _of_methods(verdicts: Sequence[Verdict], total: int) -> list[str]:
    """Return a sentence on each method in question, and on the cause of the largest gain."""
    about, best = in_question(verdicts), best_of(verdicts)
    named = dict.fromkeys(one.name for one in about)
    groups = [[one for one in about if one.name == name] for name in named]
    said = [_alone(group[0], total > 1) if len(group) == 1 else _together(group, total) for group in groups]
    if best is None:
        return said
    last, name = best.name == list(named)[-1], short_name(best.method)
    why = explained(best.questions) if last else explained(best.questions).replace(" gain", f" gain of {name}", 1)
    alone = sum(one.name == best.name for one in about) == 1  # else it may be so in one setting only
    return [*said, level(best, "It" if last else capital(name)) if alone else "", why]


def _plain(standings: Sequence[Standing]) -> str:
    first = standings[0]
    where = first.setting.protocol_class.holdouts_in_words
    known = [one for one in standings if one.plain == one.plain]
    if not known:
        return f"Plain prediction was not tested on all {where}."
    every = [one.metric.shown(one.plain) for one in known]
    alike = len({one.setting for one in known}) == 1
    if first.metric == ACCURACY:
        does, unit, end = "gets", " %", f" of images of {where} right"
    else:
        does, unit, end = f"has a {first.metric.title} of", "", f" on {where}"
    if len(known) == 1:
        by = "" if known[0].predictor == "zero-shot" else f" by a {known[0].predictor}"
        return f"Plain prediction{by} {does} {every[0]:.1f}{unit}{end}."
    if alike and len(known) == 2:
        both = " and ".join(f"{value:.1f}{unit} ({one.predictor})" for one, value in zip(known, every, strict=True))
        return f"Plain prediction {does} {both}{end}."
    span = " to ".join(dict.fromkeys(f"{value:.1f}" for value in (min(every), max(every))))
    return f"Over {_settings(standings)}, plain prediction {does} {span}{unit}{end}."


def _settings(standings: Sequence[Standing]) -> str:
    counts = {
        "data set": len({one.setting.dataset for one in standings}),
        "encoder": len({one.setting.backbone for one in standings}),
        "predictor": len({one.predictor for one in standings}),
        "protocol": len({one.setting.protocol for one in standings}),
    }
    named = [f"{n} {name}s" for name, n in counts.items() if n > 1]
    return " and ".join(filter(None, [", ".join(named[:-1]), *named[-1:]])) or f"{len(standings)} settings"


def _alone(one: Verdict, several: bool) -> str:
    """Return what the only verdict on a method says."""
    name, gain, balanced = capital(short_name(one.method)), one.gain, one.balanced
    if gain is None or balanced is None or one.kind not in _ALONE:
        known = f" has {100 * one.accuracy:.1f} %;" if one.accuracy == one.accuracy else ":"
        return f"{name}{known} what it gains cannot be said."
    interval, shown = gain.interval, one.metric.shown
    kind = _BY_CLASSES if one.kind == HURTS and not interval.high < 0 else one.kind
    points, of_classes = shown(interval.estimate), BALANCED.shown(balanced.interval.estimate)
    return _ALONE[kind].format(
        name=name,
        what=one.method.predictor_label if several and not one.method.imported else "it",
        value=f"{shown(gain.accuracies[0]):.1f}",
        points=f"{points:+.1f}",
        ends=f"{shown(interval.low):.1f} to {shown(interval.high):.1f}",
        of_classes=f"{of_classes:+.1f}",
        up="gains" if points > 0 else "loses",
        size=f"{abs(points):.1f}",
        down="gains" if of_classes > 0 else "loses",
        size_of_classes=f"{abs(of_classes):.1f}",
    )


_BY_CLASSES = "hurts with classes counted equally"  # not shown by accuracy
_ALONE = {
    HELPS: "{name} raises {what} to {value} % ({points} points, {ends}).",
    METRIC_ONLY: "{name} raises {what} to {value} % ({points} points, {ends}), but not with classes counted equally.",
    BALANCED_ONLY: "{name} helps only with classes counted equally ({of_classes} points; over images {points}).",
    TRADES: "{name} {up} {size} points over images but {down} {size_of_classes} with classes counted equally.",
    HURTS: "{name} lowers {what} to {value} % ({points} points, {ends}).",
    _BY_CLASSES: "{name} hurts with classes counted equally ({of_classes} points; over images {points}).",
    NO_DIFFERENCE: "{name} makes no measurable difference ({value} %).",
    IS_PLAIN: "{name} is never chosen over plain prediction.",
}


def _together(verdicts: Sequence[Verdict], total: int) -> str:
    """Return what several verdicts on a method say; of those without a difference nothing where others have one."""
    name, n = capital(short_name(verdicts[0].method)), len(verdicts)
    counts = Counter(one.kind for one in verdicts)
    shown = {kind: k for kind, k in counts.most_common() if kind not in _NOTHING}
    if len(counts) == 1:
        none = verdicts[0].kind in (*_NOTHING, UNSAID)
        where = f"the {n} settings that have it" if n < total else f"{'any of' if none else 'all'} {n} settings"
        both = "either" if none else "both"
        return f"{name} {_within(verdicts[0].kind)} in {both if n == total == 2 else where}."
    if len(shown) == 1:
        [(kind, k)] = shown.items()
        words, _, but = KIND_WORDS[kind].partition(", ")
        return f"{name} {words} in {k} of {n} settings{f', {but}' if but else ''}."
    ordered = [f"{_within(kind)} in {k}" for kind, k in (shown or counts).items()]
    return f"{name} {', '.join(ordered[:-1])} and {ordered[-1]} of {n} settings."


def _within(kind: str) -> str:
    """Return the words of a kind as they stand within a sentence."""
    return f"{words}," if "," in (words := KIND_WORDS[kind]) else words
