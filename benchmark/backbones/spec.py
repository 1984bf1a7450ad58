"""What a recipe says of a backbone."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, model_validator

from benchmark.common.spec import Spec

Precision = Literal["float32", "bfloat16", "float16"]


class BackboneSpec(Spec):
    """Which dual encoder, with which weights, and how it is run.

    Fields:
        name: model of open_clip (`ViT-B-32`, `hf-hub:...`), the demo's `MiniLiT`, or, with `folder`, any label.
        pretrained: open_clip's pretrained tag, a checkpoint file, or `random` (random weights: for tests of speed).
            Default: none, for backbones that bring their own weights.
        folder: folder with `open_clip_config.json` and a checkpoint (open_clip's `local-dir:` layout). Default: none.
        precision: type of the numbers in the forward pass and in the store (bfloat16 is stored as float32). Default
            `float32`.
        image_size: side of the square input, 16 to 2048 pixels. Default: the model's own.
        quick_gelu: whether the activation is QuickGELU. Default: what the pretrained tag was trained with.
        mean, std: normalisation of each channel, for values on the scale 0 to 1. Default: what comes with the weights.
        seed: seed of random weights; no other weights depend on it.
    """

    name: str = Field(min_length=1)
    pretrained: str | None = None
    folder: str | None = None
    precision: Precision = "float32"
    image_size: int | None = Field(default=None, ge=16, le=2048)
    quick_gelu: bool | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _one_source_of_weights(self) -> "BackboneSpec":
        if self.pretrained and self.pretrained != "random" and (self.folder or ":" in self.name):
            raise ValueError("give 'folder' or 'pretrained', not both: the folder holds its own checkpoint.")
        return self

    @property
    def random_weights(self) -> bool:
        """Whether the weights are random: good for measuring speed, worthless for accuracy."""
        return self.pretrained == "random"

    @property
    def label(self) -> str:
        """How outputs name the backbone; random weights cannot be overlooked."""
        parts = [self.name]
        if self.pretrained and not self.random_weights:
            parts.append(self.pretrained if "/" not in self.pretrained else Path(self.pretrained).name)
        if self.image_size:
            parts.append(f"{self.image_size}px")
        parts += [
            f"{key}={value}"
            for key, value in (("quick_gelu", self.quick_gelu), ("mean", self.mean), ("std", self.std))
            if value is not None
        ]
        if self.precision != "float32":
            parts.append(self.precision)
        if self.random_weights:
            parts.append(f"RANDOM WEIGHTS (seed {self.seed})")
        return " ".join(parts)

    def with_absolute_paths(self) -> "BackboneSpec":
        """Return the backbone with its files named as every process can find them, whatever its working directory."""
        changes = {
            key: str(Path(place).expanduser().absolute())
            for key in ("folder", "pretrained")
            if (place := getattr(self, key)) and Path(place).expanduser().exists()
        }
        return self.model_copy(update=changes)
