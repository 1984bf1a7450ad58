"""What is known of one backbone: its answers with what a fair rule picks among all methods, and what is behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import pandas as pd

from reports.analysis.answers import Answered, Estimate, Key, Pooled
from reports.analysis.chosen import Selections
from reports.analysis.methods import Method
from reports.analysis.options import Options
from reports.analysis.robustness import ZERO_SHOT
from reports.analysis.settings import Setting
from reports.analysis.whole import mean_beside, whole_estimate
from reports.choose.speeds import Measured
from reports.render.table import Cell
from reports.tables import cells
from reports.tables.alike import Described
from reports.tables.blocks import is_contender, methods_of


@dataclass(frozen=True)
class Picked:
    """What a rule picks among all methods of one setting, for each held-out environment and seed by itself.

    Attributes:
        answers: of what is picked.
        methods: which it is.
        ece: expected calibration error of it, in percent: over folds, seeds, then environments; NaN where unknown.
        number: the average over all that is held out, as a cell, with its estimate; a gap says why it is one.
    """

    answers: Answered
    methods: Mapping[Key, Method]
    ece: float
    number: cells.Number


@dataclass(frozen=True)
class Worst:
    """The held-out environment in which what is picked is least accurate.

    Attributes:
        name: of the environment; of several data sets with the data set before it.
        cell: accuracy there, in percent, with its interval.
    """

    name: str
    cell: Cell


@dataclass(frozen=True)
class Candidate:
    """One backbone.

    Attributes:
        name: its label.
        parts: its settings, one for each data set, with their rows.
        picked: data set -> what the rule picks there.
        plain: accuracy of plain zero-shot, averaged over data sets.
        average: accuracy of what is picked, averaged likewise.
        worst: the worst environment of all data sets; None where something that is held out has no answers.
        ece: calibration error of what is picked.
        measured: speed and memory.
    """

    name: str
    parts: Described
    picked: Mapping[str, Picked]
    plain: Cell
    average: Cell
    worst: Worst | None
    ece: Cell
    measured: Measured

    @property
    def methods(self) -> dict[str, int]:
        """Label of each method that is picked -> in how many tests (environments and seeds)."""
        labels = [method.label for one in self.picked.values() for method in one.methods.values()]
        return {label: labels.count(label) for label in dict.fromkeys(labels)}


def candidate(name: str, parts: Described, rule: str, options: Options, measured: Measured) -> Candidate:
    """Return what is known of a backbone.

    Args:
        name: its label.
        parts: its settings, one for each data set, with their rows.
        rule: what chooses: it looks at sources alone.
        options: what the reader asks for.
        measured: its speed and memory.
    """
    picked = {setting.dataset: _picked(setting, selections, rule, options) for setting, selections in parts}
    plain = [(s.dataset, cells.accuracy(selections, ZERO_SHOT, rule, options)) for s, selections in parts]
    errors = [one.ece for one in picked.values()]
    return Candidate(
        name,
        parts,
        picked,
        cells.over_sets(plain, options),
        cells.over_sets([(dataset, one.number) for dataset, one in picked.items()], options),
        _worst(picked, options),
        cells.known(fmean(errors), "no calibration error at what is picked"),
        measured,
    )


def _picked(setting: Setting, selections: Selections, rule: str, options: Options) -> Picked:
    scores = {method: _scores(selections, method, rule) for method in _methods(setting, selections, rule)}
    methods: dict[Key, Method] = {}
    for method, of_method in scores.items():  # of equals the first in the order of tables: plain before others
        for key, score in of_method.items():
            if key not in methods or score > scores[methods[key]][key]:
                methods[key] = method
    pooled = {key: selections.pooled(method, rule)[key] for key, method in sorted(methods.items())}
    answers = selections.answered(pooled)
    estimate = whole_estimate(selections, answers) if pooled else None
    if estimate is None:
        return Picked(answers, methods, float("nan"), cells.Number(Cell(note=_gap(selections, pooled))))
    trials = {t for (name, _), m in methods.items() for t in cells.trials_of(selections, m, rule, name)}
    number = cells.cell_of(
        [estimate], options, folds=int(selections.rows["folds"].iloc[0]), trials=tuple(sorted(trials))
    )
    ece = 100 * mean_beside(_picks(selections, methods, rule, estimate), "ece", "n_test")
    return Picked(answers, methods, ece, cells.Number(number, estimate))


def _methods(setting: Setting, selections: Selections, rule: str) -> list[Method]:
    """Return the methods among which is picked: none that looks at tested images or cannot predict new classes."""
    halves = setting.class_half != "all"
    fair = [m for m in methods_of([(setting, selections)]) if is_contender(m) and not m.looks_at_target_images]
    known = [m for m in fair if not (m.imported or (halves and m.learns_classes))]
    return [m for m in known if selections.is_whole(m, rule)]


def _scores(selections: Selections, method: Method, rule: str) -> dict[Key, float]:
    """Return what the rule looked at, for each held-out environment and seed with answers: the mean over folds."""
    of_tests = selections.picks(method, rule).groupby(["held_out", "seed"], as_index=False)["score"].mean()
    lines = zip(*(of_tests[name].tolist() for name in ("held_out", "seed", "score")), strict=True)
    scores = {(str(held_out), int(seed)): float(score) for held_out, seed, score in lines}
    return {key: score for key, score in scores.items() if key in selections.pooled(method, rule) and score == score}


def _picks(selections: Selections, methods: Mapping[Key, Method], rule: str, estimate: Estimate) -> pd.DataFrame:
    """Return the picks behind an estimate."""
    parts = []
    for method in dict.fromkeys(methods.values()):
        picks = selections.picks(method, rule)
        tests = zip(picks["held_out"], picks["seed"], strict=True)
        parts.append(picks[[methods.get(test) == method and test[1] in estimate.seeds for test in tests]])
    return pd.concat(parts)


def _gap(selections: Selections, pooled: Mapping[Key, Pooled]) -> str:
    missing = [name for name in selections.held_outs if name not in {held_out for held_out, _ in pooled}]
    return f"no answers for {', '.join(missing)}" if missing else "no seed has all that is held out"


def _worst(picked: Mapping[str, Picked], options: Options) -> Worst | None:
    """Return the environment with the lowest accuracy of all data sets."""
    found: list[tuple[float, str, Estimate]] = []
    for dataset, one in picked.items():
        estimate = one.number.estimate
        if estimate is None:
            return None
        lowest = int(estimate.means[0].argmin())
        alone = one.answers.estimate(held_out=estimate.held_outs[lowest])
        assert alone is not None  # it is a part of the whole
        before = f"{dataset}: " if len(picked) > 1 else ""
        found.append((float(estimate.means[0][lowest]), f"{before}{estimate.held_outs[lowest]}", alone))
    accuracy, name, alone = min(found, key=lambda one: one[0])
    return Worst(name, replace(cells.cell_of([alone], options), value=100 * accuracy))


def lacking(every: Sequence[Candidate]) -> list[str]:
    """Return sentences on methods that some backbones have and others lack, since these cannot be picked there."""
    of_each = {one.name: {m.label for m in methods_of(one.parts) if not m.imported} for one in every}
    common = set.union(*of_each.values())
    gaps = {name: sorted(common - own) for name, own in of_each.items() if common - own}
    return [
        f"{name} has no rows of {', '.join(labels[:3])}{f' and {len(labels) - 3} more' if len(labels) > 3 else ''}."
        for name, labels in gaps.items()
    ]
