"""Folding of a linear map of embeddings into both towers of an open_clip checkpoint, which then needs no other package.

Let z = W h + b be the output of a tower's last layer (h: its input), and M the map. A last layer with weights M W and
bias M b returns the mapped embedding M z directly. For symmetric shrinkage, M is F^(1/2), the root of the shrinkage
matrix F. The cosine similarities of the checkpoint are those of mapped embeddings; they do not depend on the lengths of
embeddings before the map. Last layers in open_clip:

    images   `visual.proj` (a parameter), `visual.attnpool.c_proj`, the last linear layer of timm's `visual.head`, or,
             if that is empty, the classifier of timm's trunk
    texts    `text_projection` (a parameter or a linear layer) of the model or its `text`, or the last linear layer of
             `text.proj` of a tower of transformers

To verify that the changed layer is the last one, embeddings before and after the change are compared. The checkpoint is
loaded again before it is moved to its final folder.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.backbones.loading import Backbone
from benchmark.backbones.models.open_clip_model import OpenClipModel
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.errors import IcmBenchError

CONFIG_FILE, WEIGHTS_FILE, PROVENANCE_FILE = "open_clip_config.json", "open_clip_model.safetensors", "provenance.json"
_WEIGHTS = frozenset({".safetensors", ".bin", ".pt", ".pth", ".npz"})
# Maximum relative error of embeddings. float32 gives 1e-6; if the changed layer is not the last one, it is about 1.
_TOLERANCE = 1e-4
_TEXTS = ("a photo of a dog.", "a drawing of two guitars", "nothing")

Embedded = tuple[NDArray[np.float32], NDArray[np.float32]]  # embeddings of images and of texts


def write_folded(
    spec: BackboneSpec, vectors: NDArray[np.floating], folder: Path, provenance: Mapping[str, Any]
) -> None:
    """Write a backbone with a map folded into it, in open_clip's local-dir layout.

    `folder` is created atomically. It has the configuration, the weights as safetensors, `provenance.json`, and the
    tokenizer if the model has its own. `vectors`, shape (D, D), is the map: embeddings are row vectors, which it
    multiplies from the right.
    """
    folder = Path(folder).expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise IcmBenchError(f"--to: {folder} is there and not empty; name a folder that is to be made.")
    in_torch = {"precision": "float32", "engine": "torch"}  # the torch engine has the layers in memory
    backbone = Backbone(spec.model_copy(update=in_torch), device="cpu")
    if backbone.facts.fingerprint != provenance["fingerprint"]:
        raise IcmBenchError(f"The weights of '{spec.label}' have changed since it was embedded; run the recipe again.")
    if not isinstance(backbone.encoder, OpenClipModel):
        raise IcmBenchError(
            f"--fold: '{spec.label}' is not an open_clip model, and a map can only be folded into an open_clip "
            f"checkpoint; export without --fold, and use ProjectedEncoder."
        )
    plain = _some_embeddings(backbone)
    fold(backbone.encoder.module, vectors)
    folded = _some_embeddings(backbone)
    for tower, before, after in zip(("image", "text"), plain, folded, strict=True):
        if not _same(before.astype(np.float64) @ np.asarray(vectors, dtype=np.float64), after):
            raise IcmBenchError(_no_layer(tower))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".folded-") as scratch:
            built = Path(scratch) / "built"
            built.mkdir()
            (built / PROVENANCE_FILE).write_text(json.dumps(dict(provenance), indent=2, sort_keys=True) + "\n")
            _write(backbone, backbone.encoder, built, folder, folded)
            built.replace(folder)
    except OSError as error:
        raise IcmBenchError(f"--to: {folder} cannot be written ({error.strerror or error}); name another.") from error


def fold(model: Any, vectors: NDArray[np.floating]) -> None:
    """Change the last layers of an open_clip model's towers in place: embeddings z become z @ vectors (D x D)."""
    m = torch.tensor(np.asarray(vectors, dtype=np.float64))
    texts = getattr(model, "text", model)
    last = getattr(texts, "text_projection", None)
    of_texts = last if isinstance(last, nn.Parameter | nn.Linear) else _last_linear(getattr(texts, "proj", None))
    layers = {"image": _last_of_images(model), "text": of_texts}
    mapped: list[tuple[Tensor, int]] = []  # (weights, their axis of length D)
    for tower, layer in layers.items():  # both layers are checked before one is changed
        axis = 0 if isinstance(layer, nn.Linear) else 1
        parts: list[Any] = [layer.weight, layer.bias] if isinstance(layer, nn.Linear) else [layer]
        if layer is None or parts[0].shape[axis] != len(m):
            raise IcmBenchError(_no_layer(tower))
        mapped += [(part, axis) for part in parts if part is not None]
    with torch.no_grad():
        for weights, axis in mapped:
            product = torch.tensordot(weights.detach().cpu().double(), m, dims=((axis,), (0,)))
            weights.copy_(torch.movedim(product, -1, axis))


