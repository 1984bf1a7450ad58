"""Models beyond open_clip: transformers, timm and a user-defined class, in whole runs and alone."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoImageProcessor

from benchmark.backbones.loading import Backbone, texts_of, width_of
from benchmark.backbones.models import EncoderModel
from benchmark.backbones.models.transformers_model import TransformersModel
from benchmark.backbones.spec import BackboneSpec
from benchmark.cli import main
from benchmark.common.errors import IcmBenchError
from benchmark.embedding.images import Geometry
from tests.backbones import towers
from tests.conftest import TINY_CLIP, make_toy

TOWERS = {"siglip": towers.siglip, "align": towers.align, "altclip": towers.altclip, "vit": towers.vit}
TIMM = "timm:test_vit"


def loaded(**spec: Any) -> Backbone:
    return Backbone(BackboneSpec(**spec), device="cpu")


def picture(width: int = 120, height: int = 83) -> Image.Image:
    rough = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)


def pixels_of(backbone: Backbone, image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(Geometry.of(backbone.preprocess)(image))


def normalised(backbone: Backbone, pixels: NDArray[np.uint8]) -> torch.Tensor:
    mean, std = (torch.tensor(backbone.preprocess[key]).view(3, 1, 1) for key in ("mean", "std"))
    return (torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255 - mean) / std


@pytest.mark.parametrize("name", TOWERS)
def test_a_model_of_transformers_sees_what_its_processor_gives_and_says_what_it_says(name: str, tmp_path: Path) -> None:
    model: Any = TOWERS[name](tmp_path)
    backbone = loaded(name=f"hf:{tmp_path}")
    pixels = pixels_of(backbone, picture())
    theirs = AutoImageProcessor.from_pretrained(tmp_path)(images=picture(), return_tensors="pt")["pixel_values"][0]
    ours = normalised(backbone, pixels)
    # Pillow and torchvision round differently, here and there by a grey level.
    assert float((theirs - ours).abs().max()) < 1.1 / 255 / min(backbone.preprocess["std"])
    assert float((theirs - ours).abs().mean()) < 1e-3
    with torch.no_grad():
        embed = getattr(model, "get_image_features", model)
        expected = embed(pixel_values=ours[None]).pooler_output
    z = backbone.encode_images(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])
    np.testing.assert_allclose(z, expected, rtol=1e-4, atol=1e-5)
    assert width_of(backbone.spec) == backbone.facts.dim == z.shape[1]
    assert backbone.facts.texts == texts_of(backbone.spec) == ("none" if name == "vit" else "any")
    if name != "vit":
        texts = backbone.encode_texts(["a photo of a dog", "a guitar"])
        assert texts.shape == (2, z.shape[1])
        assert np.abs(texts[0] - texts[1]).max() > 0.01
        again = backbone.encode_texts(["a guitar"])  # alone: padding does not depend on its mates
        np.testing.assert_allclose(again[0], texts[1], rtol=1e-4, atol=1e-6)


def test_texts_of_siglip_lose_capitals_and_punctuation_and_those_of_others_do_not(tmp_path: Path) -> None:
    """SigLIP 2 has SigLIP's model and a tokenizer that sees to neither; its texts had neither in training."""
    towers.siglip(tmp_path / "siglip")
    towers.altclip(tmp_path / "altclip")
    same: dict[str, bool] = {}
    for name in ("siglip", "altclip"):
        model = loaded(name=f"hf:{tmp_path / name}").encoder
        assert isinstance(model, TransformersModel)
        written, plain = (model.tokens([text])["input_ids"] for text in ("A photo of a Dog.", "a photo of a dog"))
        same[name] = torch.equal(written, plain)
        assert ("canonical texts" in model.architecture()) == same[name]  # type: ignore[operator]
    assert same == {"siglip": True, "altclip": False}


