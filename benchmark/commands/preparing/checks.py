"""Checks of data sets against a recipe before anything is embedded, and notes on the parts of a sweep left out."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec

import numpy as np

from benchmark.common.errors import IcmBenchError
from benchmark.datasets.catalog import is_variant
from benchmark.datasets.manifest import Manifest, by_number, look
from benchmark.method.evaluation.fits import MIN_SOURCES
from benchmark.method.evaluation.protocols import ImageNetShift, Protocol
from benchmark.method.evaluation.splits import CHOICE, IN, OUT, Split, base_classes
from benchmark.method.subspace.moments import CROSS
from benchmark.recipe.recipe import Recipe, names_environments, not_available
from benchmark.sweep.batches import LOGGERS
from benchmark.sweep.subject import Subject, sides_of


def check_protocols(recipe: Recipe, manifest: Manifest) -> None:
    """Refuse a data set with too few environments, incomplete classes or empty splits for the recipe's protocols."""
    if not manifest.reader.labelled:
        raise IcmBenchError(
            f"{manifest.name} has no classes, which a sweep needs; `icm-bench embed`, `export` and `diagnose` do not."
        )
    protocols = recipe.protocols_for(manifest.name)
    if any(protocol.min_environments > 1 for protocol in protocols) and not is_variant(manifest.name):
        differ = any(d.resolved.classes_differ for d in recipe.datasets if d.name == manifest.name)
        check_held_out(manifest, classes_differ=differ)
    check_environments(recipe, manifest.name, manifest.counts)
    if recipe.clusters_of(manifest.name) and (alike := [e for e in manifest.environments if e.startswith("cluster ")]):
        problem = f"{manifest.name} has an environment '{alike[0]}', a name of clusters"
        raise IcmBenchError(f"{problem}; rename it, or leave `environments` out.")
    for protocol in protocols:
        rounding = (recipe.sweep.base_classes or protocol.rounding) if protocol.open_class else "ceil"
        for seed in recipe.sweep.seeds:
            split = Split(seed, protocol.halves_apart, rounding, recipe.sweep.folds or 0)
            _check_split(manifest, split, protocol)
    folds, images = recipe.sweep.folds or 0, manifest.table.num_rows
    if not protocols and images < folds:  # a variant of ImageNet, only tested
        raise IcmBenchError(f"{manifest.name} has {images} images, too few for {folds} folds; set fewer sweep.folds.")


def check_environments(recipe: Recipe, name: str, counts: Mapping[str, int]) -> None:
    """Refuse a data set with too few environments or images, or one that no protocol of the recipe takes.

    `counts` has the number of images of each environment.
    """
    protocols, environments, variant = recipe.protocols_for(name), len(counts), is_variant(name)
    check_clusters(recipe, name, sum(counts.values()) - max(counts.values()))
    if not any(protocol.takes(variant) for protocol in recipe.sweep.protocols):
        if variant:
            raise IcmBenchError(
                f"{name} is a single environment, which cannot be held out; `icm-bench embed` takes it, and a sweep "
                f"with sweep.protocols=[{ImageNetShift().name}]."
            )
        asked = ", ".join(f"'{protocol.name}'" for protocol in recipe.sweep.protocols)
        raise IcmBenchError(f"{name} takes no part in {asked}; add another to sweep.protocols.")
    for protocol in protocols:
        if environments < protocol.min_environments and not protocol.across_sets:
            least = protocol.min_environments
            raise IcmBenchError(f"{name} has {environments} environments; '{protocol.name}' needs {least}.")
        _check_sources(recipe, protocol, name, environments)
        holdouts = protocol.holdouts([str(i) for i in range(max(2, protocol.min_environments))], ("full",))
        fitted_too = any(set(h.sources) & set(test.environments) for h in holdouts for test in h.tests)
        if recipe.clusters_of(name) and (protocol.across_sets or fitted_too):
            raise IcmBenchError(
                f"environments: clusters need a held-out environment, and '{protocol.name}' on {name} has none; leave "
                f"that protocol out, or `environments` of {name}."
            )


def check_clusters(recipe: Recipe, name: str, images: int) -> None:
    """Refuse more clusters than `images`; the clusters replace the source environments of a data set."""
    if (clusters := recipe.clusters_of(name)) > images:
        raise IcmBenchError(f"environments: {clusters} clusters of the {images} images of '{name}'; give fewer.")


def _check_sources(recipe: Recipe, protocol: Protocol, name: str, environments: int) -> None:
    """Refuse a protocol with too few source environments for pairs across environments or for the rule of a search.

    Also refuse a search with a protocol that selects on the tested environment.
    """
    crossed = next((s.name for s in recipe.intervention_sets() if CROSS in s.kinds), None)
    holdouts = protocol.holdouts([str(i) for i in range(max(2, environments))], ("full",))
    sources = recipe.clusters_of(name) or len(holdouts[0].sources)
    if crossed and sources < 2:
        raise IcmBenchError(
            f"The intervention set '{crossed}' pairs images of two source environments, and '{protocol.name}' on "
            f"{name} has {sources}; leave out the set or the protocol, or add environments."
        )
    search = recipe.sweep.search
    if search and protocol.looks_at_target:
        raise IcmBenchError(
            f"sweep.search: '{protocol.name}' selects on the tested environment, which a search never uses; give it a "
            f"recipe without search."
        )
    if search and search.rule == "lodo" and sources <= MIN_SOURCES:
        raise IcmBenchError(
            f"sweep.search.rule: '{protocol.name}' on {name} fits on {sources} environment"
            f"{'s' if sources > 1 else ''}, too few to leave one out; use rule 'training_domain'."
        )


