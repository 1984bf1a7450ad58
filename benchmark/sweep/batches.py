"""What Tune is given: batches of trials, since to start one takes longer than a small trial; resources; loggers."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.recipe.specs import RunSpec
from benchmark.sweep.trials import Trial
from benchmark.sweep.work import works_of

# Operations, see `sweep.work`: what a batch has at least where there is more to do, some three seconds of a core; and
# what lies around each trial, however small it is: reading moments, writing rows.
ENOUGH, AROUND = 4e10, 4e8
LOGGERS = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}  # logger -> package


@dataclass(frozen=True)
class Batch:
    """Trials next to each other in a list.

    Attributes:
        first: position of the first.
        count: number of trials.
    """

    first: int
    count: int

    def of(self, trials: Sequence[Trial]) -> Sequence[Trial]:
        """Return the trials of the batch."""
        return trials[self.first : self.first + self.count]

    def config(self, trials: Sequence[Trial]) -> dict[str, Any]:
        """Return what Tune and loggers are told of the batch."""
        others = f", and {self.count - 1} more" if self.count > 1 else ""
        return {"number": self.first, "count": self.count, "label": trials[self.first].label + others}

    @classmethod
    def named(cls, config: dict[str, Any]) -> "Batch":
        """Return the batch that `config` tells of."""
        return cls(config["number"], config["count"])


def one_by_one(trials: Sequence[Trial]) -> list[Batch]:
    """Return a batch for each trial."""
    return [Batch(number, 1) for number in range(len(trials))]


def batches_of(trials: Sequence[Trial], options: RunSpec, cores: float, gpus: int) -> list[Batch]:
    """Return trials in batches, the largest batch first, so that none is left over when all others are done.

    Small trials are put together, and so are trials with folds that share decompositions or classifiers of the plain
    space, which are cached in a worker; a batch is at most what falls to each core. Loggers have an entry for each of
    Tune's trials: with any there is a batch for each trial.
    """
    if options.loggers:
        return one_by_one(trials)
    works = [AROUND + work for work in works_of(trials)]
    share = sum(works) * options.cpus_per_trial / max(1.0, cores)
    batches: list[Batch] = []
    held: list[float] = []  # work of each batch
    asked: dict[str, float] = {}
    for number, (trial, work) in enumerate(zip(trials, works, strict=True)):
        resources, before = resources_of(trial, options, gpus), trials[number - 1]
        # Trials with folds that share moments, or learn from the same images.
        learn = before.spec.predictor.uses_training_images and trial.spec.predictor.uses_training_images
        alike = before.shares == trial.shares and before.spec.protocol == trial.spec.protocol
        together = bool(before.spec.folds) and alike and (learn or before.sums == trial.sums)
        most = share if batches and together else min(ENOUGH, share)
        if not batches or held[-1] + work > most or resources != asked:
            batches.append(Batch(number, 0))
            held.append(0.0)
            asked = resources
        batches[-1] = Batch(batches[-1].first, batches[-1].count + 1)
        held[-1] += work
    return [batches[i] for i in sorted(range(len(batches)), key=lambda i: -held[i])]


def resources_of(trial: Trial, options: RunSpec, gpus: int) -> dict[str, float]:
    """Return what a trial reserves, on a cluster with so many GPUs."""
    asked = options.gpus_per_trial
    return {"cpu": options.cpus_per_trial, "gpu": float(gpus > 0 and trial.samples) if asked == "auto" else asked}


def log_folder(options: RunSpec) -> str | None:
    """Return the absolute path of the folder in which Tune keeps its files; None where nobody asked for them."""
    return str(Path(options.logs).expanduser().absolute()) if options.loggers else None


def callbacks(options: RunSpec, name: str) -> list[Any]:
    """Return Tune's callbacks for the loggers of a recipe of this name.

    They see what a trial reports: its number of rows and its scores on source environments, nothing of a target.
    MLflow goes to `MLFLOW_TRACKING_URI`, or to the folder `mlflow` inside `run.logs`; Weights & Biases goes where its
    own environment variables say (`WANDB_MODE=offline` keeps it on the machine).
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
