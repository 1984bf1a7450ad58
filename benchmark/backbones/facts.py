"""Facts about a loaded backbone, for code that does not load it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

Texts = Literal["any", "classes", "none"]  # texts that a backbone can embed: any, only class names, or none


class Embeds(NamedTuple):
    """Facts that are known without loading weights: the embedding width D, and the texts that can be embedded."""

    dim: int
    texts: Texts = "any"


@dataclass(frozen=True)
class BackboneFacts:
    """Facts about a loaded backbone.

    They are also stored as JSON: in the cache of `describe.py`, and with imported and exported embeddings. So a new
    field needs a default, since older files lack it. JSON turns tuples into lists: as for `notes`, all readers of the
    JSON must turn the list of a new field back into a tuple.

    Attributes:
        label: name of the backbone in outputs; it contains RANDOM WEIGHTS if the weights are random.
        fingerprint: SHA-256 (hex) over names, shapes and bytes of all weights, at full precision.
        architecture: SHA-256 (hex) over properties that weights do not show, such as the configuration and QuickGELU.
        dim: embedding width D.
        preprocess: preprocessing in open_clip's format (size, mean, std, interpolation, resize_mode, fill_color, mode).
        logit_scale: factor on cosine similarities.
        random_weights: whether the weights are random.
        precision: type of the numbers in the forward pass: `float32`, `tf32`, `bfloat16` or `float16`.
        engine: engine of the image tower on a CPU: `torch` or `openvino`. Default `torch`.
        notes: notes for the user, one sentence each. Default: none.
        flops: floating-point operations of the image tower for one image; a multiply-add counts as two. Default 0:
            unknown.
        texts: texts that it embeds: `any` (default), only class names (`classes`), or `none`.
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
        """Return the facts that name stored embeddings; the engine is one of them only below float32."""
        names = ["fingerprint", "architecture", "preprocess", "precision"]
        names += ["engine"] if self.precision != "float32" else []
        return {name: asdict(self)[name] for name in names}
