"""Dual encoders behind one small protocol: encode images, encode text, say exactly what was loaded.

Everything goes through `open_clip.create_model`: built-in names with a pretrained tag or a checkpoint file,
`hf-hub:` names, and local folders. The demo's MiniLiT is such a folder.
"""

import contextlib
import copy
import hashlib
import importlib
import importlib.util
import json
import logging
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmark.backbones.facts import BackboneFacts
from benchmark.backbones.spec import BUILT, BackboneSpec
from benchmark.common.errors import IcmBenchError, nearest
from benchmark.common.hashing import canonical_hash

if TYPE_CHECKING:
    import torch

    from benchmark.backbones.engines import Engine


_SCHEMAS = ("hf-hub:", "local-dir:")


class Backbone:
    """A loaded dual encoder.

    Args:
        spec: which dual encoder, with which weights, and how it is run.
        device: name of the torch device that it is run on. Default: `best_device()`.
        compile_model: whether the image tower is compiled with torch.compile, which takes a minute and makes it faster
            on GPUs. Default False.

    Raises:
        IcmBenchError: unknown name or pretrained tag, missing folder, a checkpoint that does not fit or would have
            to be unpickled, or no network when weights must be downloaded.
    """

    def __init__(self, spec: BackboneSpec, device: str | None = None, compile_model: bool = False) -> None:
        import torch

        from benchmark.backbones.engines import holds_cast_weights

        self.device = torch.device(device or best_device())
        self.spec = spec
        self._open_clip_name = _open_clip_name(spec)
        model, notes = _load(spec, self._open_clip_name)
        import open_clip

        self.preprocess: dict[str, Any] = _plain(open_clip.get_model_preprocess_cfg(model))
        model = model.eval().requires_grad_(False)
        dim, flops = _width_and_flops(model, self.preprocess)
        self.facts = BackboneFacts(
            label=spec.label,
            fingerprint=weights_fingerprint(model),
            architecture=_architecture(spec, self._open_clip_name),
            dim=dim,
            preprocess=self.preprocess,
            logit_scale=float(model.logit_scale.exp()),
            random_weights=spec.random_weights,
            precision=spec.precision,
            engine=self.engine,
            notes=tuple(notes),
            flops=flops,
        )
        # Convolutions run faster with channels last, on CPU and GPU alike; other layers do not care.
        self._model: Any = model.to(self.device, memory_format=torch.channels_last)
        self._dtype, self._compile = getattr(torch, spec.precision), compile_model
        self._cast = self.engine == "torch" and self._dtype != torch.float32 and holds_cast_weights(model)
        if self._cast:
            self._model.to(self._dtype)

    @property
    def engine(self) -> str:
        """What runs the image tower: `torch` on a GPU, and where `auto` was not decided by `describe`."""
        return "openvino" if self.spec.engine == "openvino" and self.device.type == "cpu" else "torch"

    def in_openvino(self) -> "Backbone":
        """Return the same backbone on the CPU with its image tower run by OpenVINO; single precision shares weights."""
        spec = self.spec.model_copy(update={"engine": "openvino"})
        if spec.precision != "float32":  # a label and weights of its own: cast ones cannot be cast back
            return Backbone(spec, device="cpu")
        other = copy.copy(self)
        other.__dict__.pop("_tower", None)
        other.spec, other.facts = spec, replace(self.facts, engine="openvino")
        return other

    def embed(self, images: "torch.Tensor") -> "torch.Tensor":
        """Return raw (not normalised) embeddings, shape (batch, D), float32, on the backbone's device.

        Args:
            images: RGB images at model-input size, uint8, shape (batch, 3, height, width), on any device.

        Raises:
            IcmBenchError: at the first batch, `engine: openvino` cannot run the model or is not installed.
        """
        import torch

        tower = self._tower
        with torch.inference_mode(), self._autocast():
            return tower(images.to(self.device, non_blocking=True)).float()

    @cached_property
    def _tower(self) -> "Engine":
        """Return what runs the image tower; made at the first batch, since texts do without."""
        import torch

        from benchmark.backbones.engines import Tower, on_openvino

        mean, std = self.preprocess["mean"], self.preprocess["std"]
        tower = Tower(self._model, mean, std, self._dtype if self._cast else torch.float32).to(self.device)
        if self.engine == "openvino":
            return on_openvino(self.facts, lambda: tower)
        run = torch.compile(tower, dynamic=False) if self._compile else tower

        def embed(images: torch.Tensor) -> torch.Tensor:
            embedded: torch.Tensor = run(images.contiguous(memory_format=torch.channels_last))
            return embedded

        return embed

    def encode_images(self, images: "torch.Tensor") -> NDArray[np.float32]:
        """Return what `embed` returns as an array, shape (batch, D); `images` are as there."""
        return np.asarray(self.embed(images).cpu().numpy(), dtype=np.float32)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return raw (not normalised) embeddings of any number of texts, shape (len(texts), D)."""
        import torch

        tokenizer = self.tokenizer
        blocks = []
        with torch.inference_mode(), self._autocast():
            for start in range(0, len(texts), 256):
                tokens = tokenizer(list(texts[start : start + 256])).to(self.device)
                blocks.append(self._model.encode_text(tokens).float().cpu().numpy())
        return np.concatenate(blocks).astype(np.float32)

    def text_tower(
        self,
    ) -> "tuple[Callable[[Sequence[str]], torch.Tensor], torch.nn.Module, Callable[..., torch.Tensor]]":
        """Return how texts become tokens, the table that these are looked up in, and how tokens become embeddings.

        Gradients pass through the last two; weights take none.

        Raises:
            IcmBenchError: the table of this text tower is not known.
        """
        import open_clip
        import torch

        tokenizer, model = open_clip.get_tokenizer(self._open_clip_name), self._model
        text = getattr(model, "text", model)
        table = getattr(text, "token_embedding", None)
        if table is None and hasattr(text, "transformer") and hasattr(text.transformer, "get_input_embeddings"):
            table = text.transformer.get_input_embeddings()
        if table is None:
            raise IcmBenchError(
                f"No vector can stand among the tokens of '{self.facts.label}': its text tower has no table of tokens "
                f"that is known here; leave out 'coop' of sweep.predictors and 'noise' of interventions.text.edits."
            )

        def tokenize(texts: Sequence[str]) -> torch.Tensor:
            return tokenizer(list(texts)).to(self.device)

        def encode(tokens: torch.Tensor) -> torch.Tensor:
            with self._autocast():
                embedded: torch.Tensor = model.encode_text(tokens).float()
                return embedded

        return tokenize, table, encode

    @property
    def model(self) -> Any:
        """Open_clip's model itself, which has no common type."""
        return self._model

    @property
    def tokenizer(self) -> Any:
        """Open_clip's tokenizer of the model."""
        import open_clip

        return open_clip.get_tokenizer(self._open_clip_name)

    @property
    def folder(self) -> Path | None:
        """The folder in open_clip's local-dir layout that the backbone comes from; None for all others."""
        name = self._open_clip_name
        return Path(name.removeprefix("local-dir:")) if name.startswith("local-dir:") else None

    def config(self) -> dict[str, Any]:
        """Return what `open_clip_config.json` would have to say for open_clip to build this model, as it was loaded."""
        model_cfg = _model_cfg(self.spec, self._open_clip_name)
        if self.spec.image_size:
            model_cfg["vision_cfg"]["image_size"] = self.spec.image_size
        return {"model_cfg": model_cfg, "preprocess_cfg": dict(self.preprocess)}

    def _autocast(self) -> "torch.autocast":
        import torch

        enabled = self.engine == "torch" and not self._cast and self._dtype != torch.float32
        return torch.autocast(self.device.type, dtype=self._dtype, enabled=enabled)


