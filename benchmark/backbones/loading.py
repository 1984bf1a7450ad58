"""`Backbone`: a loaded dual encoder that embeds images and texts and reports its facts."""

import copy
import hashlib
import platform
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmark.backbones.facts import BackboneFacts, Texts
from benchmark.backbones.models import EncoderModel, model_class
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.errors import IcmBenchError
from benchmark.common.machine import dtype_name, float32_products, unusable_gpus
from benchmark.common.plain import canonical_hash

if TYPE_CHECKING:
    import torch

    from benchmark.backbones.models import TextSide
    from benchmark.common.conversion import Engine

CLIP_LOGIT_SCALE = 100.0  # logit scale of CLIP: its upper bound during training


class Backbone:
    """A loaded dual encoder.

    Args:
        spec: the dual encoder, its weights, precision (for `auto` that of `known`, else float32) and engine.
        device: name of the torch device. Default: `best_device()`.
        compile_model: whether the image tower is compiled with torch.compile, which takes a minute and is faster on
            GPUs. Default False.
        known: facts from an earlier load, to save work and to check the weights. Default: None.

    Raises:
        IcmBenchError: the weights differ from the weights in `known`; the name or the pretrained tag is unknown; the
            folder is missing; the checkpoint does not fit or would have to be unpickled; or weights must be downloaded
            and there is no network.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        device: str | None = None,
        compile_model: bool = False,
        known: BackboneFacts | None = None,
    ) -> None:
        import torch

        from benchmark.backbones.engines import casts_weights

        self.device = torch.device(device or best_device())
        spec = spec.at_precision(known.precision if known else "float32")
        self.spec = spec
        self.encoder: EncoderModel = model_class(spec)(spec)
        self.encoder.module = self.encoder.module.eval().requires_grad_(False)
        self.preprocess = _preprocess(spec, self.encoder)
        fingerprint = weights_fingerprint(self.encoder.module)
        if known and known.fingerprint != fingerprint:
            raise IcmBenchError(
                f"The weights of '{known.label}' on {platform.node()} are not those the run was planned with; put the "
                f"checkpoint on shared storage, and leave it as it is during a run."
            )
        # Counting takes a second, mostly for the import of torch modules that nothing else needs.
        dim, flops = (known.dim, known.flops) if known else _width_and_flops(self.encoder, self.preprocess)
        texts, scale = texts_of(spec), self.encoder.logit_scale
        notes = [] if scale else [f"{spec.label}: it has no logit scale; CLIP's {CLIP_LOGIT_SCALE:g} is used."]
        self.facts = BackboneFacts(
            label=spec.label,
            fingerprint=fingerprint,
            architecture=canonical_hash(self.encoder.architecture()),
            dim=dim,
            preprocess=self.preprocess,
            logit_scale=scale or CLIP_LOGIT_SCALE,
            random_weights=spec.random_weights,
            precision=spec.precision,
            engine=self.engine,
            notes=(*self.encoder.notes, *(notes if texts == "any" else ())),
            flops=flops,
            texts=texts,
        )
        # With channels last, convolutions are faster on CPUs and GPUs; other layers are not affected.
        module: Any = self.encoder.module  # torch's types lack memory formats
        module.to("cpu" if self.device.type == "mps" else self.device, memory_format=torch.channels_last)
        self._dtype, self._compile = getattr(torch, dtype_name(spec.precision)), compile_model
        low = self.engine == "torch" and self._dtype != torch.float32
        self._cast = low and casts_weights(self.encoder.module)
        if self._cast:
            self.encoder.module.to(self._dtype)
        if self.device.type == "mps":  # torch has operations there that are missing or wrong
            self._move("mps" if self.agrees_on("mps") else "cpu")

    def agrees_on(self, device: str) -> bool:
        """Return whether embeddings of four random images on a device are those of the CPU, on which this one ends."""
        import torch

        noise = torch.Generator().manual_seed(0)
        images = torch.randint(256, (4, 3, *self.preprocess["size"]), dtype=torch.uint8, generator=noise)
        self._move("cpu")
        expected = self.embed(images)
        try:
            self._move(device)
            there = self.embed(images).cpu()
        except (RuntimeError, NotImplementedError, TypeError, AssertionError):  # an operation or type is missing there
            return False
        finally:
            self._move("cpu")
        error = float((there - expected).norm() / expected.norm())
        return error < (1e-3 if self._dtype == torch.float32 else 5e-2)  # NaN is not below

    def _move(self, device: str) -> None:
        import torch

        self.device = torch.device(device)
        self.encoder.module.to(self.device)
        self.__dict__.pop("_tower", None)

    @property
    def engine(self) -> str:
        """Engine of the image tower: `openvino` if the spec says so and the device is a CPU, else `torch`.

        For `auto` it is `torch` too: only `describe` chooses the faster engine.
        """
        return "openvino" if self.spec.engine == "openvino" and self.device.type == "cpu" else "torch"

    def in_openvino(self) -> "Backbone":
        """Return this backbone on the CPU with OpenVINO as engine; in float32, both share the weights."""
        spec = self.spec.model_copy(update={"engine": "openvino"})
        if spec.precision != "float32":  # it has another label, and cast weights cannot be restored
            return Backbone(spec, device="cpu")
        other = copy.copy(self)
        other.__dict__.pop("_tower", None)
        other.spec, other.facts = spec, replace(self.facts, engine="openvino")
        return other

    def embed(self, images: "torch.Tensor") -> "torch.Tensor":
        """Return raw (not normalised) float32 embeddings, shape (batch, D), of uint8 pixels (batch, 3, H, W)."""
        import torch

        tower = self._tower
        with torch.inference_mode(), self._products(), self._autocast():
            return tower(images.to(self.device, non_blocking=True)).float()

    @cached_property
    def _tower(self) -> "Engine":
        """The image tower, run by its engine; built at the first batch, since texts do not need it."""
        import torch

        from benchmark.backbones.engines import Tower, on_openvino

        mean, std = self.preprocess["mean"], self.preprocess["std"]
        tower = Tower(self.encoder, mean, std, self._dtype if self._cast else torch.float32).to(self.device)
        if self.engine == "openvino":
            return on_openvino(self.facts, lambda: tower)
        run = torch.compile(tower, dynamic=False) if self._compile else tower

        def embed(images: torch.Tensor) -> torch.Tensor:
            return run(images.contiguous(memory_format=torch.channels_last))

        return embed

    def encode_images(self, images: "torch.Tensor") -> NDArray[np.float32]:
        """Return the result of `embed` as an array, shape (batch, D)."""
        return np.asarray(self.embed(images).cpu().numpy(), dtype=np.float32)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return raw (not normalised) embeddings of any number of texts, shape (len(texts), D)."""
        import torch

        blocks = []
        with torch.inference_mode(), self._products(), self._autocast():
            for start in range(0, len(texts), 256):
                blocks.append(self.encoder.encode_texts(texts[start : start + 256]).float().cpu().numpy())
        embeddings = np.concatenate(blocks).astype(np.float32)
        check_finite(embeddings, self.facts.label, texts)
        return embeddings

    def text_tower(self) -> "TextSide":
        """Return the tokenizer, the token embedding module, and the encoder from tokens to embeddings.

        The module and the encoder are differentiable; their weights do not require gradients.
        """
        import torch

        side = self.encoder.text_side()
        if side is None:
            raise IcmBenchError(
                f"No vector can stand among the tokens of '{self.facts.label}': its text tower has no table of tokens "
                f"that is known here; leave out 'coop' of sweep.predictors and 'noise' of interventions.text.edits."
            )
        tokenize, table, encode_tokens = side

        def encode(tokens: torch.Tensor) -> torch.Tensor:
            with self._products(), self._autocast():
                return encode_tokens(tokens).float()

        return tokenize, table, encode

    def _products(self) -> AbstractContextManager[None]:
        return float32_products(self.device.type, tf32=self.spec.precision == "tf32")

    def _autocast(self) -> "torch.autocast":
        import torch

        enabled = self.engine == "torch" and not self._cast and self._dtype != torch.float32
        return torch.autocast(self.device.type, dtype=self._dtype, enabled=enabled)


