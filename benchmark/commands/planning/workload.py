"""Counts the images, trials and rows of a recipe, without weights, Ray, or even images; `plan` uses the counts."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

from benchmark.backbones.facts import Embeds
from benchmark.backbones.models import model_class
from benchmark.commands.preparing.checks import check_environments, check_lenders, check_protocols
from benchmark.commands.preparing.imported_sets import embeds_of, imported_subject, manifests_of
from benchmark.commands.preparing.text_pairs import read_text_pairs, text_pairs_of
from benchmark.common.storage.files import Storage
from benchmark.datasets.catalog import CATALOG, DEMO_SET
from benchmark.datasets.manifest import Manifest, read_manifest
from benchmark.datasets.spec import DatasetSpec
from benchmark.method.arrays import scale_of
from benchmark.method.evaluation.metrics import ACCURACY
from benchmark.method.subspace.moments import CROSS
from benchmark.recipe.recipe import Recipe
from benchmark.recipe.sets import TEXT
from benchmark.store.embeddings import FLOAT_BYTES
from benchmark.sweep.summing import Pairing, SumTask, distinct, fitting, room_of
from benchmark.sweep.trials import TrialSpec, unfolded
from benchmark.sweep.work import Size

# Measured upper bounds on the memory of a trial (docs/limits.md has one). The first is for the process. The second is
# for each number of the embeddings, of which shared, fitted and solved copies are held. The third is for each byte that
# the trial's sums would take in the store (both triangles, and sums of them); it is derived, not measured. The last is
# for each class of each test image (scores at two selected points, probabilities at one).
GIB_OF_PROCESS, BYTES_OF_EMBEDDINGS, BYTES_OF_SUMS, BYTES_OF_SCORES = 1.0, 12.0, 2 * 1.5, 3 * 8.0
BYTES_OF_PREDICTION = 6  # class and margin, see `benchmark.store.rows`
Kinds = tuple[str, ...] | None  # kinds of imported pairs, see `Subject.kinds`; None: all kinds of the recipe


@dataclass(frozen=True)
class PlannedSet:
    """One data set of a plan."""

    name: str
    environments: int
    images: int
    classes: int
    by_environment: dict[str, int]  # environment -> number of images; approximate for planted sets
    views: int = 1  # number of views of each image, including the original
    clusters: int = 0  # number of clusters that replace source environments; 0 for none
    counted: bool = True  # False if the counts come from the catalog, since no images were found
    metric: str = ACCURACY.title  # metric that the data set's authors use
    kinds: Kinds = None
    unlabelled: int = 0  # number of images without labels, embedded but not swept
    notes: tuple[str, ...] = ()  # remarks about the images, one sentence each


def planned_sets(recipe: Recipe, storage: Storage) -> list[PlannedSet]:
    """Return the sizes of a recipe's data sets."""
    if not recipe.is_imported:
        found = [_from_spec(recipe, spec) for spec in recipe.located()]
        check_lenders(recipe, [manifest for _, manifest in found if manifest])
        return [planned for planned, _ in found]
    manifests, first = manifests_of(recipe, storage), recipe.backbones[0]
    kinds = [imported_subject(recipe, storage, manifest, first).kinds for manifest in manifests]
    return [_from_images(recipe, *each) for each in zip(recipe.datasets, manifests, kinds, strict=True)]


