"""How long a recipe takes, stage by stage: by what its store measured, or this machine, or a reference machine."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from benchmark.backbones.spec import BackboneSpec
from benchmark.commands.planning.workload import Workload
from benchmark.common.errors import IcmBenchError
from benchmark.common.machine import gpu_name
from benchmark.common.storage.files import Storage
from benchmark.store import costs as cost_files
from benchmark.store.costs import Cost
from benchmark.sweep.work import BETWEEN, FIRST_TRIAL, MOMENTS, kind_of, summing_work, work_of

_FAR = 16.0  # times as much work, or as little, is no guide where there is a better one
_DEAREST = 3  # parts of a recipe that are named
EMBEDDING, REPORTING = "embedding", "report"  # stages that a bill looks at
STORE, MACHINE, REFERENCE = "in this store", "on this machine", "on a reference machine"
_CALIBRATION = 15.0  # seconds, after which no trial is begun any more; one takes a few
_WORDS = 5  # of a kind of trial: its predictor and projection with their parameters
Known = Mapping[str, Sequence[Cost]]  # place -> what was measured there, the most trusted place first


def embedding_kind(backbone: BackboneSpec) -> tuple[str, ...]:
    """Return the kind of cost of a backbone's embeddings, whatever engine makes them; the work is views."""
    label = backbone.model_copy(update={"engine": "auto"}).label  # last: speed does not depend on the weights
    return "embedding", backbone.name, f"{backbone.image_size or 'its own size'}", backbone.precision, label


def start_kind(backbone: BackboneSpec) -> tuple[str, ...]:
    """Return the kind of cost of what is done once for each data set with a backbone: workers, weights, warm-up."""
    return "start of embedding", *embedding_kind(backbone)[1:]


def known_costs(storage: Storage) -> Known:
    """Return what was measured in a store, on this machine, and on a reference machine."""
    here = cost_files.read(cost_files.on_this_machine())
    return {STORE: cost_files.read(storage), MACHINE: here, REFERENCE: of_reference()}


def of_reference() -> list[Cost]:
    """Return what a reference machine took, which comes with the package."""
    return cost_files.of_json((files("benchmark.store") / "reference_costs.json").read_bytes())


def seconds_of(known: Known, kind: tuple[str, ...], work: float, least: int) -> tuple[float, str] | None:
    """Return the seconds of some work, and where they were measured; None where nobody did.

    A more trusted place is preferred, unless a measurement elsewhere is of a more similar kind or of a more similar
    amount of work. `least` words of the kind must be those of what was measured.
    """
    near = {where: [c for c in costs if 1 / _FAR < c.work / work < _FAR] for where, costs in known.items()}
    for places in (near, known):
        found = {where: cost_files.most_alike(costs, kind, work, least) for where, costs in places.items()}
        there = [(where, cost) for where, cost in found.items() if cost]
        if there:  # the first of those that are most alike
            where, cost = max(there, key=lambda one: cost_files.shared(one[1].kind, kind))
            return cost.seconds * work / cost.work, where
    return None


@dataclass
class Estimate:
    """How long a recipe takes; stages of which nothing is known are left out."""

    stages: dict[str, float] = field(default_factory=dict)  # seconds, as a clock shows them
    core_hours: float = 0.0  # of the trials
    cores: int = 1  # that trials have
    by: dict[str, float] = field(default_factory=dict)  # where it was measured -> seconds that rest on it
    unknown: list[str] = field(default_factory=list)  # kinds of work that nobody measured, in words
    cheaper: dict[str, float] = field(default_factory=dict)  # what may be left out -> share of the trials' time

    def text(self) -> list[str]:
        """Return the estimate in some lines."""
        lines, whole = list[str](), sum(self.stages.values())
        if self.unknown:
            lines.append(f"nobody measured {', '.join(self.unknown)}: hours are without it; `--calibrate` measures it")
        if self.stages:
            about = "at least" if self.unknown else "about"
            stages = ", ".join(f"{name} {in_words(seconds)}" for name, seconds in self.stages.items())
            by = ", ".join(f"{seconds / whole:.0%} {where}" for where, seconds in self.by.items())
            lines.append(f"{about} {in_words(whole)} on {self.cores} cores: {stages}; measured: {by}")
        if self.core_hours:
            less = "".join(f"; {share:.0%} less without {what}" for what, share in self.cheaper.items())
            lines.append(f"trials: {core_hours(self.core_hours)}{less}")
        return lines


