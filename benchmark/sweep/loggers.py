"""TensorBoard, MLflow and Weights & Biases, fed by Tune's own callbacks; none unless the recipe asks for it."""

import os
from pathlib import Path
from typing import Any

from benchmark.recipe.recipe import Recipe

LOGGERS = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}  # logger -> package


def log_folder(recipe: Recipe) -> str | None:
    """Return the absolute path of the folder in which Tune keeps its files; None where nobody asked for them."""
    return str(Path(recipe.run.logs).expanduser().absolute()) if recipe.run.loggers else None


def callbacks(recipe: Recipe) -> list[Any]:
    """Return Tune's callbacks for the loggers of a recipe.

    They see what a trial reports: its number of rows and its scores on source environments, nothing of a target.
    MLflow goes to `MLFLOW_TRACKING_URI`, or to the folder `mlflow` inside `run.logs`; Weights & Biases goes where its
    own environment variables say (`WANDB_MODE=offline` keeps it on the machine).
    """
    return [_callback(name, recipe) for name in recipe.run.loggers]


def _callback(name: str, recipe: Recipe) -> Any:
    if name == "tensorboard":
        from ray.tune.logger import TBXLoggerCallback

        return TBXLoggerCallback()
    if name == "mlflow":
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        place = os.environ.get("MLFLOW_TRACKING_URI") or (Path(log_folder(recipe) or ".") / "mlflow").as_uri()
        return MLflowLoggerCallback(tracking_uri=place, experiment_name=recipe.name)
    from ray.air.integrations.wandb import WandbLoggerCallback

    return WandbLoggerCallback(project=recipe.name, log_config=True)
