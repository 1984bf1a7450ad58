"""Predictors on embeddings. No Ray, no files: arrays in, arrays out."""

from benchmark.predictors.base import Predictor, Rotated
from benchmark.registry import Registry

PREDICTORS: Registry[Predictor] = Registry(
    "predictor",
    Predictor,  # type: ignore[type-abstract]
    {
        "zero_shot": "benchmark.predictors.zero_shot:ZeroShot",
        "linear_probe": "benchmark.predictors.linear_probe:LinearProbe",
        "ridge": "benchmark.predictors.ridge:Ridge",
        "class_means": "benchmark.predictors.class_means:ClassMeans",
        "few_shot": "benchmark.predictors.few_shot:FewShotProbe",
        "interpolation": "benchmark.predictors.interpolation:Interpolation",
        "tip_adapter": "benchmark.predictors.tip_adapter:TipAdapter",
        "clip_adapter": "benchmark.predictors.clip_adapter:ClipAdapter",
        "group_dro": "benchmark.predictors.group_dro:GroupDROProbe",
    },
)

__all__ = ["PREDICTORS", "Predictor", "Rotated"]
