"""Further sentences of a report, on pooled data sets, decodability of environments, controls, placebos and warnings.

`Origin` has the provenance of the rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmark.method.evaluation.multiple_testing import adjusted_interval
from reports.analysis.comparisons import EQUAL_WITHIN, p_value
from reports.analysis.findings import ControlResult, Expected, Family, Findings
from reports.analysis.methods import ALONE, Method
from reports.analysis.selections import Selections, SettingResults, complete_answers, read_of
from reports.analysis.settings import Setting
from reports.text.verdicts import explained, p_words, with_interval

MAX_PLACES = 6  # largest number of tests that are listed for a warning of fits
_PARTS = dict(zip(ALONE, ("interventions", "environment means"), strict=True))


MAX_FAILED = 8  # failed trials that are listed by name


def overall_sentences(families: Sequence[Family]) -> list[str]:
    """Return sentences on gains over plain prediction pooled over data sets; empty without such a gain."""
    sentences = []
    for family in families:
        setting, of_pairs = family.settings[0], [one for one in reversed(family.members) if one.baseline.is_plain]
        gains = {one.method: one for one in of_pairs}  # the first of each
        where = f"{setting.banner}{setting.backbone_label}{setting.half_words}"
        for one in reversed(gains.values()):
            n, sets = one.others.ahead + one.others.tied + one.others.behind, ", ".join(one.datasets)
            sentence = (
                f"{where}: {one.method.label} minus plain prediction over {len(one.datasets)} data sets ({sets}): "
                f"{with_interval(one)} points, ahead in {one.others.ahead} of {n} environments."
            )
            new = one.others.interval and adjusted_interval(one.others.interval, len(gains))
            if new is not None and new.standard_error > 0:
                narrow = " (too narrow, because groups of images occur in several)" if one.grouped else ""
                ends = f"{100 * new.low:+.1f} and {100 * new.high:+.1f}"
                sentence += f" In new environments of new sets the mean gain lies between {ends} points{narrow}."
            left_out = f" Left out, for lack of an interval: {', '.join(one.left_out)}." if one.left_out else ""
            sentences.append(sentence + left_out)
    if sentences:
        sentences.append(
            "Each data set counts alike. Of new environments: random effects of data sets, of environments within them "
            "and of images (Paule and Mandel; Hartung and Knapp), adjusted for all gains that stand together here."
        )
    return sentences


def decodability(results: Sequence[SettingResults]) -> list[str]:
    """Return a sentence for each setting on the decodability of the environment before and after each projection."""
    sentences = []
    for setting, selections in results:
        if read := read_of(selections):
            before, _, chance = next(iter(read.values()))
            after = ", ".join(f"{values[1]:.1f} % after {method.label}" for method, values in read.items())
            sentences.append(
                f"{setting.banner}{setting.dataset}, {setting.backbone_label}: a linear classifier reads the "
                f"environment from embeddings at {before:.1f} % (chance {chance:.1f} %), at {after}."
            )
    return list(dict.fromkeys(sentences))


def in_a_sentence(setting: Setting, one: ControlResult) -> str:
    """Return a sentence on a control: expected and found components, and the gain behind them."""
    where, expected, found = _control(setting, one)
    what = f"expected {expected}, found {found}: {'right' if one.right else 'WRONG'}"
    gain = f"Gain {with_interval(one.gain)}, {p_words(one.p)}."
    return " ".join(filter(None, [f"{setting.banner}{where}: {what}.", gain, explained(one.questions)]))


def wrong_in_words(found: Iterable[tuple[Setting, ControlResult]]) -> list[str]:
    """Return a short line for the terminal on each control with a wrong result."""
    wrong = (_control(setting, one) for setting, one in found if not one.right)
    return [f"WRONG: {found} found, not {expected}: {where}." for where, expected, found in wrong]


def _control(setting: Setting, one: ControlResult) -> tuple[str, ...]:
    """Return place, expected components and found components of a control, in words."""
    held_out = one.expected.held_out
    where = f"{held_out} held out" if held_out else "average of all that is held out"
    place = f"{setting.dataset}, {setting.backbone_label}, {one.gain.method.predictor_label}, {where}"
    parts = (" and ".join(_PARTS[name] for name in ALONE if name in of) for of in (one.expected.parts, one.found))
    return place, *(words or "nothing" for words in parts)


def notes(setting: Setting, selections: Selections, findings: Findings) -> Iterator[str]:
    """Yield sentences on missing comparisons, ranks among placebos, and warnings of fits."""
    for method, baseline, why in findings.missing:
        yield f"{setting.banner}{method.label} was not compared with {baseline.label}: {why}."
    for placebo, draws in selections.draws.items():
        if draws[0].real in selections.parts:
            yield f"{setting.banner}{draws[0].real.label} {_among_draws(selections, placebo, draws)}"
    # Warnings of fits, such as non-convergence: one line for each method and warning.
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


def _among_draws(selections: Selections, placebo: Method, draws: Sequence[Method]) -> str:
    """Return the predicate of a sentence on the rank of the real method among draws of a placebo."""
    real, rule = draws[0].real, selections.base_rule
    of_real = complete_answers(selections, [(real, rule)])
    found = [answers for draw in draws if (answers := complete_answers(selections, [(draw, rule)])) is not None]
    if of_real is None or len(found) < len(draws):
        return f"was not ranked among draws of {placebo.placebo}: not all have all that is held out."
    average, of_draws = float(of_real.means.mean()), [float(answers.means.mean()) for answers in found]
    ahead = 1 + sum(draw > average + EQUAL_WITHIN for draw in of_draws)
    tied = sum(abs(draw - average) <= EQUAL_WITHIN for draw in of_draws)
    low, high = np.quantile(of_draws, [0.025, 0.975])
    p = "no p-value, for the predictor is trained"
    if real.learns_nothing:
        p = f"p = {p_value(average, of_draws):.3f}, (1 + draws at least as good) / (1 + draws)"
    return (
        f"with {100 * average:.1f} % ranks {ahead}{f' to {ahead + tied}' if tied else ''} of {1 + len(draws)} among "
        f"itself and {len(draws)} draws of {placebo.placebo}, whose mean is {100 * np.mean(of_draws):.1f} % (95 % of "
        f"them {100 * low:.1f} to {100 * high:.1f}, rule {rule}, chosen for each draw as for the real one): {p}."
    )


@dataclass(frozen=True)
class Origin:
    """Provenance of the rows of a report, made by `origin_of` in benchmark/commands/report.py.

    Attributes:
        name: name of the report, made from the names of its recipes.
        stores: stores with the rows.
        planned: number of planned trials; None if unknown.
        finished: number of planned trials with rows; None if unknown.
        failed: description of a failed trial -> reason.
        conflicts: sentences on rows with equal keys but different numbers. Such rows are left out.
        expected: control data set -> components that must be credited in it.
        left_out: sentences on backbones that are excluded from a part of the recipe.
        names: name of a method or data set -> short name for printed tables.
        costs: measured costs in these stores, each with `kind`, `work`, `seconds` and `machine`.
        encoders: sentences on encoders that are trained by this package.
    """

    name: str
    stores: tuple[str, ...] = ()
    planned: int | None = None
    finished: int | None = None
    failed: Mapping[str, str] = field(default_factory=dict)
    conflicts: tuple[str, ...] = ()
    expected: Mapping[str, Expected] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    costs: tuple[Mapping[str, Any], ...] = ()
    encoders: tuple[str, ...] = ()

    @property
    def partial(self) -> list[str]:
        """A sentence on unfinished trials; empty if all are finished or if that is unknown."""
        if self.planned is None or self.finished is None or self.finished >= self.planned:
            return []
        return [
            f"PARTIAL: {self.finished:,} of {self.planned:,} trials are finished; every number may change. "
            "icm-bench sweep RECIPE computes what is missing."
        ]

    @property
    def missing(self) -> list[str]:
        """Sentences on unfinished and failed trials, conflicts, and excluded backbones."""
        failed = [f"Gap: {trial}: {reason}" for trial, reason in self.failed.items()]
        if len(failed) > MAX_FAILED:
            failed = [*failed[:MAX_FAILED], f"{len(failed) - MAX_FAILED:,} more trials failed."]
        return [*self.partial, *failed, *self.conflicts, *self.left_out]
