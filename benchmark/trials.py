"""Trials: the units of work of a sweep, what their rows depend on, and how a trial becomes rows.

A trial holds what shares work: all folds of a protocol, their leave-one-domain-out fits, all lambdas and all ranks of
one (data set, backbone, intervention set, projection, normalisation, predictor, protocol, seed).
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import benchmark
from benchmark.datasets.splits import Split
from benchmark.embedding.store import ORIGINAL
from benchmark.evaluation.cells import Cells
from benchmark.evaluation.curves import Evaluation, RankCurve
from benchmark.evaluation.embedded import Embedded
from benchmark.evaluation.protocols import (
    HALVES_APART,
    SHIFT,
    Fold,
    Protocol,
    class_groups,
    fold_count,
    folds_of,
    splits_of,
)
from benchmark.evaluation.selection import RULES, SCORE_COLUMN, SOURCE_RULES
from benchmark.predictors import Predictor
from benchmark.recipe import TEXT, InterventionSet, Normalize, Recipe, canonical_hash
from benchmark.source import Source, labels_of, weights_of
from benchmark.subspace import Projection

Row = dict[str, object]


@dataclass(frozen=True)
class Trial:
    """One unit of work of a sweep.

    Attributes:
        source: position in the list of sources.
        protocol: see the recipe.
        intervention_set: None where the projection looks at no intervention.
        projection, normalize, predictor, seed: see the recipe.
        lambdas: (0.0,) where the projection has none.
        shifts: positions of the sources that `imagenet_shift` tests on.
        held_out: the only fold to be made, or None for all of the protocol: a search looks at one at a time.
    """

    source: int
    protocol: Protocol
    intervention_set: InterventionSet | None
    projection: Projection
    normalize: Normalize
    predictor: Predictor
    seed: int
    lambdas: tuple[float, ...]
    shifts: tuple[int, ...] = ()
    held_out: str | None = None

    @property
    def split(self) -> Split:
        """The split that the protocol fits on with this seed."""
        return Split(self.seed, self.protocol in HALVES_APART)

    @property
    def fits_apart(self) -> bool:
        """Whether every fold is fitted on images of its own: the variants of a shift share one fit."""
        return self.protocol != SHIFT

    def label(self, source: Source) -> str:
        """Return the trial in words, for the list of those that failed and for whoever watches."""
        chosen = f", {self.intervention_set.name}" if self.intervention_set else ""
        held_out = f" without {self.held_out}" if self.held_out else ""
        lambda_ = f", lambda {self.lambdas[0]:g}" if self.projection.uses_lambda and len(self.lambdas) == 1 else ""
        return (
            f"{source.manifest.name}, {source.facts.label}: {self.projection.label}{chosen}{lambda_} + "
            f"{self.predictor.label}, normalize {self.normalize}, {self.protocol}{held_out}, seed {self.seed}"
        )

    def environments(self, sources: Sequence[Source]) -> list[str]:
        """Return the names of the environments that the protocol sees."""
        own = sources[self.source].manifest
        return [own.name, *(sources[i].manifest.name for i in self.shifts)] if self.shifts else own.environments

    def fold_count(self, environments: int) -> int:
        """Return how many folds there are to make, for a source with so many environments."""
        if self.held_out:
            return 1
        return fold_count(self.protocol, 1 + len(self.shifts) if self.shifts else environments)

    def folds(self, sources: Sequence[Source], recipe: Recipe) -> list[Fold]:
        """Return the folds to be made."""
        every = folds_of(self.protocol, self.environments(sources), recipe.sweep.test_splits)
        return [fold for fold in every if self.held_out in (None, fold.name)]

    def settings(self) -> dict[str, Any]:
        """Return all that distinguishes the trial from others of the same source, in plain data."""
        chosen = self.intervention_set
        return {
            "protocol": self.protocol,
            "intervention_set": chosen.model_dump(mode="json") if chosen else None,
            "projection": self.projection.model_dump(mode="json"),
            "normalize": self.normalize,
            "predictor": self.predictor.model_dump(mode="json"),
            "seed": self.seed,
            "lambdas": list(self.lambdas),
            "held_out": self.held_out,
        }


def trials_of(recipe: Recipe) -> list[Trial]:
    """Return every trial of a recipe's grid; what is searched has none.

    Projections that look at no intervention are not repeated for each set, and those without a lambda not for each
    lambda. Sources are numbered backbone by backbone, data sets in the recipe's order within each.
    """
    sweep, names = recipe.sweep, [dataset.name for dataset in recipe.datasets]
    return [
        Trial(
            source=first + position,
            protocol=protocol,
            intervention_set=intervention_set,
            projection=projection,
            normalize=normalize,
            predictor=predictor,
            seed=seed,
            lambdas=sweep.lambdas if projection.uses_lambda else (0.0,),
            shifts=tuple(first + i for i in recipe.shifts()) if protocol == SHIFT else (),
        )
        for first in range(0, len(recipe.backbones) * len(names), len(names))
        for position, name in enumerate(names)
        for protocol in recipe.protocols_for(name)
        for predictor in sweep.predictors
        for projection in sweep.projections
        for intervention_set in (recipe.intervention_sets() if projection.uses_interventions else (None,))
        if not recipe.search_space(name, projection, intervention_set)
        for normalize in sweep.normalize
        for seed in sweep.seeds
    ]


def row_count(recipe: Recipe, trials: Iterable[Trial], environments: Sequence[int]) -> int:
    """Return the number of result rows of trials; `environments` has the number for each source."""
    return sum(
        len(trial.lambdas)
        * trial.fold_count(n)
        * len(splits_of(trial.protocol, recipe.sweep.test_splits))
        * len(class_groups(trial.protocol))
        for trial in trials
        for n in [environments[trial.source]]
    )


def trial_id(recipe: Recipe, sources: Sequence[Source], trial: Trial) -> str:
    """Return the hash of everything that a trial's rows depend on."""
    source = sources[trial.source]
    kinds = labels_of(source, trial.intervention_set) if trial.intervention_set else ()
    content = {
        **trial.settings(),
        "implementations": [trial.projection.implementation, trial.predictor.implementation],
        "datasets": [
            [s.manifest.name, s.manifest.fingerprint, s.unreadable, s.views[0].depends_on]
            for s in (source, *(sources[i] for i in trial.shifts))
        ],
        "backbone": source.facts.label,
        "views": [view.depends_on for view in source.views if view.label in (ORIGINAL, *kinds)],
        "text_pairs": source.text_pairs if TEXT in kinds else None,
        "texts": source.texts,  # the hash of the prompts, templates and class names
        "test_splits": list(splits_of(trial.protocol, recipe.sweep.test_splits)),
        "ranks": list(source.ranks),
        "code": code_version(),
    }
    return canonical_hash(content)[:32]