def in_words(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def core_hours(hours: float) -> str:
    """Return core-hours in two digits, or to the hour."""
    return f"{hours:.0f} core-hours" if hours >= 10 else f"{hours:.2g} core-hours"


def estimated(work: Workload, known: Known, embedding: Sequence[BackboneSpec], cores: int) -> Estimate:
    """Return how long a recipe takes, by what was measured; of backbones in `embedding` on whatever device."""
    estimate, of_parts = Estimate(cores=cores), defaultdict[str, float](float)

    def add(stage: str, kind: tuple[str, ...], amount: float, least: int = 1, times: float = 1) -> float:
        """Add some work to a stage, and return its seconds; 0 where nobody knows them."""
        found = seconds_of(known, kind, amount, least) if amount else (0.0, STORE)
        if found is None:
            estimate.unknown = list(dict.fromkeys([*estimate.unknown, " ".join(kind[:3])]))
            return 0.0
        seconds, where = times * found[0], found[1]
        estimate.stages[stage] = estimate.stages.get(stage, 0.0) + seconds
        estimate.by[where] = estimate.by.get(where, 0.0) + seconds
        return seconds

    add("start", cost_files.START, 1)
    for backbone in embedding:
        for one in work.sets:
            add(EMBEDDING, start_kind(backbone), 1)
            add(EMBEDDING, embedding_kind(backbone), one.images * one.views + one.unlabelled, least=4)
    summed = [summing_work(one.images, one.views, dim) for one in work.sets for dim, _ in work.towers]
    add("moments", MOMENTS, sum(summed))
    add("trials", FIRST_TRIAL, 1)
    add("trials", BETWEEN, sum(trial.trials for trial in work.trials))
    for trial in work.trials:
        spec = trial.spec
        seconds = cores * add("trials", kind_of(spec), work_of(spec, trial.size), 2, trial.points / cores)
        estimate.core_hours += seconds / 3600
        for part in (trial.dataset, spec.predictor.label, spec.projection.label, spec.protocol.name):
            of_parts[part] += seconds / 3600
    rows = cost_files.report_work(sum(trial.rows for trial in work.trials))
    add(REPORTING, cost_files.REPORT, rows, least=len(cost_files.REPORT))
    whole, seeds = estimate.core_hours, len(work.recipe.sweep.seeds)
    optional = [part for part in of_parts if of_parts[part] < whole]  # what all trials have cannot be left out
    dearest = sorted(optional, key=lambda part: -of_parts[part])[:_DEAREST]
    estimate.cheaper = {part: of_parts[part] / whole for part in dearest}
    if whole and seeds > 1:
        estimate.cheaper["all seeds but one"] = 1 - 1 / seeds
    return estimate


def calibrate(work: Workload, storage: Storage) -> None:
    """Measure, for this machine, trials and backbones of which neither store nor machine knows what they take."""
    from benchmark.backbones.describe import describe
    from benchmark.backbones.engines import throughputs
    from benchmark.backbones.loading import Backbone, best_device
    from benchmark.commands.preparing.prepare import notify_on_stderr
    from benchmark.sweep.calibrating import measured

    known = [*cost_files.read(storage), *cost_files.read(cost_files.on_this_machine())]
    costs, device = list[Cost](), best_device()
    for spec in () if work.recipe.is_imported else work.recipe.backbones:
        kind = embedding_kind(spec)
        if any(c.device in ("", device) and cost_files.shared(c.kind, kind) >= 4 for c in known):
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
        costs.append(Cost(kind, rate, 1.0, device=device, actors=1, gpu=gpu_name() if device == "cuda" else ""))
    there = {cost.kind[:_WORDS] for cost in known}
    examples = {kind_of(trial.spec)[:_WORDS]: (trial.spec, trial.size) for trial in work.trials}
    lacking = [example for kind, example in examples.items() if kind not in there]
    if lacking:
        notify_on_stderr(f"calibrating {len(lacking)} kinds of trials on simulated embeddings")
    costs += measured(sorted(lacking, key=lambda example: -work_of(*example)), _CALIBRATION)
    cost_files.remember([cost_files.on_this_machine()], costs)
