"""Interventions: how a view of an image differs from the image while the object stays what it is."""

from benchmark.interventions.base import Intervention, view_rng
from benchmark.registry import Registry

_PHOTOMETRIC = "benchmark.interventions.photometric"

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
