"""Vision towers of timm (DINO, ResNet ...): `timm:NAME`. They have no texts."""

import math
from typing import Any

from benchmark.backbones.hub import WITHOUT_NETWORK, go_offline_unless_reachable, has_cached_weights
from benchmark.backbones.models import EncoderModel
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.errors import IcmBenchError, nearest

_MODES = {"center": "shortest", "squash": "squash", "border": "longest"}  # crop mode of timm -> `resize_mode`


class TimmModel(EncoderModel):
    """A vision tower of timm without its classifier: embeddings are its pooled features.

    Preprocessing is the same as in timm's evaluation of the weights, with their `crop_pct`.

    Args:
        spec: `pretrained` is a checkpoint file or `random`. Default: the tag in the name, or else timm's default tag.

    Raises:
        IcmBenchError: the model does not exist or has unknown preprocessing; weights cannot be fetched or do not fit.
    """

    def __init__(self, spec: BackboneSpec) -> None:
        import torch
        from timm.data.config import resolve_model_data_config

        self.check_available(spec)
        torch.manual_seed(spec.seed)
        self.module: Any = _with_weights(spec)
        self._place = spec.place
        config = resolve_model_data_config(self.module)
        if config["crop_mode"] not in _MODES:
            raise IcmBenchError(f"backbones: the crop '{config['crop_mode']}' of '{spec.name}' is not supported.")
        self.size = tuple(config["input_size"][1:])
        self.mean, self.std = config["mean"], config["std"]
        self.interpolation, self.resize_mode = config["interpolation"], _MODES[config["crop_mode"]]
        self.resize_size = tuple(math.floor(side / config["crop_pct"]) for side in self.size)

    def encode_images(self, images: Any) -> Any:
        """Return the pooled features, shape (batch, D)."""
        return self.module(images)

    def architecture(self) -> object:
        """Return timm's name of the model.

        If `encode_images` changes, change this value too: the key of stored embeddings does not cover the code of this
        package's models.
        """
        return ["timm", self._place.split(".")[0]]

    @classmethod
    def check_available(cls, spec: BackboneSpec) -> None:
        """Raise IcmBenchError if weights are not cached and the hub is unreachable."""
        if spec.random_weights or spec.pretrained or go_offline_unless_reachable():
            return
        if (place := _hub_of(spec.place)) and not has_cached_weights(place):
            raise IcmBenchError(
                f"The weights '{place}' of '{spec.name}' were not fetched before, and the Hugging Face hub does not "
                f"answer; connect, or give a checkpoint file as 'pretrained'; {WITHOUT_NETWORK}."
            )

    @classmethod
    def width(cls, spec: BackboneSpec) -> int:
        """Return the number of features, without fetching weights."""
        return int(_created(spec, pretrained=False).num_features)


def _hub_of(place: str) -> str:
    """Return the hub repository of a model's weights in timm; empty if they are not on the hub."""
    if place.startswith("hf-hub:"):
        return place.removeprefix("hf-hub:").partition("@")[0]
    from timm.models import get_pretrained_cfg, is_model

    if not is_model(place.split(".")[0]):
        return ""
    try:
        known = get_pretrained_cfg(place, allow_unregistered=False)
    except RuntimeError:  # an unknown tag, which timm reports when the model is created
        return ""
    return (known.hf_hub_id or "") if known else ""


def _created(spec: BackboneSpec, pretrained: bool) -> Any:
    import timm

    architecture = spec.place.split(".")[0]
    if not architecture.startswith("hf-hub:") and not timm.is_model(architecture):
        known = nearest(architecture, timm.list_models())
        raise IcmBenchError(f"Unknown backbone '{spec.name}': timm has no '{architecture}'; {known}")
    sizes: dict[str, Any] = {"img_size": spec.image_size} if spec.image_size and "vit" in architecture else {}
    try:
        return timm.create_model(spec.place, pretrained=pretrained, num_classes=0, **sizes)
    except Exception as error:  # an unreachable hub, an unknown tag or a damaged file can raise any error
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise IcmBenchError(
            f"The backbone '{spec.name}' cannot be loaded by timm ({first:.200}); check the name and the network, or "
            f"give a checkpoint file as 'pretrained'."
        ) from error


def _with_weights(spec: BackboneSpec) -> Any:
    """Return the model with the weights of the recipe."""
    file = None if spec.random_weights else spec.pretrained
    model = _created(spec, pretrained=not (file or spec.random_weights))
    if file:
        from timm.models import load_checkpoint

        try:
            missing = load_checkpoint(model, file, strict=False, weights_only=True).missing_keys
        except Exception as error:  # the file is damaged, or holds other objects than tensors
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise IcmBenchError(
                f"The checkpoint {file} cannot be loaded into '{spec.name}' ({first:.200}); give its weights as "
                f"safetensors."
            ) from error
        if missing:
            raise IcmBenchError(
                f"The checkpoint {file} does not fit '{spec.name}': it lacks {missing[0]}"
                f"{f' and {len(missing) - 1} more' if missing[1:] else ''}; name the model that it was saved from."
            )
    return model
