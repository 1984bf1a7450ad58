"""Interventions: views of images with changed style and unchanged object.

A new name in `INTERVENTIONS` is used by every recipe without `interventions.kinds`, and in the training of MiniLiT with
`augmented: true`. So raise `VERSION` in benchmark/demo/minilit.py; correct the word "seven" in
benchmark/recipe/specs.py, benchmark/backbones/spec.py and benchmark/commands/init.py, and the counts in tests/recipe;
and run `make docs`.
"""

from benchmark.common.registry import Registry
from benchmark.method.interventions.base import Intervention, view_rng

_PHOTOMETRIC = "benchmark.method.interventions.photometric"

INTERVENTIONS: Registry[Intervention] = Registry(
    "intervention",
    Intervention,  # type: ignore[type-abstract]
    {
        "color_jitter": f"{_PHOTOMETRIC}:ColorJitter",
        "grayscale": f"{_PHOTOMETRIC}:Grayscale",
        "gaussian_blur": f"{_PHOTOMETRIC}:GaussianBlur",
        "invert": f"{_PHOTOMETRIC}:Invert",
        "posterize": f"{_PHOTOMETRIC}:Posterize",
        "solarize": f"{_PHOTOMETRIC}:Solarize",
        "equalize": f"{_PHOTOMETRIC}:Equalize",
    },
)

__all__ = ["INTERVENTIONS", "Intervention", "view_rng"]
