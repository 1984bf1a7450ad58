"""Verdicts in plain words: the headline, what a method does, what explains it, how far that can be trusted."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from benchmark.method.evaluation.metrics import ACCURACY, BALANCED, Metric
from benchmark.method.evaluation.multiple_testing import BALANCED_ONLY, HELPS, HURTS, METRIC_ONLY, NO_DIFFERENCE, TRADES
from benchmark.method.evaluation.other_environments import MIN_ENVIRONMENTS
from reports.analysis.comparisons import Comparison, Overall
from reports.analysis.findings import ENVIRONMENTS, FIXED, INTERVENTIONS, SHRINKING, Question
from reports.analysis.methods import SHRINKAGE, Method
from reports.analysis.settings import grouped
from reports.analysis.verdicts import IS_PLAIN, MIN_IMAGES, UNSAID, Answer, Standing, Verdict, best_of

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


NARROW = "Intervals for new environments are too narrow, for groups of images stand in several."
ENDS = "({} to {})"  # of an interval, behind a difference
_POINTS = (" points", "(95 % interval {} to {})")


def p_words(p: float) -> str:
    """Return "p = 0.012", or "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def with_ends(one: Comparison | Overall, metric: Metric = ACCURACY, unit: str = "", ends: str = "[{}, {}]") -> str:
    """Return a difference with the ends of its interval, "+1.0 [-0.5, +2.5]"; without, where it has none."""
    interval = one.interval
    points, low, high = (f"{metric.shown(value):+.1f}" for value in (interval.estimate, interval.low, interval.high))
    return f"{points}{unit} {ends.format(low, high)}" if interval.standard_error > 0 else f"{points}{unit}"


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
        longer = f"{words} {sentence} {waiting}".split()
        if sum(any(map(str.isalnum, word)) for word in longer) > MAX_WORDS:
            return f"{words} {waiting}".rstrip()
        words = f"{words} {sentence}"
    return words


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
    groups = grouped(about, lambda one: one.name)
    said = [_together(group, total) for group in groups.values()]
    fixed = [one for one in verdicts if one.method.projection == FIXED and one.name not in groups]
    harm = _together(fixed, total) if any(one.kind == HURTS for one in fixed) else ""
    if best is None:
        return said, harm, []
    who, why = capital(short_name(best.method)), explained(best.questions)
    if best.name == list(groups)[-1] and not harm:
        who = "It"
    else:
        why = why.replace(" gain", f" gain of {short_name(best.method)}", 1)
    alone = len(groups[best.name]) == 1  # else it may be so in one setting only
    return said, harm, [level(best, who) if alone else "", why]


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
    """Return what all verdicts on a method say; of those without a difference nothing where others have one."""
    name, n = capital(short_name(verdicts[0].method)), len(verdicts)
    if n == 1:
        return _alone(verdicts[0], total > 1)
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


def sentence(one: Verdict) -> str:
    """Return all that a verdict says in short sentences: setting, outcome, cause, and how far it can be trusted."""
    narrow = NARROW if one.setting.grouped and one.in_new else ""
    few = few_images([one]) if one.images < MIN_IMAGES else ""
    said = [outcome(one), cause(one), *trust(one), *frequencies(one), narrow, few]
    return f"{one.setting.banner}{one.where}: {' '.join(filter(None, said))}"


def outcome(one: Verdict) -> str:
    """Return what a method does, with accuracies, gain and interval."""
    name, known = capital(short_name(one.method)), f"{100 * one.accuracy:.1f} %"
    if one.gain is None or one.balanced is None or one.kind == UNSAID:
        own = f"{name} has no accuracy, and" if np.isnan(one.accuracy) else f"{name} has {known};"
        return f"{own} what it gains cannot be said: {one.why}."
    if one.kind == IS_PLAIN:
        return f"{name} {KIND_WORDS[IS_PLAIN]}, and has its {known}."
    ours, plain = (f"{one.metric.shown(value):.1f}" for value in one.gain.accuracies)
    unit = "%" if one.metric == ACCURACY else f"% {one.metric.title}"
    points = with_ends(one.gain, one.metric, *_POINTS)
    does = f"{name} {KIND_WORDS[one.kind]}: {ours} instead of {plain} {unit}, {points}"
    counted = f"with classes counted equally {with_ends(one.balanced, BALANCED, ends=ENDS)}"
    return f"{does}; {counted}. It is ahead in {ahead(one)} environments."