@pytest.fixture(scope="module")
def both_forms(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same random weights as a folder of open_clip and as one of transformers."""
    ours, theirs = tmp_path_factory.mktemp("open_clip"), tmp_path_factory.mktemp("transformers")
    torch.manual_seed(3)
    state = {k: v.detach().contiguous() for k, v in open_clip.CLIP(**TINY_CLIP).state_dict().items() if "mask" not in k}
    (ours / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY_CLIP, "preprocess_cfg": {}}))
    save_file(state, ours / "open_clip_model.safetensors")
    towers.clip_of(state, theirs)
    return {"name": "ours", "folder": str(ours), "engine": "torch"}, {"name": f"hf:{theirs}", "engine": "torch"}


def rows_of(store: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(file) for file in sorted((store / "rows").rglob("*.parquet"))])


def recipe_of(folder: Path, backbones: list[dict[str, Any]], **sweep: Any) -> Path:
    """Write a recipe with interventions of images and of texts, and return its file."""
    sets = [{"name": "all"}, {"name": "t", "kinds": ["text"]}]
    content = {
        "name": "models",
        "datasets": [{"name": "toy", "root": str(make_toy(folder / "toy", environments=3, classes=2, images=10))}],
        "backbones": backbones,
        "interventions": {"kinds": ["grayscale", "invert"], "text": {"per_class": 4}},
        "sweep": {"seeds": [0], "lambdas": [1], "intervention_sets": sets, **sweep},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(content))
    return folder / "recipe.yaml"


@pytest.mark.long("the same weights read by another library give another run")
@pytest.mark.usefixtures("local_ray")
def test_the_same_weights_give_the_same_run_in_either_form(
    both_forms: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path
) -> None:
    sweep = {"projections": ["identity", "icm"], "predictors": ["zero_shot"], "ranks": [4, 16]}
    recipe = recipe_of(tmp_path, list(both_forms), **sweep)
    assert main(["run", str(recipe), "--store", str(tmp_path / "store")]) == 0
    ours, theirs = (loaded(**spec) for spec in both_forms)
    assert ours.preprocess == theirs.preprocess
    assert ours.facts.logit_scale == pytest.approx(theirs.facts.logit_scale)
    texts = ["a photo of a dog.", "it's a Xylophone-ish thing: 42!"]
    np.testing.assert_allclose(theirs.encode_texts(texts), ours.encode_texts(texts), atol=1e-5)
    stored: dict[str, dict[tuple[str, str], NDArray[np.float32]]] = {}
    for about in (tmp_path / "store" / "embeddings").glob("*/about.json"):
        said = json.loads(about.read_text())
        for part in about.parent.glob("part-*.parquet"):
            for row in pd.read_parquet(part).itertuples():
                of_form = stored.setdefault(said["depends_on"]["backbone"]["fingerprint"], {})
                of_form[str(row.image_id), said["view"]] = np.asarray(row.embedding)
    a, b = stored[ours.facts.fingerprint], stored[theirs.facts.fingerprint]
    assert len(a) == 60 * 3
    assert a.keys() == b.keys()
    for key, z in a.items():
        np.testing.assert_allclose(b[key], z, atol=1e-5)
    rows = rows_of(tmp_path / "store")
    what = ["projection", "predictor", "intervention_set", "held_out", "test_split", "lambda_", "projection_params"]
    compared = [part.sort_values(what) for _, part in rows.groupby("backbone")]
    assert len(compared) == 2
    assert len(compared[0]) == len(compared[1]) >= 9
    for column in [*what, "accuracy"]:
        if column in rows:
            assert list(map(str, compared[0][column])) == list(map(str, compared[1][column]))


@pytest.mark.usefixtures("local_ray")
def test_a_tower_without_texts_is_swept_with_what_needs_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backbones = [{"name": TIMM, "pretrained": "random", "engine": "torch"}]
    sweep = {"projections": ["identity", "icm", "within_prompts"], "ranks": [8]}
    recipe = recipe_of(tmp_path, backbones, predictors=["zero_shot", "linear_probe"], **sweep)
    store = str(tmp_path / "store")
    assert main(["plan", str(recipe), "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert main(["run", str(recipe), "--store", store, "--out", str(tmp_path / "report")]) == 0
    said = capsys.readouterr()
    rows = rows_of(tmp_path / "store")
    assert set(rows["predictor"]) == {"linear_probe"}
    assert set(rows["projection"]) == {"identity", "icm"}
    assert planned["rows"] == len(rows)
    assert not (tmp_path / "store" / "texts").exists()
    left_out = "left out are the intervention set t; the projection within_prompts; the predictor zero_shot."
    report = [(tmp_path / "report" / file).read_text() for file in ("report.md", "index.html")]
    assert all(left_out in re.sub(r"\s+", " ", text) for text in (said.err, *report))
    assert main(["run", str(recipe), "--store", store, "--set", "sweep.predictors=[zero_shot]"]) == 2
    assert "Add a predictor of images" in capsys.readouterr().err


def test_a_tower_of_timm_is_the_tower_itself(tmp_path: Path) -> None:
    import timm
    from timm.data import create_transform, resolve_model_data_config  # type: ignore[attr-defined]

    torch.manual_seed(5)
    reference = timm.create_model("test_vit", pretrained=False, num_classes=0).eval()
    weights = tmp_path / "weights.safetensors"
    save_file({k: v.contiguous() for k, v in reference.state_dict().items()}, weights)
    backbone = loaded(name=TIMM, pretrained=str(weights))
    transform: Any = create_transform(**resolve_model_data_config(reference))
    ours = normalised(backbone, pixels_of(backbone, picture(300, 211)))
    assert float((transform(picture(300, 211)) - ours).abs().max()) < 1e-6
    pixels = torch.from_numpy(pixels_of(backbone, picture()).copy()).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = reference(normalised(backbone, pixels_of(backbone, picture()))[None])
    np.testing.assert_allclose(backbone.encode_images(pixels), expected, atol=1e-5)
    assert width_of(backbone.spec) == backbone.facts.dim
    assert backbone.facts.texts == "none"


class Grey(EncoderModel):
    """One grey value for each image, and no texts."""

    size = (8, 8)

    def __init__(self, spec: BackboneSpec) -> None:
        self.module = torch.nn.Linear(1, 4)
        torch.nn.init.constant_(self.module.weight, 1.0 + spec.seed)

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        embedded: torch.Tensor = self.module(images.mean((1, 2, 3))[:, None])
        return embedded


def test_an_encoder_of_ones_own_is_known_by_its_code_and_weights() -> None:
    name = f"{Grey.__module__}:Grey"
    facts = [loaded(name=name, seed=seed).facts for seed in (0, 0, 1)]
    assert facts[0].dim == width_of(BackboneSpec(name=name)) == 4
    assert (facts[0].texts, facts[0].logit_scale, facts[0].notes) == ("none", 100.0, ())
    assert facts[0].identity()["architecture"] == facts[2].identity()["architecture"]
    assert facts[0].fingerprint != facts[2].fingerprint
    with pytest.raises(IcmBenchError, match="Grey embeds no texts"):
        loaded(name=name).encode_texts(["a dog"])


def refusal(**spec: Any) -> str:
    with pytest.raises(IcmBenchError) as caught:
        loaded(**spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_loaded_is_one_sentence(tmp_path: Path) -> None:
    assert "image_size 64 is not what" in refusal(name=f"{Grey.__module__}:Grey", image_size=64)
    assert "cannot be loaded: No module named 'nowhere'" in refusal(name="nowhere:Encoder")
    assert "must derive from EncoderModel" in refusal(name="pathlib:Path")
    assert "timm has no 'test_vitt'; did you mean 'test_vit'?" in refusal(name="timm:test_vitt")
    (tmp_path / "noise.safetensors").write_bytes(b"no tensors")
    save_file({"other": torch.zeros(2)}, tmp_path / "other.safetensors")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "pickled.pt")
    for said in ("noise.safetensors cannot be loaded", "other.safetensors does not fit", "pickled.pt cannot be loaded"):
        assert said in refusal(name=TIMM, pretrained=str(tmp_path / said.split()[0]))


def test_a_folder_without_safetensors_or_of_another_kind_is_one_sentence(tmp_path: Path) -> None:
    towers.vit(tmp_path / "vit")
    for name in ("bare", "empty"):
        (tmp_path / name).mkdir()
    shutil.copy(tmp_path / "vit" / "config.json", tmp_path / "bare")
    torch.save({}, tmp_path / "bare" / "pytorch_model.bin")
    for name in ("bare", "empty"):
        assert "cannot be loaded by transformers" in refusal(name=f"hf:{tmp_path / name}")
    file = tmp_path / "vit" / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "resample": 0}))
    assert "has an unknown resize; known are bilinear and bicubic" in refusal(name=f"hf:{tmp_path / 'vit'}")
