"""Which of several backbones rows speak for: what is known of each, who is tied with the best, and the table of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, TypeAlias

import pandas as pd

from benchmark.common.errors import IcmBenchError
from benchmark.method.evaluation.inference import ImageInterval, pooled_interval
from reports.analysis.answers import Answered, Key
from reports.analysis.backbones import ZERO_SHOT
from reports.analysis.chosen import Selections, mean_beside, whole_estimate
from reports.analysis.comparisons import Ties, ties
from reports.analysis.methods import Method
from reports.analysis.options import Options
from reports.analysis.settings import Setting
from reports.render.table import Block, Cell, Column, Line, Table
from reports.tables import cells, words
from reports.tables.alike import Described, by_backbone, by_data_set, check_alike, common_rule
from reports.tables.by_method import methods_of

Cost: TypeAlias = Mapping[str, Any]  # fields of `benchmark.store.costs.Cost`
NAME = "choose"
MIN_FASTER = 1.1  # speeds of one run vary: what differs by less is not called faster
_ALIKE = ("run", "machine", "device", "actors", "cores")  # what speeds must share to be compared
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


@dataclass(frozen=True)
class Candidate:
    """One backbone, with what the rule picks for each held-out environment and seed: method and setting alike.

    Attributes:
        name: its label.
        answers: data set -> answers of what is picked.
        methods: label of a method -> in how many tests it is picked.
        plain: accuracy of plain zero-shot in percent, averaged over data sets.
        average: mean accuracy of the picked method.
        worst: accuracy in the environment of all data sets where it is lowest.
        worst_name: that environment; of several data sets with the data set before it.
        ece: calibration error of what is picked, in percent.
        speed: images (views) a second through decoding, interventions and encoder; None where the run whose speeds are
            compared did not measure it.
        memory: bytes that an encoder took at most there; None where that is not known.
    """

    name: str
    answers: Mapping[str, Answered]
    methods: Mapping[str, int]
    plain: Cell
    average: Cell
    worst: Cell
    worst_name: str
    ece: Cell
    speed: float | None
    memory: int | None


@dataclass(frozen=True)
class Choice:
    """What the rows of several backbones say of which to take.

    Attributes:
        rule: by which everything was picked.
        candidates: those that are compared, the highest average first.
        ties: who is not separated from the best, by label.
        differences: backbone -> its picked method minus the best backbone's, on the same images.
        measured_on: where speeds were measured, in words; empty where none may be compared.
        left_out: sentences on backbones that are not compared, and on methods that some lack.
        described: the settings behind it all, with their rows.
    """

    rule: str
    candidates: tuple[Candidate, ...]
    ties: Ties[str]
    differences: Mapping[str, ImageInterval]
    measured_on: str
    left_out: tuple[str, ...]
    described: Described

    @property
    def best(self) -> Candidate:
        """The backbone with the highest average."""
        return self.candidates[0]

    @property
    def tied(self) -> list[Candidate]:
        """The others that are not separated from it, the fastest first; those without a speed last."""
        others = [one for one in self.candidates[1:] if one.name in self.ties.tied]
        return sorted(others, key=lambda one: -(one.speed or 0.0))

    @property
    def chosen(self) -> Candidate | None:
        """The fastest of the best and those tied with it; None where intervals or speeds do not say."""
        if not self.tied:
            return self.best if self.ties.tied else None
        times = self.times_as_fast(self.tied[0])
        return None if times is None else self.tied[0] if times >= MIN_FASTER else self.best

    @property
    def front(self) -> list[str]:
        """The backbones that no other is above in both: accuracy in the worst environment, and speed."""
        placed = {one.name: (one.speed, one.worst.value or 0.0) for one in self.candidates if one.speed}
        every = placed.values()
        behind = {at for at in every for x, y in every if (x, y) != at and x >= at[0] and y >= at[1]}
        return [name for name, at in placed.items() if at not in behind]

    def p(self, name: str) -> float | None:
        """Return the p-value of no difference to the best, adjusted by Holm over all pairs; None of the best itself."""
        return next((p for pair, p in self.ties.adjusted.items() if {*pair} == {name, self.best.name}), None)

    def times_as_fast(self, one: Candidate) -> float | None:
        """Return how many times as many images a second a backbone encodes as the best; None where that is unknown."""
        return one.speed / self.best.speed if one.speed and self.best.speed else None


def build(choice: Choice, options: Options, names: Mapping[str, str]) -> Table:
    """Return a line for each backbone, the highest average first; what was not recorded is a gap that says why.

    Args:
        choice: what the rows say.
        options: what stands behind ±.
        names: long name -> short name of backbones.
    """
    described, tied = choice.described, choice.ties.tied
    bold = len(tied) < len(choice.candidates)
    gap = "not measured in the run whose speeds are compared" if choice.measured_on else "no run recorded it"
    lines, picked, worst = [], [], dict[str, list[str]]()
    for one in choice.candidates:
        difference, short = choice.differences.get(one.name), words.short(one.name, names)
        unknown = "not recorded where the speed was" if one.speed else gap
        made = (
            one.plain,
            replace(one.average, best=bold and one.name in tied),
            Cell(note="the best itself") if difference is None else cells.points(difference),
            one.worst,
            one.ece,
            cells.known(one.speed, gap),
            cells.known(one.memory and one.memory / 2**30, unknown, decimals=2),
        )
        lines.append(Line(one.name, made, short))
        worst.setdefault(one.worst_name, []).append(short)
        counts = ", ".join(f"{label} in {n}" for label, n in one.methods.items())
        picked.append(f"Picked for {one.name}: {counts} of {sum(one.methods.values())} tests.")
    where = [f"{name} for {' and '.join(own) if len(worst) > 1 else 'all'}" for name, own in worst.items()]
    own = [_PICKED, f"Worst environment: {'; '.join(where)}.", words.INTERVAL]
    own += [_BOLD if bold else _LEVEL] if tied else []
    own += [_SPEED.format(choice.measured_on)] if choice.measured_on else []
    own += [_MEMORY] if any(one.memory for one in choice.candidates) else []
    caption = f"Which backbone: accuracy (%), calibration, speed and memory on {', '.join(by_data_set(described))}."
    caption, blocks = words.caption(described, caption), (Block("", tuple(lines)),)
    notes = (*words.notes(described, choice.rule, options, own), *choice.left_out)
    context = words.context(described, choice.rule, options)
    return Table(NAME, caption, _COLUMNS, blocks, notes, tuple(picked), "Backbone", context)


def choose(described: Described, costs: Mapping[str, Sequence[Cost]], options: Options) -> Choice:
    """Return which backbone the rows speak for.

    Args:
        described: settings with their rows; bounds, and halves of what stands together, do not count.
        costs: backbone -> what its embeddings cost, see `of_one_run`.
        options: what the reader asks for.

    Raises:
        IcmBenchError: fewer than two backbones can be compared, or rows are of unlike protocols.
    """
    fair, left_out = _comparable(described)
    check_alike(fair, NAME)
    rule, parts = common_rule(fair), by_backbone(fair)
    measured, where = of_one_run({name: costs.get(name, ()) for name in parts})
    every = {name: _candidate(name, own, rule, options, measured.get(name)) for name, own in parts.items()}
    left_out += [f"{name} is not compared: {one}." for name, one in every.items() if isinstance(one, str)]
    whole = {name: one for name, one in every.items() if isinstance(one, Candidate)}
    _check_two([*whole], left_out)
    of_each = {name: {m.label for m in methods_of(parts[name]) if not m.imported} for name in whole}
    for name, own in of_each.items():
        if lacking := sorted(set().union(*of_each.values()) - own):  # these cannot be picked there
            more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
            left_out.append(f"{name} has no rows of {', '.join(lacking[:3])}{more}.")
    differences = {(a, b): _difference(parts[a], whole[a], whole[b]) for a, b in combinations(whole, 2)}
    found = ties([*whole], differences)
    to_best = {b: replace(one, estimate=-one.estimate) for (a, b), one in differences.items() if a == found.best}
    to_best |= {a: one for (a, b), one in differences.items() if b == found.best}
    ordered = sorted(whole.values(), key=lambda one: (one.name != found.best, -(one.average.value or 0.0)))
    shown = [part for part in fair if part[0].backbone_label in whole]
    return Choice(rule, tuple(ordered), found, to_best, where, tuple(left_out), shown)


def _comparable(described: Described) -> tuple[Described, list[str]]:
    """Return the settings that count, of two backbones or more, and sentences on backbones that do not."""
    fair = [(s, selections) for s, selections in described if not s.protocol_class.looks_at_target]
    if any(s.class_half == "harmonic" for s, _ in fair):
        fair = [(s, selections) for s, selections in fair if s.class_half not in ("base", "new")]
    random = {s.backbone for s, _ in fair if s.random_weights}
    left_out = [f"{name} is not compared: its weights are random." for name in sorted(random)]
    fair = [(s, selections) for s, selections in fair if not s.random_weights]
    sets = by_data_set(fair)
    for name, parts in by_backbone(fair).items():
        if missing := [dataset for dataset in sets if dataset not in by_data_set(parts)]:
            left_out.append(f"{name} is not compared: it has no rows of {', '.join(missing)}.")
            fair = [(s, selections) for s, selections in fair if s.backbone_label != name]
    _check_two([*by_backbone(fair)], left_out)
    return fair, left_out


def _check_two(there: Sequence[str], left_out: Sequence[str]) -> None:
    """Refuse fewer than two backbones, with the reasons why others are left out."""
    if len(there) < 2:
        only = f"rows of '{there[0]}' alone" if there else "rows of no backbone"
        reasons = f" ({'; '.join(one.rstrip('.') for one in left_out)})" if left_out else ""
        raise IcmBenchError(
            f"To choose between backbones takes two of them with answers for all that is held out, and there are {only}"
            f"{reasons}: finish them with `icm-bench run RECIPE`."
        )


def of_one_run(costs: Mapping[str, Sequence[Cost]]) -> tuple[dict[str, Cost], str]:
    """Return what embeddings of backbones cost in one run, with encoders alike, and where that was, in words.

    Of several runs that with most backbones counts, then that with most images, and of a backbone what was measured on
    most images, since it depends least on how it began and ended. Costs of an earlier version, which name no run, are
    left out: nobody knows what else the machine did.

    Args:
        costs: backbone -> what its embeddings cost.
    """
    runs: dict[tuple[Any, ...], dict[str, Cost]] = {}
    for backbone, every in costs.items():
        for cost in sorted(every, key=lambda cost: float(cost["work"])):
            if cost.get("run"):
                runs.setdefault(tuple(cost[name] for name in _ALIKE), {})[backbone] = cost
    if not runs:
        return {}, ""
    found = max(runs.values(), key=lambda of_run: (len(of_run), sum(cost["work"] for cost in of_run.values())))
    one = next(iter(found.values()))
    encoders = f"{one['actors']} encoder{'s' if one['actors'] != 1 else ''} on {one['device']}"
    threads = f" with {one['cores']} thread{'s' if one['cores'] > 1 else ''} each" if one["cores"] else ""
    return found, f"{encoders}{threads}, {one['machine']}"


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


def _candidate(name: str, parts: Described, rule: str, options: Options, cost: Cost | None) -> Candidate | str:
    """Return what is known of a backbone, given its settings, one of each data set; or why it is not compared."""
    answers: dict[str, Answered] = {}
    labels: list[str] = []
    numbers, worst, errors = [], [], []  # a number for each data set; of those that are whole also the other two
    for setting, selections in parts:
        picked = _picked(setting, selections, rule)
        methods = {key: method for key, (_, method, _) in picked.items()}
        labels += [method.label for method in methods.values()]
        own = selections.answered({key: selections.pooled(m, rule)[key] for key, m in sorted(methods.items())})
        answers[setting.dataset] = own
        estimate = whole_estimate(selections, own) if methods else None
        if estimate is None:
            missing = sorted(set(selections.held_outs) - {held_out for held_out, _ in methods})
            gap = f"no answers for {', '.join(missing)}" if missing else "no seed has all that is held out"
            numbers.append((setting.dataset, cells.Number(Cell(note=gap))))
            continue
        trials = {t for (name, _), m in methods.items() for t in cells.trials_of(selections, m, rule, name)}
        folds = int(selections.rows["folds"].iloc[0])
        cell = cells.cell_of([estimate], options, folds=folds, trials=tuple(sorted(trials)))
        numbers.append((setting.dataset, cells.Number(cell, estimate)))
        behind = pd.concat(picks for (_, seed), (_, _, picks) in picked.items() if seed in estimate.seeds)
        errors.append(100 * mean_beside(behind, "ece", "n_test"))
        lowest = int(estimate.means[0].argmin())
        worst.append((float(estimate.means[0][lowest]), setting.dataset, estimate.held_outs[lowest]))
    average = cells.over_sets(numbers, options)
    if average.value is None:
        return str(average.note)
    accuracy, dataset, held_out = min(worst, key=lambda one: one[0])
    alone = answers[dataset].estimate(held_out=held_out)
    assert alone is not None  # it is a part of the whole
    worst_cell = cells.cell_of([alone], options, value=100 * accuracy)
    worst_name = f"{dataset}: {held_out}" if len(parts) > 1 else held_out
    ece = cells.known(sum(errors) / len(errors), "no calibration error at what is picked")
    counts = {label: labels.count(label) for label in dict.fromkeys(labels)}
    of_plain = [(s.dataset, cells.accuracy(selections, ZERO_SHOT, rule, options)) for s, selections in parts]
    plain = cells.over_sets(of_plain, options)
    speed, memory = (cost["work"] / cost["seconds"], cost["memory"] or None) if cost else (None, None)
    return Candidate(name, answers, counts, plain, average, worst_cell, worst_name, ece, speed, memory)


def _picked(setting: Setting, selections: Selections, rule: str) -> dict[Key, tuple[float, Method, pd.DataFrame]]:
    """Return (held_out, seed) -> the method that the rule scores highest on the sources, its score and its picks.

    None is among them that looks at tested images, or that cannot predict new classes where these are tested.
    """
    found: dict[Key, tuple[float, Method, pd.DataFrame]] = {}
    for method in methods_of([(setting, selections)]):  # of equals the first in the order of tables: plain first
        unfair = method.imported or method.looks_at_target_images
        if unfair or (setting.class_half != "all" and method.learns_classes) or not selections.is_whole(method, rule):
            continue
        by_test = selections.picks(method, rule).groupby(["held_out", "seed"])
        scores = by_test["score"].mean().dropna()
        for key, score in zip(scores.index.tolist(), scores.tolist(), strict=True):
            if key in selections.pooled(method, rule) and (key not in found or score > found[key][0]):
                found[key] = score, method, by_test.get_group(key)
    return found