@functools.cache
def code_version() -> str:
    """Return the version and a hash of the sources that turn embeddings into rows."""
    here = Path(__file__).parent
    files = [here / name for name in ("trials.py", "source.py", "results.py", "datasets/splits.py")]
    files += [here / "embedding" / name for name in ("moments.py", "store.py", "sums.py", "texts.py")]
    files.append(here / "interventions" / "base.py")
    for room in ("subspace", "predictors", "evaluation"):
        files += sorted((here / room).glob("*.py"))
    digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
    return f"{benchmark.__version__}+{digest[:12]}"


def evaluate(
    data: Embedded, cells: Cells, sources: Sequence[Source], recipe: Recipe, trial: Trial, name: str
) -> list[Row]:
    """Return the result rows of one trial: one for each lambda, fold, test split and group of classes."""
    source = sources[trial.source]
    evaluation = Evaluation(data, cells, trial.split, trial.normalize, _device(recipe))
    ranks = source.ranks[-1:] if trial.projection.full_rank_only else source.ranks
    folds, weights = trial.folds(sources, recipe), weights_of(source, trial.intervention_set)
    common = {**_common_columns(sources, recipe, trial, name), "ranks": list(ranks), "classes": data.classes}
    rows: list[Row] = []
    for lambda_ in trial.lambdas:
        fit = functools.partial(trial.projection.fit, lambda_=lambda_, seed=trial.seed)
        own = {
            **common,
            "lambda_": lambda_ if trial.projection.uses_lambda else None,
            "lodo_split": evaluation.lodo_split,
        }
        curves = evaluation.curves(fit, trial.predictor, ranks, folds, weights)
        rows += [{**own, **_curve_columns(curve)} for curve in curves]
    return rows


