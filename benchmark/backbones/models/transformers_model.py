"""Dual encoders of transformers (CLIP, SigLIP, ALIGN, AltCLIP ...): `hf:NAME_OR_FOLDER`, with safetensors only."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmark.backbones.hub import WITHOUT_NETWORK, go_offline_unless_reachable, has_cached_file
from benchmark.backbones.models import EncoderModel
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.errors import IcmBenchError

_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}  # Pillow's number of a resampling filter -> name
# Keys of a configuration that do not affect embeddings, and are left out of the architecture.
_NOT_ARCHITECTURE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")


class TransformersModel(EncoderModel):
    """A dual encoder of transformers, or a vision model, which has no texts.

    Image embeddings are the result of `get_image_features`, or the pooled output of a vision model. Preprocessing takes
    its values, such as size and mean, from the model's image processor, but uses the same code as for all other
    backbones. Remote code is not run.

    Args:
        spec: the name is `hf:` and a name on the hub or a folder; `pretrained: random` for random weights.

    Raises:
        IcmBenchError: the model does not exist, has no safetensors or unknown preprocessing, or weights do not fit.
    """

    def __init__(self, spec: BackboneSpec) -> None:
        self._spec = spec
        self.check_available(spec)
        with _explained(spec):
            import torch
            from transformers import AutoImageProcessor, AutoModel

            if spec.random_weights:
                torch.manual_seed(spec.seed)
                self.module: Any = AutoModel.from_config(_config(spec), trust_remote_code=False)
            else:
                self.module = AutoModel.from_pretrained(
                    spec.place, use_safetensors=True, dtype=torch.float32, trust_remote_code=False
                )
            processor = AutoImageProcessor.from_pretrained(spec.place, trust_remote_code=False).to_dict()
        if not hasattr(self.module, "get_image_features") and _pooled_width(self.module.config) is None:
            raise IcmBenchError(
                f"backbones: '{spec.name}' is a {type(self.module).__name__}, which embeds no images; give a dual "
                f"encoder such as CLIP or SigLIP, or a vision model with pooled features."
            )
        if hasattr(self.module, "logit_scale"):
            self.logit_scale = float(self.module.logit_scale.detach().exp())
        elif hasattr(self.module, "temperature"):  # ALIGN divides
            self.logit_scale = 1 / float(self.module.temperature.detach())
        self._take_preprocessing(processor)

    def encode_images(self, images: Any) -> Any:
        """Return raw embeddings, shape (batch, D)."""
        embed = getattr(self.module, "get_image_features", self.module)
        return _pooled(embed(pixel_values=images))

    def encode_texts(self, texts: Sequence[str]) -> Any:
        """Return raw embeddings of texts, shape (len(texts), D); longer texts are cut to the model's context length."""
        return _pooled(self.module.get_text_features(**self.tokens(texts).to(self.module.device)))

    def tokens(self, texts: Sequence[str]) -> Any:
        """Return the tokens of some texts, as the arguments of `get_text_features`."""
        if self._canonical:
            from open_clip.tokenizer import get_clean_fn

            texts = list(map(get_clean_fn("canonicalize"), texts))
        most = min(int(self._tokenizer.model_max_length), int(self.module.config.text_config.max_position_embeddings))
        return self._tokenizer(list(texts), padding="max_length", truncation=True, max_length=most, return_tensors="pt")

    @property
    def _canonical(self) -> bool:
        """Whether texts are put into lower case without punctuation before tokenization, as in SigLIP's training."""
        return hasattr(self.module, "get_text_features") and self.module.config.model_type.startswith("siglip")

    @classmethod
    def check_available(cls, spec: BackboneSpec) -> None:
        """Raise IcmBenchError if a model of the hub is not cached and the hub is unreachable."""
        try:
            at_hand = spec.local_folder is not None or has_cached_file(spec.place)
        except ValueError:
            raise IcmBenchError(
                f"backbones: '{spec.place}' is no folder and no name on the Hugging Face hub; give a folder that is "
                f"there, or a name such as google/siglip2-base-patch16-224."
            ) from None
        if not at_hand and not go_offline_unless_reachable():
            raise IcmBenchError(
                f"The model '{spec.place}' of the Hugging Face hub was not fetched before, and the hub does not "
                f"answer; connect, or give a folder as 'hf:FOLDER'; {WITHOUT_NETWORK}."
            )

    @classmethod
    def embeds_texts(cls, spec: BackboneSpec) -> bool:
        """Return whether the model is a dual encoder, according to its configuration."""
        cls.check_available(spec)
        with _explained(spec):
            return hasattr(_config(spec), "text_config")

    def architecture(self) -> object:
        """Return the name of the model's class, and its configuration without paths and versions."""
        known = [type(self.module).__name__, _without(self.module.config.to_dict(), _NOT_ARCHITECTURE)]
        return [*known, "canonical texts"] if self._canonical else known

    @classmethod
    def width(cls, spec: BackboneSpec) -> int:
        """Return the embedding width D from the configuration, without weights."""
        cls.check_available(spec)
        with _explained(spec):
            config = _config(spec)
        if width := getattr(config, "projection_dim", None) or _pooled_width(config):
            return int(width)
        vision = config.vision_config  # SigLIP has no projection: its embeddings have the width of its towers
        return int(getattr(vision, "projection_size", None) or vision.hidden_size)

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        with _explained(self._spec):
            return AutoTokenizer.from_pretrained(self._spec.place, trust_remote_code=False)

    def _take_preprocessing(self, processor: Mapping[str, Any]) -> None:
        """Take size, crop, interpolation and normalisation from an image processor's configuration."""
        name = self._spec.name
        resample = int(processor.get("resample") or 0)
        if not processor.get("do_resize", True) or resample not in _INTERPOLATIONS:
            raise IcmBenchError(
                f"backbones: the image processor of '{name}' has an unknown resize; known are bilinear and bicubic."
            )
        self.interpolation = _INTERPOLATIONS[resample]
        self.resize_mode, self.resize_size = _resize_of(processor["size"], name)
        self.size = self.resize_size
        if processor.get("do_center_crop"):
            crop = processor["crop_size"]
            self.size = (int(crop["height"]), int(crop["width"]))
        self.mean, self.std = _normalisation(processor)


