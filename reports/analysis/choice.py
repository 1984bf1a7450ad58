"""Which of several backbones: who is tied with the best, what was measured in one run, and which one to take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.method.evaluation.inference import ImageInterval
from reports.analysis.answers import Answered
from reports.analysis.chosen import Selections
from reports.analysis.settings import Setting
from reports.analysis.ties import Ties
from reports.render.table import Cell

MIN_FASTER = 1.1  # speeds of one run vary: what differs by less is not called faster
# What speeds must share to be compared, beside the run.
_ALIKE = ("run", "machine", "device", "actors", "cores")


@dataclass(frozen=True)
class Candidate:
    """One backbone, with what the rule picks for each held-out environment and seed: method and setting alike.

    Attributes:
        name: its label.
        answers: data set -> answers of what is picked.
        methods: label of a method -> in how many tests it is picked.
        plain: accuracy of plain zero-shot in percent, averaged over data sets.
        average: mean accuracy of the picked method; a gap where a held-out environment has no answers.
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
    described: Sequence[tuple[Setting, Selections]]

    @property
    def best(self) -> Candidate:
        """The backbone with the highest average."""
        return self.candidates[0]

    @property
    def tied(self) -> list[Candidate]:
        """The others that are not separated from it, the fastest first; those without a speed last."""
        return sorted(
            (one for one in self.candidates[1:] if one.name in self.ties.tied), key=lambda c: -(c.speed or 0.0)
        )

    @property
    def chosen(self) -> Candidate | None:
        """The fastest of the best and those tied with it; None where intervals or speeds do not say."""
        if not self.tied:
            return self.best if self.ties.tied else None
        times = self.times_as_fast(self.tied[0])
        return None if times is None else self.tied[0] if times >= MIN_FASTER else self.best

    @property
    def front(self) -> list[Candidate]:
        """The backbones that no other is above in both: accuracy in the worst environment, and speed; slowest first."""
        placed = [(one, (one.speed, one.worst.value)) for one in self.candidates if one.speed and one.worst.value]
        front = [
            one
            for one, at in placed
            if not any(other != at and other[0] >= at[0] and other[1] >= at[1] for _, other in placed)
        ]
        return sorted(front, key=lambda one: one.speed or 0.0)

    def p(self, name: str) -> float | None:
        """Return the p-value of no difference to the best, adjusted by Holm over all pairs; None of the best itself."""
        pairs = ((name, self.best.name), (self.best.name, name))
        return next((self.ties.adjusted[pair] for pair in pairs if pair in self.ties.adjusted), None)

    def times_as_fast(self, one: Candidate) -> float | None:
        """Return how many times as many images a second a backbone encodes as the best; None where that is unknown."""
        return one.speed / self.best.speed if one.speed and self.best.speed else None


def of_one_run(
    costs: Mapping[str, Sequence[Mapping[str, Any]]],
) -> tuple[dict[str, Mapping[str, Any]], str]:
    """Return what embeddings of backbones cost in one run, with encoders alike, and where that was, in words.

    Of several runs that with most backbones counts, then that with most images, and of a backbone what was measured on
    most images, since it depends least on how it began and ended. Costs of an earlier version, which name no run, are
    left out: nobody knows what else the machine did.

    Args:
        costs: backbone -> what its embeddings cost, as `benchmark.store.costs.Cost` has it.
    """
    runs: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
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
