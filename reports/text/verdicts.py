"""Verdicts as sentences: headline, outcome, attribution of the gain, and reliability."""
# The golden files in tests/reports/golden/answers have these sentences; tests/reports/text/test_answers.py writes them.

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from benchmark.method.evaluation.metrics import ACCURACY, BALANCED, Metric
from benchmark.method.evaluation.multiple_testing import BALANCED_ONLY, HELPS, HURTS, METRIC_ONLY, NO_DIFFERENCE, TRADES
from benchmark.method.evaluation.other_environments import MIN_ENVIRONMENTS
from reports.analysis.comparisons import Comparison, Overall
from reports.analysis.findings import ENVIRONMENTS, FIXED, INTERVENTIONS, SHRINKING, Question
from reports.analysis.settings import grouped
from reports.analysis.verdicts import IS_PLAIN, NO_VERDICT, Answer, Standing, Verdict, best_of

MAX_WORDS = 45
_DIFFER = ("data set", "encoder", "predictor", "protocol")  # fields in which settings differ
# `KINDS` of benchmark/method/evaluation/multiple_testing.py has the first six kinds, reports/analysis/verdicts.py the
# last two. A new kind also needs an entry in docs/report.md.
KIND_WORDS = {  # kind of a verdict -> predicate of a sentence about its method
    HELPS: "helps",
    METRIC_ONLY: "helps, but not with classes counted equally",
    BALANCED_ONLY: "helps only with classes counted equally",
    TRADES: "helps by one accuracy and hurts by the other",
    HURTS: "hurts",
    NO_DIFFERENCE: "makes no measurable difference",
    IS_PLAIN: "is never chosen over plain prediction",
    NO_VERDICT: "cannot be judged",
}
CAUSES = {ENVIRONMENTS: "environment averages", INTERVENTIONS: "interventions", SHRINKING: "shrinking, not cutting"}


NARROW = "Intervals for new environments are too narrow, because groups of images occur in several environments."
INTERVAL_TEXT = "({} to {})"  # format of an interval after a difference
_POINTS = (" points", "(95 % interval {} to {})")


def p_words(p: float) -> str:
    """Return a p-value as "p = 0.012" or "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def with_interval(one: Comparison | Overall, metric: Metric = ACCURACY, unit: str = "", ends: str = "[{}, {}]") -> str:
    """Return a difference with its interval, "+1.0 [-0.5, +2.5]"; without an interval, only the difference."""
    interval = one.interval
    points, low, high = (f"{metric.shown(value):+.1f}" for value in (interval.estimate, interval.low, interval.high))
    return f"{points}{unit} {ends.format(low, high)}" if interval.standard_error > 0 else f"{points}{unit}"


def headline(answer: Answer) -> str:
    """Return the answer of a report in at most `MAX_WORDS` words.

    The sentences are on plain prediction, the methods in question, the best other method, harm by fixed shrinkage, and
    the attribution of the gain. If they are too long, the last ones are dropped, but never the sentence on harm.
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


def pair_name(one: Comparison) -> str:
    """Return "CLIP-ICM minus PCA"; with predictors if the names are equal or one method is plain prediction."""
    names = [one.method.name_in_sentence, one.baseline.name_in_sentence]
    if names[0] == names[1] or one.method.is_plain or one.baseline.is_plain:
        names = [one.method.label, one.baseline.label]
    return " minus ".join(names)


def capital(words: str) -> str:
    """Return words with a capital first letter; a class given as `module:Class` is unchanged."""
    return words if ":" in words else words[:1].upper() + words[1:]


def explained(questions: Sequence[Question]) -> str:
    """Return a sentence on the components that a gain needs; empty if no question was tested."""
    shown = {question.name: question.yes for question in questions if not question.missing}
    if not any(shown.values()):
        return "What explains the gain is not shown." if shown else ""
    needs = " and ".join(CAUSES[name] for name, yes in shown.items() if yes)
    return f"The gain needs {needs}{'' if shown.get(INTERVENTIONS, True) else '; interventions are not shown to add'}."