def place_of_built(spec: BackboneSpec, build: bool = False) -> Path:
    """Return the folder in the cache of a backbone that is built there, by `BUILT`; built now, if that is asked for."""
    module = importlib.import_module(BUILT[spec.name])
    training = module.Training(**spec.training.model_dump()) if spec.training else None
    folder: Path = (module.build if build else module.place)(training)
    return folder


def width_of(spec: BackboneSpec) -> int:
    """Return the embedding width D by the model's configuration alone; no weights are loaded.

    Args:
        spec: the backbone.

    Raises:
        IcmBenchError: no such model, or a folder without configuration.
    """
    if spec.is_built:
        return spec.training.width if spec.training else int(importlib.import_module(BUILT[spec.name]).EMBED_DIM)
    if not spec.folder and (width := _listed_width(spec.name)):
        return width
    import open_clip

    open_clip_name = _open_clip_name(spec)
    try:
        return int(open_clip.get_model_config(open_clip_name)["embed_dim"])
    except Exception as error:  # a hub that does not answer, or a damaged configuration, can raise anything
        raise IcmBenchError(
            f"The configuration of the backbone '{spec.name}' cannot be read ({type(error).__name__}: {error}); "
            f"check the name or the folder, and the network if it lies on a hub."
        ) from error


def _listed_width(name: str) -> int | None:
    """Return the width of a model that open_clip lists, without the seconds that its import takes; None of others."""
    package = importlib.util.find_spec("open_clip")
    for folder in (package.submodule_search_locations or ()) if package else ():
        file = Path(folder) / "model_configs" / f"{name.replace('/', '-')}.json"
        with contextlib.suppress(OSError, ValueError, KeyError):
            return int(json.loads(file.read_text(encoding="utf-8"))["embed_dim"])
    return None


