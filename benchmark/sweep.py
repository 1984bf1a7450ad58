"""The sweep on Ray Tune: every setting for every held-out environment, one file of result rows per finished trial.

A trial holds what shares work: all held-out environments, their leave-one-domain-out folds, all lambdas and all ranks
of one (data set, backbone, intervention set, projection, normalisation, predictor, seed). Tune's own state is
disposable: a trial whose rows exist is not run again.
"""

import contextlib
import faulthandler
import functools
import hashlib
import io
import json
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

import benchmark
from benchmark.embedding.store import ORIGINAL
from benchmark.errors import IcmBenchError
from benchmark.evaluation.cells import Cells
from benchmark.evaluation.embedded import Embedded
from benchmark.evaluation.held_out import HeldOut, RankCurve
from benchmark.evaluation.selection import RULES, SCORE_COLUMN, best_index
from benchmark.predictors import Predictor
from benchmark.progress import Progress
from benchmark.recipe import TEXT, InterventionSet, Normalize, Recipe, canonical_hash
from benchmark.results import failures, row_file, write_failure, write_rows
from benchmark.source import Source, cells_for, labels_of, load, sum_source, weights_of
from benchmark.storage import Storage
from benchmark.subspace import Projection


@dataclass(frozen=True)
class Trial:
    """One unit of work of a sweep.

    Attributes:
        source: position in the list of sources.
        intervention_set: None where the projection looks at no intervention.
        projection, normalize, predictor, seed: see the recipe.
        lambdas: (0.0,) where the projection has none.
    """

    source: int
    intervention_set: InterventionSet | None
    projection: Projection
    normalize: Normalize
    predictor: Predictor
    seed: int
    lambdas: tuple[float, ...]

    def label(self, source: Source) -> str:
        """Return the trial in words, for the list of those that failed."""
        chosen = f", {self.intervention_set.name}" if self.intervention_set else ""
        return (
            f"{source.manifest.name}, {source.facts.label}: {self.projection.label}{chosen} + {self.predictor.label}, "
            f"normalize {self.normalize}, seed {self.seed}"
        )

    def settings(self) -> dict[str, Any]:
        """Return all that distinguishes the trial from others of the same source, in plain data."""
        chosen = self.intervention_set
        return {
            "intervention_set": chosen.model_dump(mode="json") if chosen else None,
            "projection": self.projection.model_dump(mode="json"),
            "normalize": self.normalize,
            "predictor": self.predictor.model_dump(mode="json"),
            "seed": self.seed,
            "lambdas": list(self.lambdas),
        }


def trials_of(recipe: Recipe, n_sources: int) -> list[Trial]:
    """Return every trial of a recipe; projections that look at no intervention are not repeated for each set."""
    sweep = recipe.sweep
    return [
        Trial(
            source=source,
            intervention_set=intervention_set,
            projection=projection,
            normalize=normalize,
            predictor=predictor,
            seed=seed,
            lambdas=sweep.lambdas if projection.uses_lambda else (0.0,),
        )
        for source in range(n_sources)
        for predictor in sweep.predictors
        for projection in sweep.projections
        for intervention_set in (recipe.intervention_sets() if projection.uses_interventions else (None,))
        for normalize in sweep.normalize
        for seed in sweep.seeds
    ]


def row_count(recipe: Recipe, environments: list[int]) -> int:
    """Return the number of result rows of a recipe; `environments` has the number for each source."""
    trials = trials_of(recipe, len(environments))
    return sum(len(t.lambdas) * environments[t.source] * len(recipe.sweep.test_splits) for t in trials)


def trial_id(recipe: Recipe, source: Source, trial: Trial) -> str:
    """Return the hash of everything that a trial's rows depend on."""
    kinds = labels_of(source, trial.intervention_set) if trial.intervention_set else ()
    content = {
        **trial.settings(),
        "implementations": [trial.projection.implementation, trial.predictor.implementation],
        "dataset": [source.manifest.name, source.manifest.fingerprint, source.unreadable],
        "backbone": source.facts.label,
        "views": [view.depends_on for view in source.views if view.label in (ORIGINAL, *kinds)],
        "text_pairs": source.text_pairs if TEXT in kinds else None,
        "prompts": list(recipe.prompts.templates_for(source.manifest.name)),
        "protocol": recipe.sweep.protocol,
        "test_splits": list(recipe.sweep.test_splits),
        "ranks": list(source.ranks),
        "code": code_version(),
    }
    return canonical_hash(content)[:32]


