"""TensorBoard, MLflow and Weights & Biases, fed by Tune's own callbacks; none unless the recipe asks for it."""

import os
from pathlib import Path
from typing import Any

from benchmark.recipe.specs import RunSpec

LOGGERS = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}  # logger -> package


def log_folder(options: RunSpec) -> str | None:
    """Return the absolute path of the folder in which Tune keeps its files; None where nobody asked for them."""
    return str(Path(options.logs).expanduser().absolute()) if options.loggers else None


def callbacks(options: RunSpec, name: str) -> list[Any]:
    """Return Tune's callbacks for the loggers that a recipe asks for.

    They see what a trial reports: its number of rows and its scores on source environments, nothing of a target.
    MLflow goes to `MLFLOW_TRACKING_URI`, or to the folder `mlflow` inside `run.logs`; Weights & Biases goes where its
    own environment variables say (`WANDB_MODE=offline` keeps it on the machine).

    Args:
        options: of the recipe; `loggers` and `logs` are used.
        name: of the recipe, under which experiments are filed.
    """
    return [_callback(logger, options, name) for logger in options.loggers]


def _callback(logger: str, options: RunSpec, name: str) -> Any:
    if logger == "tensorboard":
        from ray.tune.logger import TBXLoggerCallback

        return TBXLoggerCallback()
    if logger == "mlflow":
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        place = os.environ.get("MLFLOW_TRACKING_URI") or (Path(log_folder(options) or ".") / "mlflow").as_uri()
        return MLflowLoggerCallback(tracking_uri=place, experiment_name=name)
    from ray.air.integrations.wandb import WandbLoggerCallback

    return WandbLoggerCallback(project=name, log_config=True)