def ahead(one: Verdict) -> str:
    """Return "4 of 6": in how many held-out environments a method is ahead; nothing without a gain."""
    return f"{one.gain.others.ahead} of {len(one.gain.held_outs)}" if one.gain else ""


def cause(one: Verdict) -> str:
    """Return what explains a gain, and what the method is not ahead of; nothing where no gain is shown."""
    words, missing = explained(one.questions), " and ".join(CAUSES[q.name] for q in one.questions if q.missing)
    not_asked = f"For want of rows it was not asked of {missing}." if words and missing else ""
    return " ".join(filter(None, [words, not_asked, level(one, "The method")]))


def trust(one: Verdict) -> list[str]:
    """Return sentences on choices and on new environments; none without a gain."""
    if one.gain is None or one.kind == UNSAID:
        return []
    (k, n), shown, new, said = one.plain_picks, one.metric.shown, one.in_new, []
    if one.kind == NO_DIFFERENCE:
        adjusted = f" (a bound that is adjusted for the {one.family} gains of this report)" if one.family > 1 else ""
        said.append(f"Any difference is below {one.bound:.1f} points{adjusted}.")
    if k and one.kind != IS_PLAIN:
        said.append(f"Plain prediction is kept in {k} of {n} choices.")
    if k and one.ungated is not None and one.ungated.rule != one.rule:
        gain = f"the gain of {short_name(one.method)} is {shown(one.ungated.interval.estimate):+.1f} points"
        said.append(f"Without a preference for plain prediction {gain}.")
    if one.kind != IS_PLAIN and new is not None and new.standard_error > 0:
        none = "" if one.holds_in_new or one.kind == NO_DIFFERENCE else "; a gain there is not established"
        between = f"between {shown(new.low):+.1f} and {shown(new.high):+.1f} points"
        said.append(f"Over new environments of this kind the mean gain lies {between}{none}.")
    return said


def frequencies(one: Verdict) -> list[str]:
    """Return how often a wrong class is predicted too often, where the two accuracies of a gain differ."""
    before, after = one.shares
    if one.kind not in (METRIC_ONLY, BALANCED_ONLY, TRADES) or before is None or after is None:
        return []
    return [
        f"For classes to be predicted as often as they occur, {100 * before:.0f} % of plain predictions would have to "
        f"change, and {100 * after:.0f} % of this method's."
    ]


def few_images(verdicts: Iterable[Verdict]) -> str:
    """Return how many images a fit has for each dimension; nothing where that is unknown."""
    known = [one.images for one in verdicts if not np.isnan(one.images)]
    if not known:
        return ""
    few = f"; with fewer than {MIN_IMAGES}, choices were found to harm" if min(known) < MIN_IMAGES else ""
    return f"A fit has {min(known):.1f} images for each dimension of the embeddings{few}."


def intervals(answer: Answer) -> list[str]:
    """Return what holds for the intervals of all verdicts, each sentence once; nothing without a gain."""
    gains = [(one, one.gain) for one in answer.verdicts if one.gain is not None and one.kind not in (UNSAID, IS_PLAIN)]
    if not gains:
        return []
    one_seed = any(len(gain.seeds) == 1 for _, gain in gains)
    seeds = f"other seeds of the split are {'not ' if one_seed else ''}counted in"
    said = [f"Intervals (95 %) are for other images of these environments; {seeds}."]
    if all(one.in_new is None for one, _ in gains):
        shared = any(gain.shared for _, gain in gains)
        why = "what is held out has images in common" if shared else f"that takes {MIN_ENVIRONMENTS} held-out ones"
        said.append(f"Nothing can be said of new environments: {why}.")
    said += [NARROW] if any(one.setting.grouped and one.in_new for one, _ in gains) else []
    said += filter(None, (one.setting.protocol_class.interval_note for one, _ in gains))
    return [*dict.fromkeys(said), *filter(None, [few_images(one for one, _ in gains)])]


def compared(one: Comparison) -> str:
    """Return the comparison of two methods that a reader asks for."""
    return f"{capital(pair_name(one))}: {with_ends(one, ACCURACY, *_POINTS)}."


def left_out(answer: Answer) -> list[str]:
    """Return sentences on what has no verdict."""
    said = []
    for setting, method in answer.left_out:
        words = f"{setting.title}: there is no method to be judged."
        if method is not None:
            where = f"{setting.dataset}, {setting.backbone_label}{setting.half_words}"
            words = f"{where}: a {method.predictor_label} cannot predict new classes, and is left out."
        said.append(words)
    return list(dict.fromkeys(said))