def _from_spec(recipe: Recipe, spec: DatasetSpec) -> tuple[PlannedSet, Manifest | None]:
    """Return a planned data set, and its manifest if its images were listed.

    The counts come from the spec for a planted shift, from the catalog for a known set, and else from the images.
    """
    facts = CATALOG.get(spec.name)
    if spec.is_planted:  # the spec suffices, no image is drawn
        planted, drawings = spec.planted, CATALOG[DEMO_SET]
        count, classes = sum(drawings.counted[style] for style in planted.styles), drawings.classes
        images = dict.fromkeys(planted.environments, round(count / len(planted.environments)))
    elif facts and facts.is_counted and spec.root is None and not spec.is_built:
        images, classes, count = facts.counted, facts.classes, facts.images
    else:
        manifest = read_manifest(spec)
        text_pairs_of(recipe, manifest)  # refuses a wrong file of text pairs, as a run would
        return _from_images(recipe, spec, manifest), manifest
    check_environments(recipe, spec.name, images)
    if recipe.interventions.text and recipe.interventions.text.pairs:
        read_text_pairs(recipe.interventions.text.pairs, spec.name)
    more = recipe.view_count(spec.name), spec.clusters, spec.is_planted, recipe.metric_of(spec).title
    return PlannedSet(spec.name, len(images), count, classes, images, *more), None


def _from_images(recipe: Recipe, spec: DatasetSpec, manifest: Manifest, kinds: Kinds = None) -> PlannedSet:
    """Return a planned data set from its images; `kinds` are the kinds of pairs if its embeddings were imported."""
    check_protocols(recipe, manifest)
    images, views = dict(manifest.counts), recipe.view_count(spec.name)
    if kinds is not None:
        views -= sum(kind.label not in kinds for kind in recipe.kinds_for(spec.name))
    sizes = len(images), manifest.table.num_rows, len(manifest.classes), images, views, spec.clusters, True
    unlabelled = read_manifest(spec.unlabelled).table.num_rows if spec.unlabelled else 0
    notes = tuple(manifest.notes()) if kinds is None else ()
    return PlannedSet(spec.name, *sizes, recipe.metric_of(spec).title, kinds, unlabelled, notes)


class PlannedTrial(NamedTuple):
    """A trial of the grid, or all trials of a search for one method."""

    dataset: str
    spec: TrialSpec
    size: Size  # size of its data
    points: int  # number of points of a search; 1 for a trial of the grid
    trials: int  # one for each point and fold, and also for each holdout if the protocol fits holdouts apart
    rows: int  # maximum number of rows


def planned_trials(recipe: Recipe, sets: Sequence[PlannedSet], towers: Sequence[Embeds]) -> Iterator[PlannedTrial]:
    """Yield a recipe's trials on each data set under each backbone; `towers` has the backbones' widths and texts."""
    for (dim, texts), one in product(towers, sets):
        of_sets = {s.name: sum(s.by_environment.values()) for s in (one, *(sets[i] for i in recipe.shifts()))}
        for spec, of_one in unfolded(recipe, one.name, dim, one.by_environment, one.kinds, texts):
            images = of_sets if spec.protocol.across_sets else of_one
            seen, points, trials, rows = list(images), 1, 1, spec.row_count(list(images))
            if recipe.sweep.search and spec.space:
                points = recipe.sweep.search.samples
                trials = points * len(spec.turns) * (len(spec.holdouts(seen)) if spec.protocol.fits_apart else 1)
                rows = points * spec.rows(seen)
            if rows:
                yield PlannedTrial(one.name, spec, Size(images, one.classes, dim), points, trials, rows)


def _tasks(spec: TrialSpec) -> list[SumTask]:
    """Return the sums of a trial; its pairings have no views, as only their number counts."""
    images, chosen = SumTask(spec.split, scale_of(spec.normalize), spec.protocol.open_class), spec.intervention_set
    if chosen is None:
        return [images]
    views = not chosen.kinds or not {TEXT, CROSS}.issuperset(chosen.kinds)
    names = [repr((chosen.kinds, chosen.weights, chosen.pairing, chosen.pairs_in_words))] if views else []
    names += map(repr, chosen.drawn()) if chosen.placebo == "shuffled" else []
    products = spec.projection.uses_products
    tasks = [images, *(replace(images, pairing=Pairing(name), products=products) for name in names)]
    return [*tasks, replace(images, pairing=Pairing(CROSS))] if CROSS in chosen.kinds else tasks


