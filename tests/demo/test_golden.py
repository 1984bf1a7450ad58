"""What the versions of the demo's data set and encoder stand for: it stays as long as the version does.

A test that fails here says that the demo would draw or train something else than before under the same name in the
cache. Where that is meant, raise the version and write down the new value under it; where it is not, undo the change.
The slow tests compare all drawings with the catalog's fingerprint; these are the quick ones, without any package.
"""

import hashlib
import math

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.backbones.models import open_clip_model
from benchmark.backbones.spec import BackboneSpec, TrainingSpec
from benchmark.common.workers import Workers
from benchmark.demo import emoji_styles, icons, minilit, minilit_training, trunk_features
from benchmark.demo.emoji import draw
from benchmark.demo.minilit import Training
from benchmark.demo.minilit_training import Features

DRAWING = {1: "626b742d5787fa46c9a87ede97c1ed415da9042c907a2bdab31102605aa9d11a"}
EMOJI_STYLES = {1: "47d5639f0721"}
EIGHT_STYLES = {1: "30af61d004a4"}
ICONS = {1: "98bdbaf77cb8"}
MINILIT = {2: "e85ddf0339c8"}
MINILIT_TRAINED = {2: [-7.259558, 569.289001, -0.913853, 38.843651, -12.008842, 432.643616, 2.653008]}
REMEDY = "{} makes something else than before: raise its VERSION and note the new value here, or undo the change"

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><circle cx="14" cy="18" r="11" fill="#c40"/>'
    '<path d="M4 4 L28 9 L16 30 Z" fill="none" stroke="#083" stroke-width="1.5"/></svg>'
)


def test_a_drawing_has_the_same_bytes() -> None:
    pytest.importorskip("resvg_py")
    drawn = hashlib.sha256(draw(SVG)).hexdigest()
    assert drawn == DRAWING[emoji_styles.VERSION], REMEDY.format(emoji_styles.NAME)


def test_the_data_sets_are_made_of_the_same_packages_and_choices() -> None:
    assert emoji_styles.content_hash() == EMOJI_STYLES[emoji_styles.VERSION], REMEDY.format(emoji_styles.NAME)
    assert emoji_styles.content_hash(emoji_styles.NAME_OF_EIGHT) == EIGHT_STYLES[emoji_styles.VERSION], REMEDY.format(
        emoji_styles.NAME
    )
    assert icons.content_hash() == ICONS[icons.VERSION], REMEDY.format(icons.NAME)


def test_the_encoder_is_made_of_the_same_packages_and_settings() -> None:
    assert minilit._content_hash(Training()) == MINILIT[minilit.VERSION], REMEDY.format(minilit.NAME)


def test_the_encoder_is_trained_in_the_same_way() -> None:
    """Sums over the maps that a small set of features gives: another processor may round otherwise, and no more."""
    n, ways = 96, 2
    images = torch.arange(n * 10, dtype=torch.float32).reshape(n, 10).mul(0.7).sin()
    captions = torch.arange(ways * n * 6, dtype=torch.float32).reshape(ways, n, 6).mul(1.3).cos()
    features = Features(images, captions, torch.arange(n) // 2)
    with minilit_training._reproducible(0):
        to_image, to_text, log_scale = minilit_training._train(features, Training(epochs=3, batch_size=32))
    maps = [to_image.weight, to_image.bias, to_text.weight]
    sums = [float(value) for array in maps for value in (array.detach().sum(), array.detach().abs().sum())]
    np.testing.assert_allclose(
        [*sums, float(log_scale)], MINILIT_TRAINED[minilit.VERSION], rtol=1e-4, atol=1e-3,
        err_msg=REMEDY.format(minilit.NAME),
    )  # fmt: skip


def test_later_settings_make_other_encoders_and_leave_the_demo_s_as_it_is() -> None:
    others = [Training(width=64), Training(trunk="lite1"), Training(augmented=True), Training(seed=1), Training()]
    assert len({minilit._content_hash(training) for training in others}) == len(others)
    rng = torch.Generator().manual_seed(0)
    views, captions = (torch.randn(shape, generator=rng) for shape in ((3, 96, 10), (2, 96, 6)))
    maps = {}
    for name, images in {"plain": views[0], "one view": views[:1], "three views": views}.items():
        with minilit_training._reproducible(0):
            settings = Training(epochs=3, batch_size=32, width=5)
            maps[name], _, _ = minilit_training._train(Features(images, captions, torch.arange(96) // 2), settings)
    assert maps["plain"].weight.shape == (5, 10)
    assert torch.equal(maps["plain"].weight, maps["one view"].weight)
    assert not torch.allclose(maps["plain"].weight, maps["three views"].weight)


def test_features_leave_the_random_generator_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one core the tower is built in the process that trains the head, and its initial weights are drawn there."""

    def batch(*_: object) -> list[np.ndarray]:
        return [nn.Linear(3, 2).weight.detach().numpy()]

    monkeypatch.setattr(trunk_features, "_batch_features", batch)
    torch.manual_seed(0)
    expected = torch.randn(3)
    torch.manual_seed(0)
    with Workers(0) as workers:
        assert trunk_features.image_features(workers, [None] * 20, "lite0", 160, None, "").shape == (4, 3)  # type: ignore[list-item]
    assert torch.equal(torch.randn(3), expected)


def _head(seed: int | None = None, noise: float = 0.0) -> dict[str, torch.Tensor]:
    """Return maps whose sums are those of the demo's head, or of a random draw of equal size; with relative noise."""
    maps, rng = {}, torch.Generator().manual_seed(seed or 0)
    for (key, sums), width in zip(minilit.DRAW.items(), (1280, 384), strict=True):
        shape = (len(sums), 256 // len(sums), width)
        spread = math.hypot(*sums) / math.sqrt(shape[1] * width)
        weights = spread * torch.randn(shape, generator=rng, dtype=torch.float64)
        if seed is None:
            weights += ((torch.tensor(sums) - weights.sum((1, 2))) / (shape[1] * width))[:, None, None]
        weights *= 1 + noise * torch.randn(shape, generator=rng, dtype=torch.float64)
        maps[key] = weights.reshape(256, width).float()
    return maps


def test_another_draw_of_the_head_is_noticed_and_rounding_is_not() -> None:
    assert minilit.notes(None, _head()) == minilit.notes(Training(), _head(noise=1e-3)) == []
    for seed in range(1, 6):
        assert len(minilit.notes(None, _head(seed))) == 1
        assert len(minilit.notes(None, _head() | {"text.proj.weight": _head(seed)["text.proj.weight"]})) == 1
        assert minilit.notes(Training(seed=seed), _head(seed)) == []  # nothing is documented for it


def test_a_loaded_encoder_says_that_its_head_is_another_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Module()
    model.register_buffer("logit_scale", torch.tensor(1.0))
    monkeypatch.setattr(open_clip_model, "_open_clip_name", lambda _: "local-dir:anywhere")
    monkeypatch.setattr(open_clip_model, "_load", lambda *_: (model, []))
    for seed, count in ((None, 0), (1, 1)):
        head = _head(seed)
        monkeypatch.setattr(model, "state_dict", lambda head=head: head)
        found = open_clip_model.OpenClipModel(BackboneSpec(name="MiniLiT", image_size=96)).notes
        assert [note.startswith("MiniLiT 96px: ") for note in found] == [True] * count
        other = BackboneSpec(name="MiniLiT", training=TrainingSpec(seed=2))
        assert open_clip_model.OpenClipModel(other).notes == ()
