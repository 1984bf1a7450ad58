"""Backbones: error messages, notes, and dependencies of the fingerprint."""

import json
import shutil
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from benchmark.backbones.describe import with_engine
from benchmark.backbones.loading import Backbone, best_device, weights_fingerprint
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.errors import IcmBenchError
from benchmark.method.predictors.base import TextTower
from tests.conftest import TINY_CLIP


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in open_clip's local-dir layout with random weights and a mean and std of its own."""
    folder = tmp_path_factory.mktemp("tiny")
    config = {"model_cfg": TINY_CLIP, "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(1)
    model = open_clip.CLIP(**TINY_CLIP)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


def test_a_local_folder_brings_its_weights_mean_and_std(tiny: Path) -> None:
    backbone = Backbone(BackboneSpec(name="tiny", folder=str(tiny)), device="cpu")
    assert backbone.preprocess["mean"] == [0.1, 0.2, 0.3]
    assert backbone.facts.dim == 16
    images = torch.arange(2 * 3 * 32 * 32).remainder(256).to(torch.uint8).view(2, 3, 32, 32)
    z = backbone.encode_images(images)
    reference = open_clip.create_model(f"local-dir:{tiny}").eval()
    mean, std = (torch.tensor(backbone.preprocess[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(z), reference.encode_image((images / 255 - mean) / std))


def test_fingerprint_follows_the_weights_and_nothing_else(tiny: Path) -> None:
    spec = BackboneSpec(name="tiny", folder=str(tiny))
    first = Backbone(spec, device="cpu").facts.fingerprint
    assert Backbone(spec.model_copy(update={"name": "other"}), device="cpu").facts.fingerprint == first
    model = open_clip.create_model(f"local-dir:{tiny}")
    assert weights_fingerprint(model) == first
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-3
    assert weights_fingerprint(model) != first


def test_random_weights_are_seeded_and_say_so(tiny_random: dict[str, Any]) -> None:
    spec = BackboneSpec(**tiny_random)
    facts = Backbone(spec, device="cpu").facts
    assert facts.random_weights
    assert "RANDOM WEIGHTS" in facts.label
    assert any("random" in note for note in facts.notes)
    assert Backbone(spec, device="cpu").facts.fingerprint == facts.fingerprint
    assert Backbone(spec.model_copy(update={"seed": 1}), device="cpu").facts.fingerprint != facts.fingerprint


def refusal(**spec: object) -> str:
    with pytest.raises(IcmBenchError) as caught:
        Backbone(BackboneSpec(**spec), device="cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_names_and_tags_that_do_not_fit_are_refused_with_what_does() -> None:
    assert "Unknown backbone 'ViT-B-31': did you mean 'ViT-B-32'?" in refusal(name="ViT-B-31", pretrained="openai")
    assert "did you mean 'openai'?" in refusal(name="ViT-B-32", pretrained="opena")
    assert "'ViT-B-32' needs 'pretrained': one of openai" in refusal(name="ViT-B-32")
    assert "'MiniLiT' has its own weights" in refusal(name="MiniLiT", pretrained="openai")
    other_gelu = refusal(name="ViT-B-32-quickgelu", pretrained="laion400m_e32", quick_gelu=False)
    assert "use 'ViT-B-32'" in other_gelu


def test_folders_and_checkpoints_that_do_not_fit_are_refused(tiny: Path, tmp_path: Path) -> None:
    assert "holds no open_clip_config.json" in refusal(name="x", folder=str(tmp_path))
    weights = str(tiny / "open_clip_model.safetensors")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "pickled.pt")
    (tmp_path / "noise.pt").write_text("no checkpoint at all\n" * 20)
    for file, said in {
        weights: "does not fit the model 'ViT-S-32'",
        str(tmp_path / "pickled.pt"): "would have to be unpickled, which is refused",
        str(tmp_path / "noise.pt"): "noise.pt is damaged",
    }.items():
        assert said in refusal(name="ViT-S-32", pretrained=file)
    (tmp_path / "bare").mkdir()
    shutil.copy(tiny / "open_clip_config.json", tmp_path / "bare")
    assert "cannot be loaded from" in refusal(name="bare", folder=str(tmp_path / "bare"))


def test_quick_gelu_follows_the_pretrained_tag() -> None:
    from benchmark.backbones.models.open_clip_model import _quick_gelu

    for pretrained, wanted, used, noted in (
        ("openai", None, True, ["trained with QuickGELU"]),
        ("openai", False, False, ["accuracy will suffer"]),
        ("laion2b_s34b_b79k", None, False, []),
    ):
        notes: list[str] = []
        spec = BackboneSpec(name="ViT-B-32", pretrained=pretrained, quick_gelu=wanted)
        assert bool(_quick_gelu(spec, "ViT-B-32", notes)) == used
        assert all(words in note for words, note in zip(noted, notes, strict=True))


@pytest.mark.parametrize(
    ("name", "keys", "says"),
    [
        ("ViT-B-32", {}, "does not say whether 'ViT-B-32' has QuickGELU, as the weights openai, laion400m_e31"),
        ("RN50", {}, "openai, yfcc15m, cc12m have. Say quick_gelu"),  # all of its weights have it, the name does not
        ("ViT-B-32", {"quick_gelu": True}, ""),
        ("ViT-B-32", {"quick_gelu": False}, ""),
        ("ViT-B-32-quickgelu", {}, ""),
        ("ViT-S-32", {}, ""),
    ],
)
def test_a_file_says_its_activation_where_some_weights_have_quick_gelu(
    name: str, keys: dict[str, Any], says: str, tmp_path: Path
) -> None:
    from benchmark.backbones.models.open_clip_model import OpenClipModel, _quick_gelu

    (tmp_path / "mine.pt").touch()
    spec = BackboneSpec(name=name, pretrained=str(tmp_path / "mine.pt"), **keys)
    if says:
        for refused in (lambda: OpenClipModel.check_name(spec), lambda: _quick_gelu(spec, name, [])):
            with pytest.raises(IcmBenchError) as caught:
                refused()
            assert says in str(caught.value)
        return
    notes: list[str] = []
    OpenClipModel.check_name(spec)
    has_it = name.endswith("-quickgelu")
    assert _quick_gelu(spec, name, notes) == keys.get("quick_gelu", has_it)
    assert [note for note in notes if "suffer" in note] == []


def test_identity_follows_the_architecture_as_well_as_the_weights(tiny: Path, tmp_path: Path) -> None:
    spec = BackboneSpec(name="tiny", folder=str(tiny))
    plain = Backbone(spec, device="cpu").facts
    gelu = Backbone(spec.model_copy(update={"quick_gelu": True}), device="cpu").facts
    assert gelu.fingerprint == plain.fingerprint
    assert gelu.identity() != plain.identity()
    moved = tmp_path / "moved"
    shutil.copytree(tiny, moved)
    assert Backbone(BackboneSpec(name="tiny", folder=str(moved)), device="cpu").facts.identity() == plain.identity()


CUSTOM = {**TINY_CLIP, "custom_text": True}
REAL = pytest.mark.long("the token vectors of the demo's own text tower do not give its texts")


@pytest.mark.parametrize(
    "config", [TINY_CLIP, CUSTOM, pytest.param(None, marks=REAL)], ids=["clip", "custom", "MiniLiT"]
)
def test_prompts_with_the_placeholders_own_vectors_are_the_texts_themselves(
    config: dict[str, Any] | None, tmp_path: Path
) -> None:
    """For every kind of text tower: learnt vectors replace the placeholder tokens and receive gradients."""
    spec = BackboneSpec(name="MiniLiT", image_size=64)
    if config is not None:
        (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
        spec = BackboneSpec(name="tiny", folder=str(tmp_path), pretrained="random")
    backbone = Backbone(spec, device="cpu")
    tower = TextTower(("dog", "golden retriever"), *backbone.text_tower())
    prompts = tower.prompts(4)
    vectors = tower.table(prompts.tokens[:1])[0, 1:5].detach().clone().requires_grad_()
    texts = torch.from_numpy(backbone.encode_texts(["X X X X dog.", "X X X X golden retriever."]))
    made = prompts.texts(vectors)
    torch.testing.assert_close(made, torch.nn.functional.normalize(texts), atol=1e-5, rtol=1e-5)
    other = prompts.texts(torch.randn(vectors.shape, generator=torch.Generator().manual_seed(0)))
    assert not torch.allclose(made, other, atol=1e-2)
    made[0, 0].backward()
    assert vectors.grad is not None
    assert (vectors.grad.abs().sum(dim=1) > 0).all()


def test_operations_of_a_transformer_are_those_of_its_products(tiny_random: dict[str, Any]) -> None:
    width, tokens, patches = 64, 5, 4  # and one layer, patches of 16 x 16, embeddings of 16 numbers
    layer = tokens * width * (3 * width + width + 2 * 4 * width) + 2 * tokens * tokens * width
    expected = 2 * (patches * 3 * 16 * 16 * width + layer + width * 16)
    assert Backbone(BackboneSpec(**tiny_random)).facts.flops == expected


IMAGES = torch.arange(2 * 3 * 32 * 32).remainder(251).to(torch.uint8).view(2, 3, 32, 32)


def test_mps_that_torch_cannot_use_gives_way_to_the_cpu_with_a_note(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = BackboneSpec(name="tiny", folder=str(tiny), engine="torch")
    expected = Backbone(spec, device="cpu").encode_images(IMAGES)
    assert with_engine(spec).notes == ()
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)  # this build has no such device
    assert best_device() == best_device(reserved=True) == "mps"
    backbone = Backbone(spec)
    assert backbone.device.type == "cpu"
    assert (backbone.encode_images(IMAGES) == expected).all()
    [note] = with_engine(spec).notes
    assert "runs on the CPU" in note


@pytest.mark.parametrize(("wrong", "agrees"), [(0.0, True), (1e-5, True), (0.1, False), (float("nan"), False)])
def test_a_device_is_used_where_its_embeddings_are_those_of_the_cpu(
    wrong: float, agrees: bool, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another device of the tests: the CPU, with an error in every embedding."""
    backbone = Backbone(BackboneSpec(name="tiny", folder=str(tiny)), device="cpu")
    move, embed, at = backbone._move, backbone.embed, ["cpu"]

    def moved(device: str) -> None:
        at[0] = device
        move("cpu")

    monkeypatch.setattr(backbone, "_move", moved)
    monkeypatch.setattr(backbone, "embed", lambda images: embed(images) * (1 + wrong * (at[0] == "mps")))
    assert backbone.agrees_on("mps") is agrees
    assert at == ["cpu"]


def test_a_reserved_gpu_is_never_replaced_by_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert best_device() == "cpu"
    with pytest.raises(IcmBenchError) as refused:
        best_device(reserved=True)
    for words in (f"PyTorch {torch.__version__}", "driver", "run.device: cpu"):
        assert words in str(refused.value)
