"""A folded checkpoint of the demo's encoder, by open_clip alone, gives the answers of the row that it was exported for."""

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

import benchmark
from benchmark.commands.preparing.prepare import prepare
from benchmark.commands.stores import open_store
from benchmark.method.evaluation.selection import unpacked
from benchmark.recipe.loading import load_recipe
from benchmark.store.rows import read_rows
from benchmark.store.tested import read_tested
from benchmark.sweep.trials import trials_of
from tests.commands.conftest import Command
from tests.conftest import some_of

pytestmark = [
    pytest.mark.long("a folded checkpoint predicts other than the row that it was exported for"),
    pytest.mark.usefixtures("local_ray"),
]

HELD_OUT = "openmoji"
RECIPE = """\
name: folded
datasets: [{name: emoji, root: ROOT}]
backbones: [{name: MiniLiT, image_size: 96}]
interventions: {kinds: [grayscale]}
sweep:
  test_splits: [full]
  seeds: [0]
  normalize: [before]
  projections: [{name: shrinkage, nuisance: both, lambdas: [0, 10]}, {name: shrinkage, sides: images, lambdas: [10]}, pca]
  predictors: [zero_shot]
"""
LABEL = "shrinkage(nuisance=both)"
EVALUATED = {"sweep.projections": [{"name": "shrinkage", "nuisance": "both", "lambdas": [0, 10]}]}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, demo_set: Path, local_ray: None) -> Path:  # noqa: ARG001
    """The recipe of a finished run on ten images of each class and environment of the demo, in a folder `images`."""
    folder = tmp_path_factory.mktemp("folded")
    images = some_of(demo_set, 10, folder / "images")
    file = folder / "recipe.yaml"
    file.write_text(RECIPE.replace("ROOT", str(images)) + f"run: {{store: {folder / 'store'}}}\n")
    benchmark.run(load_recipe(file, EVALUATED))
    return file


def answers_of_rows(file: Path) -> tuple[dict[float, np.ndarray], np.ndarray, np.ndarray, list[str]]:
    """Return, for the held-out environment: lambda -> which answers are correct, the labels, positions, and paths."""
    recipe = load_recipe(file, EVALUATED)
    storage = open_store(recipe)
    (subject,) = prepare(recipe, storage, lambda _: None).subjects
    rows = read_rows(storage, [trial.id for trial in trials_of(recipe, [subject])])
    rows = rows[rows["held_out"] == HELD_OUT]
    (tested,) = read_tested(storage, rows["tested"]).values()
    records: list[dict[str, Any]] = [{str(k): v for k, v in row.items()} for row in rows.to_dict("records")]
    correct = {row["lambda_"]: unpacked(row)[-1] for row in records}
    return correct, tested.label, tested.position, subject.manifest.table["path"].to_pylist()


@torch.inference_mode()
def predictions(name: str, paths: list[Path], texts: list[str], **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Zero-shot as open_clip's own page does it; also by how much the first class is ahead of the second."""
    model, _, preprocess = open_clip.create_model_and_transforms(name, **options)
    images = torch.stack([preprocess(Image.open(path)) for path in paths])
    tokens = open_clip.get_tokenizer(name)(texts)
    cosine = model.eval().encode_image(images, normalize=True) @ model.encode_text(tokens, normalize=True).T
    first_two = cosine.topk(2, dim=1).values
    return cosine.argmax(dim=1).numpy(), (first_two[:, 0] - first_two[:, 1]).numpy()


def test_the_checkpoint_answers_as_the_row_does(done: Path, tmp_path: Path, command: Command) -> None:
    which = ["--projection", LABEL, "--lambda", "10", "--without", HELD_OUT, "--fold"]
    assert "cosines are equal" in command("export", done, *which, "--to", tmp_path / "folded").out
    correct, label, position, relative = answers_of_rows(done)
    paths = [done.parent / "images" / relative[i] for i in position]
    texts = [f"a photo of a {name}." for name in sorted({path.parent.name for path in paths})]
    predicted, ahead = predictions(f"local-dir:{tmp_path / 'folded'}", paths, texts)
    sure = ahead > 1e-5  # of the others rounding decides
    assert sure.mean() > 0.95
    np.testing.assert_array_equal((predicted == label)[sure], correct[10.0][sure])
    assert (correct[10.0] != correct[0.0]).any()  # so that plain answers would not pass


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--projection", "shrinkage(sides=images)", "--nuisance", "both", "--fold"], "is not a single square map"),
        (["--projection", "pca", "--rank", "64", "--fold"], "pca at rank 64 is not a single square map"),
        (["--projection", "pca", "--fold"], "--rank is needed"),
        (["--projection", LABEL, "--lambda", "10", "--fold", "--to", "."], "is there and not empty; name a folder"),
    ],
)  # fmt: skip
def test_what_cannot_be_folded_is_one_sentence(done, options, sentence, command, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").touch()
    assert sentence in command.refused("export", done, *options)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
