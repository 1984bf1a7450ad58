"""Recipe spec of a backbone: an entry of `backbones`. Its docstrings are copied into docs/recipe.md by `make docs`."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from benchmark.common.spec import Name, Spec

# Names of torch dtypes, and `tf32`: float32 with TF32 products. All but `auto` are keys of `_HINTS` in conversion.py.
Precision = Literal["auto", "float32", "tf32", "bfloat16", "float16"]
AUTOMATIC: tuple[Precision, ...] = ("float32", "bfloat16")  # what `auto` may become
# A further engine is also chosen by `with_engine` (describe.py) and run by `Backbone._tower` (loading.py).
Engine = Literal["auto", "torch", "openvino"]
_Mean = Annotated[float, Field(ge=-1000, le=1000)]
_Deviation = Annotated[float, Field(ge=1e-6, le=1000)]

# Backbones that are built in the cache at first use: name -> (module with `place`, `notes` and `Training`, module with
# `build`, which takes longer to import).
BUILT = {"MiniLiT": ("benchmark.demo.minilit", "benchmark.demo.minilit_training")}
OPEN_CLIP_SCHEMAS = ("hf-hub:", "local-dir:")


def precision_on(majors: Collection[int]) -> Precision:
    """Return what `auto` is on GPUs with these major compute capabilities; without GPUs it is float32."""
    return "bfloat16" if majors and min(majors) >= 8 else "float32"


class TrainingSpec(Spec):
    """Training of the head of an encoder that is built at first use. Each specification gives a different encoder.

    Fields:
        image_size: side of the training images in pixels. Default 160.
        trunk: the image tower, `lite0` or `lite1` (EfficientNet-Lite with its ImageNet weights). Default `lite0`.
        width: embedding width D. Default 256.
        augmented: whether training also uses views of the seven interventions: at each step, each image is used as it
            is or replaced by one of its views. It is an alternative to projections. Default false.
        seed: seed of initialisation, order of the images, choice of captions and views, and dropout. Default 0.
    """

    image_size: int = Field(default=160, ge=32, le=512)
    trunk: Literal["lite0", "lite1"] = "lite0"
    width: int = Field(default=256, ge=8, le=1024)
    augmented: bool = False
    seed: int = Field(default=0, ge=0, lt=2**31)

    @property
    def words(self) -> str:
        """Text of the values that differ from their defaults, as "trained at 96px, width 64"."""
        default = TrainingSpec()
        parts = [f"trained at {self.image_size}px"] if self.image_size != default.image_size else []
        parts += [self.trunk] if self.trunk != default.trunk else []
        parts += [f"width {self.width}"] if self.width != default.width else []
        parts += ["augmented"] if self.augmented else []
        parts += [f"seed {self.seed}"] if self.seed else []
        return ", ".join(parts)


# A new field that changes embeddings must change `label`, and `BackboneFacts.identity`, which names stored embeddings.
class BackboneSpec(Spec):
    """A dual encoder, its weights, precision and engine.

    Fields:
        name: model of open_clip (`ViT-B-32`, `hf-hub:...`), the demo's `MiniLiT`, or, with `folder`, any label.
            `hf:NAME_OR_FOLDER` is a dual encoder of transformers, `timm:NAME` a vision tower of timm, which has no
            texts, and `module:Class` an `EncoderModel` of your own.
        pretrained: open_clip's pretrained tag, a checkpoint file, or `random` (random weights: for tests of speed).
            Default: none, for backbones with own weights.
        folder: folder with `open_clip_config.json` and a checkpoint (open_clip's `local-dir:` layout). Default: none.
        precision: type of the numbers in the forward pass; `tf32` is float32 with TF32 products on GPUs. bfloat16 is
            stored as float16. Default `auto`: that of the store, else bfloat16 if all GPUs have compute capability 8 or
            more, else float32.
        engine: engine of the image tower on a CPU, `torch` or `openvino` (with the extra `cpu`); a GPU always uses
            `torch`. In float32 both agree within 1e-5 and share embeddings. Default `auto`: the faster one, measured
            once for each backbone and machine.
        image_size: side of the square input in pixels. Default: the model's own size.
        quick_gelu: whether the activation is QuickGELU. Default: as the pretrained tag was trained. Required for a
            checkpoint file if some tags of the model have QuickGELU, as OpenAI's do.
        mean, std: normalisation of each channel, for values on the scale 0 to 1. Default: as the weights were
            trained.
        seed: seed of random weights; other weights do not depend on it.
        training: training of the head of `MiniLiT`; only for this backbone. Default: the training of the demo's head.
    """

    name: Name
    pretrained: str | None = None
    folder: str | None = None
    precision: Precision = "auto"
    engine: Engine = "auto"
    image_size: int | None = Field(default=None, ge=16, le=2048)
    quick_gelu: bool | None = None
    mean: tuple[_Mean, _Mean, _Mean] | None = None
    std: tuple[_Deviation, _Deviation, _Deviation] | None = None
    seed: int = Field(default=0, ge=0, lt=2**31)
    training: TrainingSpec | None = None

    @model_validator(mode="after")
    def _one_source_of_weights(self) -> "BackboneSpec":
        if self.training and not self.is_built:
            raise ValueError(f"training: only {', '.join(BUILT)} is trained here; leave it out for '{self.name}'.")
        own = self.folder or self.family == "hf" or self.name.startswith(OPEN_CLIP_SCHEMAS)
        if self.pretrained and not self.random_weights and own:
            raise ValueError("give 'folder' or 'pretrained', not both: the folder holds its own checkpoint.")
        if self.quick_gelu is not None and self.family != "open_clip":
            raise ValueError(f"quick_gelu: only models of open_clip are asked for it; leave it out for '{self.name}'.")
        return self

    @property
    def family(self) -> str:
        """Library of the model: `open_clip`, `hf` (transformers), `timm`, or empty for a user-defined class."""
        prefix, colon, _ = self.name.partition(":")
        if not colon or self.folder or self.name.startswith(OPEN_CLIP_SCHEMAS):
            return "open_clip"
        return prefix if prefix in ("hf", "timm") else ""

    @property
    def place(self) -> str:
        """The name without the prefix of its family: a name on a hub, or a folder."""
        return self.name.partition(":")[2] if self.family in ("hf", "timm") else self.name

    @property
    def local_folder(self) -> str | None:
        """The local folder from which the backbone is loaded, or None."""
        if self.family == "hf" and Path(self.place).expanduser().is_dir():
            return self.place
        return self.folder

    @property
    def is_built(self) -> bool:
        """Whether the backbone is built in the cache at first use, see `BUILT`."""
        return self.name in BUILT and not self.folder

    @property
    def random_weights(self) -> bool:
        """Whether the weights are random: only for tests of speed."""
        return self.pretrained == "random"

    @property
    def label(self) -> str:
        """Name of the backbone in outputs: name, weights, and further values that the recipe sets."""
        parts = [f"hf:{Path(self.local_folder).name}" if self.family == "hf" and self.local_folder else self.name]
        if self.pretrained and not self.random_weights:
            parts.append(self.pretrained if "/" not in self.pretrained else Path(self.pretrained).name)
        if self.image_size:
            parts.append(f"{self.image_size}px")
        if self.training and self.training.words:
            parts.append(f"({self.training.words})")
        given = {key: getattr(self, key) for key in ("quick_gelu", "mean", "std")}
        parts += [f"{key}={value}" for key, value in given.items() if value is not None]
        if self.precision not in ("auto", "float32"):
            # In low precision, the engines have different results.
            parts += [self.precision] + ["openvino"] * (self.engine == "openvino")
        if self.random_weights:
            parts.append(f"RANDOM WEIGHTS (seed {self.seed})")
        return " ".join(parts)

    def at_precision(self, precision: str) -> "BackboneSpec":
        """Return the spec with `precision` in place of `auto`."""
        return self.model_copy(update={"precision": precision}) if self.precision == "auto" else self

    def with_absolute_paths(self) -> "BackboneSpec":
        """Return the spec with absolute paths, for processes with another working directory."""
        changes = {
            key: str(Path(place).expanduser().absolute())
            for key in ("folder", "pretrained")
            if (place := getattr(self, key)) and Path(place).expanduser().exists()
        }
        if self.family == "hf" and self.local_folder:
            changes["name"] = f"hf:{Path(self.place).expanduser().absolute()}"
        return self.model_copy(update=changes)
