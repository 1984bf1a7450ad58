"""From a trial to its result rows."""

import json

from benchmark.common.hashing import canonical_hash
from benchmark.method.evaluation.cells import Cells
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.evaluation import Evaluation
from benchmark.store.rows import curve_columns
from benchmark.sweep.identity import code_version
from benchmark.sweep.trials import Trial

Row = dict[str, object]


def evaluate(trial: Trial, data: Embedded, cells: Cells, device: str = "cpu") -> list[Row]:
    """Return the result rows of a trial: one for each lambda, fold, test split and half of the classes.

    Args:
        trial: what is fitted and evaluated.
        data: the embeddings of its subject; of a protocol across data sets, those of the variants too.
        cells: the moments of the same embeddings for the trial's intervention set, split and scale.
        device: torch device for predictors that are trained on torch.
    """
    spec, subject = trial.spec, trial.subject
    evaluation = Evaluation(data, cells, spec.split, spec.normalize, device)
    ranks = subject.ranks[-1:] if spec.projection.full_rank_only else subject.ranks
    weights = subject.weights_of(spec.intervention_set)
    common = {**_common_columns(trial), "ranks": list(ranks), "classes": data.classes}
    common["lodo_split"] = evaluation.lodo_split
    rows: list[Row] = []
    for lambda_ in spec.lambdas:
        projection = spec.projection.at(lambda_=lambda_, seed=spec.seed)
        common["lambda_"] = lambda_ if projection.uses_lambda else None
        curves = evaluation.curves(projection.fit, spec.predictor, ranks, trial.folds, weights)
        rows += [{**common, **curve_columns(curve)} for curve in curves]
    return rows


def _common_columns(trial: Trial) -> Row:
    spec, subject, intervention_set = trial.spec, trial.subject, trial.spec.intervention_set
    projection, predictor = spec.projection, spec.predictor
    fingerprints = [s.manifest.fingerprint for s in (subject, *trial.variants)]
    return {
        "trial_id": trial.id,
        "dataset": subject.manifest.name,
        "dataset_fingerprint": canonical_hash(fingerprints) if trial.variants else fingerprints[0],
        "grouped": subject.manifest.groups is not None and not trial.variants,  # variants have none
        "backbone": subject.facts.label,
        "backbone_fingerprint": subject.facts.fingerprint,
        "random_weights": subject.facts.random_weights,
        "precision": subject.facts.precision,
        "prompts": json.dumps(list(subject.prompts)),
        "intervention_set": intervention_set.name if intervention_set else None,
        "interventions": trial.interventions,
        "projection": projection.name,
        "projection_params": json.dumps({k: v for k, v in projection.params.items() if k != "order"}),
        "order": projection.order_name,
        "normalize": spec.normalize,
        "predictor": predictor.name,
        "predictor_params": json.dumps(predictor.params),
        "predictor_variant": predictor.variant or None,
        "protocol": spec.protocol.name,
        "seed": spec.seed,
        "dim": subject.facts.dim,
        "n_classes": len(subject.manifest.classes),
        "recipe_hash": trial.recipe_hash,
        "code_version": code_version(),
    }
