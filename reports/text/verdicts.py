"""Verdicts in words: a few short sentences for each."""

from collections.abc import Sequence

import numpy as np

from benchmark.method.evaluation.judging import NO_DIFFERENCE
from benchmark.method.evaluation.metrics import ACCURACY, BALANCED
from reports.analysis.chosen import Selections
from reports.analysis.credit import Question
from reports.analysis.settings import Setting
from reports.analysis.verdicts import IS_PLAIN, MIN_IMAGES, UNSAID, Answer, LeftOut, Verdict
from reports.text.sentences import decodability, p_words


def sentence(one: Verdict) -> str:
    """Return the whole answer of a verdict in short sentences."""
    return f"{one.setting.banner}{one.where}: {_in_words(one)}"


def unjudged(answer: Answer, described: Sequence[tuple[Setting, Selections]]) -> list[str]:
    """Return sentences on what has no verdict, then on how well environments are read from embeddings.

    Args:
        answer: of a report.
        described: its settings with their rows.
    """
    return [*dict.fromkeys(map(_left_out, answer.left_out)), *decodability(described)]


def _left_out(one: LeftOut) -> str:
    if one.method is not None:
        where = f"{one.setting.dataset}, {one.setting.backbone_label}, {one.method.predictor_label}"
        return (
            f"{where}{one.setting.half_words}: left out, for a {one.method.predictor_label} cannot predict new classes."
        )
    named = ", ".join(f"{method.label} {100 * value:.1f} %" for method, value in one.accuracies.items())
    return f"{one.setting.title}: no method to be judged; {named or 'no accuracy under a rule of the sources'}."


def _both(one: Verdict, ends: bool = True) -> str:
    """Return the gain by the metric and by class-balanced accuracy: "+3.3 points, class-balanced -0.6"."""
    parts = []
    for metric, made in ((one.metric, one.gain), (BALANCED, one.balanced)):
        assert made is not None  # see `_judged`
        title = "" if metric in (ACCURACY, BALANCED) else f" of {metric.title}"
        unit = "" if metric == BALANCED else f" points{title}"
        low, high = (metric.shown(end) for end in (made.interval.low, made.interval.high))
        shown = f" ({low:+.1f} to {high:+.1f})" if ends and made.interval.standard_error > 0 else ""
        parts.append(f"{metric.shown(made.interval.estimate):+.1f}{unit}{shown}")
    return f"{parts[0]}, class-balanced {parts[1]}"


def _in_words(one: Verdict) -> str:
    """Return the verdict in short sentences."""
    k, n = one.plain_picks
    own = f"{one.name} has {100 * one.accuracy:.1f} %" if not np.isnan(one.accuracy) else f"{one.name} has no accuracy"
    if one.gain is None or one.kind == UNSAID:
        return f"{own}; what it gains cannot be said: {one.why}."
    if one.kind == IS_PLAIN:
        return f"{one.name} is plain prediction here, with {100 * one.accuracy:.1f} %: all {n} picks are plain."
    others, others_n = one.gain.others, len(one.gain.held_outs)
    said = [f"{one.name}: {one.said}, {_both(one)}, against plain (95 % each)."]
    if one.kind == NO_DIFFERENCE:
        said.append(f"Below {one.bound:.1f} points at 95 %, adjusted for {one.family} gains (Holm).")
    said.append(f"Ahead in {others.ahead} of {others_n} environments.")
    if one.holds_in_new:
        caveat = " (groups stand in several, which makes that interval too narrow)" if one.setting.grouped else ""
        said.append(f"In new environments too{caveat}.")
    if one.ungated is not None and one.ungated.rule != one.rule:
        said.append(f"By {one.ungated.rule} {one.metric.shown(one.ungated.interval.estimate):+.1f}.")
    said += [f"It is plain in {k} of {n} picks."] if k else []
    said += [words] if (words := explained(one.questions)) else []
    before, after = one.shares
    if before is not None and after is not None:
        said.append(
            f"Shares of answers lie {100 * before:.0f} % from those of classes before, {100 * after:.0f} % after."
        )
    if one.images < MIN_IMAGES:
        said.append(
            f"A fit has {one.images:.1f} images for each dimension: with fewer than {MIN_IMAGES} choices can harm."
        )
    return " ".join(said)


def explained(questions: Sequence[Question]) -> str:
    """Return what explains a gain; empty without questions."""
    said = [f"{one.name} {one.answer}{'' if one.missing else f' ({p_words(one.p)})'}" for one in questions]
    if questions and all(one.missing for one in questions):
        return "What explains it was not asked, for want of rows of its parts."
    return f"What explains it (Holm over three): {'; '.join(said)}." if said else ""
