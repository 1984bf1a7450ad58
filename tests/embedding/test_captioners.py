"""Captioners and rewriters of open_clip and transformers with random weights: they load, write text, and repeat themselves."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmark.common.errors import IcmBenchError
from benchmark.embedding.captioners import MAX_TOKENS, Captioner, TransformersRewriter, captioner_class
from tests.conftest import TINY_CLIP

WORDS = ("a", "dog", "in", "the", "snow", "on", "grass", "at", "night", "red", "blue")
COCA: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {
        **TINY_CLIP["vision_cfg"], "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True,
    },
    "text_cfg": {**TINY_CLIP["text_cfg"], "context_length": 76, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {"context_length": 76, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1,
                       "attn_pooler_heads": 2},
    "custom_text": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)) for _ in range(3)]


def saved(folder: Path, config: dict[str, Any]) -> Any:
    """Write a model with random weights into a folder in open_clip's layout, and return it."""
    from open_clip.coca_model import CoCa
    from open_clip.model import CLIP

    torch.manual_seed(0)
    arguments = {k: v for k, v in config.items() if k != "custom_text"}
    model = (CoCa if "multimodal_cfg" in config else CLIP)(**arguments).eval()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return model


def captioned(name: str, images: list[Image.Image]) -> list[str]:
    cls, arguments = captioner_class(name)
    made: Captioner = cls(*arguments)
    return made.captions(images)


def test_open_clip_says_the_likeliest_word_after_the_other(tmp_path: Path, images: list[Image.Image]) -> None:
    model = saved(tmp_path, COCA)
    said = captioned(f"open_clip:{tmp_path}", images)
    from open_clip import decode, image_transform

    transform = image_transform(32, is_train=False)
    for image, caption in zip(images, said, strict=True):
        tokens = torch.tensor([[49406]])
        while tokens.shape[1] < MAX_TOKENS and tokens[0, -1] != 49407:
            with torch.no_grad():
                logits = model(transform(image)[None], tokens, output_labels=False)["logits"]
            tokens = torch.cat([tokens, logits[:, -1:].argmax(-1)], dim=1)
        assert caption == decode(tokens[0, 1:]).partition("<end_of_text>")[0]
    assert captioned(f"open_clip:{tmp_path}", images[:1]) == said[:1]


def test_a_model_of_open_clip_that_writes_no_text_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, TINY_CLIP)
    with pytest.raises(IcmBenchError, match="writes no text; name a generative one, such as coca_ViT-B-32"):
        captioned(f"open_clip:{tmp_path}", [])


def word_tokenizer(folder: Path, words: Sequence[str]) -> int:
    """Save a tokenizer of few words, and return their number."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    all_ = ["<pad>", "<eos>", "<unk>", *words]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(all_)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return len(all_)


def tiny_writer(folder: Path, words: Sequence[str]) -> Path:
    """Save a GPT-2 with random weights that knows some words, and return its folder."""
    transformers = pytest.importorskip("transformers")
    size = word_tokenizer(folder, words)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=size, n_embd=16, n_layer=1, n_head=2, n_positions=256, eos_token_id=1, bos_token_id=1, pad_token_id=0
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_transformers_caption_images(tmp_path: Path, images: list[Image.Image]) -> None:
    transformers = pytest.importorskip("transformers")
    size = word_tokenizer(tmp_path, WORDS)
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BlipConfig(
        text_config={**small, "vocab_size": size, "encoder_hidden_size": 16, "bos_token_id": 3, "eos_token_id": 1,
                     "sep_token_id": 1, "pad_token_id": 0},
        vision_config={**small, "image_size": 32, "patch_size": 16},
    )  # fmt: skip
    transformers.BlipForConditionalGeneration(config).save_pretrained(tmp_path)
    transformers.BlipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    said = captioned(f"hf:{tmp_path}", images)
    assert len(said) == 3
    assert all(set(caption.split()) <= set(WORDS) for caption in said)
    assert captioned(f"hf:{tmp_path}", images[1:2]) == said[1:2]


def test_transformers_rewrite_by_seed(tmp_path: Path) -> None:
    tiny_writer(tmp_path, WORDS)
    rewriter = TransformersRewriter(str(tmp_path), temperature=1.0, max_tokens=12)
    answers = [rewriter.answer("a dog on grass", seed) for seed in range(6)]
    assert [rewriter.answer("a dog on grass", seed) for seed in range(6)] == answers
    assert len(set(answers)) > 1
    assert {finish for _, finish in answers} <= {"stop", "length"}
    greedy = TransformersRewriter(str(tmp_path), temperature=0.0, max_tokens=3)
    assert greedy.answer("a dog", 0) == greedy.answer("a dog", 1)


def test_what_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(IcmBenchError, match=f"The model 'hf:{tmp_path}' cannot be loaded"):
        captioned(f"hf:{tmp_path}", [])
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(IcmBenchError, match=r"'hf:blip' needs transformers: pip install 'icm-bench\[transformers\]'"):
        captioned("hf:blip", [])
