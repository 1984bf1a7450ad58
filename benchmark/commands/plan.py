"""What a recipe amounts to, before anything costs time: without weights, without Ray, and even without the images."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmark.backbones.loading import width_of
from benchmark.commands.checks import check_environments, check_protocols
from benchmark.common.storage import Storage
from benchmark.datasets.catalog import CATALOG, DEMO_SET
from benchmark.datasets.manifest import read_manifest
from benchmark.datasets.spec import DatasetSpec
from benchmark.recipe.recipe import Recipe
from benchmark.store import embeddings as store
from benchmark.sweep.search import rounds_of, searched_trials
from benchmark.sweep.trials import Trial, row_count, trials_of

FLOAT_BYTES = {"float16": 2}  # of a stored number; 4 for every other precision


@dataclass(frozen=True)
class PlannedSet:
    """One data set of a plan.

    Attributes:
        name: of the data set.
        environments, images: their numbers.
        counted: whether they were counted; otherwise they are the catalog's, and the images are not at hand.
    """

    name: str
    environments: int
    images: int
    counted: bool


@dataclass(frozen=True)
class PlannedBackbone:
    """One backbone of a plan.

    Attributes:
        label: as tables show it.
        dim: embedding width D.
        ranks: how many are evaluated.
        views_per_s: what the store's last run with it reached, over all its encoders; None where it never ran.
    """

    label: str
    dim: int
    ranks: int
    views_per_s: float | None


@dataclass(frozen=True)
class Plan:
    """What a recipe amounts to.

    Attributes:
        sets, backbones: what it is made of.
        views: embedded for each image that is fitted on, the original included; without those of a search.
        passes: image embeddings over all data sets and backbones.
        searched_passes: those that a search adds, at most.
        trials, rows: of the sweep, search included.
        store_bytes: size of the embeddings, without compression.
        seconds: of embedding, where the store knows the speed of every backbone.
    """

    sets: list[PlannedSet]
    backbones: list[PlannedBackbone]
    views: int
    passes: int
    searched_passes: int
    trials: int
    rows: int
    store_bytes: int
    seconds: float | None


def plan(recipe: Recipe, storage: Storage) -> Plan:
    """Count what a recipe amounts to. Images are counted where they are at hand; else the catalog's numbers stand in.

    Raises:
        IcmBenchError: a data set is neither at hand nor in the catalog, or a backbone is unknown.
    """
    sets = [_set(recipe, spec) for spec in recipe.located()]
    widths = [width_of(spec) for spec in recipe.backbones]
    views = 1 + max(len(recipe.kinds_for(s.name)) for s in sets)
    trials, environments = trials_of(recipe), [s.environments for _ in recipe.backbones for s in sets]
    searched = _searched(recipe, environments)
    passes = sum(s.images * (1 + len(recipe.kinds_for(s.name))) for s in sets)
    speeds = _speeds(storage)
    backbones = [
        PlannedBackbone(spec.label, dim, len(recipe.sweep.ranks_for(dim)), speeds.get(spec.label))
        for spec, dim in zip(recipe.backbones, widths, strict=True)
    ]
    known = [b.views_per_s for b in backbones if b.views_per_s]
    seconds = sum(passes / speed for speed in known) if len(known) == len(backbones) else None
    return Plan(
        sets=sets,
        backbones=backbones,
        views=views,
        passes=passes * len(backbones),
        searched_passes=sum(sets[t.subject % len(sets)].images * n for t, n in searched) // len(recipe.sweep.seeds),
        trials=len(trials) + len(searched),
        rows=row_count(recipe, trials, environments) + row_count(recipe, [t for t, _ in searched], environments),
        store_bytes=sum(
            passes * dim * FLOAT_BYTES.get(spec.precision, 4)
            for spec, dim in zip(recipe.backbones, widths, strict=True)
        ),
        seconds=seconds,
    )


def _set(recipe: Recipe, spec: DatasetSpec) -> PlannedSet:
    facts = CATALOG.get(spec.name)
    if facts and spec.root is None and spec.name != DEMO_SET:
        check_environments(recipe, spec.name, len(facts.environments))
        return PlannedSet(spec.name, len(facts.environments), facts.images, counted=False)
    manifest = read_manifest(spec)
    check_protocols(recipe, manifest)
    return PlannedSet(spec.name, len(manifest.environments), manifest.table.num_rows, counted=True)


def _searched(recipe: Recipe, environments: Sequence[int]) -> list[tuple[Trial, int]]:
    """Return stand-ins for the trials of a search: as many, and with as many rows, as it will have.

    Each with the number of kinds whose strengths are searched: every point may be so many views of its own.
    """
    if recipe.sweep.search is None:
        return []
    points = sum(rounds_of(recipe.sweep.search))
    return [
        (
            replace(t, lambdas=(0.0,), held_out="one of them" if t.protocol.fits_apart else None),
            len({name.rpartition(".")[0] for name in space} - {""}),
        )
        for t, space in searched_trials(recipe)
        for _ in range(points * (t.fold_count(environments[t.subject]) if t.protocol.fits_apart else 1))
    ]


def _speeds(storage: Storage) -> dict[str, float]:
    """Return backbone -> views/s of a run that wrote into the store."""
    found = {}
    for name in storage.files(store.ROOT, "speed.json"):
        about = name.removesuffix("speed.json") + "about.json"
        if storage.exists(about):
            speed, label = json.loads(storage.read_bytes(name)), json.loads(storage.read_bytes(about))["backbone"]
            if speed["seconds"]:
                found[label] = speed["views"] / speed["seconds"]
    return found
