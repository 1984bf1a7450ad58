"""The headline: how good plain prediction is, what methods make of it, and what explains that; at most 45 words."""

from collections import Counter
from collections.abc import Sequence

from benchmark.method.evaluation.judging import BALANCED_ONLY, HELPS, HURTS, METRIC_ONLY, NO_DIFFERENCE, TRADES
from benchmark.method.evaluation.metrics import ACCURACY, BALANCED
from reports.analysis.comparisons import Comparison
from reports.analysis.findings import ENVIRONMENTS, FIXED, INTERVENTIONS, SHRINKING, Question
from reports.analysis.methods import SHRINKAGE, Method
from reports.analysis.verdicts import IS_PLAIN, UNSAID, Answer, Standing, Verdict, best_of

MAX_WORDS = 45
_DIFFER = ("data set", "encoder", "predictor", "protocol")  # in which settings do
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
    ("isotropic", ""): "uniform shrinkage",
    ("isotropic_environments", ""): "uniform shrinkage of environments",
}
CAUSES = {ENVIRONMENTS: "environment averages", INTERVENTIONS: "interventions", SHRINKING: "shrinking, not cutting"}


def headline(answer: Answer) -> str:
    """Return the answer of a report in at most `MAX_WORDS` words.

    Plain prediction comes first, then the methods in question, then what does best if that is another, then whether
    fixed shrinkage hurts, then what explains the gain. What does not fit is left out from the end, but for the harm.
    """
    standings = [one for one in answer.standings if one.verdicts or one.plain == one.plain]
    if not standings:
        return "No accuracy can be given: there are bounds alone, or nothing that a fair rule chooses."
    words = next((one.setting.banner for one in standings if one.setting.random_weights), "") + _plain(standings)
    verdicts = [one for standing in standings for one in standing.verdicts]
    methods, harm, causes = _of_methods(verdicts, len(standings)) if verdicts else ([], "", [])
    for sentence in filter(None, [*methods, harm, *causes]):
        waiting = "" if sentence == harm or harm in words else harm
        if count_words(f"{words} {sentence} {waiting}") > MAX_WORDS:
            return f"{words} {waiting}".rstrip()
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
    name = method.projection_label.partition(" (")[0]
    name = name if name[:2].isupper() or ":" in name else name[:1].lower() + name[1:]
    name = name if method.brought else method.of_projection.short or name
    more = ", ".join(filter(None, [method.variant, "released order" if method.order == "released" else ""]))
    return f"{name} ({more})" if more else name


def pair_name(one: Comparison) -> str:
    """Return "CLIP-ICM minus PCA"; with predictors, where the projection is the same or plain prediction is one."""
    names = [short_name(one.method), short_name(one.baseline)]
    if names[0] == names[1] or one.method.is_plain or one.baseline.is_plain:
        names = [one.method.label, one.baseline.label]
    return " minus ".join(names)


def capital(words: str) -> str:
    """Return words as a sentence begins with them; the place of a class stays as it is."""
    return words if ":" in words else words[:1].upper() + words[1:]


def explained(questions: Sequence[Question]) -> str:
    """Return what a gain is not reached without; nothing where it was not asked."""
    shown = {question.name: question.yes for question in questions if not question.missing}
    if not any(shown.values()):
        return "What explains the gain is not shown." if shown else ""
    needs = " and ".join(CAUSES[name] for name, yes in shown.items() if yes)
    return f"The gain needs {needs}{'' if shown.get(INTERVENTIONS, True) else '; interventions are not shown to add'}."


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


def _of_methods(verdicts: Sequence[Verdict], total: int) -> tuple[list[str], str, list[str]]:
    """Return sentences on each method in question, on harm by fixed shrinkage, and on the cause of the largest gain."""
    about, best = in_question(verdicts), best_of(verdicts)
    groups: dict[str, list[Verdict]] = {}
    for one in about:
        groups.setdefault(one.name, []).append(one)
    said = [_of_one(group, total) for group in groups.values()]
    fixed = [one for one in verdicts if one.method.projection == FIXED and one.name not in groups]
    harm = _of_one(fixed, total) if any(one.kind == HURTS for one in fixed) else ""
    if best is None:
        return said, harm, []
    who, why = capital(short_name(best.method)), explained(best.questions)
    if best.name == list(groups)[-1] and not harm:
        who = "It"
    else:
        why = why.replace(" gain", f" gain of {short_name(best.method)}", 1)
    alone = len(groups[best.name]) == 1  # else it may be so in one setting only
    return said, harm, [level(best, who) if alone else "", why]


