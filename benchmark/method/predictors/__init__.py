"""Predictors on embeddings. No Ray, no files: arrays in, arrays out.

If you add a name, explain it in docs/comparisons.md and run `make docs`, which writes docs/recipe.md. tests/docs checks
that both pages have every name.
"""

from benchmark.common.registry import Registry
from benchmark.method.predictors.base import Head, HeadKey, Predictor, Problem

PREDICTORS: Registry[Predictor] = Registry(
    "predictor",
    Predictor,  # type: ignore[type-abstract]
    {
        "zero_shot": "benchmark.method.predictors.zero_shot:ZeroShot",
        "linear_probe": "benchmark.method.predictors.linear_probe:LinearProbe",
        "ridge": "benchmark.method.predictors.ridge:Ridge",
        "class_means": "benchmark.method.predictors.class_means:ClassMeans",
        "few_shot": "benchmark.method.predictors.few_shot:FewShotProbe",
        "interpolation": "benchmark.method.predictors.interpolation:Interpolation",
        "tip_adapter": "benchmark.method.predictors.tip_adapter:TipAdapter",
        "clip_adapter": "benchmark.method.predictors.clip_adapter:ClipAdapter",
        "coop": "benchmark.method.predictors.coop:CoOp",
        "group_dro": "benchmark.method.predictors.group_dro:GroupDROProbe",
        "probe_with_views": "benchmark.method.predictors.probe_with_views:ProbeWithViews",
        "soft_penalty": "benchmark.method.predictors.soft_penalty:SoftPenaltyProbe",
        "mean_of_views": "benchmark.method.predictors.mean_of_views:MeanOfViews",
        "zero_temperature": "benchmark.method.predictors.zero_temperature:ZeroTemperature",
    },
)

__all__ = ["PREDICTORS", "Head", "HeadKey", "Predictor", "Problem"]
