"""Which backbone: the group that is tied with the best, what is dominated, and the one that this speaks for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from benchmark.common.errors import IcmBenchError
from benchmark.method.evaluation.inference import ImageInterval, pooled_interval
from reports.analysis.options import Options
from reports.analysis.settings import Setting
from reports.analysis.ties import Ties, ties
from reports.analysis.whole import whole_estimate
from reports.choose.candidates import Candidate, candidate, lacking
from reports.choose.speeds import Costs, Measured, Speeds, speeds_of
from reports.tables.alike import Described, by_backbone, by_data_set, check_alike, common_rule

NAME = "choose"
# Speeds are of one run each: what differs by less is not called faster.
MIN_FASTER = 1.1


@dataclass(frozen=True)
class Choice:
    """What the rows of several backbones say of which to take.

    Attributes:
        rule: by which everything was picked.
        candidates: those that are compared, the highest average first.
        ties: who is not separated from the best, by label.
        differences: backbone -> what is picked for it minus what is picked for the best, on the same images.
        speeds: what was measured alike.
        left_out: sentences on backbones that are not compared, and on methods that some lack.
        described: the settings behind it all.
    """

    rule: str
    candidates: tuple[Candidate, ...]
    ties: Ties[str]
    differences: Mapping[str, ImageInterval]
    speeds: Speeds
    left_out: tuple[str, ...]
    described: Described

    @property
    def best(self) -> Candidate:
        """The backbone with the highest average."""
        return self.of(self.ties.best)

    @property
    def tied(self) -> list[Candidate]:
        """The others that are not separated from it, the fastest first; those without a speed last."""
        others = [one for one in self.candidates if one.name in self.ties.tied and one is not self.best]
        return sorted(others, key=lambda one: -(one.measured.images_per_second or 0.0))

    @property
    def chosen(self) -> Candidate | None:
        """The fastest of the best and those tied with it; None where intervals or speeds do not say.

        The best itself where nothing is tied with it, or nothing that is was measured to be faster.
        """
        if not self.ties.tied:
            return None
        if not self.tied:
            return self.best
        times = self.times_as_fast(self.tied[0])
        if times is None:
            return None
        return self.tied[0] if times >= MIN_FASTER else self.best

    @property
    def front(self) -> list[Candidate]:
        """The backbones that no other is above in both: accuracy in the worst environment, and speed; slowest first."""
        placed = [(one, speed, one.worst.cell.value or 0.0) for one in self.candidates
                  if one.worst and (speed := one.measured.images_per_second)]  # fmt: skip
        front = [
            one
            for one, speed, accuracy in placed
            if not any(s >= speed and a >= accuracy and (s, a) != (speed, accuracy) for _, s, a in placed)
        ]
        return sorted(front, key=lambda one: one.measured.images_per_second or 0.0)

    def of(self, name: str) -> Candidate:
        """Return a backbone by its label."""
        return next(one for one in self.candidates if one.name == name)

    def p(self, one: Candidate) -> float | None:
        """Return the p-value of no difference to the best, adjusted by Holm over all pairs; None of the best itself."""
        pairs = ((one.name, self.best.name), (self.best.name, one.name))
        return next((self.ties.adjusted[pair] for pair in pairs if pair in self.ties.adjusted), None)

    def times_as_fast(self, one: Candidate) -> float | None:
        """Return how many times as many images a second a backbone encodes as the best; None where that is unknown."""
        speed, of_best = one.measured.images_per_second, self.best.measured.images_per_second
        return speed / of_best if speed and of_best else None


def choose(described: Described, costs: Costs, options: Options) -> Choice:
    """Return which backbone the rows speak for.

    Args:
        described: settings with their rows; bounds, and halves of what stands together, do not count.
        costs: backbone -> what its embeddings cost.
        options: what the reader asks for.

    Raises:
        IcmBenchError: fewer than two backbones can be compared, or rows are of unlike protocols.
    """
    fair, left_out = _comparable(described)
    check_alike(fair, NAME)
    rule, parts = common_rule(fair), by_backbone(fair)
    speeds = speeds_of({name: costs.get(name, ()) for name in parts})
    every = [candidate(name, own, rule, options, speeds.of.get(name, Measured())) for name, own in parts.items()]
    whole = [one for one in every if one.average.value is not None]
    left_out += [f"{one.name} is not compared: {one.average.note}." for one in every if one not in whole]
    if len(whole) < 2:
        raise _too_few([one.name for one in whole], left_out)
    differences = {(a.name, b.name): _difference(a, b) for a, b in combinations(whole, 2)}
    found = ties([one.name for one in whole], differences)
    names = [one.name for one in whole]
    minus_best = {name: _turned(differences, name, found.best) for name in names if name != found.best}
    ordered = sorted(whole, key=lambda one: (one.name != found.best, -(one.average.value or 0.0)))
    shown = [part for part in fair if part[0].backbone_label in names]
    return Choice(rule, tuple(ordered), found, minus_best, speeds, (*left_out, *lacking(whole)), shown)


def _comparable(described: Described) -> tuple[Described, list[str]]:
    """Return the settings that count, of two backbones or more, and sentences on backbones that do not."""
    fair = [(s, selections) for s, selections in described if not s.protocol_class.looks_at_target]
    together = {_whole(s) for s, _ in fair if s.class_half == "harmonic"}
    fair = [(s, x) for s, x in fair if s.class_half not in ("base", "new") or _whole(s) not in together]
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


def _whole(setting: Setting) -> Setting:
    return replace(setting, class_half="", prompts=(), rounding=None)


def _too_few(there: Sequence[str], left_out: Sequence[str]) -> IcmBenchError:
    only = f"rows of '{there[0]}' alone" if there else "rows of no backbone"
    reasons = f" ({'; '.join(one.rstrip('.') for one in left_out)})" if left_out else ""
    return IcmBenchError(
        f"To choose between backbones takes two of them with answers for all that is held out, and there are {only}"
        f"{reasons}: finish them with `icm-bench run RECIPE`."
    )


def _difference(one: Candidate, other: Candidate) -> ImageInterval:
    """Return what is picked for one backbone minus what is for another on the same images, data sets counting alike."""
    intervals = []
    for setting, selections in one.parts:
        ours, theirs = (each.picked[setting.dataset].answers for each in (one, other))
        estimate = whole_estimate(selections, ours, theirs)
        if estimate is None:
            raise IcmBenchError(
                f"'{one.name}' and '{other.name}' were never tested on the same images of all that is held out of "
                f"{setting.dataset}: finish both with `icm-bench run RECIPE`, or take common seeds with --where."
            )
        intervals.append(estimate.interval)
    return pooled_interval(intervals)


def _turned(differences: Mapping[tuple[str, str], ImageInterval], one: str, best: str) -> ImageInterval:
    if (one, best) in differences:
        return differences[one, best]
    found = differences[best, one]
    return replace(found, estimate=-found.estimate)


def record(choice: Choice, sentence: str) -> dict[str, Any]:
    """Return a choice as plain data: accuracies in percent, differences in points, memory in bytes."""
    chosen = choice.chosen
    return {
        "sentence": sentence,
        "chosen": chosen.name if chosen else None,
        "best": choice.best.name,
        "tied": list(choice.ties.tied),
        "rule": choice.rule,
        "measured_on": choice.speeds.where or None,
        "backbones": [_line(choice, one) for one in choice.candidates],
        "left_out": list(choice.left_out),
    }


def _line(choice: Choice, one: Candidate) -> dict[str, Any]:
    difference, worst = choice.differences.get(one.name), one.worst
    numbers = {
        "zero_shot": one.plain.value,
        "picked": one.average.value,
        "picked_low": one.average.low,
        "picked_high": one.average.high,
        "minus_best": None if difference is None else 100 * difference.estimate,
        "minus_best_low": None if difference is None else 100 * difference.low,
        "minus_best_high": None if difference is None else 100 * difference.high,
        "p_holm": choice.p(one),
        "worst_environment_accuracy": worst.cell.value if worst else None,
        "ece": one.ece.value,
        "images_per_second": one.measured.images_per_second,
    }
    return {
        "backbone": one.name,
        **{name: None if value is None or value != value else round(value, 6) for name, value in numbers.items()},
        "worst_environment": worst.name if worst else None,
        "memory": one.measured.memory,
        "on_front": one in choice.front,
        "methods": one.methods,
    }
