"""Sentences beside verdicts: several data sets together, reading of environments, controls, placebos, notes of fits."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean

import numpy as np

from benchmark.method.evaluation.judging import adjusted_interval
from benchmark.method.evaluation.metrics import ACCURACY, Metric
from reports.analysis.chosen import Selections, whole
from reports.analysis.comparisons import SAME, Comparison, Overall, p_value
from reports.analysis.controls import Verdict
from reports.analysis.findings import Family, Findings
from reports.analysis.methods import ALONE, Method
from reports.analysis.predictions import read_of
from reports.analysis.settings import Setting
from reports.text.headline import explained

MAX_PLACES = 6  # held-out environments with seeds that a note is listed with
_PARTS = dict(zip(ALONE, ("interventions", "environment means"), strict=True))


def p_words(p: float) -> str:
    """Return "p = 0.012", or "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def with_ends(one: Comparison | Overall, metric: Metric = ACCURACY, unit: str = "", ends: str = "[{}, {}]") -> str:
    """Return a difference with the ends of its interval, "+1.0 [-0.5, +2.5]"; without, where it has none."""
    interval = one.interval
    points, low, high = (f"{metric.shown(value):+.1f}" for value in (interval.estimate, interval.low, interval.high))
    return f"{points}{unit} {ends.format(low, high)}" if interval.standard_error > 0 else f"{points}{unit}"


def overall_sentences(families: Sequence[Family]) -> list[str]:
    """Return what several data sets say together of gains over plain prediction; nothing without such a gain."""
    sentences = []
    for family in families:
        gains = {one.method: one for one in reversed(family.members) if one.baseline.is_plain}  # the first of each
        sentences += [_overall(family.settings[0], gain, len(gains)) for gain in reversed(gains.values())]
    if sentences:
        sentences.append(
            "Each data set counts alike. Of new environments: random effects of data sets, of environments within them "
            "and of images (Paule and Mandel; Hartung and Knapp), adjusted for all gains that stand together here."
        )
    return sentences


def _overall(setting: Setting, one: Overall, gains: int) -> str:
    where = f"{setting.banner}{setting.backbone_label}{setting.half_words}"
    n, sets = one.others.ahead + one.others.level + one.others.behind, ", ".join(one.datasets)
    said = (
        f"{where}: {one.method.label} minus plain prediction over {len(one.datasets)} data sets ({sets}): "
        f"{with_ends(one)} points, ahead in {one.others.ahead} of {n} environments."
    )
    new = one.others.interval and adjusted_interval(one.others.interval, gains)
    if new is not None and new.standard_error > 0:
        narrow = " (too narrow, for groups of images stand in several)" if one.grouped else ""
        ends = f"{100 * new.low:+.1f} and {100 * new.high:+.1f}"
        said += f" In new environments of new sets the mean gain lies between {ends} points{narrow}."
    return f"{said} Left out, for lack of an interval: {', '.join(one.left_out)}." if one.left_out else said


def decodability(described: Sequence[tuple[Setting, Selections]]) -> list[str]:
    """Return of each setting how well the environment is read from embeddings, and after each projection."""
    sentences = []
    for setting, selections in described:
        read = {m: [100 * fmean(of) for of in zip(*found, strict=True)] for m, found in read_of(selections).items()}
        if read:
            before, _, chance, _ = next(iter(read.values()))
            after = ", ".join(f"{values[1]:.1f} % after {method.label}" for method, values in read.items())
            sentences.append(
                f"{setting.banner}{setting.dataset}, {setting.backbone_label}: a linear classifier reads the "
                f"environment from embeddings at {before:.1f} % (chance {chance:.1f} %), at {after}."
            )
    return list(dict.fromkeys(sentences))


def in_a_sentence(setting: Setting, one: Verdict) -> str:
    """Return what must be found in a setting, what was, whether that is right, and why."""
    where, expected, found = _control(setting, one)
    what = f"to be found is {expected}, found was {found}, which is {'right' if one.right else 'WRONG'}"
    gain = f"Gain {with_ends(one.gain)}, {p_words(one.p)}."
    return " ".join(filter(None, [f"{setting.banner}{where}: {what}.", gain, explained(one.questions)]))


