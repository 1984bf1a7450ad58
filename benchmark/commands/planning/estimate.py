"""How long a recipe takes, stage by stage: by what its store measured, or this machine, or a reference machine."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files

from benchmark.backbones.facts import Embeds
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.errors import IcmBenchError
from benchmark.common.machine import gpu_name
from benchmark.common.storage.files import Storage
from benchmark.recipe.recipe import Recipe
from benchmark.store import costs as cost_files
from benchmark.store.costs import Cost
from benchmark.sweep.trials import TrialSpec, unfolded
from benchmark.sweep.work import BETWEEN, FIRST_TRIAL, MOMENTS, Size, kind_of, summing_work, work_of

_FAR = 16.0  # times as much work, or as little, is no guide where there is a better one
_DEAREST = 3  # parts of a recipe that are named
EMBEDDING, REPORTING = "embedding", "report"  # stages that a bill looks at
STORE, MACHINE, REFERENCE = "in this store", "on this machine", "on a reference machine"
_CALIBRATION = 15.0  # seconds, after which no trial is begun any more; one takes a few
_WORDS = 5  # of a kind of trial: its predictor and projection with their parameters


def embedding_kind(backbone: BackboneSpec) -> tuple[str, ...]:
    """Return the kind of cost of a backbone's embeddings, whatever engine makes them; the work is views."""
    label = backbone.model_copy(update={"engine": "auto"}).label  # last: speed does not depend on the weights
    return "embedding", backbone.name, f"{backbone.image_size or 'its own size'}", backbone.precision, label


def start_kind(backbone: BackboneSpec) -> tuple[str, ...]:
    """Return the kind of cost of what is done once for each data set with a backbone: workers, weights, warm-up."""
    return "start of embedding", *embedding_kind(backbone)[1:]


@dataclass(frozen=True)
class Known:
    """Measured costs by source (store, this machine, reference), the most trusted source first."""

    places: Mapping[str, Sequence[Cost]]

    @classmethod
    def here(cls, storage: Storage) -> "Known":
        """Return what was measured in a store, and on this machine."""
        return cls({STORE: cost_files.read(storage), MACHINE: cost_files.read(cost_files.on_this_machine())})

    def or_elsewhere(self) -> "Known":
        """Return it with what a reference machine took, which comes with the package, in the place of what lacks."""
        return Known({**self.places, REFERENCE: of_reference()})

    def find(self, kind: tuple[str, ...], work: float, least: int) -> tuple[float, str] | None:
        """Return the seconds of some work, and where they were measured; None where nobody did.

        The store is preferred to this machine, and this machine to the reference, unless a measurement of a less
        preferred source is of a more similar kind or of a more similar amount of work.
        """
        near = {w: [c for c in costs if 1 / _FAR < c.work / work < _FAR] for w, costs in self.places.items()}
        for places in (near, self.places):
            found = {where: cost_files.most_alike(costs, kind, work, least) for where, costs in places.items()}
            there = [(where, cost) for where, cost in found.items() if cost]
            if there:  # the first of those that are most alike
                where, cost = max(there, key=lambda one: cost_files.shared(one[1].kind, kind))
                return cost.seconds * work / cost.work, f"{where} ({cost.machine})" if where == REFERENCE else where
        return None


def of_reference() -> list[Cost]:
    """Return what a reference machine took."""
    return cost_files.of_json((files("benchmark.store") / "reference_costs.json").read_bytes())


@dataclass
class Estimate:
    """How long a recipe takes; stages of which nothing is known are left out."""

    stages: dict[str, float] = field(default_factory=dict)  # seconds, as a clock shows them
    core_hours: float = 0.0  # of the trials
    cores: int = 1  # that trials have
    by: dict[str, float] = field(default_factory=dict)  # where it was measured -> seconds that rest on it
    unknown: list[str] = field(default_factory=list)  # kinds of work that nobody measured, in words
    cheaper: dict[str, float] = field(default_factory=dict)  # what may be left out -> share of the trials' time

    @property
    def seconds(self) -> float:
        """Of all stages together."""
        return sum(self.stages.values())

    def add(
        self, known: Known, stage: str, kind: tuple[str, ...], work: float, least: int = 1, times: int = 1
    ) -> float:
        """Add some work, done `times` times, to a stage; return its core-seconds, 0 where nobody knows them.

        `least` words of the kind must be those of what was measured. All cores share the trials of a kind.
        """
        found = known.find(kind, work, least) if work else (0.0, "")
        if found is None:
            self.unknown = list(dict.fromkeys([*self.unknown, " ".join(kind[:3])]))
            return 0.0
        seconds, where = times * found[0], found[1]
        if seconds:
            elapsed = seconds / (self.cores if kind[0] == "trial" else 1)
            self.stages[stage] = self.stages.get(stage, 0.0) + elapsed
            self.by[where] = self.by.get(where, 0.0) + elapsed
        return seconds

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
            less = ", ".join(f"{share:.0%} less without {what}" for what, share in self.cheaper.items())
            lines.append(f"trials: {core_hours(self.core_hours)}{f'; {less}' if less else ''}")
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
class PlannedSweep:
    """A data set, as its trials see it."""

    name: str
    images: Mapping[str, int]  # of each environment
    classes: int
    kinds: tuple[str, ...] | None = None  # of pairs, see `Subject.kinds`; None for all of the recipe


Planned = tuple[str, TrialSpec, Size, int]  # data set, trial, what it runs on, and how often


