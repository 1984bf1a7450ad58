"""What other rooms need to know of a backbone that has been loaded."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class BackboneFacts:
    """What other stages need to know of a loaded backbone.

    Attributes:
        label: how outputs name it; contains RANDOM WEIGHTS where they are.
        fingerprint: SHA-256 (hex) over names, shapes and bytes of all weights, at full precision.
        architecture: SHA-256 (hex) over what the weights do not say: open_clip's model configuration and QuickGELU.
        dim: embedding width D.
        preprocess: open_clip's preprocessing (size, mean, std, interpolation, resize_mode, fill_color, mode).
        logit_scale: factor on cosine similarities.
        random_weights: whether the weights are random.
        precision: of the forward pass.
        notes: what a user should know, in sentences.
    """

    label: str
    fingerprint: str
    architecture: str
    dim: int
    preprocess: dict[str, Any]
    logit_scale: float
    random_weights: bool
    precision: str
    notes: tuple[str, ...] = ()

    def identity(self) -> dict[str, Any]:
        """Return what an embedding depends on: weights, architecture, preprocessing and precision."""
        return {
            k: v for k, v in asdict(self).items() if k in ("fingerprint", "architecture", "preprocess", "precision")
        }