class Workload:
    """The data sets, backbones and trials of a recipe; it is assumed that nothing is in the store yet."""

    def __init__(self, recipe: Recipe, storage: Storage) -> None:
        self.recipe, self.sets = recipe, planned_sets(recipe, storage)
        for spec in () if recipe.is_imported else recipe.backbones:
            model_class(spec).check_name(spec)
        self.towers = embeds_of(recipe, storage)
        self.trials = list(planned_trials(recipe, self.sets, self.towers))
        of_each = [one.images * one.views + one.unlabelled for one in self.sets]  # forward passes of each backbone
        self.passes = 0 if recipe.is_imported else sum(of_each)

    def trial_gib(self) -> float:
        """Return the maximum memory of a trial in GiB."""
        dim, most = max(self.towers).dim, 0.0
        for one in self.sets:
            embeddings = BYTES_OF_EMBEDDINGS * one.images * dim
            counts = max(one.environments, one.clusters + 1), one.classes, dim
            of_trials = (_tasks(trial.spec) for trial in self.trials if trial.dataset == one.name)
            moments = BYTES_OF_SUMS * max((sum(t.size(*counts) for t in tasks) for tasks in of_trials), default=0)
            scores = BYTES_OF_SCORES * max(one.by_environment.values()) * one.classes
            most = max(most, embeddings + moments + scores)
        return GIB_OF_PROCESS + most / 2**30

    def counts(self) -> dict[str, int]:
        """Return maximum numbers of trials, rows, embeddings of a search, and bytes; the keys are fields of `Plan`."""
        recipe, summed = self.recipe, dict[tuple[str, str | None], list[SumTask]]()
        count = Counter(trials=0, rows=0, searched_passes=0, store_bytes=0, moment_bytes=0, prediction_bytes=0)
        of_set, by_label = {one.name: one for one in self.sets}, recipe.interventions.by_label()
        for name, spec, size, points, trials, rows in self.trials:
            clustered = spec.held_out if of_set[name].clusters else None  # then each holdout has its own environments
            summed.setdefault((name, clustered), []).extend(_tasks(spec))
            predictions = points * spec.prediction_count(size.images)
            # Every point may add a view for each kind with searched strengths; seeds share views.
            searched = {parameter.rpartition(".")[0] for parameter in spec.space} - {""}
            views = trials * recipe.interventions.view_count(by_label[label] for label in searched)
            count.update(trials=trials, rows=rows, searched_passes=of_set[name].images * views)
            count["prediction_bytes"] += predictions * BYTES_OF_PREDICTION
        count["searched_passes"] //= len(recipe.sweep.seeds)
        tasks = {key: distinct(of_key) for key, of_key in summed.items()}
        for backbone, tower in zip(recipe.backbones, self.towers, strict=True):
            count["store_bytes"] += self.passes * tower.dim * FLOAT_BYTES.get(backbone.precision, 4)
            for one in self.sets:
                sized = max(one.environments, one.clusters + 1), one.classes, tower.dim
                of_one = (task for key, every in tasks.items() if key[0] == one.name for task in every)
                sizes = [task.size(*sized) for task in of_one if task.may_be_stored]
                room = room_of(one.images * one.views * tower.dim, backbone.precision)
                count["moment_bytes"] += sum(sizes[: fitting(sizes, room)])
        return count

    def fits(self) -> dict[str, tuple[int, int, int]]:
        """Return the maximum numbers of fits in a trial, see `TrialSpec.fit_counts`; keys are "DATA SET, PROTOCOL"."""
        fits: dict[str, tuple[int, int, int]] = {}
        for trial in self.trials:
            name, one = f"{trial.dataset}, {trial.spec.protocol.name}", trial.spec
            count = (one.turns[0] if one.space else one).fit_counts(list(trial.size.images))
            fits[name] = max(fits.get(name, count), count)
        return fits
