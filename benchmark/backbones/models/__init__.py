"""What a backbone is made of, behind one base class: open_clip, transformers, timm, or a user-defined class.

A recipe names a model of open_clip by its plain name, others by `hf:NAME_OR_FOLDER`, `timm:NAME` or `module:Class`.
Imports no PyTorch, so that recipes are read without it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from benchmark.backbones.spec import BackboneSpec
from benchmark.common.errors import IcmBenchError
from benchmark.common.registry import ClassRegistry, with_source

if TYPE_CHECKING:
    import torch

    TextSide = tuple[Callable[[Sequence[str]], torch.Tensor], torch.nn.Module, Callable[..., torch.Tensor]]


class EncoderModel(ABC):
    """A model that embeds images, and texts where it has a text encoder. Derive from it to bring your own.

    The constructor takes the recipe's `BackboneSpec` (`pretrained`, `image_size` and `seed` are there to be used) and
    sets `module`. Everything else (devices, precision, engines, batches, keys of the store) is the suite's work.

    Attributes:
        module: torch module that holds all weights: its state is the fingerprint, and it is moved and cast as a whole.
        size: height and width of the input. Default 224 x 224.
        mean, std: normalisation of each channel, for values on the scale 0 to 1. Default: 0.5 each.
        interpolation: of the resize, `bicubic` (default) or `bilinear`.
        resize_mode: `shortest` (default: cover the input, crop the rest), `longest` (fit in, pad) or `squash`.
        resize_size: height and width that the resize aims at, before the crop to `size`. Default: `size`.
        logit_scale: factor on cosine similarities, None (default) if the model has none: CLIP's 100 is then used.
        notes: what a user should know of the model, one sentence each. Default: nothing.
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
            images: normalised RGB images, shape (batch, 3, height, width), on the device and in the type of `module`.
        """

    def encode_texts(self, texts: Sequence[str]) -> "torch.Tensor":
        """Return raw embeddings of texts, shape (len(texts), D), on the device of `module`. Default: has no texts.

        Raises:
            IcmBenchError: by default, for nobody asks a model for texts that does not define this.
        """
        raise IcmBenchError(f"{type(self).__name__} embeds no texts, {len(texts)} were asked for; define encode_texts.")

    @classmethod
    def embeds_texts(cls, spec: BackboneSpec) -> bool:
        """Return whether the model embeds texts. Default: whether `encode_texts` is defined."""
        del spec
        return cls.encode_texts is not EncoderModel.encode_texts

    def text_side(self) -> "TextSide | None":
        """Return how texts become tokens, the table these are looked up in, and how tokens become embeddings.

        For predictors that learn prompts. Default: None, it is not known.
        """
        return None

    def architecture(self) -> object:
        """Return, in plain data, what the weights do not say of the model. Default: the class and its source code."""
        return with_source(f"{type(self).__module__}:{type(self).__qualname__}", type(self))

    def preprocess(self) -> dict[str, Any]:
        """Return the preprocessing in open_clip's words."""
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
        """Refuse what can never be loaded, for a plan: weights that are still to be fetched may be. Default: nothing.

        Raises:
            IcmBenchError: says what is wrong with the backbone.
        """
        del spec

    @classmethod
    def check_available(cls, spec: BackboneSpec) -> None:
        """Refuse what would have to be fetched and cannot be, within seconds and without weights. Default: nothing.

        Raises:
            IcmBenchError: names what must be fetched.
        """
        del spec

    @classmethod
    def width(cls, spec: BackboneSpec) -> int:
        """Return the embedding width D. Default: by building the model and embedding a black image."""
        import torch

        model = cls(spec)
        with torch.inference_mode():
            return int(model.encode_images(torch.zeros(1, 3, *model.preprocess()["size"])).shape[-1])


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
    """Return the class that a recipe's backbone is a model of."""
    return MODELS.component_class(spec.family or spec.name)