def not_ahead_of(one: Verdict, who: str) -> str:
    """Return a sentence on the baselines that a method with a gain does not significantly beat.

    It is empty if there is no gain or no such baseline.
    """
    if one.kind not in (HELPS, METRIC_ONLY):
        return ""
    baselines = [c for c in one.others if c.baseline.of_projection.role == "baseline" and not c.interval.low > 0]
    names = " or ".join(dict.fromkeys(c.baseline.name_in_sentence for c in baselines))
    return f"{who} is not shown to be ahead of {names}." if names else ""


def in_question(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts that the headline is about.

    The user's own and requested methods come first, then the paper's method. If there are none of these, the first
    method is taken. The method with the largest gain is added.
    """
    about, best = [one for one in verdicts if one.requested], best_of(verdicts)
    about += [one for one in verdicts if one.method.is_paper and not one.requested]
    about = about or [one for one in verdicts if one.method.name == verdicts[0].method.name]
    more = best is not None and best.method.name not in {one.method.name for one in about}
    return [*about, *(one for one in verdicts if more and best and one.method.name == best.method.name)]


def _of_methods(verdicts: Sequence[Verdict], total: int) -> tuple[list[str], str, list[str]]:
    """Return sentences on each method in question, on harm by fixed shrinkage, and on the attribution of the gain."""
    about, best = in_question(verdicts), best_of(verdicts)
    groups = grouped(about, lambda one: one.method.name)
    outcomes = [_together(group, total) for group in groups.values()]
    fixed = [one for one in verdicts if one.method.projection == FIXED and one.method.name not in groups]
    harm = _together(fixed, total) if any(one.kind == HURTS for one in fixed) else ""
    if best is None:
        return outcomes, harm, []
    who, why = best.method.name, explained(best.questions)
    if best.method.name == list(groups)[-1] and not harm:
        who = "It"
    else:
        why = why.replace(" gain", f" gain of {best.method.name_in_sentence}", 1)
    alone = len(groups[best.method.name]) == 1  # with several settings it may hold in one only
    return outcomes, harm, [not_ahead_of(best, who) if alone else "", why]


def _plain(standings: Sequence[Standing]) -> str:
    """Return a sentence on plain prediction: one predictor, two in the same setting, or the range over settings."""
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
    fields = [(s.dataset, s.backbone, one.predictor, s.protocol) for one in standings for s in [one.setting]]
    counts = [len(set(column)) for column in zip(*fields, strict=True)]
    differ = [f"{n} {what}s" for n, what in zip(counts, _DIFFER, strict=True) if n > 1]
    settings = " and ".join(filter(None, [", ".join(differ[:-1]), *differ[-1:]])) or f"{len(standings)} settings"
    return f"Over {settings}, plain prediction {does} {span}{unit}{end}."


def _alone(one: Verdict, several: bool) -> str:
    """Return the sentence for a method with a single verdict."""
    name, gain, balanced = one.method.name, one.gain, one.balanced
    if gain is None or balanced is None or one.kind == NO_VERDICT:
        known = f" has {100 * one.accuracy:.1f} %;" if one.accuracy == one.accuracy else ":"
        return f"{name}{known} what it gains cannot be said."
    interval, shown = gain.interval, one.metric.shown
    points, of_classes = shown(interval.estimate), BALANCED.shown(balanced.interval.estimate)
    what = one.method.predictor_label if several and not one.method.imported else "it"
    value = f"{shown(gain.accuracies[0]):.1f} %"
    to = f"{what} to {value} ({points:+.1f} points, {shown(interval.low):.1f} to {shown(interval.high):.1f})"
    counted = "with classes counted equally"
    both = f"{counted} ({of_classes:+.1f} points; over images {points:+.1f})."
    over_images, over_classes = (f"{_does(x)} {abs(x):.1f}" for x in (points, of_classes))
    predicates = {
        HELPS: f"raises {to}.",
        METRIC_ONLY: f"raises {to}, but not {counted}.",
        BALANCED_ONLY: f"helps only {both}",
        TRADES: f"{over_images} points over images but {over_classes} {counted}.",
        HURTS: f"lowers {to}." if interval.high < 0 else f"hurts {both}",  # else not shown by accuracy
        NO_DIFFERENCE: f"{KIND_WORDS[NO_DIFFERENCE]} ({value}){_chosen_freely(one)}.",
        IS_PLAIN: f"{KIND_WORDS[IS_PLAIN]}{_chosen_freely(one)}.",
    }
    return f"{name} {predicates[one.kind]}"


def _chosen_freely(one: Verdict) -> str:
    """Return the end of a sentence on a method that differs from plain prediction only when chosen freely."""
    if (free := one.chosen_freely) is None or not (free.interval.low > 0 or free.interval.high < 0):
        return ""
    points, low, high = (one.metric.shown(x) for x in (free.interval.estimate, free.interval.low, free.interval.high))
    return f" by the careful rule; chosen freely it {_does(points)} {abs(points):.1f} points ({low:.1f} to {high:.1f})"


def _does(points: float) -> str:
    return "gains" if points > 0 else "loses"


def _together(verdicts: Sequence[Verdict], total: int) -> str:
    """Return one sentence for all verdicts on a method. Verdicts of no difference are omitted if there are others."""
    name, n = verdicts[0].method.name, len(verdicts)
    if n == 1:
        return _alone(verdicts[0], total > 1)
    counts = dict(Counter(one.kind for one in verdicts).most_common())
    shown = {kind: k for kind, k in counts.items() if kind not in (NO_DIFFERENCE, IS_PLAIN)}
    if len(counts) == 1:
        none = verdicts[0].kind in (NO_DIFFERENCE, IS_PLAIN, NO_VERDICT)
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
    """Return the words of a kind for use within a sentence."""
    return f"{words}," if "," in (words := KIND_WORDS[kind]) else words


def sentence(one: Verdict) -> str:
    """Return a verdict in short sentences: setting, outcome, attribution, and reliability."""
    narrow = NARROW if one.setting.grouped and one.in_new else ""
    sentences = [outcome(one), cause(one), *trust(one), *frequencies(one), narrow]
    return f"{one.setting.banner}{one.where}: {' '.join(filter(None, sentences))}"


def outcome(one: Verdict) -> str:
    """Return a sentence on the outcome, with accuracies, gain and interval."""
    name, known = one.method.name, f"{100 * one.accuracy:.1f} %"
    if one.gain is None or one.balanced is None or one.kind == NO_VERDICT:
        own = f"{name} has no accuracy, and" if np.isnan(one.accuracy) else f"{name} has {known};"
        return f"{own} what it gains cannot be said: {one.why}."
    if one.kind == IS_PLAIN:
        return f"{name} {KIND_WORDS[IS_PLAIN]}, and has its {known}."
    ours, plain = (f"{one.metric.shown(value):.1f}" for value in one.gain.accuracies)
    unit = "%" if one.metric == ACCURACY else f"% {one.metric.title}"
    points = with_interval(one.gain, one.metric, *_POINTS)
    does = f"{name} {KIND_WORDS[one.kind]}: {ours} instead of {plain} {unit}, {points}"
    counted = f"with classes counted equally {with_interval(one.balanced, BALANCED, ends=INTERVAL_TEXT)}"
    return f"{does}; {counted}. It is ahead in {ahead(one)} environments."


def ahead(one: Verdict) -> str:
    """Return the number of held-out environments in which a method is ahead, "4 of 6"; empty without a gain."""
    return f"{one.gain.others.ahead} of {len(one.gain.held_outs)}" if one.gain else ""


def cause(one: Verdict) -> str:
    """Return the attribution of a gain and the baselines that are not beaten; empty without a significant gain."""
    words = explained(one.questions)
    not_asked = [
        f"Whether it needs {CAUSES[question.name]} was not tested, for want of {' and '.join(question.missing)}."
        for question in one.questions
        if words and question.missing
    ]
    return " ".join(filter(None, [words, *not_asked, not_ahead_of(one, "The method")]))


def trust(one: Verdict) -> list[str]:
    """Return sentences on picks and on new environments; none without a gain."""
    if one.gain is None or one.kind == NO_VERDICT:
        return []
    (k, n), shown, new, sentences = one.plain_picks, one.metric.shown, one.in_new, []
    kept = f"The careful rule keeps plain prediction in {k} of {n} choices" if k and one.kind != IS_PLAIN else ""
    if one.kind == NO_DIFFERENCE:
        adjusted = f" (a bound that is adjusted for the {one.family} gains of this report)" if one.family > 1 else ""
        below = f"below {one.bound:.1f} points{adjusted}"
        kept = f"{kept}; the difference of what it picks is {below}" if kept else f"Any difference is {below}"
    sentences += [f"{kept}."] if kept else []
    if (free := one.chosen_freely) is not None:
        freely = f"Chosen freely, the difference of {one.method.name_in_sentence} is"
        sentences.append(f"{freely} {with_interval(free, one.metric, *_POINTS)}; verdicts are by the careful rule.")
    if one.kind != IS_PLAIN and new is not None and new.standard_error > 0:
        none = "" if one.holds_in_new or one.kind == NO_DIFFERENCE else "; a gain there is not established"
        between = f"between {shown(new.low):+.1f} and {shown(new.high):+.1f} points"
        sentences.append(f"Over new environments of this kind the mean gain lies {between}{none}.")
    return sentences


def frequencies(one: Verdict) -> list[str]:
    """Return a sentence on predicted class frequencies if metric and class-balanced accuracy disagree on a gain."""
    before, after = one.shares
    if one.kind not in (METRIC_ONLY, BALANCED_ONLY, TRADES) or before is None or after is None:
        return []
    return [
        f"For classes to be predicted as often as they occur, {100 * before:.0f} % of plain predictions would have to "
        f"change, and {100 * after:.0f} % of this method's."
    ]


def images_per_dimension(verdicts: Iterable[Verdict]) -> str:
    """Return a sentence on the number of fit images per dimension; empty if unknown."""
    known = [one.images for one in verdicts if not np.isnan(one.images)]
    return f"A fit has {min(known):.1f} images for each dimension of the embeddings." if known else ""


def intervals(answer: Answer) -> list[str]:
    """Return sentences on the intervals of all verdicts, each sentence once; none without a gain."""
    judged = [one for one in answer.verdicts if one.kind not in (NO_VERDICT, IS_PLAIN)]
    gains = [(one, one.gain) for one in judged if one.gain is not None]
    if not gains:
        return []
    one_seed = any(len(gain.seeds) == 1 for _, gain in gains)
    seeds = f"other seeds of the split are {'not ' if one_seed else ''}counted in"
    sentences = [f"Intervals (95 %) are for other images of these environments; {seeds}."]
    if all(one.in_new is None for one, _ in gains):
        shared = any(gain.shared for _, gain in gains)
        why = "what is held out has images in common" if shared else f"that takes {MIN_ENVIRONMENTS} held-out ones"
        sentences.append(f"Nothing can be said of new environments: {why}.")
    sentences += [NARROW] if any(one.setting.grouped and one.in_new for one, _ in gains) else []
    sentences += filter(None, (one.setting.protocol_class.interval_note for one, _ in gains))
    return [*dict.fromkeys(sentences), *filter(None, [images_per_dimension(one for one, _ in gains)])]


def compared(one: Comparison) -> str:
    """Return a sentence on a requested comparison of two methods."""
    return f"{capital(pair_name(one))}: {with_interval(one, ACCURACY, *_POINTS)}."


def left_out(answer: Answer) -> list[str]:
    """Return sentences on settings and methods without a verdict."""
    sentences = []
    for setting, method in answer.left_out:
        words = f"{setting.title}: there is no method to be judged."
        if method is not None:
            where = f"{setting.dataset}, {setting.backbone_label}{setting.half_words}"
            words = f"{where}: a {method.predictor_label} cannot predict new classes, and is left out."
        sentences.append(words)
    return list(dict.fromkeys(sentences))
