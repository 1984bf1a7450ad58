"""What a recipe amounts to, before anything costs time: without weights, without Ray, and even without the images."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from benchmark.backbones.models import model_class
from benchmark.commands.planning.estimate import (
    Estimate,
    Known,
    Planned,
    PlannedSweep,
    Workload,
    calibrate,
    embedding_kind,
    estimated,
    planned_trials,
)
from benchmark.commands.planning.machines import Bill, GpuSpeed, Offer, Requests, Room, billed, gpu_speed, room, span
from benchmark.commands.preparing.checks import check_environments, check_protocols
from benchmark.commands.preparing.imported_sets import embeds_of, imported_subject, manifests_of
from benchmark.commands.preparing.text_pairs import read_text_pairs, text_pairs_of
from benchmark.common.storage.files import Storage
from benchmark.datasets.catalog import CATALOG, DEMO_SET
from benchmark.datasets.manifest import read_manifest
from benchmark.datasets.spec import DatasetSpec
from benchmark.embedding.speed import remembered
from benchmark.method.arrays import Scale, scale_of
from benchmark.method.evaluation.metrics import ACCURACY
from benchmark.method.evaluation.splits import Split
from benchmark.method.subspace.moments import CROSS
from benchmark.recipe.recipe import Recipe
from benchmark.store.embeddings import chunk_count
from benchmark.sweep.summing import bytes_of_sums

# Memory of a trial at most, measured (docs/limits.md): of a process, of each number of the embeddings (shared, fitted
# and solved), of moments (four matrices of each view and environment, and sums of these), and of each class of each
# image of a test (scores at two picks, and probabilities at one).
GIB_OF_PROCESS, BYTES_OF_EMBEDDINGS, BYTES_OF_MOMENTS, BYTES_OF_SCORES = 1.0, 12.0, 8 * 4 * 1.5, 3 * 8.0
BYTES_OF_PREDICTION = 6  # class and margin, see `benchmark.store.rows`
FLOAT_BYTES = {"float16": 2}  # of a stored number; 4 for every other precision


@dataclass(frozen=True)
class PlannedSet:
    """One data set of a plan."""

    name: str
    environments: int
    images: int
    classes: int
    clusters: int  # in the place of source environments; 0 where these are its own
    counted: bool  # or sure, as those of a planted set; else they are the catalog's, and the images are not at hand
    kinds: tuple[str, ...] | None = None  # of pairs that were imported, see `Subject.kinds`; None: all of the recipe
    unlabelled: int = 0  # images of its environments without labels, which are embedded and not swept
    metric: str = ACCURACY.title  # by which its authors judge
    notes: tuple[str, ...] = ()  # what a user should know of its images, one sentence each

    def text(self) -> list[str]:
        """Return it in a line, and its notes."""
        clusters = f", those that are fitted on in {self.clusters} clusters" if self.clusters else ""
        beside = f", and {self.unlabelled} without labels" if self.unlabelled else ""
        counted = "" if self.counted else " by the catalog (no images at hand: give --data)"
        metric = "" if self.metric == ACCURACY.title else f"; its metric is {self.metric}"
        of_set = f"{self.images} images in {self.environments} environments{clusters}{beside}{counted}{metric}"
        return [f"{self.name}: {of_set}", *(f"note: {note}" for note in self.notes)]


@dataclass(frozen=True)
class PlannedBackbone:
    """One backbone of a plan."""

    label: str
    dim: int  # embedding width D
    ranks: int  # how many are evaluated
    views_per_s: float | None  # that a run reached, in the store or on this machine, over all its encoders
    feeding: str = ""  # how many CPU cores feed one GPU, in words


@dataclass(frozen=True)
class Plan:
    """What a recipe amounts to. Sizes are without compression."""

    sets: list[PlannedSet]
    backbones: list[PlannedBackbone]
    views: int  # of each image that is fitted on, the original included; without those of a search
    passes: int  # image embeddings over all data sets and backbones
    searched_passes: int  # that a search adds, at most
    trials: int  # of the sweep, search included
    rows: int
    fits: dict[str, tuple[int, int, int]]  # data set and protocol -> see `TrialSpec.fit_counts`
    store_bytes: int  # of embeddings
    moment_bytes: int  # at most
    prediction_bytes: int  # at most
    estimate: Estimate
    requests: Requests  # to the storage of store and images
    room: Room
    at_most: bool = False  # whether there may be fewer rows: of draws of a placebo those are kept that a rule picks
    bill: Bill | None = None  # None where neither a GPU nor a price was named

    def text(self) -> str:
        """Return the plan in some lines."""
        lines = [line for planned in self.sets for line in planned.text()]
        for backbone in self.backbones:
            speed = f", {backbone.views_per_s:.1f} views/s as measured" if backbone.views_per_s else ""
            lines.append(f"{backbone.label}: D = {backbone.dim}, {backbone.ranks} ranks{speed}{backbone.feeding}")
        searched = f", and up to {self.searched_passes} of a search" if self.searched_passes else ""
        lines.append(
            f"{self.views} views of each image: {self.passes} forward passes{searched}; "
            f"{self.store_bytes / 1e6:.1f} MB of embeddings, up to {self.moment_bytes / 1e6:.1f} MB of their moments; "
            f"{self.requests.text()}"
        )
        lines.append(
            f"{self.trials} trials, {'at most ' if self.at_most else ''}{self.rows} result rows with up to "
            f"{self.prediction_bytes / 1e6:.1f} MB of predictions; a trial takes {self.room.trial_gib:.1f} GiB of "
            f"memory at most"
        )
        for where, (left_out, chosen, tested) in self.fits.items():
            parts = f"{left_out} for lodo, {chosen} for training_domain, {tested} tested"
            lines.append(f"{where}: {left_out + chosen + tested} fits for each lambda and setting ({parts})")
        bill = self.bill.text() if self.bill else []
        return "\n".join([*lines, self.room.text(), *bill, *self.estimate.text()])


def plan(
    recipe: Recipe,
    storage: Storage,
    calibrating: bool = False,
    known: Known | None = None,
    offer: Offer | None = None,
    address: str | None = None,
) -> Plan:
    """Count what a recipe amounts to. Images are counted where they are at hand; else the catalog's numbers stand in.

    With `calibrating`, what nobody measured is measured first, which loads backbones. By default what is known was
    measured in the store, on this machine and on a reference machine; embedding is taken to run as it ran before, not
    on the GPUs of an offer; and the plan is to fit this machine, not the cluster at the address of a dashboard.
    """
    located = _imported(recipe, storage) if recipe.is_imported else [_set(recipe, spec) for spec in recipe.located()]
    of_sets = zip(located, recipe.datasets, strict=True)
    sets = [replace(planned, metric=recipe.metric_of(dataset).title) for (planned, _), dataset in of_sets]
    for spec in () if recipe.is_imported else recipe.backbones:
        model_class(spec).check_name(spec)
    towers = embeds_of(recipe, storage)
    passes = 0 if recipe.is_imported else sum(s.images * recipe.view_count(s.name) + s.unlabelled for s in sets)
    sweeps = [PlannedSweep(s.name, images, s.classes, s.kinds) for s, images in located]
    by_tower = [list(planned_trials(recipe, sweeps, [tower])) for tower in towers]
    trials = [trial for of_tower in by_tower for trial in of_tower]
    if calibrating:
        calibrate(recipe, storage, trials)
    known = known or Known.here(storage).or_elsewhere()
    speeds = [gpu_speed(spec, known, offer.gpu, passes) if offer and passes else None for spec in recipe.backbones]
    views, counts = [_view_count(recipe, s) for s in sets], _Counts()
    for tower, of_tower in zip(towers, by_tower, strict=True):
        counts.add(recipe, sets, of_tower, tower.dim)
    gibs = [_trial_gib(s, n, max(towers).dim, max(of.values())) for (s, of), n in zip(located, views, strict=True)]
    place = room(address, recipe.run.cpus_per_trial, max(gibs), offer.gpus if offer and offer.gpu and passes else None)
    others = [spec for spec in recipe.backbones if not offer or spec.is_built]  # embed as they did before
    work, cores = Workload(recipe, sweeps, towers, trials), min(place.side_by_side, counts.trials)
    estimate, bill = estimated(work, known, others, cores, counts.trials, counts.rows), None
    if offer:
        by_backbone = zip(recipe.backbones, speeds, strict=True)
        rented = {spec.label: speed for spec, speed in by_backbone if passes and not spec.is_built}
        bill = billed(offer, estimate, rented, passes)
        estimate.unknown += [f"embedding with {name} on GPUs" for name, speed in rented.items() if speed is None]
    backbones, stored = list[PlannedBackbone](), 0
    for spec, (dim, _), speed in zip(recipe.backbones, towers, speeds, strict=True):
        found = known.find(embedding_kind(spec), passes, least=5) if passes else None
        rate, feeding = passes / found[0] if found else None, _feeding(speed, max(views)) if speed else ""
        backbones.append(PlannedBackbone(spec.label, dim, recipe.sweep.rank_count(dim), rate, feeding))
        stored += passes * dim * FLOAT_BYTES.get(spec.precision, 4)
    return Plan(
        sets=sets,
        backbones=backbones,
        views=max(views),
        passes=passes * len(recipe.backbones),
        store_bytes=stored,
        **vars(counts),
        estimate=estimate,
        requests=_requests(recipe, storage, sets, counts.trials, len(place.nodes)),
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


def _feeding(speed: GpuSpeed, views: int) -> str:
    """Return how many CPU cores feed one GPU with images of so many views, in words that follow a semicolon."""
    rate = f"; one GPU makes {span(speed.low, speed.high, 0) if speed.low else f'at most {speed.high:,.0f}'} views/s"
    if (cost := remembered()) is None:
        return f"{rate}: how many cores feed it is not known, for none decoded on this machine"
    high, wide = cost.size
    return (
        f"{rate} and is fed by up to {cost.cores(speed.high, views):.1f} CPU cores "
        f"({cost.core_ms:.2f} core-ms for an image, measured here on {cost.images} at {high} x {wide})"
    )


def _requests(recipe: Recipe, storage: Storage, sets: Sequence[PlannedSet], trials: int, machines: int) -> Requests:
    """Return how many requests so many machines make to the storage of the store, and of images where these lie there.

    Where there are several machines, most images are decoded on others than the one that identified them.
    """
    away = {spec.name for spec in recipe.located() if "://" in (spec.root or "")}
    backbones, views = len(recipe.backbones), [_view_count(recipe, s) for s in sets]
    parts = sum(count * chunk_count(s.images) for count, s in zip(views, sets, strict=True)) * backbones
    return Requests(
        images=sum(s.images + s.unlabelled for s in sets if s.name in away),
        parts=0 if recipe.is_imported else parts,
        views=sum(views) * backbones,
        sums=sum(views) * len(recipe.sweep.seeds) * backbones,
        trials=trials,
        charged=not storage.is_local,
        from_afar=backbones if machines > 1 else 0,
    )


def _set(recipe: Recipe, spec: DatasetSpec) -> tuple[PlannedSet, Mapping[str, int]]:
    """Return what is known of a data set, and the number of images of each of its environments."""
    facts = CATALOG.get(spec.name)
    if spec.is_planted:  # its spec says it all, and nothing need be drawn
        planted, drawings = spec.planted, CATALOG[DEMO_SET]
        count, classes = sum(drawings.counted[style] for style in planted.styles), drawings.classes
        images = dict.fromkeys(planted.environments, round(count / len(planted.environments)))
    elif facts and facts.is_counted and spec.root is None and not spec.is_built:
        images, classes, count = facts.counted, facts.classes, facts.images
    else:
        manifest = read_manifest(spec)
        check_protocols(recipe, manifest)
        text_pairs_of(recipe, manifest)  # whose file a run would read
        sizes = len(manifest.counts), manifest.table.num_rows, len(manifest.classes), spec.clusters, True
        others, notes = read_manifest(spec.unlabelled).table.num_rows if spec.unlabelled else 0, tuple(manifest.notes())
        return PlannedSet(spec.name, *sizes, unlabelled=others, notes=notes), manifest.counts
    check_environments(recipe, spec.name, images)
    if recipe.interventions.text and recipe.interventions.text.pairs:
        read_text_pairs(recipe.interventions.text.pairs, spec.name)
    return PlannedSet(spec.name, len(images), count, classes, spec.clusters, spec.is_planted), images


def _imported(recipe: Recipe, storage: Storage) -> list[tuple[PlannedSet, Mapping[str, int]]]:
    """Return what `_set` does of data sets whose embeddings were imported."""
    located: list[tuple[PlannedSet, Mapping[str, int]]] = []
    for manifest in manifests_of(recipe, storage):
        check_protocols(recipe, manifest)
        counts, kinds = manifest.counts, imported_subject(recipe, storage, manifest, recipe.backbones[0]).kinds
        sizes = len(counts), manifest.table.num_rows, len(manifest.classes), recipe.clusters_of(manifest.name)
        located.append((PlannedSet(manifest.name, *sizes, True, kinds), counts))
    return located


@dataclass
class _Counts:
    """What `Plan` says of all data sets under all backbones."""

    trials: int = 0
    rows: int = 0
    prediction_bytes: int = 0
    searched_passes: int = 0
    moment_bytes: int = 0
    fits: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def add(self, recipe: Recipe, sets: Sequence[PlannedSet], trials: Sequence[Planned], dim: int) -> None:
        """Add the trials of all data sets under one backbone, whose embeddings have a width."""
        fits: dict[str, tuple[int, int, int]] = {}
        summed: defaultdict[str, set[tuple[Split, Scale]]] = defaultdict(set)
        searched_views: Counter[str] = Counter()
        by_label = recipe.interventions.by_label()
        for name, spec, size, points in trials:
            seen = list(size.images)
            summed[name].add((spec.split, scale_of(spec.normalize)))
            where = f"{name}, {spec.protocol.name}"
            fits[where] = max(fits.get(where, (0, 0, 0)), (spec.turns[0] if spec.space else spec).fit_counts(seen))
            self.prediction_bytes += points * spec.prediction_count(size.images) * BYTES_OF_PREDICTION
            if not spec.space:
                self.trials, self.rows = self.trials + 1, self.rows + spec.row_count(seen)
                continue
            studies = len(spec.turns) * (len(spec.holdouts(seen)) if spec.protocol.fits_apart else 1)
            self.trials, self.rows = self.trials + points * studies, self.rows + points * spec.rows(seen)
            # Every point may be a view of its own for each kind whose strengths are searched.
            searched = {name.rpartition(".")[0] for name in spec.space} - {""}
            kinds = (by_label[label] for label in searched)
            searched_views[name] += points * studies * recipe.interventions.view_count(kinds)
        crossed = any(CROSS in chosen.kinds for chosen in recipe.intervention_sets())
        for planned in sets:
            pairings = _view_count(recipe, planned) - 1 + crossed
            cells = max(planned.environments, planned.clusters + 1), pairings, dim
            self.moment_bytes += sum(bytes_of_sums(split.folds or 2, *cells) for split, _ in summed[planned.name])
            self.searched_passes += planned.images * searched_views[planned.name] // len(recipe.sweep.seeds)
        self.fits |= fits
