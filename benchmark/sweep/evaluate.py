"""From a trial to its result rows."""

import json
from collections.abc import Sequence

from benchmark.common.hashing import canonical_hash
from benchmark.method.evaluation.cells import Cells
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.evaluation import Evaluation
from benchmark.recipe.recipe import Recipe
from benchmark.recipe.specs import TEXT, InterventionSet
from benchmark.store.rows import curve_columns
from benchmark.sweep.identity import code_version
from benchmark.sweep.subject import Subject, labels_of, weights_of
from benchmark.sweep.trials import Trial

Row = dict[str, object]


def evaluate(
    data: Embedded, cells: Cells, subjects: Sequence[Subject], recipe: Recipe, trial: Trial, name: str
) -> list[Row]:
    """Return the result rows of one trial: one for each lambda, fold, test split and group of classes."""
    subject = subjects[trial.subject]
    evaluation = Evaluation(data, cells, trial.split, trial.normalize, _device(recipe))
    ranks = subject.ranks[-1:] if trial.projection.full_rank_only else subject.ranks
    folds, weights = trial.folds(subjects, recipe), weights_of(subject, trial.intervention_set)
    common = {**_common_columns(subjects, recipe, trial, name), "ranks": list(ranks), "classes": data.classes}
    rows: list[Row] = []
    for lambda_ in trial.lambdas:
        fit = trial.projection.at(lambda_=lambda_, seed=trial.seed).fit
        own = {
            **common,
            "lambda_": lambda_ if trial.projection.uses_lambda else None,
            "lodo_split": evaluation.lodo_split,
        }
        curves = evaluation.curves(fit, trial.predictor, ranks, folds, weights)
        rows += [{**own, **curve_columns(curve)} for curve in curves]
    return rows


def _device(recipe: Recipe) -> str:
    """Return the torch device of a trial; Ray shows GPUs even to trials that reserve none."""
    if not recipe.run.gpus_per_trial:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _common_columns(subjects: Sequence[Subject], recipe: Recipe, trial: Trial, name: str) -> Row:
    subject, projection, predictor = subjects[trial.subject], trial.projection, trial.predictor
    chosen = trial.intervention_set
    seen = [subjects[i].manifest.fingerprint for i in (trial.subject, *trial.shifts)]
    return {
        "trial_id": name,
        "dataset": subject.manifest.name,
        "dataset_fingerprint": canonical_hash(seen) if trial.shifts else seen[0],
        "grouped": subject.manifest.groups is not None and not trial.shifts,  # variants have none
        "backbone": subject.facts.label,
        "backbone_fingerprint": subject.facts.fingerprint,
        "random_weights": subject.facts.random_weights,
        "precision": subject.facts.precision,
        "prompts": json.dumps(list(recipe.prompts.templates_for(subject.manifest.name))),
        "intervention_set": chosen.name if chosen else None,
        "interventions": _interventions(recipe, subject, chosen) if chosen else None,
        "projection": projection.name,
        "projection_params": json.dumps({k: v for k, v in projection.params.items() if k != "order"}),
        "order": projection.order_name,
        "normalize": trial.normalize,
        "predictor": predictor.name,
        "predictor_params": json.dumps(predictor.params),
        "predictor_variant": predictor.variant or None,
        "protocol": trial.protocol.name,
        "seed": trial.seed,
        "dim": subject.facts.dim,
        "n_classes": len(subject.manifest.classes),
        "recipe_hash": recipe.hash(),
        "code_version": code_version(),
    }


def _interventions(recipe: Recipe, subject: Subject, chosen: InterventionSet) -> str:
    """Return an intervention set with all parameters of its kinds, as JSON."""
    spec, labels = recipe.interventions, labels_of(subject, chosen)
    by_label = {view.label: view.intervention for view in subject.views if view.intervention}
    kinds = [by_label[label].model_dump(mode="json") if label in by_label else {"name": label} for label in labels]
    text = spec.text.model_dump(mode="json") if spec.text and TEXT in labels else None
    content = {"kinds": kinds, "weights": chosen.weights, "pairing": chosen.pairing, "text": text}
    return json.dumps({**content, "seed": spec.seed, "apply_at": spec.apply_at})