def wrong_in_words(found: Iterable[tuple[Setting, Verdict]]) -> list[str]:
    """Return of each control that came out wrong what was found, and what must be: short, for a terminal."""
    wrong = (_control(setting, one) for setting, one in found if not one.right)
    return [f"WRONG: {found} found, not {expected}: {where}." for where, expected, found in wrong]


def _control(setting: Setting, one: Verdict) -> tuple[str, ...]:
    """Return where something must be found, what must be, and what was."""
    held_out = one.expected.held_out
    where = f"{held_out} held out" if held_out else "average of all that is held out"
    place = f"{setting.dataset}, {setting.backbone_label}, {one.gain.method.predictor_label}, {where}"
    parts = (" and ".join(_PARTS[name] for name in ALONE if name in of) for of in (one.expected.parts, one.found))
    return place, *(words or "nothing" for words in parts)


def notes(setting: Setting, selections: Selections, findings: Findings) -> Iterator[str]:
    """Yield sentences on a setting: what was not compared and why, where methods stand among placebos, notes of fits.

    Args:
        setting: what the rows share.
        selections: the rows of that setting.
        findings: its comparisons.
    """
    for method, baseline, why in findings.missing:
        yield f"{setting.banner}{method.label} was not compared with {baseline.label}: {why}."
    for placebo, draws in selections.draws.items():
        if draws[0].real in selections.parts:
            yield f"{setting.banner}{draws[0].real.label} {_among_draws(selections, placebo, draws)}"
    yield from _of_fits(selections)


def _among_draws(selections: Selections, placebo: Method, draws: Sequence[Method]) -> str:
    """Return where the real method stands among draws of a placebo."""
    real, rule = draws[0].real, selections.base_rule
    of_real = whole(selections, [(real, rule)])
    found = [answers for draw in draws if (answers := whole(selections, [(draw, rule)])) is not None]
    if of_real is None or len(found) < len(draws):
        return f"was not ranked among draws of {placebo.placebo}: not all have all that is held out."
    average, of_draws = float(of_real.means.mean()), [float(answers.means.mean()) for answers in found]
    ahead = 1 + sum(draw > average + SAME for draw in of_draws)
    tied = sum(abs(draw - average) <= SAME for draw in of_draws)
    low, high = np.quantile(of_draws, [0.025, 0.975])
    p = "no p-value, for the predictor is trained"
    if real.learns_nothing:
        p = f"p = {p_value(average, of_draws):.3f}, (1 + draws at least as good) / (1 + draws)"
    return (
        f"with {100 * average:.1f} % ranks {ahead}{f' to {ahead + tied}' if tied else ''} of {1 + len(draws)} among "
        f"itself and {len(draws)} draws of {placebo.placebo}, whose mean is {100 * np.mean(of_draws):.1f} % (95 % of "
        f"them {100 * low:.1f} to {100 * high:.1f}, rule {rule}, chosen for each draw as for the real one): {p}."
    )


def _of_fits(selections: Selections) -> Iterator[str]:
    """Yield what fits had to say, such as that one did not converge: a line for each method and note."""
    for method, rows in selections.parts.items():
        where: dict[str, list[str]] = {}
        for row in rows[["held_out", "seed", "fold", "notes"]].to_dict("records"):
            fold = "" if row["fold"] < 0 else f" fold {row['fold']}"
            for note in row["notes"] if isinstance(row["notes"], list) else ():
                where.setdefault(note, []).append(f"{row['held_out']} seed {row['seed']}{fold}")
        for note, places in where.items():
            named = list(dict.fromkeys(places))
            rest = f" and {len(named) - MAX_PLACES} more" if len(named) > MAX_PLACES else ""
            listed = ", ".join(named[:MAX_PLACES])
            yield f"{method.label}: {note} ({len(places)} of {len(rows)} rows: {listed}{rest})"
