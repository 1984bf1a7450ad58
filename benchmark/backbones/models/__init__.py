"""What a backbone is made of, behind one base class: open_clip, transformers, timm, or a class of the user's own.

A recipe names a model of open_clip by its plain name, others by `hf:NAME_OR_FOLDER`, `timm:NAME` or `module:Class`.
"""

from benchmark.backbones.models.base import EncoderModel
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.registry import ClassRegistry

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

__all__ = ["MODELS", "EncoderModel", "model_class"]


def model_class(spec: BackboneSpec) -> type[EncoderModel]:
    """Return the class that a recipe's backbone is a model of.

    Args:
        spec: the backbone.

    Raises:
        IcmBenchError: the name is `module:Class`, and there is no such class, or it is no `EncoderModel`.
    """
    return MODELS.component_class(spec.family or spec.name)