def width_of(spec: BackboneSpec) -> int:
    """Return the embedding width D of a backbone, from the model's configuration if possible."""
    return model_class(spec).width(spec)


def check_finite(embeddings: NDArray[np.float32], label: str, inputs: Sequence[str]) -> None:
    """Raise IcmBenchError if embeddings are NaN or infinite; the message names the first of their `inputs`."""
    sound = np.isfinite(embeddings).reshape(len(embeddings), -1).all(axis=1)
    if not sound.all():
        raise IcmBenchError(
            f"{label} gives NaN or infinite values for '{inputs[int(sound.argmin())][:200]}': its weights are damaged, "
            f"or its precision, mean or std do not suit them; get them again, or mend that backbone in the recipe."
        )


def texts_of(spec: BackboneSpec) -> Texts:
    """Return the texts that a backbone can embed, see `BackboneFacts.texts`. No weights are loaded."""
    return "any" if model_class(spec).embeds_texts(spec) else "none"


def best_device(reserved: bool = False) -> str:
    """Return the torch device of this process, by what torch can use: cuda, mps or cpu.

    Args:
        reserved: whether Ray has given this process a GPU, which then may not be replaced by a CPU. Default False.

    Raises:
        IcmBenchError: a GPU is reserved, and torch can use none.
    """
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    if reserved:
        raise IcmBenchError(unusable_gpus(1))
    return "cpu"


def weights_fingerprint(model: "torch.nn.Module") -> str:
    """Return the SHA-256 (hex) over name, type, shape and bytes of all parameters and buffers, sorted by name."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(memoryview(tensor.view(-1).view(torch.uint8).numpy()) if tensor.numel() else b"")
    return digest.hexdigest()


def _preprocess(spec: BackboneSpec, encoder: "EncoderModel") -> dict[str, Any]:
    """Return the model's preprocessing, with mean and std of the recipe if given."""
    preprocess = encoder.preprocess()
    preprocess |= {key: list(value) for key, value in (("mean", spec.mean), ("std", spec.std)) if value}
    if spec.image_size and preprocess["size"] != [spec.image_size] * 2:
        raise IcmBenchError(
            f"backbones: image_size {spec.image_size} is not what '{spec.name}' takes, which is "
            f"{' x '.join(map(str, preprocess['size']))}; leave image_size out."
        )
    return preprocess


def _width_and_flops(encoder: "EncoderModel", preprocess: dict[str, Any]) -> tuple[int, float]:
    """Return the embedding width D and the floating-point operations for one image, from encoding a black image.

    Models have no common attribute for these two numbers.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from benchmark.common.conversion import traceable_attention

    # The counter knows the attention products of the math backend only.
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), traceable_attention(), sdpa_kernel(SDPBackend.MATH), counter:
        z = encoder.encode_images(torch.zeros(1, 3, *preprocess["size"]))
    return int(z.shape[-1]), float(counter.get_total_flops())
