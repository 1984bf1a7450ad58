"""Time estimates of a recipe's stages, from costs measured in its store, on this machine or on a reference machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from benchmark.backbones.spec import BackboneSpec
from benchmark.commands.planning.workload import Workload
from benchmark.common.errors import some
from benchmark.common.storage.files import Storage
from benchmark.store import costs as cost_files
from benchmark.store.costs import Cost
from benchmark.sweep.work import BETWEEN, FIRST_TRIAL, MOMENTS, kind_of, summing_work, work_of

_MAX_RATIO = 16.0  # a measurement of 16 times more or less work is used only without a closer one
EMBEDDING, REPORTING = "embedding", "report"  # stages in `Bill.hours`
STORE, MACHINE, REFERENCE = "in this store", "on this machine", "on a reference machine"
Known = Mapping[str, Sequence[Cost]]  # place -> costs measured there, the most trusted place first


# The kind of a cost is a tuple of words that say what was measured, from general to special.
def embedding_kind(backbone: BackboneSpec) -> tuple[str, ...]:
    """Return the kind of cost for embedding with a backbone, whatever the engine. Its work is counted in views."""
    # The label comes last: speed does not depend on weights, so `min_shared=4` (here, in machines.py) leaves it out.
    backbone = backbone.at_precision("float32").model_copy(update={"engine": "auto"})
    return "embedding", backbone.name, f"{backbone.image_size or 'its own size'}", backbone.precision, backbone.label


def start_kind(backbone: BackboneSpec) -> tuple[str, ...]:
    """Return the kind of cost for starting a backbone on a data set: workers, weights, warm-up."""
    return "start of embedding", *embedding_kind(backbone)[1:]


def known_costs(storage: Storage) -> Known:
    """Return the costs that were measured in a store, on this machine, and on a reference machine."""
    here = cost_files.read(cost_files.on_this_machine())
    return {STORE: cost_files.read(storage), MACHINE: here, REFERENCE: of_reference()}


def of_reference() -> list[Cost]:
    """Return the packaged costs of a reference machine, which tests/performance/reference_costs.py measures."""
    return cost_files.of_json((files("benchmark.store") / "reference_costs.json").read_bytes())


def seconds_of(known: Known, kind: tuple[str, ...], work: float, min_shared: int) -> tuple[float, str] | None:
    """Return the estimated seconds of `work`, and the place where they were measured; None without a measurement.

    A more trusted place is preferred, unless a measurement elsewhere has a more similar kind or amount of work. At
    least the first `min_shared` words of the measured kind must equal those of `kind`.
    """
    near = {where: [c for c in costs if 1 / _MAX_RATIO < c.work / work < _MAX_RATIO] for where, costs in known.items()}
    for places in (near, known):
        found = {where: cost_files.most_alike(costs, kind, work, min_shared) for where, costs in places.items()}
        there = [(where, cost) for where, cost in found.items() if cost]
        if there:  # of the places with the most similar kind, take the first
            where, cost = max(there, key=lambda one: cost_files.shared(one[1].kind, kind))
            return cost.seconds * work / cost.work, where
    return None


@dataclass
class Estimate:
    """Time estimate of a recipe, without stages that were never measured."""

    stages: dict[str, float] = field(default_factory=dict)  # wall-clock seconds
    core_hours: float = 0.0  # core-hours of the trials
    cores: int = 1  # cores for the trials
    by: dict[str, float] = field(default_factory=dict)  # place of measurement -> seconds estimated from it
    unknown: list[str] = field(default_factory=list)  # kinds of work without measurement, in words

    def not_measured(self) -> list[str]:
        """Return a line on the work without measurement, if there is any."""
        words = f"not measured: {some(self.unknown)}; all times below exclude it; `--measure` measures it here"
        return [words] if self.unknown else []

    def text(self) -> list[str]:
        """Return the estimate as lines of text."""
        lines, whole = list[str](), sum(self.stages.values())
        if self.stages:
            about = "at least" if self.unknown else "about"
            stages = ", ".join(f"{name} {in_words(seconds)}" for name, seconds in self.stages.items())
            by = ", ".join(f"{seconds / whole:.0%} {where}" for where, seconds in self.by.items())
            lines.append(f"{about} {in_words(whole)} on {self.cores} cores: {stages}; measured: {by}")
        if self.core_hours:
            lines.append(f"trials: {core_hours(self.core_hours)}")
        return lines


def in_words(seconds: float) -> str:
    """Return a time in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def core_hours(hours: float) -> str:
    """Return core-hours with two significant digits, from 10 on as a whole number."""
    return f"{hours:.0f} core-hours" if hours >= 10 else f"{hours:.2g} core-hours"


def estimated(work: Workload, known: Known, embedding: Sequence[BackboneSpec], cores: int) -> Estimate:
    """Return the time estimate of a recipe; `embedding` has the backbones that do not run on rented GPUs."""
    estimate = Estimate(cores=cores)

    def add(stage: str, kind: tuple[str, ...], amount: float, min_shared: int = 1, times: float = 1) -> float:
        """Add work to a stage, and return its seconds; 0 if unknown."""
        found = seconds_of(known, kind, amount, min_shared) if amount else (0.0, STORE)
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
            add(EMBEDDING, embedding_kind(backbone), one.images * one.views + one.unlabelled, min_shared=4)
    summed = [summing_work(one.images, one.views, dim) for one in work.sets for dim, _ in work.towers]
    add("moments", MOMENTS, sum(summed))
    add("trials", FIRST_TRIAL, 1)
    add("trials", BETWEEN, sum(trial.trials for trial in work.trials))
    for trial in work.trials:
        spec = trial.spec
        seconds = cores * add("trials", kind_of(spec), work_of(spec, trial.size), 2, trial.points / cores)
        estimate.core_hours += seconds / 3600
    rows = cost_files.report_work(sum(trial.rows for trial in work.trials))
    add(REPORTING, cost_files.REPORT, rows, min_shared=len(cost_files.REPORT))
    return estimate
