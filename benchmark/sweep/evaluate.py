"""From a trial to its result rows."""

import json
from dataclasses import dataclass

from benchmark.common.hashing import canonical_hash
from benchmark.method.evaluation.cells import Cells
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.evaluation import Evaluation, Method
from benchmark.method.evaluation.splits import base_classes
from benchmark.method.evaluation.tested import Tested
from benchmark.store.rows import curve_columns
from benchmark.sweep.identity import code_version
from benchmark.sweep.trials import Trial

Row = dict[str, object]


@dataclass(frozen=True)
class Evaluated:
    """What a trial gives.

    Attributes:
        rows: its result rows, one for each lambda, holdout, test split, half of the classes and setting.
        tested: the images that these name, each set of them once.
    """

    rows: list[Row]
    tested: list[Tested]


def evaluate(trial: Trial, data: Embedded, cells: Cells, device: str = "cpu") -> Evaluated:
    """Return the result rows of a trial.

    Args:
        trial: what is fitted and evaluated.
        data: the embeddings of its subject; of a protocol across data sets, those of the variants too.
        cells: the moments of the same embeddings for the trial's intervention set, split and scale.
        device: torch device for predictors that are trained on torch.
    """
    spec, subject = trial.spec, trial.subject
    evaluation = Evaluation(data, cells, spec.split, spec.normalize, spec.fold, spec.draw_seed, device)
    weights = subject.weights_of(spec.intervention_set)
    common = {**common_columns(trial), "classes": data.classes}
    rows: dict[float, list[Row]] = {lambda_: [] for lambda_ in spec.lambdas}
    tested: dict[str, Tested] = {}
    for setting in spec.projection.settings:
        common["projection_params"] = json.dumps({k: v for k, v in setting.params.items() if k != "order"})
        for lambda_, of_lambda in rows.items():
            projection = setting.at(lambda_=lambda_, seed=spec.draw_seed)
            common["lambda_"] = lambda_ if projection.uses_lambda else None
            for curve in evaluation.curves(Method(projection, spec.predictor, spec.ranks, weights), trial.holdouts):
                params = json.dumps(spec.predictor.settings[curve.setting].params)
                of_lambda.append({**common, "predictor_params": params, **curve_columns(curve)})
                tested[curve.tested.hash] = curve.tested
    # lambda by lambda, ascending as the recipe gives them: of equals a rule takes the first, which shrinks least.
    return Evaluated([row for of_lambda in rows.values() for row in of_lambda], list(tested.values()))


def common_columns(trial: Trial) -> Row:
    """Return the columns that are the same in all rows of a trial."""
    spec, subject, intervention_set = trial.spec, trial.subject, trial.spec.intervention_set
    projection, predictor = spec.projection, spec.predictor
    fingerprints = [s.manifest.fingerprint for s in (subject, *trial.variants)]
    return {
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
        "projection_variant": projection.variant or None,
        "order": projection.order_name,
        "normalize": spec.normalize,
        "predictor": predictor.name,
        "predictor_variant": predictor.variant or None,
        "protocol": spec.protocol.name,
        "seed": spec.seed,
        "folds": spec.folds,
        "fold": -1 if spec.fold is None else spec.fold,
        "view_draw": trial.view_draw,
        "ranks": list(spec.ranks),
        "dim": subject.facts.dim,
        "n_classes": len(subject.manifest.classes),
        "n_base": base_classes(len(subject.manifest.classes), spec.rounding),
        "rounding": spec.rounding if spec.protocol.open_class else None,
        "n_sources": min(len(holdout.sources) for holdout in trial.holdouts),
        "n_shared": subject.manifest.shared_images,
        "recipe_hash": trial.recipe_hash,
        "code_version": code_version(),
    }