def planned_trials(recipe: Recipe, sweeps: Sequence[PlannedSweep], towers: Sequence[Embeds]) -> Iterator[Planned]:
    """Yield a recipe's trials: the data set, the trial, what it runs on, and how often, as a search has many points."""
    shifts = [sweeps[i] for i in recipe.shifts()]
    points = recipe.sweep.search.samples if recipe.sweep.search else 1
    for dim, texts in towers:
        for one in sweeps:
            of_sets = {s.name: sum(s.images.values()) for s in (one, *shifts)}
            for spec, of_one in unfolded(recipe, one.name, dim, one.images, one.kinds, texts):
                images = of_sets if spec.protocol.across_sets else of_one
                if spec.rows(list(images)):
                    yield one.name, spec, Size(images, one.classes, dim), points if spec.space else 1


@dataclass(frozen=True)
class Workload:
    """All that a recipe amounts to, where nothing is done yet."""

    recipe: Recipe
    sweeps: Sequence[PlannedSweep]
    towers: Sequence[Embeds]  # of each of its backbones
    planned: Sequence[Planned]


def estimated(
    work: Workload, known: Known, embedding: Sequence[BackboneSpec], cores: int, trials: int, rows: int
) -> Estimate:
    """Return how long a recipe takes, by what was measured.

    Of the backbones in `embedding` the runs on any device count; `trials` and `rows` are those of all planned trials.
    """
    recipe, sweep, estimate = work.recipe, work.recipe.sweep, Estimate(cores=cores)
    add = partial(estimate.add, known)
    views = {one.name: (sum(one.images.values()), recipe.view_count(one.name)) for one in work.sweeps}
    add("start", cost_files.START, 1)
    for backbone in () if recipe.is_imported else embedding:
        for images, count in views.values():
            add(EMBEDDING, start_kind(backbone), 1)
            add(EMBEDDING, embedding_kind(backbone), images * count, least=4)
    add("moments", MOMENTS, sum(summing_work(*of_set, dim) for of_set in views.values() for dim, _ in work.towers))
    add("trials", FIRST_TRIAL, 1)
    add("trials", BETWEEN, trials)
    of_parts: defaultdict[str, float] = defaultdict(float)
    for name, spec, size, count in work.planned:
        seconds = add("trials", kind_of(spec), work_of(spec, size), least=2, times=count)
        estimate.core_hours += seconds / 3600
        for part in (name, spec.predictor.label, spec.projection.label, spec.protocol.name):
            of_parts[part] += seconds
    add(REPORTING, cost_files.REPORT, cost_files.report_work(rows), least=len(cost_files.REPORT))
    if whole := 3600 * estimate.core_hours:  # what may be left out: parts of which the recipe has several
        components = (sweep.predictors, sweep.all_projections(), sweep.protocols)
        sorts = [[*views], *({component.label for component in sort} for sort in components)]
        shares = {name: of_parts[name] / whole for sort in sorts if len(sort) > 1 for name in sort}
        dearest = sorted(shares, key=lambda name: (-shares[name], name))[:_DEAREST]
        estimate.cheaper = {name: shares[name] for name in dearest}
        if len(sweep.seeds) > 1:
            estimate.cheaper["all seeds but one"] = 1 - 1 / len(sweep.seeds)
    return estimate


def calibrate(recipe: Recipe, storage: Storage, planned: Sequence[Planned]) -> None:
    """Measure trials and backbones of a recipe of which neither its store nor this machine knows what they take.

    Backbones run on random pixels, trials on simulated embeddings; what comes of it is kept for this machine.
    """
    from benchmark.backbones.describe import describe
    from benchmark.backbones.engines import throughputs
    from benchmark.backbones.loading import Backbone, best_device
    from benchmark.commands.preparing.prepare import notify_on_stderr
    from benchmark.sweep.calibrating import measured

    known, costs = Known.here(storage), list[Cost]()
    for spec in () if recipe.is_imported else recipe.backbones:
        device = best_device()
        alike = {where: [c for c in there if c.device in ("", device)] for where, there in known.places.items()}
        if Known(alike).find(embedding_kind(spec), 1, least=4):
            continue
        spec = spec.with_absolute_paths()
        notify_on_stderr(f"calibrating {spec.label} on random pixels")
        try:
            facts = describe(spec)
            engine = facts.engine if device == "cpu" else "torch"
            backbone = Backbone(spec.model_copy(update={"engine": engine}))
            rate = throughputs({engine: backbone.embed}, tuple(facts.preprocess["size"]))[engine]
        except IcmBenchError as error:  # its weights cannot be had
            notify_on_stderr(f"note: {error}")
            continue
        gpu = gpu_name() if device == "cuda" else ""
        costs.append(Cost(embedding_kind(spec), rate, 1.0, device=device, actors=1, gpu=gpu))
    work: defaultdict[tuple[str, ...], float] = defaultdict(float)
    example: dict[tuple[str, ...], tuple[TrialSpec, Size]] = {}
    for _, trial, size, count in planned:
        kind = kind_of(trial)[:_WORDS]
        work[kind] += count * work_of(trial, size)
        example.setdefault(kind, (trial, size))
    most_first = sorted(work, key=lambda kind: -work[kind])
    if lacking := [example[kind] for kind in most_first if known.find(kind, work[kind], _WORDS) is None]:
        notify_on_stderr(f"calibrating {len(lacking)} kinds of trials on simulated embeddings")
    cost_files.remember([cost_files.on_this_machine()], [*costs, *measured(lacking, _CALIBRATION)])
