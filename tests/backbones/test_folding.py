"""A map folded into a backbone: mapped embeddings, checkpoints that open_clip loads, and error messages."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from open_clip.model import CustomTextCLIP
from safetensors.torch import save_file

from benchmark.backbones import folding
from benchmark.backbones.folding import fold, write_folded
from benchmark.backbones.loading import Backbone
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.errors import IcmBenchError
from tests.conftest import TINY_CLIP

D = 16
VIT, TEXT = TINY_CLIP["vision_cfg"], TINY_CLIP["text_cfg"]
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}
TIMM = {"image_size": 32, "timm_model_name": "tf_efficientnet_lite0", "timm_pool": "avg"}
BERT = {
    "architectures": ["BertModel"], "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50, "max_position_embeddings": 77,
}  # fmt: skip


def configuration(images: dict[str, Any], texts: dict[str, Any]) -> dict[str, Any]:
    return {"embed_dim": D, "vision_cfg": images, "text_cfg": texts}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configuration of a tiny tower of transformers."""
    folder = tmp_path_factory.mktemp("bert")
    (folder / "config.json").write_text(json.dumps(BERT))
    return folder


def hf_text(bert: Path, proj: str | None) -> dict[str, Any]:
    names = {"hf_model_name": str(bert), "hf_tokenizer_name": str(bert), "hf_pooler_type": "mean_pooler"}
    return {**names, "hf_model_pretrained": False, "hf_proj_type": proj, "context_length": 77}


@pytest.fixture(scope="module")
def m() -> NDArray[np.float64]:
    """A map that is neither symmetric nor orthogonal, with condition number 30, shape (D, D)."""
    rng = np.random.default_rng(0)
    u, v = (np.linalg.qr(rng.standard_normal((D, D)))[0] for _ in range(2))
    return np.asarray(u * np.geomspace(1 / 30, 1, D) @ v)


