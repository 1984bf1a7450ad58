"""What the versions of the demo's data set and encoder stand for: it stays as long as the version does.

A test that fails here says that the demo would draw or train something else than before under the same name in the
cache. Where that is meant, raise the version and write down the new value under it; where it is not, undo the change.
The slow tests compare all drawings with the catalog's fingerprint; these are the quick ones, without any package.
"""

import hashlib

import numpy as np
import pytest
import torch

from benchmark.demo import emoji_styles, icons, minilit, minilit_training
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
    assert emoji_styles.content_hash(8) == EIGHT_STYLES[emoji_styles.VERSION], REMEDY.format(emoji_styles.NAME)
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
