"""Small models of transformers with random weights, as folders that `hf:` takes."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from tokenizers import Tokenizer, models, pre_tokenizers

SIDE = 32
_TOWER: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
_VISION: dict[str, Any] = {**_TOWER, "image_size": SIDE, "patch_size": 16}


def with_words(folder: Path, length: int) -> None:
    """Write a tokenizer that knows a few words, of any length up to `length` tokens."""
    words = ["[PAD]", "[UNK]", "a", "photo", "of", "dog", "guitar", "house", "horse", "person", "class_0", "class_1"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=length
    )
    fast.save_pretrained(folder)


def siglip(folder: Path) -> Any:
    """Return a SigLIP in a folder: resized to a square, towers that project onto nothing."""
    text = {**_TOWER, "vocab_size": 20, "max_position_embeddings": 16}
    model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=_VISION))
    transformers.SiglipImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    with_words(folder, 16)
    return saved(model, folder)


def align(folder: Path) -> Any:
    """Return an ALIGN in a folder: a convolutional tower, resized to more than the crop, a temperature."""
    text = {**_TOWER, "vocab_size": 20, "max_position_embeddings": 40, "pad_token_id": 0}
    vision = {
        "image_size": SIDE, "width_coefficient": 1.0, "depth_coefficient": 0.1, "hidden_dim": 24,
        "kernel_sizes": [3, 3], "in_channels": [32, 16], "out_channels": [16, 24], "strides": [1, 2],
        "num_block_repeats": [1, 1], "expand_ratios": [1, 2], "depthwise_padding": [],
    }  # fmt: skip
    model = transformers.AlignModel(transformers.AlignConfig(text_config=text, vision_config=vision, projection_dim=24))
    transformers.EfficientNetImageProcessor(
        size={"height": 40, "width": 40}, crop_size={"height": SIDE, "width": SIDE}, do_center_crop=True, resample=2,
        rescale_factor=1 / 127.5, rescale_offset=True, do_normalize=False, include_top=False,
    ).save_pretrained(folder)  # fmt: skip
    with_words(folder, 16)
    return saved(model, folder)


def altclip(folder: Path) -> Any:
    """Return an AltCLIP in a folder: CLIP's image tower with another text tower."""
    text = {**_TOWER, "vocab_size": 20, "max_position_embeddings": 40, "project_dim": 16, "pad_token_id": 0}
    model = transformers.AltCLIPModel(
        transformers.AltCLIPConfig(text_config=text, vision_config=_VISION, projection_dim=16)
    )
    _clip_processor().save_pretrained(folder)
    with_words(folder, 16)
    return saved(model, folder)


def vit(folder: Path) -> Any:
    """Return a vision transformer without texts in a folder."""
    transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE}, resample=2).save_pretrained(folder)
    return saved(transformers.ViTModel(transformers.ViTConfig(**_VISION)), folder)


def saved(model: Any, folder: Path) -> Any:
    """Return a model in evaluation, after its weights were drawn anew and saved."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim > 1:  # initialisations are so small that embeddings of all images would be alike
                value.normal_(std=0.2, generator=generator)
    model.save_pretrained(folder)
    return model.eval()


def _clip_processor() -> Any:
    return transformers.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})


def clip_of(state: dict[str, torch.Tensor], folder: Path) -> Any:
    """Return open_clip's weights of a tiny CLIP (`tests.conftest.TINY_CLIP`) as a CLIP of transformers, in a folder."""
    vision = {
        "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 1,
        "image_size": SIDE, "patch_size": 16, "hidden_act": "gelu",
    }  # fmt: skip
    text = {
        "hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2,
        "vocab_size": 49408, "max_position_embeddings": 77, "hidden_act": "gelu",
        "bos_token_id": 49406, "eos_token_id": 49407,
    }  # fmt: skip
    model = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    model.load_state_dict(dict(_renamed(state)))
    model.save_pretrained(folder)
    encoder = {_SPECIAL.get(word, word): i for word, i in SimpleTokenizer().encoder.items()}
    merges = gzip.decompress(Path(default_bpe()).read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    (folder / "vocab.json").write_text(json.dumps(encoder))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    tokenizer = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)
    tokenizer.save_pretrained(folder)
    _clip_processor().save_pretrained(folder)
    return model.eval()


_SPECIAL = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
_LAYER = {
    "ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj", "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}  # fmt: skip
_TOP = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight", "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight", "ln_final.bias": "text_model.final_layer_norm.bias",
    "logit_scale": "logit_scale",
}  # fmt: skip


def _renamed(state: dict[str, torch.Tensor]) -> Any:
    for name, value in state.items():
        if name in _TOP:
            yield _TOP[name], value
        elif name in ("visual.proj", "text_projection"):
            yield ("visual" if "visual" in name else "text") + "_projection.weight", value.T.contiguous()
        elif ".resblocks." in name:
            tower = "vision_model" if name.startswith("visual") else "text_model"
            number, _, part = name.split(".resblocks.")[1].partition(".")
            layer = f"{tower}.encoder.layers.{number}"
            if part.startswith("attn.in_proj_"):
                for letter, third in zip("qkv", np.split(value.numpy(), 3), strict=True):
                    kind = part.removeprefix("attn.in_proj_")
                    yield f"{layer}.self_attn.{letter}_proj.{kind}", torch.from_numpy(third.copy())
            else:
                stem, _, kind = part.rpartition(".")
                yield f"{layer}.{_LAYER[stem]}.{kind}", value