def _config(spec: BackboneSpec) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(spec.place, trust_remote_code=False)


@contextlib.contextmanager
def _explained(spec: BackboneSpec) -> Iterator[None]:
    """Turn errors of transformers in the block into one IcmBenchError, and suppress its warnings."""
    if find_spec("transformers") is None:
        raise IcmBenchError(f"The backbone '{spec.name}' needs transformers: pip install 'icm-bench[transformers]'.")
    from transformers.utils import logging as of_transformers

    logging.disable(logging.CRITICAL)
    of_transformers.disable_progress_bar()
    try:
        yield
    except Exception as error:  # an unreachable hub, a damaged file, a wrong configuration
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        where = f"in the folder {spec.place}" if Path(spec.place).is_dir() else f"named '{spec.place}'"
        raise IcmBenchError(
            f"The backbone '{spec.name}' cannot be loaded by transformers ({first:.200}); it takes a model {where} "
            f"with config.json, safetensors, an image processor and a tokenizer, or a hub that answers."
        ) from error
    finally:
        logging.disable(logging.NOTSET)


def _pooled(output: Any) -> Any:
    """Return the embeddings in a model's output. Some versions of transformers return an object instead of a tensor."""
    return getattr(output, "pooler_output", output)


def _pooled_width(config: Any) -> int | None:
    """Return the embedding width of a vision model without texts; None for other models."""
    return None if hasattr(config, "text_config") else getattr(config, "hidden_size", None)


def _resize_of(size: Mapping[str, Any], name: str) -> tuple[str, tuple[int, int]]:
    """Return (resize mode, (target height, target width)) from the `size` of an image processor."""
    for key, mode in (("shortest_edge", "shortest"), ("longest_edge", "longest")):
        if size.get(key):
            return mode, (int(size[key]), int(size[key]))
    if size.get("height") and size.get("width"):
        return "squash", (int(size["height"]), int(size["width"]))
    raise IcmBenchError(f"backbones: the image processor of '{name}' has an unknown size: {dict(size)}.")


def _normalisation(processor: Mapping[str, Any]) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return mean and std for values from 0 to 1, from an image processor, which normalises values from 0 to 255.

    ALIGN's processor only multiplies and subtracts 1, which equals a mean and a std of 0.5.
    """
    factor = 255 * float(processor.get("rescale_factor") or 1 / 255) if processor.get("do_rescale", True) else 255.0
    factor = 1.0 if abs(factor - 1) < 1e-9 else factor
    offset = 1.0 if processor.get("rescale_offset") else 0.0
    of_mean, of_std = processor.get("image_mean") or (0.0,) * 3, processor.get("image_std") or (1.0,) * 3
    if not processor.get("do_normalize"):
        of_mean, of_std = (0.0,) * 3, (1.0,) * 3
    again = processor["image_std"] if processor.get("include_top") else (1.0,) * 3
    mean = [(offset + m) / factor for m in of_mean]
    std = [s * t / factor for s, t in zip(of_std, again, strict=True)]
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def _without(content: Any, names: Sequence[str]) -> Any:
    """Return nested plain data without the keys `names`, which are removed at every depth."""
    if isinstance(content, dict):
        return {str(key): _without(value, names) for key, value in content.items() if key not in names}
    return [_without(value, names) for value in content] if isinstance(content, list | tuple) else content
