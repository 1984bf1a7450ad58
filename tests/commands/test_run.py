"""The whole job on real images with the real demo encoder: four columns, nothing twice, byte-equal tables."""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import benchmark
from benchmark.commands.preparing.prepare import prepare
from benchmark.commands.report import Outcome
from benchmark.commands.stores import open_store
from benchmark.method.evaluation.selection import RULES
from benchmark.recipe.loading import load_recipe
from benchmark.recipe.recipe import Recipe
from benchmark.store import embeddings as store
from benchmark.store.embeddings import read_texts
from tests.conftest import some_of

pytestmark = [
    pytest.mark.long("the accuracies of a real encoder are not those of NumPy on its embeddings"),
    pytest.mark.usefixtures("local_ray", "demo_set"),
]

NAMES = ("art_painting", "cartoon", "photo", "sketch")
RECIPE = """\
name: pacs-sample
datasets:
  - {name: PACS, root: ROOT}
backbones:
  - {name: MiniLiT, image_size: 128}
interventions:
  kinds: [grayscale]
sweep:
  test_splits: [full]
  seeds: [0, 1]
  lambdas: [1]
  ranks: [32, 256]
  normalize: [before]
  predictors: [zero_shot, {name: linear_probe, C: [3.16, 31.6]}]
  projections: [identity, icm, {name: shrinkage, lambdas: [10]}]
"""


def recipe_in(folder: Path, root: Path, **overrides: Any) -> Recipe:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "recipe.yaml"
    file.write_text(RECIPE.replace("ROOT", str(root)))
    return load_recipe(file, {"run.store": str(folder / "store"), **overrides})


def table(outcome: Outcome, name: str = "environments") -> list[dict[str, str]]:
    with (Path(outcome.report) / f"tables/{name}.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, pacs_sample: Path) -> Path:
    """Twelve images of each class and environment of the sample."""
    root = tmp_path_factory.mktemp("photos")
    some_of(pacs_sample / "PACS", 12, root / "PACS")
    return root


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, photos: Path, local_ray: None) -> tuple[Recipe, Outcome]:  # noqa: ARG001
    recipe = recipe_in(tmp_path_factory.mktemp("first"), photos)
    return recipe, benchmark.run(recipe)


def test_four_columns_of_real_numbers(first: tuple[Recipe, Outcome]) -> None:
    _, outcome = first
    assert (outcome.embedded, outcome.rejected) == (672, {})
    lines = table(outcome)
    plain, probe = (
        {line["column"]: float(line["value"]) for line in lines if line["line"] == method and line["unit"] == "%"}
        for method in ("Zero-shot", "Linear probe")
    )
    assert set(plain) == {"art_painting", "cartoon", "photo", "sketch", "average", "worst environment"}
    assert {line["rule"] for line in lines} == {"lodo_1se"}
    assert {line["rule"] for line in table(outcome, "metrics")} == set(RULES)
    # A real encoder on real photos of 7 classes, where chance is 14 and its standard error 3.8 points.
    assert plain["photo"] > 25
    assert probe["photo"] > 40
    assert plain["average"] == pytest.approx(np.mean([plain[name] for name in NAMES]), abs=0.06)
    assert plain["worst environment"] == min(plain[name] for name in NAMES)
    whole = [line for line in lines if line["value"] and line["unit"]]
    assert all(line["n_images"] and line["seeds"] == "0 1" and line["test_split"] for line in whole)


def test_plain_zero_shot_equals_a_few_lines_of_numpy(first: tuple[Recipe, Outcome]) -> None:
    recipe, outcome = first
    storage = open_store(recipe)
    (source,) = prepare(recipe, storage, lambda _: None).subjects
    manifest = source.manifest
    z = store.read(storage, source.views[0], manifest.table["image_id"].to_pylist())
    correct = (z @ read_texts(storage, source.texts).T).argmax(axis=1) == manifest.table["label"].to_numpy()
    for line in table(outcome):
        if line["line"] == "Zero-shot" and line["column"] in NAMES:
            rows = manifest.environment_index == manifest.environments.index(line["column"])
            assert float(line["value"]) == pytest.approx(100 * correct[rows].mean(), abs=0.06)


def test_a_second_run_does_nothing_twice_and_writes_the_same_bytes(first: tuple[Recipe, Outcome]) -> None:
    recipe, outcome = first
    before = {p: p.read_bytes() for p in Path(outcome.report).rglob("*") if p.is_file()}
    assert len(before) > 20
    rows = {file: file.stat().st_mtime_ns for file in Path(recipe.run.store or "", "rows").iterdir()}
    again = benchmark.run(recipe)
    assert (again.embedded, again.reused) == (0, 672)
    assert {file: file.stat().st_mtime_ns for file in rows} == rows
    assert {p: p.read_bytes() for p in Path(again.report).rglob("*") if p.is_file()} == before


def test_rows_made_anew_give_byte_equal_tables_and_another_seed_other_numbers(
    first: tuple[Recipe, Outcome], tmp_path: Path, photos: Path
) -> None:
    recipe, outcome = first
    for kept in ("embeddings", "texts"):
        shutil.copytree(Path(recipe.run.store or "", kept), tmp_path / "store" / kept)
    fresh = benchmark.run(recipe_in(tmp_path, photos))
    assert fresh.embedded == 0
    kinds = {".csv", ".md", ".tex", ".json", ".html"}
    names = [p.relative_to(outcome.report) for p in Path(outcome.report).rglob("*") if p.suffix in kinds]
    names.remove(Path("made.json"))  # the hash of all columns of the rows, of which some name the run
    assert len(names) > 15
    for name in names:
        assert (Path(fresh.report) / name).read_bytes() == (Path(outcome.report) / name).read_bytes(), name
    other = benchmark.run(recipe_in(tmp_path, photos, **{"sweep.seeds": [7, 8], "sweep.projections": ["identity"]}))
    of_probe, of_other = (
        [line["value"] for line in table(one) if line["line"] == "Linear probe"] for one in (outcome, other)
    )
    assert of_probe != of_other
