"""How long a recipe takes, stage by stage: from what its store measured, or this machine, or a reference machine."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from benchmark.backbones.facts import Embeds
from benchmark.backbones.spec import BackboneSpec
from benchmark.commands.planning.kinds import embedding_kind, start_kind
from benchmark.common.storage.files import Storage
from benchmark.recipe.recipe import Recipe
from benchmark.store.costs import (
    REPORT,
    START,
    Cost,
    most_alike,
    of_json,
    on_this_machine,
    read,
    report_work,
    shared,
)
from benchmark.sweep.trials import TrialSpec, unfolded
from benchmark.sweep.work import (
    BETWEEN,
    FIRST_TRIAL,
    MOMENTS,
    Size,
    kind_of,
    summing_work,
    work_of,
)

_FAR = 16.0  # times as much work, or as little, is no guide where there is a better one
_DEAREST = 3  # parts of a recipe that are named
EMBEDDING, REPORTING = "embedding", "report"  # stages that a bill looks at
STORE, MACHINE, REFERENCE = "in this store", "on this machine", "on a reference machine"


@dataclass
class Estimate:
    """How long a recipe takes.

    Attributes:
        stages: stage -> seconds, as a clock shows them; those that are not known are left out.
        core_hours: of the trials.
        cores: that trials have.
        by: where it was measured -> seconds that rest on it; the processor where it was another machine.
        unknown: kinds of work that nobody measured, in words.
        cheaper: what may be left out -> share of the trials' time that this saves.
    """

    stages: dict[str, float] = field(default_factory=dict)
    core_hours: float = 0.0
    cores: int = 1
    by: dict[str, float] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    cheaper: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Of all stages together."""
        return sum(self.stages.values())

    def text(self) -> list[str]:
        """Return the estimate in some lines."""
        lines = []
        if self.unknown:
            lines.append(
                f"nobody measured {', '.join(self.unknown)}, which no time has in it; `--calibrate` measures it"
            )
        if self.stages:
            about = "at least" if self.unknown else "about"
            stages = ", ".join(f"{name} {in_words(seconds)}" for name, seconds in self.stages.items())
            by = ", ".join(f"{seconds / self.seconds:.0%} {where}" for where, seconds in self.by.items())
            lines.append(f"{about} {in_words(self.seconds)} on {self.cores} cores: {stages}; measured: {by}")
        if self.core_hours:
            less = [f"{share:.0%} less without {what}" for what, share in self.cheaper.items()]
            lines.append("; ".join([f"trials: {core_hours(self.core_hours)}", *filter(None, [", ".join(less)])]))
        return lines


