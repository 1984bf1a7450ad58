"""The demo's encoder: loads without network like any open_clip model; its two towers agree."""

import io
import shutil
import socket
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import open_clip
import pytest
import torch
from open_clip.tokenizer import HFTokenizer
from PIL import Image

from benchmark.common.workers import Workers
from benchmark.demo import emoji_styles, minilit, minilit_training, trunk_features
from benchmark.demo.emoji import pretraining_images
from benchmark.demo.minilit import TRUNKS, Training
from benchmark.method.interventions import INTERVENTIONS

pytestmark = pytest.mark.long("the demo's encoder cannot be built anew from its packages, or names no photographs")

IMAGENET = {"dog": range(151, 269), "elephant": (101, 385, 386), "guitar": (402, 546), "horse": (339, 603)}


@pytest.fixture(scope="module")
def folder() -> Path:
    return minilit_training.build()


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return open_clip.create_model(f"local-dir:{folder}", force_image_size=160).eval()


@pytest.fixture
def few_images(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the encoder's tokenizer; training has 600 images, and no features in the cache."""
    some = pretraining_images()[:600]
    monkeypatch.setattr(minilit_training, "pretraining_images", lambda: some)
    monkeypatch.setattr(minilit_training, "_features_file", lambda _: tmp_path / "features.safetensors")
    for name in (*minilit_training.TEXT_FILES, "open_clip_config.json"):
        shutil.copy(folder / name, tmp_path / name)
    return tmp_path


def _preprocess_of(**config: Any) -> Any:
    return open_clip.transform.image_transform_v2(open_clip.transform.PreprocessCfg(**config), is_train=False)


def test_loads_without_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", Mock(side_effect=OSError("no network in this test")))
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(["a photo of a dog."])
    with torch.inference_mode():
        assert model.encode_image(torch.zeros(2, 3, 224, 224)).shape == (2, 256)
        assert model.encode_text(tokens).shape == (1, 256)


def test_preprocessing_is_the_towers_own(model: Any) -> None:
    config = model.visual.preprocess_cfg
    assert tuple(config["mean"]) == tuple(config["std"]) == (0.5, 0.5, 0.5)
    assert config["interpolation"] == "bicubic"
    assert config["resize_mode"] == "shortest"
    assert tuple(config["size"]) == (160, 160)


def test_zero_shot_is_far_above_chance(folder: Path, model: Any, demo_set: Path) -> None:
    root = demo_set / "noto"
    paths, classes = sorted(root.glob("*/*.png"))[::3], list(emoji_styles.CLASS_COUNTS)
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    preprocess = _preprocess_of(**model.visual.preprocess_cfg)
    labels = torch.tensor([classes.index(path.parent.name) for path in paths])
    with torch.inference_mode():
        text = model.encode_text(tokenizer([f"a photo of a {name}." for name in classes]), normalize=True)
        images = torch.stack([preprocess(Image.open(path)) for path in paths])
        logits = torch.cat([model.encode_image(images[i : i + 32]) @ text.T for i in range(0, len(images), 32)])
    assert (logits.argmax(1) == labels).float().mean() > 0.5


@pytest.mark.parametrize("trunk", list(TRUNKS))
def test_classifier_names_real_photographs(trunk: str, pacs_sample: Path) -> None:
    preprocess = _preprocess_of(size=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    classifier = TRUNKS[trunk].classifier()
    for name, labels in IMAGENET.items():
        paths = sorted((pacs_sample / "PACS" / "photo" / name).glob("*.jpg"))
        with torch.inference_mode():
            top = classifier(torch.stack([preprocess(Image.open(path)) for path in paths])).argmax(1)
        share = sum(int(label) in labels for label in top) / len(paths)
        assert share > 0.5, f"{name}: {share:.2f} of {len(paths)}"


def test_a_moved_cache_is_put_right(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = (folder / "open_clip_config.json").read_text(encoding="utf-8")
    moved = shutil.copytree(folder, tmp_path / "backbones" / folder.name)
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path))
    assert minilit_training.build() == moved
    assert str(folder) in right
    assert (moved / "open_clip_config.json").read_text(encoding="utf-8") == right.replace(str(folder), str(moved))


def test_features_are_the_same_whoever_makes_them_and_those_of_the_tower_in_the_encoder(model: Any) -> None:
    images = pretraining_images()[:20]  # more than one batch
    pixels = torch.stack([trunk_features.pixels_of(Image.open(io.BytesIO(image.png(160)))) for image in images])
    grey = INTERVENTIONS.create("grayscale").views(pixels, ["any name will do for grey"] * len(images), 0)
    with Workers(0) as nobody, Workers(2) as others:
        for kind, seen in ((None, pixels), ("grayscale", grey)):
            found = [trunk_features.image_features(w, images, "lite0", 160, kind, "features") for w in (nobody, others)]
            assert torch.equal(*found)
            with torch.inference_mode():
                torch.testing.assert_close(found[0], model.visual.trunk(seen / 127.5 - 1), rtol=1e-4, atol=1e-5)


def test_the_head_is_the_same_with_any_number_of_workers(few_images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = {}
    for count in (2, 0):
        (few_images / "features.safetensors").unlink(missing_ok=True)
        trunk_features._feature_engine.cache_clear()  # so that the tower is built in this process, as on a single core
        monkeypatch.setattr(minilit_training, "feature_workers", partial(Workers, count))
        weights = minilit_training.trained_model(few_images, Training(epochs=1)).state_dict()
        heads[count] = [weights[key] for key in (*minilit.DRAW, "visual.head.proj.bias", "logit_scale")]
    assert all(map(torch.equal, heads[0], heads[2]))


def test_the_encoder_is_the_draw_of_the_documented_numbers(model: Any) -> None:
    assert minilit.notes(None, model.state_dict()) == []
    other = minilit_training.trained_model(minilit_training.build(), Training(seed=1)).state_dict()
    assert len(minilit.notes(None, other)) == 1


def test_texts_have_the_features_that_they_have_with_all_their_padding(folder: Path, model: Any) -> None:
    captions = [caption for image in pretraining_images()[:50] for caption in image.captions]
    tokens = HFTokenizer(str(folder), context_length=minilit.CONTEXT_LENGTH)(captions)
    features = minilit_training._text_features(model, tokens)
    with torch.inference_mode():
        torch.testing.assert_close(model.text.proj(features), model.encode_text(tokens), rtol=1e-4, atol=1e-4)
