"""The plan of a recipe, made without running it: counts, hours, memory, disk and price."""

from dataclasses import dataclass

from benchmark.commands.planning.estimate import Estimate, Known, estimated, known_costs
from benchmark.commands.planning.machines import Bill, Offer, Room, automatic_precision, billed, gpu_speed, room_at
from benchmark.commands.planning.workload import PlannedSet, Workload
from benchmark.common.machine import gpu_devices
from benchmark.common.storage.files import Storage
from benchmark.embedding.encoder import GPU_BATCH
from benchmark.method.evaluation.metrics import ACCURACY
from benchmark.recipe.recipe import Recipe
from benchmark.store.embeddings import chunk_size


@dataclass(frozen=True)
class PlannedBackbone:
    """One backbone of a plan."""

    label: str
    precision: str  # precision of the forward pass; for `auto`, what it is on the planned machines
    dim: int  # embedding width D
    ranks: int  # number of evaluated ranks


@dataclass(frozen=True)
class Plan:
    """Counts and estimates of a recipe. Sizes are without compression."""

    # tests/jobs/test_recipes.py compares trials and rows with a run, and all counts with the heads of jobs/recipes/.
    sets: list[PlannedSet]
    backbones: list[PlannedBackbone]
    views: int  # number of views of each training image, including the original, without views of a search
    passes: int  # number of image embeddings over all data sets and backbones
    repeated: int  # maximum number of embeddings that a killed encoder repeats, besides those being written
    searched_passes: int  # maximum number of image embeddings that a search adds
    trials: int  # number of trials of the grid and the search
    rows: int  # number of result rows
    at_most: bool  # whether `rows` is an upper bound: of numbered placebos, only selected draws are kept
    fits: dict[str, tuple[int, int, int]]  # "DATA SET, PROTOCOL" -> numbers of fits, see `TrialSpec.fit_counts`
    store_bytes: int  # size of the embeddings
    moment_bytes: int  # maximum size of the moments
    prediction_bytes: int  # maximum size of the predictions in rows
    room: Room
    estimate: Estimate
    bill: Bill | None  # None without a GPU and a price

    def text(self) -> str:
        """Return the plan as lines of text."""
        lines = self.estimate.not_measured()
        for one in self.sets:
            clusters = f", source environments replaced by {one.clusters} clusters" if one.clusters else ""
            beside = f", and {one.unlabelled} without labels" if one.unlabelled else ""
            counted = "" if one.counted else " by the catalog (no images found: give --data)"
            metric = "" if one.metric == ACCURACY.title else f"; its metric is {one.metric}"
            of_set = f"{one.images} images in {one.environments} environments{clusters}{beside}{counted}{metric}"
            lines += [f"{one.name}: {of_set}", *(f"note: {note}" for note in one.notes)]
        lines += [f"{one.label}: D = {one.dim}, {one.ranks} ranks, {one.precision}" for one in self.backbones]
        searched = f", and up to {self.searched_passes} for the search" if self.searched_passes else ""
        again = f"; a killed encoder repeats at most {self.repeated}" if self.repeated else ""
        lines.append(f"{self.views} views of each image: {self.passes} forward passes{searched}{again}")
        lines.append(f"{self.trials} trials, {'at most ' if self.at_most else ''}{self.rows} result rows")
        for where, (left_out, chosen, tested) in self.fits.items():
            parts = f"{left_out} for lodo, {chosen} for training_domain, {tested} tested"
            lines.append(f"{where}: {left_out + chosen + tested} fits for each lambda and setting ({parts})")
        lines.append(
            f"disk: {self.store_bytes / 1e6:.1f} MB of embeddings, up to {self.moment_bytes / 1e6:.1f} MB of their "
            f"moments and {self.prediction_bytes / 1e6:.1f} MB of predictions"
        )
        bill = self.bill.text() if self.bill else []
        return "\n".join([*lines, self.room.text(), *bill, *self.estimate.text()])


def plan(
    recipe: Recipe,
    storage: Storage,
    known: Known | None = None,
    offer: Offer | None = None,
    address: str | None = None,
) -> Plan:
    """Return the plan of a recipe, for this machine or the cluster with the dashboard at `address`.

    `known` defaults to `known_costs`. With `offer`, the bill for rented GPUs is added. The precision `auto` is that of
    a run with an empty store.
    """
    recipe = recipe.at_precision(automatic_precision(recipe, offer.gpu if offer else None, address))
    work = Workload(recipe, storage)
    known = known_costs(storage) if known is None else known
    counts, embedded = work.counts(), () if recipe.is_imported else recipe.backbones
    gpu = offer.gpu if offer else None
    speeds = {spec.label: gpu_speed(spec, known, gpu, work.passes) for spec in embedded if gpu and not spec.is_built}
    room = room_at(address, recipe.run.cpus_per_trial, work.trial_gib(), offer.gpus if offer and speeds else 0)
    as_before = [spec for spec in embedded if spec.label not in speeds]
    estimate = estimated(work, known, as_before, min(room.side_by_side, counts["trials"]))
    unknown = [label for label, speed in speeds.items() if speed is None]
    on_gpus = [f"embedding with {label} on {gpu} (run `--measure` on such a GPU)" for label in unknown]
    estimate.unknown = [*on_gpus, *estimate.unknown]
    bill = billed(offer, estimate, speeds, work.passes) if offer else None
    dims = zip(recipe.backbones, work.towers, strict=True)
    return Plan(
        sets=work.sets,
        backbones=[PlannedBackbone(s.label, s.precision, dim, recipe.sweep.rank_count(dim)) for s, (dim, _) in dims],
        views=max(one.views for one in work.sets),
        passes=work.passes * len(recipe.backbones),
        repeated=0 if recipe.is_imported else _repeated(work, recipe, bool(gpu or address or gpu_devices())),
        **counts,
        fits=work.fits(),
        at_most=any(chosen.numbered for chosen in recipe.intervention_sets()),
        room=room,
        estimate=estimate,
        bill=bill,
    )


def _repeated(work: Workload, recipe: Recipe, gpus: bool) -> int:
    """Return the limit that `embedding/pool.py` sets: two chunks, or on a GPU three batches if that is more."""
    chunks = [min(one.images, chunk_size(one.images)) * one.views for one in work.sets]
    batches = 3 * (recipe.run.batch_size or GPU_BATCH) if gpus and recipe.run.device != "cpu" else 0
    return max(2 * max(chunks), batches)
