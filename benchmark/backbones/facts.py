"""What is known of a backbone once it has been loaded, for rooms that do not load it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

Texts = Literal["any", "classes", "none"]  # which texts have embeddings: any, those of the classes alone, or none


class Embeds(NamedTuple):
    """What is known of a backbone without its weights: the embedding width D, and which texts it embeds."""

    dim: int
    texts: Texts = "any"


@dataclass(frozen=True)
class BackboneFacts:
    """What is known of a loaded backbone.

    Attributes:
        label: how outputs name the backbone; it contains RANDOM WEIGHTS where the weights are random.
        fingerprint: SHA-256 (hex) over names, shapes and bytes of all weights, at full precision.
        architecture: SHA-256 (hex) over what the weights do not say: open_clip's model configuration and QuickGELU.
        dim: embedding width D.
        preprocess: open_clip's preprocessing (size, mean, std, interpolation, resize_mode, fill_color, mode).
        logit_scale: factor on cosine similarities.
        random_weights: whether the weights are random.
        precision: type of the numbers in the forward pass: `float32`, `bfloat16` or `float16`.
        engine: what runs the image tower on a CPU: `torch` or `openvino`. Default `torch`.
        notes: what a user should know of the backbone, one sentence each. Default: nothing.
        flops: floating-point operations of the image tower for one image, a product and its sum counted as two. Default
            0, where they were not counted.
        texts: which texts it embeds: `any` (default), those of the classes alone (`classes`), or `none`.
    """

    label: str
    fingerprint: str
    architecture: str
    dim: int
    preprocess: dict[str, Any]
    logit_scale: float
    random_weights: bool
    precision: str
    engine: str = "torch"
    notes: tuple[str, ...] = ()
    flops: float = 0.0
    texts: Texts = "any"

    def identity(self) -> dict[str, Any]:
        """Return what an embedding depends on: weights, architecture, preprocessing, precision, a low one's engine."""
        names = ["fingerprint", "architecture", "preprocess", "precision"]
        names += ["engine"] if self.precision != "float32" else []
        return {name: asdict(self)[name] for name in names}