def _of_one(verdicts: Sequence[Verdict], total: int) -> str:
    """Return what is said of one method."""
    return _alone(verdicts[0], total > 1) if len(verdicts) == 1 else _together(verdicts, total)


def _plain(standings: Sequence[Standing]) -> str:
    """Return how good plain prediction is: with one predictor, with two in the same setting, or over all of them."""
    setting, metric = standings[0].setting, standings[0].metric
    where = setting.protocol_class.holdouts_in_words
    known = [(one, one.metric.shown(one.plain)) for one in standings if one.plain == one.plain]
    if not known:
        return f"Plain prediction was not tested on all {where}."
    does, unit, end = f"has a {metric.title} of", "", f" on {where}"
    if metric == ACCURACY:
        does, unit, end = "gets", " %", f" of images of {where} right"
    if len(known) == 1:
        [(one, value)] = known
        by = "" if one.predictor == "zero-shot" else f" by a {one.predictor}"
        return f"Plain prediction{by} {does} {value:.1f}{unit}{end}."
    if len(known) == 2 and len({one.setting for one, _ in known}) == 1:
        both = " and ".join(f"{value:.1f}{unit} ({one.predictor})" for one, value in known)
        return f"Plain prediction {does} {both}{end}."
    values = [value for _, value in known]
    span = " to ".join(dict.fromkeys(f"{value:.1f}" for value in (min(values), max(values))))
    told = [(s.dataset, s.backbone, one.predictor, s.protocol) for one in standings for s in [one.setting]]
    counts = [len(set(column)) for column in zip(*told, strict=True)]
    differ = [f"{n} {what}s" for n, what in zip(counts, _DIFFER, strict=True) if n > 1]
    settings = " and ".join(filter(None, [", ".join(differ[:-1]), *differ[-1:]])) or f"{len(standings)} settings"
    return f"Over {settings}, plain prediction {does} {span}{unit}{end}."


def _alone(one: Verdict, several: bool) -> str:
    """Return what the only verdict on a method says."""
    name, gain, balanced = capital(short_name(one.method)), one.gain, one.balanced
    if gain is None or balanced is None or one.kind == UNSAID:
        known = f" has {100 * one.accuracy:.1f} %;" if one.accuracy == one.accuracy else ":"
        return f"{name}{known} what it gains cannot be said."
    interval, shown = gain.interval, one.metric.shown
    points, of_classes = shown(interval.estimate), BALANCED.shown(balanced.interval.estimate)
    what = one.method.predictor_label if several and not one.method.imported else "it"
    value = f"{shown(gain.accuracies[0]):.1f} %"
    to = f"{what} to {value} ({points:+.1f} points, {shown(interval.low):.1f} to {shown(interval.high):.1f})"
    counted = "with classes counted equally"
    both = f"{counted} ({of_classes:+.1f} points; over images {points:+.1f})."
    over_images, over_classes = (f"{'gains' if x > 0 else 'loses'} {abs(x):.1f}" for x in (points, of_classes))
    said = {
        HELPS: f"raises {to}.",
        METRIC_ONLY: f"raises {to}, but not {counted}.",
        BALANCED_ONLY: f"helps only {both}",
        TRADES: f"{over_images} points over images but {over_classes} {counted}.",
        HURTS: f"lowers {to}." if interval.high < 0 else f"hurts {both}",  # else not shown by accuracy
        NO_DIFFERENCE: f"{KIND_WORDS[NO_DIFFERENCE]} ({value}).",
        IS_PLAIN: f"{KIND_WORDS[IS_PLAIN]}.",
    }
    return f"{name} {said[one.kind]}"


def _together(verdicts: Sequence[Verdict], total: int) -> str:
    """Return what several verdicts on a method say; of those without a difference nothing where others have one."""
    name, n = capital(short_name(verdicts[0].method)), len(verdicts)
    counts = dict(Counter(one.kind for one in verdicts).most_common())
    shown = {kind: k for kind, k in counts.items() if kind not in (NO_DIFFERENCE, IS_PLAIN)}
    if len(counts) == 1:
        none = verdicts[0].kind in (NO_DIFFERENCE, IS_PLAIN, UNSAID)
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