@functools.cache
def code_version() -> str:
    """Return the version and a hash of the sources that turn embeddings into rows."""
    here = Path(__file__).parent
    files = [here / name for name in ("sweep.py", "source.py", "results.py", "datasets/splits.py")]
    files += [here / "embedding" / name for name in ("moments.py", "store.py", "texts.py")]
    files.append(here / "interventions" / "base.py")
    for room in ("subspace", "predictors", "evaluation"):
        files += sorted((here / room).glob("*.py"))
    digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
    return f"{benchmark.__version__}+{digest[:12]}"


def sweep(storage: Storage, recipe: Recipe, sources: list[Source]) -> None:
    """Run the trials whose rows do not exist yet; those that fail twice leave a reason in the store. Needs Ray.

    Raises:
        IcmBenchError: the sweep was ended before all trials were tried.
    """
    trials = trials_of(recipe, len(sources))
    ids = [trial_id(recipe, sources[t.source], t) for t in trials]
    missing = [i for i, name in enumerate(ids) if not storage.exists(row_file(name))]
    if missing:
        _tune(storage, recipe, sources, {i: (ids[i], trials[i]) for i in missing})


def _tune(storage: Storage, recipe: Recipe, sources: list[Source], todo: dict[int, tuple[str, Trial]]) -> None:
    from ray import tune

    # Tune would take an interrupt for the wish to end early and call the sweep finished.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    progress = Progress("sweep", len(todo), "trials")

    class Report(tune.Callback):
        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
            progress.update()

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
            progress.update()

    # The arrays are loaded by a worker, shared by all trials of a node, and never seen by this process.
    needed = sorted({trial.source for _, trial in todo.values()})
    shared = {i: load.remote(storage, sources[i], recipe.sweep.seeds) for i in needed}
    for i in needed:
        own = [trial for _, trial in todo.values() if trial.source == i]
        images = ray.get(shared[i][1])
        sets = [trial.intervention_set for trial in own]
        sum_source(storage, sources[i], images, recipe.sweep.seeds, {trial.normalize for trial in own}, sets)
    trainable = tune.with_parameters(_train, storage=storage, recipe=recipe, sources=sources, todo=todo, shared=shared)
    scratch = tempfile.mkdtemp(prefix="icm-bench-tune-")
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": recipe.run.cpus_per_trial, "gpu": recipe.run.gpus_per_trial}),
        param_space={"trial": tune.grid_search(list(todo))},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=scratch,
            verbose=0,
            callbacks=[Report()],
            failure_config=tune.FailureConfig(max_failures=1),
        ),
    )
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # Tune prints a banner whatever its verbosity
            results = tuner.fit()
    finally:
        progress.close()
        shutil.rmtree(scratch, ignore_errors=True)
    for result in results:
        if result.error is not None and result.config is not None:
            name, trial = todo[result.config["trial"]]
            write_failure(storage, name, trial.label(sources[trial.source]), _reason(result.error, recipe))
    reasons = failures(storage, [name for name, _ in todo.values()])
    if not all(name in reasons or storage.exists(row_file(name)) for name, _ in todo.values()):
        raise IcmBenchError("The sweep ended before all trials did; run the same command to go on.")


def _reason(error: Exception, recipe: Recipe) -> str:
    """Return why a trial failed, in a line."""
    from ray.exceptions import RayActorError

    last = (str(error).strip() or type(error).__name__).splitlines()[-1]
    if not (isinstance(error, RayActorError) or "ActorDied" in str(error) or "ActorUnavailable" in str(error)):
        return last
    limit = recipe.run.trial_timeout
    took_too_long = f", or it took longer than run.trial_timeout = {limit:g} s" if limit else ""
    return f"its process ended without a word: it was killed, ran out of memory{took_too_long}"


