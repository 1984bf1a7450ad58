"""`icm-bench plan --calibrate`: a short measurement of what nobody measured yet, before the plan."""

from collections.abc import Iterator

from benchmark.backbones.describe import describe
from benchmark.backbones.facts import Embeds
from benchmark.backbones.spec import BackboneSpec
from benchmark.commands.planning.estimate import Known, PlannedSweep, planned_trials
from benchmark.commands.planning.kinds import embedding_kind
from benchmark.commands.preparing.prepare import Notify, notify_on_stderr
from benchmark.common.errors import IcmBenchError
from benchmark.common.machine import gpu_name
from benchmark.common.storage.files import Storage
from benchmark.recipe.recipe import Recipe
from benchmark.store.costs import Cost, on_this_machine, remember
from benchmark.sweep.calibrating import measured
from benchmark.sweep.trials import TrialSpec
from benchmark.sweep.work import Size, kind_of, work_of

SECONDS = 15.0  # after which no trial is begun any more; one takes a few
_WORDS = 5  # of a kind of trial: its predictor and projection with their parameters


def calibrate(
    recipe: Recipe,
    storage: Storage,
    sweeps: list[PlannedSweep],
    towers: list[Embeds],
    notify: Notify = notify_on_stderr,
) -> None:
    """Measure trials and backbones of a recipe of which neither its store nor this machine knows what they take.

    Backbones run on random pixels, trials on simulated embeddings; what comes of it is kept for this machine.

    Args:
        recipe: what is asked for.
        storage: its store.
        sweeps: its data sets.
        towers: embedding width of each of its backbones, and which texts it embeds.
        notify: takes each line for the person who watches.
    """
    known = Known.here(storage)
    backbones = () if recipe.is_imported else recipe.backbones
    costs = [cost for spec in backbones for cost in _of_backbone(spec, known, notify)]
    lacking = list(_lacking(recipe, known, sweeps, towers))
    if lacking:
        notify(f"calibrating {len(lacking)} kinds of trials on simulated embeddings")
    remember([on_this_machine()], [*costs, *measured(lacking, SECONDS)])


def _of_backbone(spec: BackboneSpec, known: Known, notify: Notify) -> Iterator[Cost]:
    """Yield what a batch takes, unless that is known or the weights cannot be had."""
    from benchmark.backbones.engines import rates
    from benchmark.backbones.loading import Backbone, best_device

    device = best_device()
    alike = {where: [c for c in costs if c.device in ("", device)] for where, costs in known.places.items()}
    if Known(alike).find(embedding_kind(spec), 1, least=4):
        return

    spec = spec.with_absolute_paths()
    notify(f"calibrating {spec.label} on random pixels")
    try:
        facts = describe(spec)
        engine = facts.engine if device == "cpu" else "torch"
        backbone = Backbone(spec.model_copy(update={"engine": engine}))
        rate = rates({engine: backbone.embed}, tuple(facts.preprocess["size"]))[engine]
    except IcmBenchError as error:
        notify(f"note: {error}")
        return
    yield Cost(embedding_kind(spec), rate, 1.0, device=device, actors=1, gpu=gpu_name() if device == "cuda" else "")


def _lacking(
    recipe: Recipe, known: Known, sweeps: list[PlannedSweep], towers: list[Embeds]
) -> Iterator[tuple[TrialSpec, Size]]:
    """Yield a trial of each kind that nobody measured, those first that are most work."""
    work: dict[tuple[str, ...], float] = {}
    example: dict[tuple[str, ...], tuple[TrialSpec, Size]] = {}
    for _, spec, size, count in planned_trials(recipe, sweeps, towers):
        kind = kind_of(spec)[:_WORDS]
        work[kind] = work.get(kind, 0.0) + count * work_of(spec, size)
        example.setdefault(kind, (spec, size))
    for kind in sorted(work, key=lambda kind: -work[kind]):
        found = known.find(kind, work[kind], _WORDS)
        if found is None:
            yield example[kind]