def best_device() -> str:
    """Return the fastest torch device of this process: cuda, mps or cpu."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def weights_fingerprint(model: "torch.nn.Module") -> str:
    """Return the SHA-256 (hex) over name, type, shape and bytes of every parameter and buffer, by name."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(memoryview(tensor.view(-1).view(torch.uint8).numpy()) if tensor.numel() else b"")
    return digest.hexdigest()


def _architecture(spec: BackboneSpec, open_clip_name: str) -> str:
    """Return the hash of the resolved model configuration, without the folders in which parts of it lie."""
    config = _model_cfg(spec, open_clip_name)
    text = config.get("text_cfg", {})
    for key in ("hf_model_name", "hf_tokenizer_name"):
        if Path(text.get(key, "")).is_absolute():
            text[key] = "in the model's folder"
    return canonical_hash(config)


def _model_cfg(spec: BackboneSpec, open_clip_name: str) -> dict[str, Any]:
    """Return open_clip's model configuration with the activation that is used."""
    import open_clip

    config: dict[str, Any] = open_clip.get_model_config(open_clip_name)
    config["quick_gelu"] = _quick_gelu(spec, open_clip_name, []) or config.get("quick_gelu", False)
    return config


def _open_clip_name(spec: BackboneSpec) -> str:
    """Return open_clip's name of the model, after checking that it exists; builds the demo's encoder if need be."""
    import open_clip

    if spec.folder:
        folder = Path(spec.folder).expanduser().absolute()
        if not (folder / "open_clip_config.json").is_file():
            raise IcmBenchError(
                f"backbones: the folder {folder} of '{spec.name}' holds no open_clip_config.json; "
                f"give a folder in open_clip's local-dir layout."
            )
        return f"local-dir:{folder}"
    if spec.name in BUILT:
        if spec.pretrained and not spec.random_weights:
            raise IcmBenchError(f"backbones: '{spec.name}' has its own weights; leave 'pretrained' out.")
        return f"local-dir:{place_of_built(spec, build=True)}"
    if spec.name.startswith(_SCHEMAS):
        return spec.name
    known = open_clip.list_models()
    if spec.name not in known:
        raise IcmBenchError(f"Unknown backbone '{spec.name}': {nearest(spec.name, [*known, *BUILT])}")
    tags = open_clip.list_pretrained_tags_by_model(spec.name)
    if spec.pretrained is None:
        raise IcmBenchError(
            f"backbones: '{spec.name}' needs 'pretrained': one of {', '.join(tags)}, a checkpoint file, or 'random'."
        )
    if spec.random_weights or spec.pretrained in tags or Path(spec.pretrained).is_file():
        return spec.name
    raise IcmBenchError(
        f"Unknown pretrained tag '{spec.pretrained}' of '{spec.name}' (and no such file): "
        f"{nearest(spec.pretrained, tags)}"
    )


def _load(spec: BackboneSpec, open_clip_name: str) -> tuple[Any, list[str]]:
    """Return open_clip's model (which has no common type) and what a user should know of it."""
    import open_clip
    import torch

    notes: list[str] = []
    pretrained = None if spec.random_weights or open_clip_name.startswith(_SCHEMAS) else spec.pretrained
    if pretrained and Path(pretrained).is_file() and not (spec.mean and spec.std):
        notes.append(f"{spec.label}: a checkpoint file says nothing of mean and std; OpenAI's are used.")
    if spec.random_weights:
        notes.append(f"{spec.label}: the weights are random, so no accuracy of this run means anything.")
        torch.manual_seed(spec.seed)
    logging.disable(logging.CRITICAL)  # open_clip and the hub log what is said better below
    try:
        model = open_clip.create_model(
            open_clip_name,
            pretrained=pretrained,
            force_image_size=spec.image_size,
            force_quick_gelu=_quick_gelu(spec, open_clip_name, notes),
            force_preprocess_cfg={k: v for k, v in (("mean", spec.mean), ("std", spec.std)) if v},
            load_weights=not spec.random_weights,
            require_pretrained=not spec.random_weights,
            pretrained_text=False,
        )
        return model, notes
    except IcmBenchError:
        raise
    except Exception as error:  # a damaged checkpoint can make its reader raise anything
        raise IcmBenchError(_load_failure(spec, open_clip_name, pretrained, error)) from error
    finally:
        logging.disable(logging.NOTSET)


