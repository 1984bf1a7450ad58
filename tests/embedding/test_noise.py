"""Noise among tokens: where it stands, and that a text tower sees it there and nowhere else."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import torch

from benchmark.backbones.loading import Backbone
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.errors import IcmBenchError
from benchmark.embedding.text_encoding import NOISE_PLACES, encode_with_noise

TEXTS = ["a sketch of a red dog", "an x-ray of x", "a dog"]


@pytest.fixture(scope="module")
def backbone(tiny_random: dict[str, Any]) -> Backbone:
    return Backbone(BackboneSpec(**tiny_random), device="cpu")


def reference(backbone: Backbone, text: str, seed: int) -> np.ndarray:
    """CLIP's text tower written out, with noise put in between the embeddings of the text's own tokens."""
    model: Any = backbone.encoder.module
    rng = np.random.default_rng(seed)
    before, after = NOISE_PLACES[rng.integers(3)]
    noise = torch.from_numpy(0.02 * rng.standard_normal((4, model.token_embedding.embedding_dim))).float()
    tokens = open_clip.tokenize([text])[0]
    end = int(tokens.argmax())  # CLIP's end of text is its largest token
    own = model.token_embedding(tokens)
    x = torch.cat([own[:1], noise[:before], own[1:end], noise[before:], own[end:]])[: len(tokens)]
    x = model.transformer((x + model.positional_embedding)[None], attn_mask=model.attn_mask)
    return np.asarray((model.ln_final(x)[0, end + before + after] @ model.text_projection).detach().numpy())


def test_noise_stands_before_around_or_after_the_text(backbone: Backbone) -> None:
    seeds = list(range(24))
    texts = [TEXTS[seed % 3] for seed in seeds]
    made = encode_with_noise(backbone, texts, seeds)
    for row, text, seed in zip(made, texts, seeds, strict=True):
        np.testing.assert_allclose(row, reference(backbone, text, seed), atol=1e-5)
    assert {NOISE_PLACES[np.random.default_rng(seed).integers(3)] for seed in seeds} == set(NOISE_PLACES)
    assert not np.allclose(made, backbone.encode_texts(texts), atol=1e-4)
    np.testing.assert_allclose(encode_with_noise(backbone, texts[4:5], [4]), made[4:5], atol=1e-6)
    np.testing.assert_array_equal(backbone.encode_texts(texts), backbone.encode_texts(texts))  # the hook is gone


def test_a_text_that_leaves_no_room_is_named(backbone: Backbone) -> None:
    with pytest.raises(IcmBenchError, match=r"dog dog.* has more tokens than the text tower takes"):
        encode_with_noise(backbone, ["dog " * 100] * 6, list(range(6)))


def test_a_tokenizer_without_a_token_for_the_placeholder_is_refused() -> None:
    def tokenize(texts: list[str]) -> torch.Tensor:
        return torch.tensor([[1, 7, 8, 7, 8, 7, 8, 7, 8, 2]] * len(texts))

    other: Any = SimpleNamespace(text_tower=lambda: (tokenize, torch.nn.Embedding(9, 4), None))
    assert (tokenize([""])[0] == 7).sum() == 4  # every X is two tokens, and the first of them would be taken for it
    with pytest.raises(IcmBenchError, match="no single token for 'X'"):
        encode_with_noise(other, ["a dog"], [0])
