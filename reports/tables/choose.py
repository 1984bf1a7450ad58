"""The table of the backbones among which is chosen, and the choice behind it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import pandas as pd

from benchmark.common.errors import IcmBenchError
from benchmark.method.evaluation.inference import ImageInterval, pooled_interval
from reports.analysis.answers import Answered, Key
from reports.analysis.choice import Candidate, Choice, of_one_run
from reports.analysis.chosen import Selections
from reports.analysis.methods import Method
from reports.analysis.options import Options
from reports.analysis.robustness import ZERO_SHOT
from reports.analysis.settings import Setting
from reports.analysis.ties import ties
from reports.analysis.whole import mean_beside, whole_estimate
from reports.render.table import Block, Cell, Column, Line, Table
from reports.tables import cells, words
from reports.tables.alike import Described, by_backbone, by_data_set, check_alike, common_rule
from reports.tables.blocks import is_contender, methods_of

NAME = "choose"
_COLUMNS = (
    Column(ZERO_SHOT.label, "Plain"),
    Column("what the rule picks", "Picked"),
    Column("what the rule picks minus the best backbone's, in points", "Gap", unit=""),
    Column("worst environment", "Worst"),
    Column("calibration error (ECE)", "ECE"),
    Column("images per second", "Images/s", unit=""),
    Column("memory of an encoder in GiB", "GiB", unit=""),
)
_PICKED = (
    "Picked: for each held-out environment and seed the method and setting that the rule scores highest on the "
    "sources. Gap (points, to the best), worst environment and ECE are of these."
)
_BOLD = "Bold: tied with the best, that is not separated from it (all paired differences of backbones, Holm)."
_LEVEL = "Nothing is bold, for all backbones are tied with the best."
_SPEED = "Images/s: views through decoding, interventions and encoder, start-up excluded, all in one run: {}."
_MEMORY = "GiB: at most, on a GPU what PyTorch allocated there, else of the encoder's process, shared pages included."


def build(choice: Choice, options: Options, names: Mapping[str, str]) -> Table:
    """Return a line for each backbone, the highest average first; what was not recorded is a gap that says why.

    Args:
        choice: what the rows say.
        options: what stands behind ±.
        names: long name -> short name of backbones.
    """
    described, tied = choice.described, choice.ties.tied
    bold = len(tied) < len(choice.candidates)
    worst: dict[str, list[str]] = {}
    for one in choice.candidates:
        worst.setdefault(one.worst_name, []).append(words.short(one.name, names))
    where = [f"{name} for {' and '.join(own) if len(worst) > 1 else 'all'}" for name, own in worst.items() if name]
    known = any(one.memory for one in choice.candidates)
    own = [_PICKED, f"Worst environment: {'; '.join(where)}.", words.INTERVAL]
    own += [_BOLD if bold else _LEVEL] if tied else []
    own += [_SPEED.format(choice.measured_on), *([_MEMORY] if known else [])] if choice.measured_on else []
    return Table(
        NAME,
        words.caption(
            described,
            f"Which backbone: accuracy (%), calibration, speed and memory on {', '.join(by_data_set(described))}.",
        ),
        _COLUMNS,
        (Block("", tuple(_line(choice, one, bold, names) for one in choice.candidates)),),
        (*words.notes(described, choice.rule, options, own), *choice.left_out),
        tuple(
            f"Picked for {one.name}: {', '.join(f'{label} in {n}' for label, n in one.methods.items())} of "
            f"{sum(one.methods.values())} tests."
            for one in choice.candidates
        ),
        "Backbone",
        words.context(described, choice.rule, options),
    )


def _line(choice: Choice, one: Candidate, bold: bool, names: Mapping[str, str]) -> Line:
    difference = choice.differences.get(one.name)
    gap = "not measured in the run whose speeds are compared" if choice.measured_on else "no run recorded it"
    unknown = "not recorded where the speed was" if one.speed else gap
    made = (
        one.plain,
        replace(one.average, best=bold and one.name in choice.ties.tied),
        Cell(note="the best itself") if difference is None else cells.points(difference),
        one.worst,
        one.ece,
        cells.known(one.speed, gap),
        cells.known(one.memory and one.memory / 2**30, unknown, decimals=2),
    )
    return Line(one.name, made, words.short(one.name, names))


def choose(described: Described, costs: Mapping[str, Sequence[Mapping[str, Any]]], options: Options) -> Choice:
    """Return which backbone the rows speak for.

    Args:
        described: settings with their rows; bounds, and halves of what stands together, do not count.
        costs: backbone -> what its embeddings cost, see `choice.of_one_run`.
        options: what the reader asks for.

    Raises:
        IcmBenchError: fewer than two backbones can be compared, or rows are of unlike protocols.
    """
    fair, left_out = _comparable(described)
    check_alike(fair, NAME)
    rule, parts = common_rule(fair), by_backbone(fair)
    measured, where = of_one_run({name: costs.get(name, ()) for name in parts})
    every = [_candidate(name, own, rule, options, measured.get(name)) for name, own in parts.items()]
    left_out += [f"{one.name} is not compared: {one.average.note}." for one in every if one.average.value is None]
    whole = {one.name: one for one in every if one.average.value is not None}
    if len(whole) < 2:
        raise _too_few([*whole], left_out)
    differences = {(a, b): _difference(parts[a], whole[a], whole[b]) for a, b in combinations(whole, 2)}
    found = ties([*whole], differences)
    minus_best = {
        b if a == found.best else a: replace(one, estimate=-one.estimate) if a == found.best else one
        for (a, b), one in differences.items()
        if found.best in (a, b)
    }
    ordered = sorted(whole.values(), key=lambda one: (one.name != found.best, -(one.average.value or 0.0)))
    shown = [part for part in fair if part[0].backbone_label in whole]
    return Choice(rule, tuple(ordered), found, minus_best, where, (*left_out, *_lacking(parts, whole)), shown)


def _comparable(described: Described) -> tuple[Described, list[str]]:
    """Return the settings that count, of two backbones or more, and sentences on backbones that do not."""
    fair = [(s, selections) for s, selections in described if not s.protocol_class.looks_at_target]
    if any(s.class_half == "harmonic" for s, _ in fair):
        fair = [(s, selections) for s, selections in fair if s.class_half not in ("base", "new")]
    random = sorted({s.backbone for s, _ in fair if s.random_weights})
    left_out = [f"{name} is not compared: its weights are random." for name in random]
    fair = [(s, selections) for s, selections in fair if not s.random_weights]
    sets = by_data_set(fair)
    for name, parts in by_backbone(fair).items():
        if missing := [dataset for dataset in sets if dataset not in by_data_set(parts)]:
            left_out.append(f"{name} is not compared: it has no rows of {', '.join(missing)}.")
            fair = [(s, selections) for s, selections in fair if s.backbone_label != name]
    if len(by_backbone(fair)) < 2:
        raise _too_few([*by_backbone(fair)], left_out)
    return fair, left_out


def _too_few(there: Sequence[str], left_out: Sequence[str]) -> IcmBenchError:
    only = f"rows of '{there[0]}' alone" if there else "rows of no backbone"
    reasons = f" ({'; '.join(one.rstrip('.') for one in left_out)})" if left_out else ""
    return IcmBenchError(
        f"To choose between backbones takes two of them with answers for all that is held out, and there are {only}"
        f"{reasons}: finish them with `icm-bench run RECIPE`."
    )


def _lacking(parts: Mapping[str, Described], names: Iterable[str]) -> list[str]:
    """Return sentences on methods that some backbones have and others lack, since these cannot be picked there."""
    of_each = {name: {m.label for m in methods_of(parts[name]) if not m.imported} for name in names}
    gaps = {name: sorted(set().union(*of_each.values()) - own) for name, own in of_each.items()}
    return [
        f"{name} has no rows of {', '.join(labels[:3])}{f' and {len(labels) - 3} more' if len(labels) > 3 else ''}."
        for name, labels in gaps.items()
        if labels
    ]


def _difference(parts: Described, one: Candidate, other: Candidate) -> ImageInterval:
    """Return what is picked for one backbone minus what is for another on the same images, data sets counting alike."""
    intervals = []
    for setting, selections in parts:
        estimate = whole_estimate(selections, one.answers[setting.dataset], other.answers[setting.dataset])
        if estimate is None:
            raise IcmBenchError(
                f"'{one.name}' and '{other.name}' were never tested on the same images of all that is held out of "
                f"{setting.dataset}: finish both with `icm-bench run RECIPE`, or take common seeds with --where."
            )
        intervals.append(estimate.interval)
    return pooled_interval(intervals)


@dataclass(frozen=True)
class _Picked:
    """What a rule picks among all methods of one setting: its answers, the methods, calibration error and accuracy."""

    answers: Answered
    methods: Mapping[Key, Method]
    ece: float
    number: cells.Number


def _candidate(name: str, parts: Described, rule: str, options: Options, cost: Mapping[str, Any] | None) -> Candidate:
    """Return what is known of a backbone, given its settings, one of each data set, and what embeddings cost."""
    picked = {setting.dataset: _picked(setting, selections, rule, options) for setting, selections in parts}
    plain = [(s.dataset, cells.accuracy(selections, ZERO_SHOT, rule, options)) for s, selections in parts]
    labels = [method.label for one in picked.values() for method in one.methods.values()]
    errors = [one.ece for one in picked.values()]
    worst, worst_name = _worst(picked, options)
    return Candidate(
        name,
        {dataset: one.answers for dataset, one in picked.items()},
        {label: labels.count(label) for label in dict.fromkeys(labels)},
        cells.over_sets(plain, options),
        cells.over_sets([(dataset, one.number) for dataset, one in picked.items()], options),
        worst,
        worst_name,
        cells.known(sum(errors) / len(errors), "no calibration error at what is picked"),
        cost["work"] / cost["seconds"] if cost else None,
        (cost["memory"] or None) if cost else None,
    )


def _picked(setting: Setting, selections: Selections, rule: str, options: Options) -> _Picked:
    scores: dict[Key, float] = {}
    methods: dict[Key, Method] = {}
    for method in _methods(setting, selections, rule):  # of equals the first in the order of tables: plain first
        of_tests = selections.picks(method, rule).groupby(["held_out", "seed"])["score"].mean().dropna()
        for key, score in zip(of_tests.index.tolist(), of_tests.tolist(), strict=True):
            if key in selections.pooled(method, rule) and score > scores.get(key, -1.0):
                scores[key], methods[key] = score, method
    answers = selections.answered({key: selections.pooled(m, rule)[key] for key, m in sorted(methods.items())})
    estimate = whole_estimate(selections, answers) if methods else None
    if estimate is None:
        missing = sorted(set(selections.held_outs) - {held_out for held_out, _ in methods})
        gap = f"no answers for {', '.join(missing)}" if missing else "no seed has all that is held out"
        return _Picked(answers, methods, float("nan"), cells.Number(Cell(note=gap)))
    trials = {t for (name, _), m in methods.items() for t in cells.trials_of(selections, m, rule, name)}
    folds = int(selections.rows["folds"].iloc[0])
    number = cells.cell_of([estimate], options, folds=folds, trials=tuple(sorted(trials)))
    behind = []
    for method in dict.fromkeys(methods.values()):
        picks = selections.picks(method, rule)
        tests = zip(picks["held_out"], picks["seed"], strict=True)
        behind.append(picks[[methods.get(test) == method and test[1] in estimate.seeds for test in tests]])
    ece = 100 * mean_beside(pd.concat(behind), "ece", "n_test")
    return _Picked(answers, methods, ece, cells.Number(number, estimate))


def _methods(setting: Setting, selections: Selections, rule: str) -> list[Method]:
    """Return the methods among which is picked: none that looks at tested images or cannot predict new classes."""
    halves = setting.class_half != "all"
    fair = [m for m in methods_of([(setting, selections)]) if is_contender(m) and not m.looks_at_target_images]
    known = [m for m in fair if not (m.imported or (halves and m.learns_classes))]
    return [m for m in known if selections.is_whole(m, rule)]


def _worst(picked: Mapping[str, _Picked], options: Options) -> tuple[Cell, str]:
    """Return the lowest accuracy in an environment of all data sets, and which it is; a gap where one is not whole."""
    found = []
    for dataset, one in picked.items():
        if one.number.estimate is None:
            return Cell(note="something has no answers"), ""
        means = one.number.estimate.means[0]
        held_out = one.number.estimate.held_outs[int(means.argmin())]
        found.append((float(means.min()), f"{dataset}: {held_out}" if len(picked) > 1 else held_out, one, held_out))
    accuracy, name, one, held_out = min(found, key=lambda one: one[0])
    alone = one.answers.estimate(held_out=held_out)
    assert alone is not None  # it is a part of the whole
    return replace(cells.cell_of([alone], options), value=100 * accuracy), name