def source_scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return rule -> mean over held-out environments and seeds of the highest score among rows and ranks.

    Of the rules that look at source environments alone; those without a score are absent. This is all that a search or
    a scheduler ever sees of a trial.
    """
    found = {}
    for rule in SOURCE_RULES:
        best: dict[tuple[object, object], float] = {}
        for row in rows:
            scores = [score for score in row[SCORE_COLUMN[rule]] or () if not np.isnan(score)]
            if scores:
                key = (row["held_out"], row["seed"])
                best[key] = max(best.get(key, 0.0), *scores)
        if best:
            found[rule] = float(np.mean(list(best.values())))
    return found


def _device(recipe: Recipe) -> str:
    """Return the torch device of a trial; Ray shows GPUs even to trials that reserve none."""
    if not recipe.run.gpus_per_trial:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _common_columns(sources: Sequence[Source], recipe: Recipe, trial: Trial, name: str) -> Row:
    source, projection, predictor = sources[trial.source], trial.projection, trial.predictor
    chosen = trial.intervention_set
    seen = [sources[i].manifest.fingerprint for i in (trial.source, *trial.shifts)]
    return {
        "trial_id": name,
        "dataset": source.manifest.name,
        "dataset_fingerprint": canonical_hash(seen) if trial.shifts else seen[0],
        "grouped": source.manifest.groups is not None and not trial.shifts,  # variants have none
        "backbone": source.facts.label,
        "backbone_fingerprint": source.facts.fingerprint,
        "random_weights": source.facts.random_weights,
        "precision": source.facts.precision,
        "prompts": json.dumps(list(recipe.prompts.templates_for(source.manifest.name))),
        "intervention_set": chosen.name if chosen else None,
        "interventions": _interventions(recipe, source, chosen) if chosen else None,
        "projection": projection.name,
        "projection_params": json.dumps({k: v for k, v in projection.params.items() if k != "order"}),
        "order": projection.order_name,
        "normalize": trial.normalize,
        "predictor": predictor.name,
        "predictor_params": json.dumps(predictor.params),
        "predictor_variant": predictor.variant or None,
        "protocol": trial.protocol,
        "seed": trial.seed,
        "dim": source.facts.dim,
        "n_classes": len(source.manifest.classes),
        "recipe_hash": recipe.hash(),
        "code_version": code_version(),
    }


def _interventions(recipe: Recipe, source: Source, chosen: InterventionSet) -> str:
    """Return an intervention set with all parameters of its kinds, as JSON."""
    spec, labels = recipe.interventions, labels_of(source, chosen)
    by_label = {view.label: view.intervention for view in source.views if view.intervention}
    kinds = [by_label[label].model_dump(mode="json") if label in by_label else {"name": label} for label in labels]
    text = spec.text.model_dump(mode="json") if spec.text and TEXT in labels else None
    content = {"kinds": kinds, "weights": chosen.weights, "pairing": chosen.pairing, "text": text}
    return json.dumps({**content, "seed": spec.seed, "apply_at": spec.apply_at})


def _curve_columns(curve: RankCurve) -> Row:
    columns: Row = {
        name: getattr(curve, name)
        for name in (
            "held_out", "test_split", "class_group", "n_train", "n_test", "training_domain", "lodo", "target",
            "worst_class", "balanced", "spectrum",
        )
    }  # fmt: skip
    columns["tested"] = [{"environment": name, "images": n} for name, n in curve.tested.items()]
    columns["tested_groups"] = curve.groups
    for rule in RULES:
        picked = curve.selected.get(rule)
        columns[f"correct_{rule}"] = picked.correct if picked else None
        columns[f"per_class_{rule}"] = picked.per_class if picked else None
        if rule in SOURCE_RULES:
            calibration = picked.calibration if picked else None
            columns[f"ece_{rule}"] = calibration.error if calibration else None
            columns[f"ece_scaled_{rule}"] = calibration.scaled_error if calibration else None
            columns[f"temperature_{rule}"] = calibration.temperature if calibration else None
    return columns
