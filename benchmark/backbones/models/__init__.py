"""Models of backbones, with one base class: open_clip, transformers, timm, or a user-defined class.

A recipe names a model of open_clip by its plain name, others by `hf:NAME_OR_FOLDER`, `timm:NAME` or `module:Class`.
This module does not import PyTorch, so that recipes can be read without it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from benchmark.backbones.spec import BackboneSpec
from benchmark.common.errors import IcmBenchError
from benchmark.common.registry import ClassRegistry, with_source

if TYPE_CHECKING:
    import torch

    # Tokenizer, token embedding module, and encoder from tokens to embeddings.
    TextSide = tuple[Callable[[Sequence[str]], torch.Tensor], torch.nn.Module, Callable[..., torch.Tensor]]


# docs/adding.md lists all attributes with their defaults; tests/docs/test_adding.py compares.
class EncoderModel(ABC):
    """Base class of models that embed images and, with a text encoder, texts. Derive from it for your own model.

    The constructor takes the recipe's `BackboneSpec` (for example `pretrained`, `image_size` and `seed`) and sets
    `module`. Code outside of this class handles devices, precision, engines, batches and keys of the store.

    Attributes:
        module: torch module with all weights; it is hashed, moved to a device and cast as a whole.
        size: height and width of the input. Default 224 x 224.
        mean, std: normalisation of each channel, for values on the scale 0 to 1. Default: 0.5 each.
        interpolation: interpolation of the resize, `bicubic` (default) or `bilinear`.
        resize_mode: `shortest` (default: cover the input, crop the rest), `longest` (fit in, pad) or `squash`.
        resize_size: target height and width of the resize, before the crop to `size`. Default: `size`.
        logit_scale: factor on cosine similarities. Default None: the model has no factor, and CLIP's 100 is used.
        notes: notes for the user, one sentence each. Default: none.
    """

    module: "torch.nn.Module"
    size: tuple[int, int] = (224, 224)
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    resize_size: tuple[int, int] | None = None
    logit_scale: float | None = None
    notes: tuple[str, ...] = ()

    @abstractmethod
    def __init__(self, spec: BackboneSpec) -> None: ...

    @abstractmethod
    def encode_images(self, images: "torch.Tensor") -> "torch.Tensor":
        """Return raw embeddings, shape (batch, D).

        Args:
            images: normalised RGB images, shape (batch, 3, height, width), on the device and in the dtype of `module`.
        """

    def encode_texts(self, texts: Sequence[str]) -> "torch.Tensor":
        """Return raw embeddings of texts, shape (len(texts), D), on the device of `module`.

        Raises:
            IcmBenchError: the model has no text encoder (the default).
        """
        raise IcmBenchError(f"{type(self).__name__} embeds no texts, {len(texts)} were asked for; define encode_texts.")

    @classmethod
    def embeds_texts(cls, spec: BackboneSpec) -> bool:
        """Return whether the model embeds texts. Default: whether `encode_texts` is defined."""
        del spec
        return cls.encode_texts is not EncoderModel.encode_texts

    def text_side(self) -> "TextSide | None":
        """Return the tokenizer, the token embedding module, and the encoder from tokens to embeddings.

        Predictors that learn prompts need all three. Default: None, which means that the model does not provide them.
        """
        return None

    def architecture(self) -> object:
        """Return properties that the weights do not show, as plain data. Default: name and code hash of the class."""
        return with_source(f"{type(self).__module__}:{type(self).__qualname__}", type(self))

    def preprocess(self) -> dict[str, Any]:
        """Return the preprocessing in open_clip's format, which `Geometry.of` (embedding/images.py) reads."""
        preprocess = {
            "size": list(self.size),
            "mode": "RGB",
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": self.interpolation,
            "resize_mode": self.resize_mode,
            "fill_color": 0,
        }
        if self.resize_size and tuple(self.resize_size) != tuple(self.size):
            preprocess["resize_size"] = list(self.resize_size)
        return preprocess

    @classmethod
    def check_name(cls, spec: BackboneSpec) -> None:
        """Check, for a plan, that the backbone exists; its weights need not be available yet. Default: no check.

        Raises:
            IcmBenchError: the backbone does not exist; the message says why.
        """
        del spec

    @classmethod
    def check_available(cls, spec: BackboneSpec) -> None:
        """Check, within seconds and without loading weights, that all files are available. Default: no check.

        Raises:
            IcmBenchError: files cannot be fetched; the message names them.
        """
        del spec

    @classmethod
    def width(cls, spec: BackboneSpec) -> int:
        """Return the embedding width D. Default: build the model, and embed a black image."""
        import torch

        model = cls(spec)
        with torch.inference_mode():
            return int(model.encode_images(torch.zeros(1, 3, *model.preprocess()["size"])).shape[-1])


# A further family of models also needs its prefix in `BackboneSpec.family` and `place` (backbones/spec.py).
_ROOM = "benchmark.backbones.models"
MODELS: ClassRegistry[EncoderModel] = ClassRegistry(
    "backbone",
    EncoderModel,  # type: ignore[type-abstract]
    {
        "open_clip": f"{_ROOM}.open_clip_model:OpenClipModel",
        "hf": f"{_ROOM}.transformers_model:TransformersModel",
        "timm": f"{_ROOM}.timm_model:TimmModel",
    },
)


def model_class(spec: BackboneSpec) -> type[EncoderModel]:
    """Return the model class of a recipe's backbone."""
    return MODELS.component_class(spec.family or spec.name)
