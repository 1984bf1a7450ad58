"""A map folded into a backbone: embeddings are mapped, open_clip alone loads the checkpoint, and the rest is one sentence."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from open_clip.model import CustomTextCLIP

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
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 50,
    "max_position_embeddings": 77,
}


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


@pytest.mark.parametrize(
    ("images", "texts", "tower"),
    [
        ({**TIMM, "timm_model_name": "vit_tiny_patch16_224", "image_size": 224, "timm_pool": "avg", "timm_proj": "none"},
         TEXT, "image"),
        (VIT, None, "text"),
    ],
)  # fmt: skip
def test_a_tower_without_a_last_linear_layer_is_refused_and_stays(  # type: ignore[no-untyped-def]
    images, texts, tower, bert: Path, m: NDArray[np.float64]
) -> None:
    model = random_model(CustomTextCLIP, configuration(images, texts or hf_text(bert, None)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(IcmBenchError, match=f"--fold: the {tower} tower of this backbone does not end in a linear"):
        fold(model, m)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def tiny_spec(tmp_path: Path, **model_cfg: Any) -> BackboneSpec:
    """A checkpoint of a tiny random CLIP in a folder, with a preprocessing that is not the default."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    config = {**TINY_CLIP, **model_cfg}
    preprocess = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear", "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    from safetensors.torch import save_file

    save_file(random_model(open_clip.CLIP, config).state_dict(), folder / "open_clip_model.safetensors")
    return BackboneSpec(name="tiny", folder=str(folder))


def provenance_of(spec: BackboneSpec) -> dict[str, Any]:
    return {
        "backbone": spec.label,
        "fingerprint": Backbone(spec, device="cpu").facts.fingerprint,
        "normalize": "before",
    }


@pytest.mark.parametrize("changes", [{}, {"image_size": 48}, {"quick_gelu": True, "mean": (0.1, 0.2, 0.3)}])
def test_the_checkpoint_is_the_backbone_with_the_map(changes, tmp_path: Path, m: NDArray[np.float64]) -> None:  # type: ignore[no-untyped-def]
    spec = tiny_spec(tmp_path).model_copy(update=changes)
    if "mean" in changes:
        spec = spec.model_copy(update={"std": (0.5, 0.5, 0.5)})
    plain, place = Backbone(spec, device="cpu"), tmp_path / "new" / "folded"
    write_folded(spec, m, place, provenance_of(spec))
    names = ["open_clip_config.json", "open_clip_model.safetensors", "provenance.json"]
    assert sorted(p.name for p in place.iterdir()) == names
    assert [p.name for p in place.parent.iterdir()] == ["folded"]
    folded = Backbone(BackboneSpec(name="folded", folder=str(place)), device="cpu")
    assert folded.preprocess == plain.preprocess
    size = spec.image_size or 32
    pixels = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (4, 3, size, size), dtype=np.uint8))
    for before, after in (
        (plain.encode_images(pixels), folded.encode_images(pixels)),
        (plain.encode_texts(["a dog", "a cat"]), folded.encode_texts(["a dog", "a cat"])),
    ):
        np.testing.assert_allclose(after, before @ m, atol=1e-5 * np.abs(before @ m).max())
    assert json.loads((place / "provenance.json").read_text())["normalize"] == "before"


def test_open_clip_loads_it_without_this_package(tmp_path: Path, m: NDArray[np.float64]) -> None:
    spec = tiny_spec(tmp_path)
    write_folded(spec, m, tmp_path / "folded", provenance_of(spec))
    code = (
        "import sys\nsys.modules['benchmark'] = None\nimport open_clip, torch\n"
        f"name = 'local-dir:{tmp_path / 'folded'}'\n"
        "model, _, preprocess = open_clip.create_model_and_transforms(name)\n"
        "z = model.eval().encode_text(open_clip.get_tokenizer(name)(['a dog']))\n"
        f"torch.save(z.detach(), {str(tmp_path / 'z.pt')!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    expected = Backbone(spec, device="cpu").encode_texts(["a dog"]) @ m
    np.testing.assert_allclose(torch.load(tmp_path / "z.pt").numpy(), expected, atol=1e-5 * np.abs(expected).max())


def test_what_cannot_be_written_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, m: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny_spec(tmp_path)
    facts = provenance_of(spec)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(IcmBenchError, match=r"full is there and not empty; name a folder that is to be made"):
        write_folded(spec, m, tmp_path / "full", facts)
    with pytest.raises(IcmBenchError, match=r"cannot be written \((Not a directory|File exists)\)"):
        write_folded(spec, m, tmp_path / "full" / "mine.txt" / "folded", facts)
    with pytest.raises(IcmBenchError, match=r"The weights of 'tiny' have changed since it was embedded"):
        write_folded(spec, m, tmp_path / "new", {**facts, "fingerprint": "ab" * 32})
    with pytest.raises(IcmBenchError, match=r"does not end in a linear layer"):
        write_folded(spec, m[:8, :8], tmp_path / "new", facts)
    with monkeypatch.context() as patched:  # a layer that was wrongly taken for the last one
        patched.setattr(folding, "_last_of_images", lambda _: torch.nn.Linear(D, D))
        with pytest.raises(IcmBenchError, match=r"the image tower of this backbone does not end in a linear layer"):
            write_folded(spec, m, tmp_path / "new", facts)

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(folding, "_write_config", stopped)
        with pytest.raises(KeyboardInterrupt):
            write_folded(spec, m, tmp_path / "new", facts)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full", "tiny"]
    (tmp_path / "new").mkdir()  # an empty one is no loss
    write_folded(spec, m, tmp_path / "new", facts)
