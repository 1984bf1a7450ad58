"""Predictors on embeddings. No Ray, no files: arrays in, arrays out."""

from benchmark.predictors.base import Predictor, Rotated
from benchmark.registry import Registry

PREDICTORS: Registry[Predictor] = Registry(
    "predictor",
    Predictor,  # type: ignore[type-abstract]
    {
        "zero_shot": "benchmark.predictors.zero_shot:ZeroShot",
        "linear_probe": "benchmark.predictors.linear_probe:LinearProbe",
    },
)

__all__ = ["PREDICTORS", "Predictor", "Rotated"]
