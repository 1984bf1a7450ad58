"""Verdicts in plain words: what a method does, what explains it, and how far that can be trusted."""

from collections.abc import Iterable

import numpy as np

from benchmark.method.evaluation.judging import BALANCED_ONLY, METRIC_ONLY, NO_DIFFERENCE, TRADES
from benchmark.method.evaluation.metrics import ACCURACY, BALANCED
from benchmark.method.evaluation.other_environments import MIN_ENVIRONMENTS
from reports.analysis.comparisons import Comparison
from reports.analysis.verdicts import IS_PLAIN, MIN_IMAGES, UNSAID, Answer, Verdict
from reports.text.headline import CAUSES, KIND_WORDS, capital, explained, level, pair_name, short_name
from reports.text.sentences import with_ends

NARROW = "Intervals for new environments are too narrow, for groups of images stand in several."
ENDS = "({} to {})"  # of an interval, behind a difference
_POINTS = (" points", "(95 % interval {} to {})")


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