def _load_failure(spec: BackboneSpec, open_clip_name: str, pretrained: str | None, error: Exception) -> str:
    """Return open_clip's failure as one sentence with a remedy."""
    text = str(error)
    where = pretrained or open_clip_name.removeprefix("local-dir:")
    # Positions of another width are found by an assertion, before the weights are compared by name and shape.
    if "Error(s) in loading state_dict" in text or "pos_embed" in text:
        detail = text.splitlines()[1].strip() if len(text.splitlines()) > 1 else text
        return (
            f"The checkpoint {where} does not fit the model '{spec.name}': {detail[:200]}; "
            f"name the model that it was trained for."
        )
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in text:
        return (
            f"The checkpoint {where} is damaged, or holds more than tensors and would have to be unpickled, which is "
            f"refused; save its state_dict as safetensors."
        )
    if "download" in text.lower() or "HF Hub" in text or "huggingface" in text.lower():
        return (
            f"The weights '{where}' of '{spec.name}' cannot be downloaded (no network, or no such place); "
            f"connect, or give a local checkpoint as 'pretrained' or 'folder'."
        )
    first = f"{type(error).__name__}: {text.strip().splitlines()[0][:200]}" if text.strip() else type(error).__name__
    return (
        f"The backbone '{spec.name}' cannot be loaded from {where} ({first}); "
        f"give a safetensors file or a state_dict that open_clip reads."
    )


def _quick_gelu(spec: BackboneSpec, open_clip_name: str, notes: list[str]) -> bool:
    """Decide on the activation: the recipe's word, else what the pretrained tag was trained with.

    open_clip only warns of a mismatch, which silently costs several points of accuracy.
    """
    import open_clip

    model_has_it = bool(open_clip.get_model_config(open_clip_name).get("quick_gelu", False))
    if open_clip_name.startswith(_SCHEMAS) or spec.random_weights:
        if model_has_it and spec.quick_gelu is False:
            raise IcmBenchError(f"backbones: the configuration of '{spec.name}' asks for QuickGELU; change it there.")
        return model_has_it if spec.quick_gelu is None else spec.quick_gelu
    tag = open_clip.pretrained.get_pretrained_cfg(open_clip_name, spec.pretrained)
    trained_with_it = bool(tag.get("quick_gelu", False)) if tag else model_has_it
    wanted = trained_with_it if spec.quick_gelu is None else spec.quick_gelu
    if model_has_it and not wanted:
        raise IcmBenchError(
            f"backbones: '{spec.name}' has the QuickGELU activation, but the weights '{spec.pretrained}' were "
            f"trained without it; use '{spec.name.removesuffix('-quickgelu')}'."
        )
    if wanted != trained_with_it:
        notes.append(
            f"{spec.label}: QuickGELU is {'on' if wanted else 'off'} by the recipe, but the weights were trained "
            f"with it {'on' if trained_with_it else 'off'}: accuracy will suffer."
        )
    elif wanted != model_has_it:
        notes.append(f"{spec.label}: trained with QuickGELU, which the model's name does not say; it is used.")
    return wanted


def _plain(preprocess: dict[str, Any]) -> dict[str, Any]:
    """Return the preprocessing as JSON would, so that it compares equal after a round trip."""
    plain: dict[str, Any] = json.loads(json.dumps(preprocess))
    size = plain["size"]
    plain["size"] = [size, size] if isinstance(size, int) else list(size)
    return plain


def _width_and_flops(model: Any, preprocess: dict[str, Any]) -> tuple[int, float]:
    """Return the embedding width D, and the floating-point operations for one image, by encoding a black one.

    No attribute is common to all models.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from benchmark.backbones.engines import traceable_attention

    # The counter knows the products of attention only where they are made one by one.
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), traceable_attention(), sdpa_kernel(SDPBackend.MATH), counter:
        z = model.encode_image(torch.zeros(1, 3, *preprocess["size"]))
    return int(z.shape[-1]), float(counter.get_total_flops())