def _train(
    config: dict[str, int],
    storage: Storage,
    recipe: Recipe,
    sources: list[Source],
    todo: dict[int, tuple[str, Trial]],
    shared: dict[int, Any],
) -> None:
    from ray import tune

    name, trial = todo[config["trial"]]
    source = sources[trial.source]
    data, images = ray.get(list(shared[trial.source]))
    cells = cells_for(storage, source, images, trial.intervention_set, trial.seed, trial.normalize)
    if recipe.run.trial_timeout:  # ends this process, even one that hangs in native code, and Tune takes another
        faulthandler.dump_traceback_later(recipe.run.trial_timeout, exit=True, file=2)
    try:
        rows = evaluate(data, cells, source, recipe, trial, name)
    finally:
        faulthandler.cancel_dump_traceback_later()
    write_rows(storage, name, rows)
    tune.report({"rows": len(rows)})


def evaluate(
    data: Embedded, cells: Cells, source: Source, recipe: Recipe, trial: Trial, name: str
) -> list[dict[str, object]]:
    """Return the result rows of one trial: one for each lambda, held-out environment and test split."""
    protocol = HeldOut(data, cells, trial.seed, trial.normalize, _device(recipe))
    ranks = source.ranks[-1:] if trial.projection.full_rank_only else source.ranks
    splits, weights = recipe.sweep.test_splits, weights_of(source, trial.intervention_set)
    common = _common_columns(source, recipe, trial, name)
    rows: list[dict[str, object]] = []
    for lambda_ in trial.lambdas:
        fit = functools.partial(trial.projection.fit, lambda_=lambda_, seed=trial.seed)
        for curve in protocol.curves(fit, trial.predictor, ranks, splits, weights):
            for split in splits:
                rows.append(
                    {
                        **common,
                        "lambda_": lambda_ if trial.projection.uses_lambda else None,
                        "lodo_split": protocol.lodo_split,
                        "ranks": list(ranks),
                        "test_split": split,
                        **_curve_columns(curve, split),
                    }
                )
    return rows


def _device(recipe: Recipe) -> str:
    """Return the torch device of a trial; Ray shows GPUs even to trials that reserve none."""
    if not recipe.run.gpus_per_trial:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _common_columns(source: Source, recipe: Recipe, trial: Trial, name: str) -> dict[str, object]:
    projection, predictor, chosen = trial.projection, trial.predictor, trial.intervention_set
    embedded = recipe.interventions.by_label()
    labels = (chosen.kinds or tuple(embedded)) if chosen else ()
    return {
        "trial_id": name,
        "dataset": source.manifest.name,
        "dataset_fingerprint": source.manifest.fingerprint,
        "grouped": source.manifest.groups is not None,
        "backbone": source.facts.label,
        "backbone_fingerprint": source.facts.fingerprint,
        "random_weights": source.facts.random_weights,
        "precision": source.facts.precision,
        "prompts": json.dumps(list(recipe.prompts.templates_for(source.manifest.name))),
        "intervention_set": chosen.name if chosen else None,
        "interventions": json.dumps(
            {
                "kinds": [
                    embedded[label].model_dump(mode="json") if label in embedded else {"name": label}
                    for label in labels
                ],
                "weights": chosen.weights,
                "pairing": chosen.pairing,
                "text": recipe.interventions.text.model_dump(mode="json")
                if recipe.interventions.text and TEXT in labels
                else None,
                "seed": recipe.interventions.seed,
                "apply_at": recipe.interventions.apply_at,
            }
        )
        if chosen
        else None,
        "projection": projection.name,
        "projection_params": json.dumps({k: v for k, v in projection.params.items() if k != "order"}),
        "order": projection.order_name,
        "normalize": trial.normalize,
        "predictor": predictor.name,
        "predictor_params": json.dumps(predictor.params),
        "predictor_variant": predictor.variant or None,
        "protocol": recipe.sweep.protocol,
        "seed": trial.seed,
        "dim": source.facts.dim,
        "n_classes": len(source.manifest.classes),
        "recipe_hash": recipe.hash(),
        "code_version": code_version(),
    }


def _curve_columns(curve: RankCurve, split: Any) -> dict[str, object]:
    correct = curve.correct[split]
    columns: dict[str, object] = {
        "held_out": curve.held_out,
        "n_train": curve.n_train,
        "n_test": correct.shape[1],
        "training_domain": curve.training_domain,
        "lodo": curve.lodo,
        "target": curve.target[split],
        "worst_class": curve.worst_class[split],
        "spectrum": curve.spectrum,
    }
    for rule in RULES:
        index = best_index(columns[SCORE_COLUMN[rule]])  # type: ignore[arg-type]
        columns[f"correct_{rule}"] = None if index is None else correct[index].tolist()
    return columns
