"""The self-check: it passes on planted published accuracies, and names each fault that is planted first."""

import csv
import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from benchmark.backbones.models import EncoderModel
from benchmark.backbones.spec import BackboneSpec
from benchmark.cli import main
from reports.analysis.published_checks import COLUMNS
from tests.commands.conftest import Command
from tests.conftest import TINY_CLIP

TEMPLATE = "a photo of a {}"
SIZE, MEAN, STD = 32, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


Predict = Callable[[torch.Tensor], torch.Tensor]


class Colours(EncoderModel):
    """Images by their mean colours after normalisation, texts by their letters and words, upper case apart: untrained."""

    size, mean, std, logit_scale = (SIZE, SIZE), MEAN, STD, 10.0

    def __init__(self, spec: BackboneSpec) -> None:
        del spec
        torch.manual_seed(0)
        self.module: Any = torch.nn.ModuleDict({"image": torch.nn.Linear(12, 16), "text": torch.nn.Embedding(4096, 16)})

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        embedded: torch.Tensor = self.module["image"](torch.nn.functional.avg_pool2d(images, SIZE // 2).flatten(1))
        return embedded

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        ids = [[(31 * ord(a) + ord(b)) % 4096 for a, b in itertools.pairwise(text)] for text in texts]
        return torch.stack([self.module["text"](torch.tensor(row)).mean(0) for row in ids])


def office(root: Path, names: Sequence[str], predict: Predict, near: float = 1.0) -> Path:
    """Images of random blocks of colour, most of them filed under the class that an encoder sees in them.

    So right settings are accurate, and a fault costs points.

    Args:
        root: where the folder is made.
        names: of the classes, sorted.
        predict: from pixels between 0 and 1 to scores of the classes.
        near: of 240 images over this the nearest to the border of a class are taken; those on it are not.
    """
    rough = np.random.default_rng(0).integers(0, 256, (round(240 / near), 3, 2, 2))
    pixels = rough.repeat(SIZE // 2, 2).repeat(SIZE // 2, 3).astype(np.uint8)
    with torch.no_grad():
        scores, labels = predict(torch.from_numpy(pixels) / 255).topk(2)
    margins = scores[:, 0] - scores[:, 1]
    taken = [i for i in margins.argsort().tolist() if margins[i] > 1e-3][:240]
    for i, label in zip(taken, labels[taken, 0].tolist(), strict=True):
        folder = root / "office" / f"env{i % 2}" / names[(label + (i % 7 == 0)) % len(names)]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[i].transpose(1, 2, 0)).save(folder / f"{i}.png")
    return root / "office"


def published(file: Path, backbone: str, accuracies: dict[str, float]) -> None:
    with file.open("w", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(COLUMNS)
        for environment, accuracy in accuracies.items():
            of = ("office", environment, "zero_shot", backbone, "", f"{accuracy:.3f}", "full", TEMPLATE, "planted", "")
            lines.writerow(of)


def reference(images: Path, embed: Predict, text: torch.Tensor) -> dict[str, float]:
    """Zero-shot accuracies in a few lines: Pillow, the encoder itself, a product."""
    found = {}
    for environment in sorted(images.iterdir()):
        right = []
        for label, folder in enumerate(sorted(environment.iterdir())):
            for file in sorted(folder.iterdir()):
                image = Image.open(file).convert("RGB")
                width, height = image.size
                scaled = image.resize((int(SIZE * width / height), SIZE), Image.Resampling.BICUBIC)
                left = round((scaled.width - SIZE) / 2)
                pixels = np.asarray(scaled.crop((left, 0, left + SIZE, SIZE)))
                z = embed(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255)
                right.append(int((z @ text.T).argmax()) == label)
        found[environment.name] = 100 * float(np.mean(right))
    return found


def checked(root: Path, images: Path, *more: str, code: int) -> dict[str, Any]:
    of_data = ["--dataset", "office", "--set", f"datasets=[{{name: office, root: {images}}}]"]
    places = ["--published", str(root / "planted.csv"), "--store", str(root / "store"), "--to", str(root / "said.json")]
    assert main(["selfcheck", *of_data, *places, "--set", "backbones.0.engine=torch", *more]) == code
    content: dict[str, Any] = json.loads((root / "said.json").read_text())
    return content


@pytest.mark.long("a planted fault of texts or pixels is named by another cause")
@pytest.mark.usefixtures("local_ray")
def test_it_passes_and_names_each_planted_fault_of_texts_and_pixels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, classes = f"{Colours.__module__}:Colours", ("Alarm_Clock", "Desk_Lamp", "Red_Cup", "Screw")
    model = Colours(BackboneSpec(name=name))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))

    def embed(pixels: torch.Tensor) -> torch.Tensor:
        return model.encode_images((pixels - mean) / std)

    texts = [TEMPLATE.format(name.replace("_", " ")) for name in classes]
    with torch.no_grad():
        text = torch.nn.functional.normalize(model.encode_texts(texts))
        images = office(tmp_path, classes, lambda pixels: embed(pixels) @ text.T)
        expected = reference(images, embed, text)
    published(tmp_path / "planted.csv", name, expected)
    found = checked(tmp_path, images, "--backbone", name, code=0)
    assert found["verdict"] == "pass"
    for environment, accuracy in expected.items():
        assert found["environments"][environment]["accuracy"] == pytest.approx(accuracy, abs=0.01)
    assert found["facts"]["versions"]["torch"] == torch.__version__
    assert str(tmp_path) not in json.dumps(found)  # it can be sent
    assert "pass: all environments" in capsys.readouterr().out

    lower, swapped = (shutil.copytree(images, tmp_path / name / "office") for name in ("lower", "swapped"))
    for folder in [*lower.glob("*/*")]:
        folder.rename(folder.with_name(folder.name.lower()))
    for file in swapped.glob("*/*/*.png"):
        Image.fromarray(np.asarray(Image.open(file).convert("RGB"))[:, :, ::-1].copy()).save(file)
    faults: dict[str, tuple[Path, list[str]]] = {
        "template": (images, ['prompts.templates=["a sketch of the {}, small"]']),
        "class-name case": (lower, []),
        "channel order": (swapped, []),
        "mean and std": (images, ["backbones.0.mean=[0.1, 0.5, 0.9]", "backbones.0.std=[0.2, 0.3, 0.2]"]),
    }
    for reason, (place, settings) in faults.items():
        found = checked(tmp_path, place, "--backbone", name, *(w for s in settings for w in ("--set", s)), code=2)
        assert (found["verdict"], found["reason"]) == ("fail", reason)
        assert f"first suspect: {reason}." in capsys.readouterr().err


@pytest.mark.usefixtures("local_ray")
def test_quick_gelu_off_is_named(tmp_path: Path) -> None:
    classes = ("cat", "dog", "hen", "pig")
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY_CLIP, "preprocess_cfg": {}}))
    torch.manual_seed(4)
    model: Any = open_clip.CLIP(**TINY_CLIP, quick_gelu=True).eval()
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim > 1:
                value.mul_(3.0)  # far from linear, so that the activation matters
        model.token_embedding.weight.mul_(10)
        model.transformer.resblocks[0].attn.out_proj.weight.mul_(10)
        model.visual.transformer.resblocks[0].mlp.c_fc.weight.mul_(2)
        model.visual.transformer.resblocks[0].mlp.c_proj.weight.mul_(5)
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    mean, std = (torch.tensor(getattr(open_clip, f"OPENAI_DATASET_{n}")).view(1, 3, 1, 1) for n in ("MEAN", "STD"))

    def embed(pixels: torch.Tensor) -> torch.Tensor:
        embedded: torch.Tensor = model.encode_image((pixels - mean) / std)
        return embedded

    with torch.no_grad():
        text = model.encode_text(open_clip.tokenize([TEMPLATE.format(c) for c in classes]), normalize=True)
        images = office(tmp_path, classes, lambda pixels: embed(pixels) @ text.T, near=0.1)
        expected = reference(images, embed, text)
    published(tmp_path / "planted.csv", "tiny", expected)
    off = ("--backbone", "tiny", "--set", f"backbones.0.folder={folder}")
    assert checked(tmp_path, images, *off, "--set", "backbones.0.quick_gelu=true", code=0)["verdict"] == "pass"
    found = checked(tmp_path, images, *off, code=2)
    assert (found["verdict"], found["reason"]) == ("fail", "QuickGELU")
    assert found["tried"][-1]["detail"] == "QuickGELU on"


def test_what_is_not_published_or_not_whole_is_one_sentence(
    tmp_path: Path, pacs_sample: Path, command: Command
) -> None:
    asked = ["selfcheck", "--set", f"datasets=[{{name: PACS, root: {pacs_sample}}}]", "--to", tmp_path / "s.json"]
    assert "--published: " in command.refused(*asked, "--published", tmp_path / "none.csv")
    assert "Unknown" in command.refused(*asked, "--backbone", "ViT-B-31 openai", "--store", tmp_path / "store")
