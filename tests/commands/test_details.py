"""Predictions in rows: they are those of the embeddings, they are what each pick counted, and files have them all."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from benchmark.cli import main
from benchmark.commands.prepare import prepared
from benchmark.common.storage import Storage
from benchmark.method.evaluation.selection import SOURCE_RULES, unpacked
from benchmark.recipe.loading import load_recipe
from benchmark.store.embeddings import chunk_size, read
from benchmark.store.records import read_record, record_files
from benchmark.store.rows import read_rows
from benchmark.store.tested import read_tested
from benchmark.store.texts import read_texts
from reports.chosen import Selections
from reports.settings import by_setting
from tests.commands.conftest import Command
from tests.conftest import make_toy

SWEEPS: dict[str, dict[str, Any]] = {
    "splits": {"protocols": ["held_out", "open_class"], "test_splits": ["in_80"], "projections": ["identity", "icm"]},
    "folds": {"folds": 3, "projections": ["identity", "icm"]},
    # Of predictors that say so, fits that only serve a choice are to 9 images of an environment, others to all.
    "some": {"test_splits": ["full"], "selection_images": 9},
}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, tiny_random: dict[str, Any], local_ray: None) -> Path:  # noqa: ARG001
    """A folder with recipes, NAME.json, that were run into its store, and their images."""
    folder = tmp_path_factory.mktemp("details")
    images = make_toy(folder / "toy", environments=3, classes=4, images=9)
    (images / "env1" / "cow" / "bad.png").write_bytes(b"no image")
    for name, sweep in SWEEPS.items():
        content = {
            "name": name,
            "datasets": [{"name": "toy", "root": str(images)}],
            "backbones": [tiny_random],
            "interventions": {"kinds": ["grayscale", "posterize"]},
            "sweep": {
                "seeds": [0],
                "projections": ["identity", "pca", "icm", "shrinkage"],
                "predictors": ["zero_shot", {"name": "linear_probe", "C": [0.316, 31.6], "max_iter": 1}],
                "lambdas": [0.3, 3],
                "ranks": [2, 9, 16],
                "normalize": ["before"],
                **sweep,
            },
            "run": {"store": str(folder / "store"), "max_bad_images": 0.1},
        }
        (folder / f"{name}.json").write_text(json.dumps(content))  # JSON is YAML
        assert main(["run", str(folder / f"{name}.json")]) == 0
    return folder


def selections_of(swept: Path, name: str) -> list[Selections]:
    storage, recipe = Storage(str(swept / "store")), load_recipe(swept / f"{name}.json")
    (file,) = record_files(storage, recipe.hash())
    rows = read_rows(storage, read_record(storage, file).trials)
    tested = read_tested(storage, rows["tested"])
    return [Selections(part, tested) for _, part in by_setting(rows)]


def files_of(swept: Path, name: str, command: Command) -> pd.DataFrame:
    """Return all predictions that the command writes of a recipe."""
    written = command.json("details", swept / f"{name}.json")
    every = pd.concat([pq.read_table(file).to_pandas() for file in written["files"]], ignore_index=True)
    assert len(every) == written["predictions"]
    return every


@pytest.mark.parametrize("name", SWEEPS)
def test_each_pick_has_predictions_that_are_right_where_its_row_says(swept: Path, name: str, command: Command) -> None:
    every = files_of(swept, name, command).drop_duplicates()  # of base and new classes together those of each again
    every["right"] = every["class"] == every["predicted"]
    seen = 0
    for selections in selections_of(swept, name):
        for method, rows in selections.parts.items():
            for rule in SOURCE_RULES:
                picks = selections.picks(method, rule).to_dict("records")
                for pick in picks:
                    row = {str(k): v for k, v in rows.iloc[pick["position"]].items()}
                    bits = unpacked(row)[row["ranks"].index(pick["rank"])]
                    same = (every["method"] == method.label) & (every["rule"] == rule)
                    for column in ("held_out", "seed", "fold"):
                        same &= every[column] == pick[column]
                    of_half = every[same & (every["half"] == row["class_half"])]
                    if row["class_half"] == "harmonic":
                        of_half = every[same & every["half"].isin(["base", "new"])]
                    assert of_half["right"].tolist() == bits.tolist(), (method.label, rule, pick["held_out"])
                    seen += 1
    assert seen > 30


def test_zero_shot_predictions_and_margins_are_those_of_the_embeddings(swept: Path, command: Command) -> None:
    with prepared(load_recipe(swept / "folds.json"), lambda _: None) as run:
        (subject,) = run.subjects
        table = subject.manifest.table.to_pandas()
        table = table[~table["path"].str.endswith("bad.png")]
        ids = table["image_id"].tolist()
        distinct = {id_: i for i, id_ in enumerate(subject.manifest.table["image_id"].to_pylist())}
        chunks = np.array([distinct[id_] for id_ in ids]) // chunk_size(len(distinct))
        z, text = read(run.storage, subject.views[0], ids, chunks), read_texts(run.storage, subject.texts)
    cosine = (z / np.linalg.norm(z, axis=1, keepdims=True)) @ text.T
    every = files_of(swept, "folds", command)
    plain = every[(every["method"] == "Zero-shot") & (every["rule"] == "lodo")].set_index("image_id")
    assert sorted(plain.index) == sorted(ids)  # of folds each image is tested once
    classes = np.array(subject.manifest.classes)
    assert plain.loc[ids, "predicted"].tolist() == classes[cosine.argmax(axis=1)].tolist()
    assert plain.loc[ids, "path"].tolist() == table["path"].tolist()
    assert plain.loc[ids, "environment"].tolist() == table["environment"].tolist()
    second, best = np.sort(cosine, axis=1)[:, -2:].T
    margins = plain.loc[ids, "margin"].to_numpy()
    factor = margins.max() / (best - second)[margins.argmax()]
    assert factor > 1  # the backbone's factor on similarities
    np.testing.assert_allclose(margins, factor * (best - second), rtol=1e-4, atol=1e-4)


def test_how_well_environments_are_read_stands_in_rows_of_methods_that_project(swept: Path) -> None:
    for selections in selections_of(swept, "some"):
        rows = selections.rows
        read_ = rows[rows["read_before"].notna()]
        assert set(read_["projection"]) == {"pca", "icm", "shrinkage"}
        assert read_["read_before"].nunique() == 1  # whoever projects, the embeddings are the same
        assert set(read_["read_chance"]) == {1 / 3}
        assert all(0 <= value <= 1 for values in read_["read_after"] for value in values)


@pytest.mark.parametrize("name", SWEEPS)
def test_a_plan_states_the_bytes_of_predictions(swept: Path, name: str, command: Command) -> None:
    rows = pd.concat([selections.rows for selections in selections_of(swept, name)])
    there = rows[["predicted", "margins"]].dropna()
    count = there.map(len).to_numpy().sum()
    stated = command.json("plan", swept / f"{name}.json")["prediction_bytes"]
    # At most, and not much more: rules often pick the same row, and rarely one that has no further setting.
    assert count <= 1.05 * stated < 4 * count  # splits of few images are rounded
