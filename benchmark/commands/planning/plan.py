"""What a recipe amounts to, before anything costs time: without weights, without Ray, and even without the images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from benchmark.backbones.facts import Embeds
from benchmark.backbones.models import model_class
from benchmark.backbones.spec import BackboneSpec
from benchmark.commands.planning.bill import Bill, Offer, billed
from benchmark.commands.planning.estimate import Estimate, Known, PlannedSweep, estimated
from benchmark.commands.planning.gpus import GpuSpeed, gpu_speed
from benchmark.commands.planning.kinds import embedding_kind
from benchmark.commands.planning.requests import Requests
from benchmark.commands.planning.room import Room, room
from benchmark.commands.preparing.checks import check_environments, check_protocols
from benchmark.commands.preparing.imported_sets import embeds_of, kinds_of_import, manifests_of
from benchmark.commands.preparing.text_files import read_text_pairs
from benchmark.commands.preparing.text_pairs import text_pairs_of
from benchmark.common.storage.files import Storage
from benchmark.datasets.catalog import CATALOG, DEMO_SET
from benchmark.datasets.manifest import read_manifest
from benchmark.datasets.spec import DatasetSpec
from benchmark.embedding.feeding import DecodingCost, remembered
from benchmark.method.arrays import Scale, scale_of
from benchmark.method.evaluation.metrics import ACCURACY
from benchmark.method.evaluation.splits import Split
from benchmark.method.subspace.moments import CROSS
from benchmark.recipe.recipe import Recipe
from benchmark.store.embeddings import chunk_count
from benchmark.sweep.summing import bytes_of_sums
from benchmark.sweep.trials import unfolded

# Memory of a trial at most, measured (docs/limits.md): of a process, of each number of the embeddings (shared, fitted
# and solved), of moments (four matrices of each view and environment, and sums of these), and of each class of each
# image of a test (scores at two picks, and probabilities at one).
GIB_OF_PROCESS, BYTES_OF_EMBEDDINGS, BYTES_OF_MOMENTS, BYTES_OF_SCORES = 1.0, 12.0, 8 * 4 * 1.5, 3 * 8.0
BYTES_OF_PREDICTION = 6  # class and margin, see `benchmark.store.rows`
FLOAT_BYTES = {"float16": 2}  # of a stored number; 4 for every other precision


@dataclass(frozen=True)
class PlannedSet:
    """One data set of a plan.

    Attributes:
        name: of the data set.
        environments: number of its environments.
        images: number of its images.
        classes: number of its classes.
        clusters: number of clusters in the place of source environments; 0 where these are its own.
        counted: whether they were counted, or are sure as those of a planted set are; otherwise they are the catalog's,
            and the images are not at hand.
        kinds: kinds of pairs that were imported, see `Subject.kinds`; None (default) for all of the recipe.
        unlabelled: number of images of its environments without labels, which are embedded and not swept. Default 0.
        metric: title of the metric by which its authors judge; by default accuracy.
        notes: what a user should know of its images, one sentence each. Default: nothing.
    """

    name: str
    environments: int
    images: int
    classes: int
    clusters: int
    counted: bool
    kinds: tuple[str, ...] | None = None
    unlabelled: int = 0
    metric: str = ACCURACY.title
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedBackbone:
    """One backbone of a plan.

    Attributes:
        label: as tables show it.
        dim: embedding width D.
        ranks: how many are evaluated.
        views_per_s: what a run with it reached, in the store or on this machine, over all its encoders; None where
            none did.
        feeding: how many CPU cores feed one GPU, in words; empty where there is none.
    """

    label: str
    dim: int
    ranks: int
    views_per_s: float | None
    feeding: str = ""


@dataclass(frozen=True)
class Plan:
    """What a recipe amounts to.

    Attributes:
        sets: its data sets.
        backbones: its backbones.
        views: embedded for each image that is fitted on, the original included; without those of a search.
        passes: image embeddings over all data sets and backbones.
        searched_passes: those that a search adds, at most.
        trials: of the sweep, search included.
        rows: that these leave.
        fits: data set and protocol -> fits of each lambda and setting, see `TrialSpec.fit_counts`.
        store_bytes: size of the embeddings, without compression.
        moment_bytes: size of their moments at most.
        prediction_bytes: size of the predictions in the rows at most, without compression.
        estimate: how long it all takes.
        requests: to the storage of store and images.
        room: whether it fits the machines that there are.
        at_most: whether there may be fewer rows: of draws of a placebo those alone are kept that a rule picks.
        bill: what it costs on GPUs; None where neither a GPU nor a price was named.
    """

    sets: list[PlannedSet]
    backbones: list[PlannedBackbone]
    views: int
    passes: int
    searched_passes: int
    trials: int
    rows: int
    fits: dict[str, tuple[int, int, int]]
    store_bytes: int
    moment_bytes: int
    prediction_bytes: int
    estimate: Estimate
    requests: Requests
    room: Room
    at_most: bool = False
    bill: Bill | None = None

    def text(self) -> str:
        """Return the plan in some lines."""
        lines = []
        for planned in self.sets:
            clusters = f", those that are fitted on in {planned.clusters} clusters" if planned.clusters else ""
            counted = "" if planned.counted else " by the catalog (no images at hand: give --data)"
            beside = f", and {planned.unlabelled} without labels" if planned.unlabelled else ""
            of_set = f"{planned.images} images in {planned.environments} environments{clusters}{beside}"
            metric = "" if planned.metric == ACCURACY.title else f"; its metric is {planned.metric}"
            lines += [f"{planned.name}: {of_set}{counted}{metric}", *(f"note: {note}" for note in planned.notes)]
        for backbone in self.backbones:
            speed = f", {backbone.views_per_s:.1f} views/s as measured" if backbone.views_per_s else ""
            lines.append(f"{backbone.label}: D = {backbone.dim}, {backbone.ranks} ranks{speed}{backbone.feeding}")
        searched = f", and up to {self.searched_passes} of a search" if self.searched_passes else ""
        lines.append(
            f"{self.views} views of each image: {self.passes} forward passes{searched}; "
            f"{self.store_bytes / 1e6:.1f} MB of embeddings, up to {self.moment_bytes / 1e6:.1f} MB of their moments; "
            f"{self.requests.text()}"
        )
        rows = f"{'at most ' if self.at_most else ''}{self.rows} result rows"
        rows += f" with up to {self.prediction_bytes / 1e6:.1f} MB of predictions"
        memory = f"a trial takes {self.room.trial_gib:.1f} GiB of memory at most"
        bill = self.bill.text() if self.bill else []
        lines.append(f"{self.trials} trials, {rows}; {memory}")
        for where, (left_out, chosen, tested) in self.fits.items():
            parts = f"{left_out} for lodo, {chosen} for training_domain, {tested} tested"
            lines.append(f"{where}: {left_out + chosen + tested} fits for each lambda and setting ({parts})")
        lines.append(self.room.text())
        return "\n".join([*lines, *bill, *self.estimate.text()])


def plan(
    recipe: Recipe,
    storage: Storage,
    calibrating: bool = False,
    known: Known | None = None,
    offer: Offer | None = None,
    address: str | None = None,
) -> Plan:
    """Count what a recipe amounts to. Images are counted where they are at hand; else the catalog's numbers stand in.

    Args:
        recipe: what is asked for.
        storage: its store.
        calibrating: whether what nobody measured is measured first, which loads backbones. Default False.
        known: what was measured; by default in the store, on this machine and on a reference machine.
        offer: GPUs that embed, and their price; by default none, and embedding is taken to run as it ran before.
        address: of the dashboard of the cluster that it is to fit, as `http://HOST:8265`; by default this machine.

    Raises:
        IcmBenchError: a data set is neither at hand nor in the catalog, a backbone is unknown, or no cluster answers.
    """
    located = _imported(recipe, storage) if recipe.is_imported else [_set(recipe, spec) for spec in recipe.located()]
    metrics = [recipe.metric_of(spec).title for spec in recipe.datasets]
    sets = [replace(planned, metric=metric) for (planned, _), metric in zip(located, metrics, strict=True)]
    for spec in () if recipe.is_imported else recipe.backbones:
        model_class(spec).check_named(spec)
    towers = embeds_of(recipe, storage)
    passes = 0 if recipe.is_imported else sum(s.images * recipe.view_count(s.name) + s.unlabelled for s in sets)
    sweeps = [PlannedSweep(s.name, images, s.classes, s.kinds) for s, images in located]
    if calibrating:
        from benchmark.commands.planning.calibrate import calibrate

        calibrate(recipe, storage, sweeps, towers)
    known = known or Known.here(storage).or_elsewhere()
    speeds = [gpu_speed(spec, known, offer.gpu, passes) if offer and passes else None for spec in recipe.backbones]
    views, cost = max(_view_count(recipe, s) for s in sets), remembered()
    backbones = [
        PlannedBackbone(
            spec.label,
            dim,
            recipe.sweep.rank_count(dim),
            _rate(known, spec, passes) if passes else None,
            _feeding(speed, views, cost) if speed else "",
        )
        for spec, (dim, _), speed in zip(recipe.backbones, towers, speeds, strict=True)
    ]
    # Where a backbone is wider, its ranks are other ones, but no trial or row is added.
    totals = {planned.name: planned.images for planned in sets}
    counts = [_count(recipe, planned, images, tower, totals) for tower in towers for planned, images in located]
    rows, trials = sum(count.rows for count in counts), sum(count.trials for count in counts)
    width = max(towers).dim
    trial_gib = max(_trial_gib(s, _view_count(recipe, s), width, max(images.values())) for s, images in located)
    place = room(address, recipe.run.cpus_per_trial, trial_gib, offer.gpus if offer and offer.gpu and passes else None)
    others = [spec for spec in recipe.backbones if not offer or spec.is_built]  # embed as they did before
    estimate = estimated(recipe, known, sweeps, towers, trials, rows, place.side_by_side, others)
    rented = {b.label: speed for b, speed in zip(recipe.backbones, speeds, strict=True) if passes and not b.is_built}
    bill = billed(offer, estimate, rented, passes) if offer else None
    estimate.unknown += [f"embedding with {label} on GPUs" for label in rented if offer and rented[label] is None]
    return Plan(
        sets=sets,
        backbones=backbones,
        views=views,
        passes=passes * len(backbones),
        searched_passes=sum(count.searched_passes for count in counts),
        trials=trials,
        rows=rows,
        fits={where: of_fits for count in counts for where, of_fits in count.fits.items()},
        store_bytes=sum(
            passes * dim * FLOAT_BYTES.get(spec.precision, 4)
            for spec, (dim, _) in zip(recipe.backbones, towers, strict=True)
        ),
        moment_bytes=sum(count.moments for count in counts),
        prediction_bytes=sum(count.predictions for count in counts) * BYTES_OF_PREDICTION,
        estimate=estimate,
        requests=_requests(recipe, storage, sets, trials, len(place.nodes)),
        room=place,
        at_most=any(chosen.numbered for chosen in recipe.intervention_sets()),
        bill=bill,
    )


def _view_count(recipe: Recipe, planned: PlannedSet) -> int:
    """Return how many views of each image there are, the original among them."""
    labels = [kind.label for kind in recipe.kinds_for(planned.name)]
    absent = 0 if planned.kinds is None else sum(label not in planned.kinds for label in labels)
    return recipe.view_count(planned.name) - absent


def _trial_gib(planned: PlannedSet, views: int, dim: int, tested: int) -> float:
    """Return the memory of a trial in GiB: embeddings as they are shared, fitted and solved, moments, and scores."""
    embeddings = BYTES_OF_EMBEDDINGS * planned.images * dim
    moments = BYTES_OF_MOMENTS * max(planned.environments, planned.clusters + 1) * views * dim**2
    scores = BYTES_OF_SCORES * tested * planned.classes
    return GIB_OF_PROCESS + (embeddings + moments + scores) / 2**30


def _rate(known: Known, spec: BackboneSpec, views: int) -> float | None:
    """Return the views/s that a run with a backbone reached, of as many views as may be."""
    found = known.find(embedding_kind(spec), views, least=5)
    return views / found[0] if found else None


def _feeding(speed: GpuSpeed, views: int, cost: DecodingCost | None) -> str:
    """Return how many CPU cores feed one GPU with images of so many views, in words that follow a semicolon."""
    if cost is None:
        return f"; one GPU makes {speed.rate}: how many cores feed it is not known, for none decoded on this machine"
    high, wide = cost.size
    return (
        f"; one GPU makes {speed.rate} and is fed by up to {cost.cores(speed.high, views):.1f} CPU cores "
        f"({cost.core_ms:.2f} core-ms for an image, measured here on {cost.images} at {high} x {wide})"
    )


def _requests(recipe: Recipe, storage: Storage, sets: Sequence[PlannedSet], trials: int, machines: int) -> Requests:
    """Return how many requests so many machines make to the storage of the store, and of images where these lie there.

    Where there are several machines, most images are decoded on others than the one that identified them.
    """
    away = {spec.name for spec in recipe.located() if "://" in (spec.root or "")}
    images = sum(s.images + s.unlabelled for s in sets if s.name in away)
    backbones, views = len(recipe.backbones), [_view_count(recipe, s) for s in sets]
    parts = sum(count * chunk_count(s.images) for count, s in zip(views, sets, strict=True)) * backbones
    return Requests(
        images,
        0 if recipe.is_imported else parts,
        sum(views) * backbones,
        sum(views) * len(recipe.sweep.seeds) * backbones,
        trials,
        charged=not storage.is_local,
        from_afar=backbones if machines > 1 else 0,
    )


def _set(recipe: Recipe, spec: DatasetSpec) -> tuple[PlannedSet, dict[str, int]]:
    """Return what is known of a data set, and the number of images of each of its environments."""
    facts = CATALOG.get(spec.name)
    if spec.is_planted:  # its spec says it all, and nothing need be drawn
        planted, drawings = spec.planted, CATALOG[DEMO_SET]
        dealt = sum(drawings.counted[style] for style in planted.styles) / len(planted.environments)
        images, classes = dict.fromkeys(planted.environments, round(dealt)), drawings.classes
        count, counted = sum(drawings.counted[style] for style in planted.styles), True
    elif facts and facts.is_counted and spec.root is None and not spec.is_built:
        images, classes, count, counted = facts.counted, facts.classes, facts.images, False
    else:
        manifest = read_manifest(spec)
        check_protocols(recipe, manifest)
        text_pairs_of(recipe, manifest)  # whose file a run would read
        images, classes, count, counted = manifest.counts, len(manifest.classes), manifest.table.num_rows, True
        others, notes = read_manifest(spec.unlabelled).table.num_rows if spec.unlabelled else 0, tuple(manifest.notes())
        sizes = len(images), count, classes, spec.clusters, counted
        return PlannedSet(spec.name, *sizes, unlabelled=others, notes=notes), images
    check_environments(recipe, spec.name, images)
    if recipe.interventions.text and recipe.interventions.text.pairs:
        read_text_pairs(recipe.interventions.text.pairs, spec.name)
    return PlannedSet(spec.name, len(images), count, classes, spec.clusters, counted), images


def _imported(recipe: Recipe, storage: Storage) -> list[tuple[PlannedSet, dict[str, int]]]:
    """Return what `_set` does of data sets whose embeddings were imported."""
    located = []
    for manifest in manifests_of(recipe, storage):
        check_protocols(recipe, manifest)
        counts, kinds = manifest.counts, kinds_of_import(recipe, storage, manifest)
        sizes = len(counts), manifest.table.num_rows, len(manifest.classes)
        clusters = recipe.clusters_of(manifest.name)
        located.append((PlannedSet(manifest.name, *sizes, clusters, True, kinds), counts))
    return located


class _Count(NamedTuple):
    """Of the sweep of one data set under one backbone."""

    trials: int
    rows: int
    predictions: int
    searched_passes: int
    moments: int
    fits: dict[str, tuple[int, int, int]]


def _count(
    recipe: Recipe, planned: PlannedSet, environments: Mapping[str, int], tower: Embeds, totals: Mapping[str, int]
) -> _Count:
    variants = {name: totals[name] for name in (planned.name, *(recipe.datasets[i].name for i in recipe.shifts()))}
    trials = rows = predictions = searched_views = 0
    summed: set[tuple[Split, Scale]] = set()
    fits: dict[str, tuple[int, int, int]] = {}
    for spec, images in unfolded(recipe, planned.name, tower.dim, environments, planned.kinds, tower.texts):
        sizes = variants if spec.protocol.across_sets else images
        if not spec.rows(seen := list(sizes)):
            continue
        summed.add((spec.split, scale_of(spec.normalize)))
        where = f"{planned.name}, {spec.protocol.name}"
        fits[where] = max(fits.get(where, (0, 0, 0)), (spec.turns[0] if spec.space else spec).fit_counts(seen))
        if not spec.space:
            trials, rows = trials + 1, rows + spec.row_count(seen)
            predictions += spec.prediction_count(sizes)
            continue
        assert recipe.sweep.search is not None
        points, studies = recipe.sweep.search.samples, len(spec.holdouts(seen)) if spec.protocol.fits_apart else 1
        studies *= len(spec.turns)
        trials, rows = trials + points * studies, rows + points * spec.rows(seen)
        predictions += points * spec.prediction_count(sizes)
        # Every point may be a view of its own for each kind whose strengths are searched.
        searched = {name.rpartition(".")[0] for name in spec.space} - {""}
        by_label = recipe.interventions.by_label()
        searched_views += points * studies * recipe.interventions.view_count(by_label[label] for label in searched)
    pairings = _view_count(recipe, planned) - 1 + any(CROSS in chosen.kinds for chosen in recipe.intervention_sets())
    cells = max(planned.environments, planned.clusters + 1), pairings, tower.dim
    moments = sum(bytes_of_sums(split.folds or 2, *cells) for split, _ in summed)
    searched_passes = planned.images * searched_views // len(recipe.sweep.seeds)
    return _Count(trials, rows, predictions, searched_passes, moments, fits)