def in_words(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def core_hours(hours: float) -> str:
    """Return core-hours in two digits, or to the hour."""
    return f"{hours:.0f} core-hours" if hours >= 10 else f"{hours:.2g} core-hours"


@dataclass(frozen=True)
class Known:
    """What was measured, by place; that which counts most comes first."""

    places: Mapping[str, Sequence[Cost]]

    @classmethod
    def here(cls, storage: Storage) -> "Known":
        """Return what was measured in a store, and on this machine."""
        return cls({STORE: read(storage), MACHINE: read(on_this_machine())})

    def or_elsewhere(self) -> "Known":
        """Return it with what a reference machine took, which comes with the package, in the place of what lacks."""
        return Known({**self.places, REFERENCE: of_reference()})

    def find(self, kind: tuple[str, ...], work: float, least: int) -> tuple[float, str] | None:
        """Return the seconds of some work, and where they were measured; None where nobody did.

        The store comes before this machine, and this before the reference; unless what is known there is less alike, or
        so much more or less work that another one is the better guide.
        """
        near = {w: [c for c in costs if 1 / _FAR < c.work / work < _FAR] for w, costs in self.places.items()}
        for places in (near, self.places):
            found = {where: most_alike(costs, kind, work, least) for where, costs in places.items()}
            there = [(where, cost) for where, cost in found.items() if cost]
            if there:  # the first of those that are most alike
                where, cost = max(there, key=lambda one: shared(one[1].kind, kind))
                return cost.seconds * work / cost.work, f"{where} ({cost.machine})" if where == REFERENCE else where
        return None


def of_reference() -> list[Cost]:
    """Return what a reference machine took."""
    return of_json((files("benchmark.store") / "reference_costs.json").read_bytes())


class Estimating:
    """Adds up what the stages of a recipe take.

    Args:
        known: what was measured.
        cores: that trials have, side by side.
    """

    def __init__(self, known: Known, cores: int) -> None:
        self.estimate = Estimate(cores=cores)
        self._known = known
        self._of_trials: defaultdict[str, float] = defaultdict(float)

    def add(
        self, stage: str, kind: tuple[str, ...], work: float, least: int = 1, times: int = 1, cores: int = 1
    ) -> float:
        """Add some work to a stage, and return its core-seconds; 0 where nobody knows them.

        Args:
            stage: as the estimate names it.
            kind: see `store.costs`.
            work: how much of it; 0 adds nothing.
            least: how many words of the kind must be those of what was measured.
            times: how often it is done. Default 1.
            cores: that share the work. Default 1.
        """
        found = self._known.find(kind, work, least) if work else (0.0, "")
        estimate = self.estimate
        if found is None:
            estimate.unknown = list(dict.fromkeys([*estimate.unknown, " ".join(kind[:3])]))
            return 0.0
        seconds, where = times * found[0], found[1]
        if seconds:
            estimate.stages[stage] = estimate.stages.get(stage, 0.0) + seconds / cores
            estimate.by[where] = estimate.by.get(where, 0.0) + seconds / cores
        return seconds

    def add_trials(self, dataset: str, spec: TrialSpec, size: Size, count: int) -> None:
        """Add trials that are alike."""
        seconds = self.add("trials", kind_of(spec), work_of(spec, size), 2, count, self.estimate.cores)
        self.estimate.core_hours += seconds / 3600
        for part in (dataset, spec.predictor.label, spec.projection.label, spec.protocol.name):
            self._of_trials[part] += seconds

    def dearest(self, sorts: Iterable[Collection[str]], seeds: int) -> None:
        """Say which parts of a recipe cost most of the trials' time, of sorts that have several.

        Args:
            sorts: for each sort its parts, as `add_trials` names them.
            seeds: number of seeds.
        """
        if whole := 3600 * self.estimate.core_hours:
            parts = {name for sort in sorts if len(sort) > 1 for name in sort}
            shares = {name: self._of_trials[name] / whole for name in parts}
            most = sorted(shares, key=lambda name: (-shares[name], name))[:_DEAREST]
            self.estimate.cheaper = {name: shares[name] for name in most}
            if seeds > 1:
                self.estimate.cheaper["all seeds but one"] = 1 - 1 / seeds


@dataclass(frozen=True)
class PlannedSweep:
    """A data set, as its trials see it.

    Attributes:
        name: of the data set.
        images: environment -> number of images.
        classes: number of classes.
        kinds: kinds of pairs that it has, see `Subject.kinds`; None (default) for all of the recipe.
    """

    name: str
    images: Mapping[str, int]
    classes: int
    kinds: tuple[str, ...] | None = None


def estimated(
    recipe: Recipe,
    known: Known,
    sweeps: Sequence[PlannedSweep],
    towers: Sequence[Embeds],
    trials: int,
    rows: int,
    side_by_side: int,
    embedding: Sequence[BackboneSpec],
) -> Estimate:
    """Return how long a recipe takes where nothing is done yet.

    Args:
        recipe: what is asked for.
        known: what was measured.
        sweeps: its data sets.
        towers: embedding width of each of its backbones, and which texts it embeds.
        trials: how many it has.
        rows: how many it leaves.
        side_by_side: how many trials run at a time.
        embedding: backbones whose embedding is counted, by runs on any device.
    """
    adding = Estimating(known, min(side_by_side, trials))
    adding.add("start", START, 1)
    for backbone in () if recipe.is_imported else embedding:
        for one in sweeps:
            views = sum(one.images.values()) * recipe.view_count(one.name)
            adding.add(EMBEDDING, start_kind(backbone), 1)
            adding.add(EMBEDDING, embedding_kind(backbone), views, least=4)
    adding.add("moments", MOMENTS, _summing(recipe, sweeps, towers))
    adding.add("trials", FIRST_TRIAL, 1)
    adding.add("trials", BETWEEN, trials)
    for name, spec, size, count in planned_trials(recipe, sweeps, towers):
        adding.add_trials(name, spec, size, count)
    adding.add(REPORTING, REPORT, report_work(rows), least=len(REPORT))
    sweep = recipe.sweep
    sorts = [
        [one.name for one in sweeps],
        *({c.label for c in sort} for sort in (sweep.predictors, sweep.all_projections(), sweep.protocols)),
    ]
    adding.dearest(sorts, len(sweep.seeds))
    return adding.estimate


def _summing(recipe: Recipe, sweeps: Sequence[PlannedSweep], towers: Sequence[Embeds]) -> float:
    views = [(sum(one.images.values()), recipe.view_count(one.name)) for one in sweeps]
    return sum(summing_work(images, count, dim) for images, count in views for dim, _ in towers)


def planned_trials(
    recipe: Recipe, sweeps: Sequence[PlannedSweep], towers: Sequence[Embeds]
) -> Iterator[tuple[str, TrialSpec, Size, int]]:
    """Yield a recipe's trials: the data set, the trial, what it runs on, and how often, as a search has many points.

    Args:
        recipe: what is asked for.
        sweeps: its data sets.
        towers: embedding width of each of its backbones, and which texts it embeds.
    """
    shifts = [sweeps[i] for i in recipe.shifts()]
    points = recipe.sweep.search.samples if recipe.sweep.search else 1
    for dim, texts in towers:
        for one in sweeps:
            of_sets = {s.name: sum(s.images.values()) for s in (one, *shifts)}
            for spec, of_one in unfolded(recipe, one.name, dim, one.images, one.kinds, texts):
                images = of_sets if spec.protocol.across_sets else of_one
                if spec.rows(list(images)):
                    yield one.name, spec, Size(images, one.classes, dim), points if spec.space else 1
