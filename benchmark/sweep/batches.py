"""Batches of trials for Ray Tune, resources of trials, and loggers.

Small trials run in batches, since Tune needs more time to start a trial than a small trial takes.

A further logger goes into `LOGGERS` and into `RunSpec.loggers` in `benchmark/recipe/specs.py`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.recipe.specs import RunSpec
from benchmark.sweep.trials import Trial
from benchmark.sweep.work import works_of

# In operations, see `sweep.work`: the minimum work of a batch, about three seconds of a core, and the fixed work of
# each trial, such as reading moments and writing rows.
MIN_BATCH, PER_TRIAL = 4e10, 4e8
LOGGERS = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}  # logger -> package


@dataclass(frozen=True)
class Batch:
    """A batch: consecutive trials of a list.

    Attributes:
        first: position of the first trial.
        count: number of trials.
    """

    first: int
    count: int

    def of(self, trials: Sequence[Trial]) -> Sequence[Trial]:
        """Return the part of `trials` that is in the batch."""
        return trials[self.first : self.first + self.count]

    def config(self, trials: Sequence[Trial]) -> dict[str, Any]:
        """Return the configuration of the batch for Tune and loggers."""
        others = f", and {self.count - 1} more" if self.count > 1 else ""
        return {"number": self.first, "count": self.count, "label": trials[self.first].label + others}

    @classmethod
    def named(cls, config: dict[str, Any]) -> "Batch":
        """Return the batch that a configuration describes."""
        return cls(config["number"], config["count"])


def one_by_one(trials: Sequence[Trial]) -> list[Batch]:
    """Return one batch for each trial."""
    return [Batch(number, 1) for number in range(len(trials))]


def batches_of(trials: Sequence[Trial], options: RunSpec, cores: float, gpus: int) -> list[Batch]:
    """Return batches of trials, those with most work first, so that no long batch runs last.

    Small trials are joined. Trials with folds are also joined if they share decompositions or classifiers of plain
    prediction, since a worker caches these. A batch has at most one core's share of the work. Loggers record batches,
    so with loggers each trial is a batch.
    """
    if options.loggers:
        return one_by_one(trials)
    works = [PER_TRIAL + work for work in works_of(trials)]
    share = sum(works) * options.cpus_per_trial / max(1.0, cores)
    batches: list[Batch] = []
    held: list[float] = []  # work of each batch so far
    asked: dict[str, float] = {}
    for number, (trial, work) in enumerate(zip(trials, works, strict=True)):
        resources, before = resources_of(trial, options, gpus), trials[number - 1]
        # Do the trials share moments, or learn from the same images?
        learn = before.spec.predictor.uses_training_images and trial.spec.predictor.uses_training_images
        alike = before.shares == trial.shares and before.spec.protocol == trial.spec.protocol
        together = bool(before.spec.folds) and alike and (learn or before.sums == trial.sums)
        max_work = share if batches and together else min(MIN_BATCH, share)
        if not batches or held[-1] + work > max_work or resources != asked:
            batches.append(Batch(number, 0))
            held.append(0.0)
            asked = resources
        batches[-1] = Batch(batches[-1].first, batches[-1].count + 1)
        held[-1] += work
    return [batches[i] for i in sorted(range(len(batches)), key=lambda i: -held[i])]


def resources_of(trial: Trial, options: RunSpec, gpus: int) -> dict[str, float]:
    """Return the resources of a trial on a cluster with `gpus` GPUs."""
    asked = options.gpus_per_trial
    return {"cpu": options.cpus_per_trial, "gpu": float(gpus > 0 and trial.samples) if asked == "auto" else asked}


def log_folder(options: RunSpec) -> str | None:
    """Return the absolute path of the folder for Tune's log files; None without loggers."""
    return str(Path(options.logs).expanduser().absolute()) if options.loggers else None


def callbacks(options: RunSpec, name: str) -> list[Any]:
    """Return Tune's callbacks for the loggers of the recipe `name`.

    They log the report of a trial: number of rows and source scores, nothing about the target. MLflow logs to
    `MLFLOW_TRACKING_URI`, or to the folder `mlflow` inside `run.logs`. Weights & Biases follows its own environment
    variables (`WANDB_MODE=offline` keeps logs on the machine).
    """
    found: list[Any] = []
    if "tensorboard" in options.loggers:
        from ray.tune.logger import TBXLoggerCallback

        found.append(TBXLoggerCallback())
    if "mlflow" in options.loggers:
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        place = os.environ.get("MLFLOW_TRACKING_URI") or (Path(log_folder(options) or ".") / "mlflow").as_uri()
        found.append(MLflowLoggerCallback(tracking_uri=place, experiment_name=name))
    if "wandb" in options.loggers:
        from ray.air.integrations.wandb import WandbLoggerCallback

        found.append(WandbLoggerCallback(project=name, log_config=True))
    return found