def _last_of_images(model: Any) -> nn.Parameter | nn.Linear | None:
    visual = model.visual
    if isinstance(getattr(visual, "proj", None), nn.Parameter | nn.Linear):
        return visual.proj
    if hasattr(visual, "attnpool"):
        return _last_linear(getattr(visual.attnpool, "c_proj", None))
    if hasattr(visual, "trunk"):
        head = _last_linear(getattr(visual, "head", None))
        return head or _last_linear(visual.trunk.get_classifier())
    return None


def _last_linear(module: Any) -> nn.Linear | None:
    layers = [m for m in module.modules() if isinstance(m, nn.Linear)] if isinstance(module, nn.Module) else []
    return layers[-1] if layers else None


def _no_layer(tower: str) -> str:
    return (
        f"--fold: the {tower} tower of this backbone does not end in a linear layer that a map could be multiplied "
        f"into; export without --fold, and use ProjectedEncoder."
    )


def _some_embeddings(backbone: Backbone) -> Embedded:
    """Return embeddings of three noise images and of three texts, for comparisons."""
    height, width = backbone.preprocess["size"]
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, height, width), dtype=np.uint8)
    return backbone.encode_images(torch.from_numpy(pixels)), backbone.encode_texts(_TEXTS)


def _same(expected: NDArray[np.floating], found: NDArray[np.floating]) -> bool:
    return bool(np.linalg.norm(found - expected) <= _TOLERANCE * np.linalg.norm(expected))


def _write(backbone: Backbone, model: OpenClipModel, built: Path, folder: Path, expected: Embedded) -> None:
    """Write the checkpoint into `built`, check that it loads and gives `expected`, and set its paths to `folder`."""
    from safetensors.torch import save_file

    if model.config()["model_cfg"]["text_cfg"].get("hf_tokenizer_name"):  # open_clip expects it next to the weights
        if model.folder is None:
            model.tokenizer.tokenizer.save_pretrained(built)
        for file in sorted(model.folder.iterdir()) if model.folder else ():
            if file.is_file() and file.suffix not in _WEIGHTS and file.name not in (CONFIG_FILE, PROVENANCE_FILE):
                shutil.copyfile(file, built / file.name)
    _write_config(model, built, built)
    weights = model.module.state_dict()
    whole = {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in weights.items()}
    save_file(whole, built / WEIGHTS_FILE)
    (built / WEIGHTS_FILE).chmod((built / CONFIG_FILE).stat().st_mode)  # by default only the owner can read it
    label = backbone.spec.label
    try:
        again = _some_embeddings(Backbone(BackboneSpec(name=backbone.spec.name, folder=str(built)), device="cpu"))
    except IcmBenchError as error:
        reason = str(error).replace(str(built), str(folder))
        raise IcmBenchError(f"--fold: open_clip does not load '{label}' from a folder of its own ({reason})") from error
    if not all(map(_same, expected, again)):
        raise IcmBenchError(f"--fold: '{label}' is another model when open_clip loads it from a folder of its own.")
    _write_config(model, built, folder)


def _write_config(model: OpenClipModel, built: Path, folder: Path) -> None:
    """Write open_clip's configuration. In it, a text tower of transformers needs the absolute path of `folder`."""
    config = model.config()
    text = config["model_cfg"]["text_cfg"]
    for key in ("hf_model_name", "hf_tokenizer_name"):
        if model.folder and text.get(key) and Path(text[key]).absolute() == model.folder.absolute():
            text[key] = str(folder)
    (built / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