def random_model(model_class: Any, config: dict[str, Any]) -> Any:
    torch.manual_seed(3)
    model = model_class(**config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # many are 0 at the start, and so would be whatever happens to them
            parameter.normal_(generator=torch.Generator().manual_seed(4))
    return model


def embeddings(model: Any) -> list[NDArray[np.float64]]:
    generator = torch.Generator().manual_seed(5)
    images = torch.randn((6, 3, 32, 32), generator=generator)
    tokens = torch.randint(1, 50, (6, 77), generator=generator)
    with torch.inference_mode():
        return [e.double().numpy() for e in (model.encode_image(images), model.encode_text(tokens))]


def cosines(z: NDArray[np.float64], t: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((z / np.linalg.norm(z, axis=1, keepdims=True)) @ (t / np.linalg.norm(t, axis=1, keepdims=True)).T)


KINDS = {
    "clip": (open_clip.CLIP, VIT, TEXT),
    "resnet": (open_clip.CLIP, RESNET, TEXT),
    "text projection with bias": (open_clip.CLIP, VIT, {**TEXT, "proj_bias": True}),
    "custom text": (CustomTextCLIP, VIT, TEXT),
    "timm linear": (CustomTextCLIP, {**TIMM, "timm_proj": "linear", "timm_proj_bias": True}, TEXT),
    "timm linear, no bias": (CustomTextCLIP, {**TIMM, "timm_proj": "linear"}, TEXT),
    "timm mlp": (CustomTextCLIP, {**TIMM, "timm_proj": "mlp", "timm_proj_bias": True}, TEXT),
    "timm classifier": (CustomTextCLIP, {**TIMM, "timm_proj": ""}, TEXT),
    "hf linear": (CustomTextCLIP, VIT, "linear"),
    "hf mlp": (CustomTextCLIP, VIT, "mlp"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_of_every_architecture_are_mapped(kind: str, bert: Path, m: NDArray[np.float64]) -> None:
    model_class, images, texts = KINDS[kind]
    config = configuration(images, hf_text(bert, texts) if isinstance(texts, str) else texts)
    model = random_model(model_class, config)
    plain = embeddings(model)
    fold(model, m)
    folded = embeddings(model)
    for before, after in zip(plain, folded, strict=True):
        np.testing.assert_allclose(after, before @ m, atol=1e-5 * np.abs(before @ m).max())
    difference = cosines(*folded) - cosines(*(e @ m for e in plain))
    assert np.abs(difference).max() < 1e-5
    assert np.abs(cosines(*folded) - cosines(*plain)).max() > 1e-2


@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_tower_without_a_last_linear_layer_is_refused_and_stays(
    tower: str, bert: Path, m: NDArray[np.float64]
) -> None:
    unprojected = {**TIMM, "timm_model_name": "vit_tiny_patch16_224", "image_size": 224, "timm_proj": "none"}
    towers = (unprojected, TEXT) if tower == "image" else (VIT, hf_text(bert, None))
    model = random_model(CustomTextCLIP, configuration(*towers))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(IcmBenchError, match=f"--fold: the {tower} tower of this backbone does not end in a linear"):
        fold(model, m)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def tiny_spec(tmp_path: Path) -> BackboneSpec:
    """A checkpoint of a tiny random CLIP in a folder, with a preprocessing that is not the default."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    preprocess = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear", "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY_CLIP, "preprocess_cfg": preprocess}))
    save_file(random_model(open_clip.CLIP, TINY_CLIP).state_dict(), folder / "open_clip_model.safetensors")
    return BackboneSpec(name="tiny", folder=str(folder))


def provenance_of(spec: BackboneSpec) -> dict[str, Any]:
    fingerprint = Backbone(spec, device="cpu").facts.fingerprint
    return {"backbone": spec.label, "fingerprint": fingerprint, "normalize": "before"}


@pytest.mark.parametrize(
    "changes", [{}, {"image_size": 48}, {"quick_gelu": True, "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 0.5)}]
)
def test_the_checkpoint_is_the_backbone_with_the_map(
    changes: dict[str, Any], tmp_path: Path, m: NDArray[np.float64]
) -> None:
    spec = tiny_spec(tmp_path).model_copy(update=changes)
    plain, place = Backbone(spec, device="cpu"), tmp_path / "new" / "folded"
    write_folded(spec, m, place, provenance_of(spec))
    names = ["open_clip_config.json", "open_clip_model.safetensors", "provenance.json"]
    assert sorted(p.name for p in place.iterdir()) == names
    assert [p.name for p in place.parent.iterdir()] == ["folded"]
    folded = Backbone(BackboneSpec(name="folded", folder=str(place)), device="cpu")
    assert folded.preprocess == plain.preprocess
    size = spec.image_size or 32
    pixels = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (4, 3, size, size), dtype=np.uint8))
    for encode in (lambda b: b.encode_images(pixels), lambda b: b.encode_texts(["a dog", "a cat"])):
        before, after = encode(plain), encode(folded)
        np.testing.assert_allclose(after, before @ m, atol=1e-5 * np.abs(before @ m).max())
    assert json.loads((place / "provenance.json").read_text())["normalize"] == "before"


def test_open_clip_itself_loads_it(tmp_path: Path, m: NDArray[np.float64]) -> None:
    spec = tiny_spec(tmp_path)
    write_folded(spec, m, tmp_path / "folded", provenance_of(spec))
    name = f"local-dir:{tmp_path / 'folded'}"
    model, _, _ = open_clip.create_model_and_transforms(name)
    z = model.eval().encode_text(open_clip.get_tokenizer(name)(["a dog"])).detach().numpy()
    expected = Backbone(spec, device="cpu").encode_texts(["a dog"]) @ m
    np.testing.assert_allclose(z, expected, atol=1e-5 * np.abs(expected).max())


def test_what_cannot_be_written_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, m: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny_spec(tmp_path)
    facts = provenance_of(spec)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for of_map, place, changes, said in (
        (m, "full", {}, "full is there and not empty"),
        (m, "full/mine.txt/folded", {}, r"cannot be written \((Not a directory|File exists)\)"),
        (m, "new", {"fingerprint": "ab" * 32}, "The weights of 'tiny' have changed since it was embedded"),
        (m[:8, :8], "new", {}, "does not end in a linear layer"),
    ):
        with pytest.raises(IcmBenchError, match=said):
            write_folded(spec, of_map, tmp_path / place, {**facts, **changes})
    with monkeypatch.context() as patched:  # a layer that was wrongly taken for the last one
        patched.setattr(folding, "_last_of_images", lambda _: torch.nn.Linear(D, D))
        with pytest.raises(IcmBenchError, match=r"the image tower of this backbone does not end in a linear layer"):
            write_folded(spec, m, tmp_path / "new", facts)

    with monkeypatch.context() as patched:
        patched.setattr(folding, "_write_config", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write_folded(spec, m, tmp_path / "new", facts)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full", "tiny"]
    (tmp_path / "new").mkdir()  # an empty one is no loss
    write_folded(spec, m, tmp_path / "new", facts)