def check_lenders(recipe: Recipe, manifests: Sequence[Manifest]) -> None:
    """Refuse a data set that borrows C_d from a data set with some of the same images.

    Otherwise, held-out images of the borrower could enter its fits. Only data sets with manifests are compared.
    """
    contents = {m.name: set(m.table["content"].to_pylist()) for m in manifests}
    for placebo in recipe.intervention_sets():
        for name in contents if placebo.placebo == "borrowed" else ():
            lender = recipe.lender_of(name, placebo)
            if lender and (common := contents[name] & contents.get(lender, set())):
                raise IcmBenchError(
                    f"sweep.intervention_sets: {name} borrows from {lender} for '{placebo.name}', and {len(common)} "
                    f"images of both are equal, byte by byte; give another lender."
                )


def left_out(recipe: Recipe, subjects: Sequence[Subject]) -> list[str]:
    """Return sentences on the parts of the sweep that are left out, with the reasons.

    There is one sentence for each data set and backbone that lacks some views or texts.
    """
    found = []
    for subject in subjects:
        dataset = subject.manifest.name
        if not recipe.protocols_for(dataset):  # variants of ImageNet are only tested
            continue
        if words := not_available(recipe, dataset, subject.kinds, subject.facts.texts):
            texts = {"none": "there are no texts", "classes": "there are no texts but those of the classes", "any": ""}
            incomplete = {kind.label for kind in recipe.kinds_for(dataset)} - set(subject.kinds)
            reasons = texts[subject.facts.texts], "not all views were imported" if incomplete else ""
            found.append(f"{subject.key}: {' and '.join(filter(None, reasons))}; left out are {'; '.join(words)}.")
    return found


def nameless(recipe: Recipe) -> list[str]:
    """Return a sentence on each data set with clusters, which have no names, if a projection uses such names."""
    named = ", ".join(f"the projection {p.label}" for p in recipe.sweep.all_projections() if names_environments(p))
    return [
        f"{dataset.name} has clusters as environments, which have no names: there are no results of {named}."
        for dataset in recipe.datasets
        if dataset.clusters and named
    ]


def check_packages(recipe: Recipe) -> None:
    """Refuse a sweep whose optional packages (loggers, Optuna) are not installed."""
    search = recipe.sweep.search
    needed = [(f"run.loggers: '{name}'", LOGGERS[name]) for name in recipe.run.loggers]
    needed += [("sweep.search.method: 'optuna'", "optuna")] if search and search.method == "optuna" else []
    for what, package in needed:
        if find_spec(package) is None:
            raise IcmBenchError(f"{what} needs the package {package}; pip install {package}.")


def _check_split(manifest: Manifest, split: Split, protocol: Protocol) -> None:
    """Refuse a data set in which an environment has no training, validation or test image."""
    side = sides_of(manifest, split)
    every = list(range(split.folds)) or [IN, OUT, *([CHOICE] if manifest.groups is not None else [])]
    new = manifest.table["label"].to_numpy() >= base_classes(len(manifest.classes), split.rounding)
    fitted = ~new if protocol.open_class else np.ones_like(new)
    # New classes are tested in each fold, or, if the protocol is fitted on all environments, in each out-split.
    tested = every if split.folds else [OUT] if protocol.fixed_split == "out_20" else []
    for index, name in enumerate(manifest.environments):
        here = manifest.environment_index == index
        needed = [here & fitted & (side == number) for number in every]
        needed += [here & new & (side == number) for number in tested] if protocol.open_class else []
        if not all(rows.any() for rows in needed):
            half = " of one half of the classes" if protocol.open_class else ""
            has, remedy = f"{here.sum()} images", f"it takes {split.folds or 5} images{half} or more"
            if manifest.groups is not None:
                groups = {group for group, is_here in zip(manifest.groups, here, strict=True) if is_here}
                has += f" in {len(groups)} group{'s' if len(groups) > 1 else ''}"
                remedy = "a group is never divided; give more groups, or another seed"
            raise IcmBenchError(
                f"The environment '{name}' of {manifest.name} has {has}, and the split of seed {split.seed} leaves one "
                f"side{half} empty: {remedy}."
            )


def check_held_out(manifest: Manifest, classes_differ: bool = False) -> None:
    """Refuse a data set with a single environment, or, unless `classes_differ`, an environment that lacks a class."""
    where = manifest.reader.storage.path("").rstrip("/")
    # Folders count even when they are empty: DomainBed numbers environments by folder.
    environments, classes = manifest.reader.folders()
    columns = (manifest.table[name].to_pylist() for name in ("environment", "class_name"))
    present: dict[str, set[str]] = {name: set() for name in environments}
    for environment, class_name in set(zip(*columns, strict=True)):
        present.setdefault(environment, set()).add(class_name)
    if len(present) < 2:
        raise IcmBenchError(
            f"{where} has one environment only ({next(iter(present))}), add another; {manifest.reader.arrangement}."
        )
    every = set() if classes_differ else {*classes, *manifest.classes}
    for environment, names in sorted(present.items()):
        if missing := sorted(every - names):
            twin = next((by_number(name) for name in sorted(names) if look(name) == look(missing[0])), None)
            also = f" (its '{twin}' only looks like '{by_number(missing[0])}')" if twin else ""
            expected = f"put images into {where}/{environment}/{missing[0]}" if environments else "add images of it"
            raise IcmBenchError(
                f"The environment {where}/{environment} lacks images of the class '{missing[0]}'"
                f"{f' and {len(missing) - 1} more' if missing[1:] else ''}{also}; every environment needs every class: "
                f"{expected}, or set classes_differ: true for {manifest.name}."
            )
