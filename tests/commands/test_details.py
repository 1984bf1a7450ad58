"""Predictions in rows: they are those of the embeddings, they are what each pick counted, and files have them all."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy.stats import hmean
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from benchmark.cli import main
from benchmark.commands.preparing.prepare import prepared
from benchmark.common.storage.files import Storage
from benchmark.method.arrays import Array
from benchmark.method.evaluation.metrics import Metric
from benchmark.method.evaluation.selection import SOURCE_RULES, unpacked
from benchmark.recipe.loading import load_recipe
from benchmark.store.embeddings import chunk_size, read, read_texts
from benchmark.store.records import read_record, record_files
from benchmark.store.rows import read_rows
from benchmark.store.tested import read_tested
from reports.analysis.metrics import metrics_of
from reports.analysis.selections import Predicted, Selections
from reports.analysis.settings import by_setting
from tests.commands.conftest import Command
from tests.conftest import make_toy

OWN = ("tests.commands.own_f1:MacroF1", "tests.commands.own_auroc:Auroc")
SWEEPS: dict[str, dict[str, Any]] = {
    "splits": {"protocols": ["held_out", "open_class"], "test_splits": ["in_80"], "projections": ["identity", "icm"]},
    "folds": {"folds": 3, "projections": ["identity", "icm"]},
    # Of predictors that say so, fits that only serve a choice are to 8 images of an environment, others to all.
    "some": {"test_splits": ["full"], "selection_images": 2},
}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, tiny_random: dict[str, Any], local_ray: None) -> Path:  # noqa: ARG001
    """A folder with recipes, NAME.json, that were run into its store, and their images."""
    folder = tmp_path_factory.mktemp("details")
    images = make_toy(folder / "toy", environments=4, classes=4, images=9)
    (images / "env1" / "cow" / "bad.png").write_bytes(b"no image")
    for name, sweep in SWEEPS.items():
        content = {
            "name": name,
            "datasets": [{"name": "toy", "root": str(images), "metric": "macro_f1"}],
            "backbones": [tiny_random],
            "interventions": {"kinds": ["grayscale", "posterize"]},
            "sweep": {
                "seeds": [0],
                "projections": ["identity", "pca", "icm", "shrinkage"],
                "predictors": ["zero_shot", {"name": "linear_probe", "C": [0.316, 31.6], "max_iter": 1}],
                "lambdas": [0.3, 3],
                "ranks": [2, 9, 16],
                "normalize": ["before"],
                "metrics": OWN,
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
    predicted = Predicted(rows)
    return [Selections(part, tested, predicted, recipe.metrics) for _, part in by_setting(rows)]


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
        for method in selections.parts:
            for rule in SOURCE_RULES:
                picks = selections.picks(method, rule).frame().to_dict("records")
                rows = selections.chosen_rows(method, rule, ["correct", "ranks", "n_test", "class_half"])
                for pick, of_pick in zip(picks, rows.frame().to_dict("records"), strict=True):
                    row = {str(name): value for name, value in of_pick.items()}
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


def similarities(swept: Path) -> tuple[pd.DataFrame, Array, list[str], float]:
    """Return the images, their cosines with the texts, the classes, and the factor on these of the backbone."""
    with prepared(load_recipe(swept / "folds.json"), lambda _: None) as run:
        (subject,) = run.subjects
        table = subject.manifest.table.to_pandas()
        table = table[~table["path"].str.endswith("bad.png")]
        ids = table["image_id"].tolist()
        distinct = {id_: i for i, id_ in enumerate(subject.manifest.table["image_id"].to_pylist())}
        chunks = np.array([distinct[id_] for id_ in ids]) // chunk_size(len(distinct))
        z = read(run.storage, subject.views[0], ids, chunks).astype(np.float64)
        text = read_texts(run.storage, subject.texts).astype(np.float64)
        scale = subject.facts.logit_scale
    z, text = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (z, text))
    return table, z @ text.T, subject.manifest.classes, scale


def test_zero_shot_predictions_and_margins_are_those_of_the_embeddings(swept: Path, command: Command) -> None:
    table, cosine, names, _ = similarities(swept)
    ids, classes = table["image_id"].tolist(), np.array(names)
    every = files_of(swept, "folds", command)
    plain = every[(every["method"] == "Zero-shot") & (every["rule"] == "lodo")].set_index("image_id")
    assert sorted(plain.index) == sorted(ids)  # of folds each image is tested once
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
        assert set(read_["read_chance"]) == {1 / 4}
        assert all(0 <= value <= 1 for values in read_["read_after"] for value in values)


@pytest.mark.parametrize("name", SWEEPS)
def test_a_plan_states_the_bytes_of_predictions(swept: Path, name: str, command: Command) -> None:
    rows = pd.concat([selections.rows for selections in selections_of(swept, name)])
    there = rows[["predicted", "margins"]].dropna()
    count = there.map(len).to_numpy().sum()
    stated = command.json("plan", swept / f"{name}.json", "--plugins")["prediction_bytes"]
    # At most, and not much more: rules often pick the same row, and rarely one that has no further setting.
    assert count <= 1.05 * stated < 4 * count  # splits of few images are rounded


def of_title(selections: Selections, title: str) -> Metric:
    (metric,) = (one for one in selections.metrics if one.title == title)
    return metric


@pytest.mark.parametrize("name", SWEEPS)
def test_metrics_of_predictions_are_those_of_scikit_learn_on_the_files(
    swept: Path, name: str, command: Command
) -> None:
    every, seen = files_of(swept, name, command).drop_duplicates(), 0
    for selections in selections_of(swept, name):
        half = selections.rows["class_half"].iloc[0]
        halves = ["base", "new"] if half == "harmonic" else [half]
        for by, one in [(rule, m) for rule in SOURCE_RULES for m in metrics_of(selections, rule)]:
            own = every[(every["method"] == one.method.label) & (every["rule"] == by)]
            for title, present in (("macro-F1", True), ("my F1", False)):
                expected = []
                for held_out in selections.held_outs:
                    parts = [own[(own["held_out"] == held_out) & (own["half"] == part)] for part in halves]
                    of_halves = [
                        f1_score(
                            part["class"], part["predicted"], average="macro",
                            labels=sorted(set(part["class"]) | (set() if present else set(part["predicted"]))),
                        )
                        for part in parts
                    ]  # fmt: skip
                    expected.append(hmean(of_halves))
                found = one.of(of_title(selections, title))
                assert found == pytest.approx(100 * np.mean(expected), abs=1e-10)
                seen += 1
    assert seen > 10


def test_metrics_of_scores_are_those_of_scikit_learn_on_logits_of_the_embeddings(swept: Path) -> None:
    table, cosine, classes, scale = similarities(swept)
    label = np.array([classes.index(name) for name in table["class_name"]])
    logits = scale * cosine
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    expected: dict[str, list[float]] = {"top-5": [], "NLL": [], "AUROC": [], "my AUROC": []}
    for environment in sorted(set(table["environment"])):
        there = (table["environment"] == environment).to_numpy()
        area = roc_auc_score(label[there], p[there], multi_class="ovr", average="macro")
        expected["AUROC"].append(100 * area)
        expected["my AUROC"].append(100 * area)
        expected["NLL"].append(log_loss(label[there], p[there]))
        expected["top-5"].append(100.0)  # of four classes
    (selections,) = selections_of(swept, "some")
    for one in metrics_of(selections, "lodo"):
        found = {title: one.of(of_title(selections, title)) for title in expected}
        assert None not in found.values(), one.method
        if one.method.label == "Zero-shot":
            for title, values in expected.items():
                assert found[title] == pytest.approx(np.mean(values), abs=1e-10), title
    for one in metrics_of(selections, "oracle"):
        assert {one.of(of_title(selections, title)) for title in (*expected, "macro-F1", "my F1")} == {None}


def test_tables_and_verdicts_show_metrics_and_that_of_the_data_set(swept: Path) -> None:
    (selections,) = selections_of(swept, "some")
    (report,) = (swept / "store" / "reports").glob("some-*")
    found = {one.method.label: one for one in metrics_of(selections, "lodo")}
    with (report / "tables" / "metrics.csv").open(newline="") as file:
        lines = {line["method"]: line for line in csv.DictReader(file) if line["rule"] == "lodo"}
    for heading in ("macro_f1", "my_f1", "auroc", "my_auroc", "top5_accuracy", "nll"):
        (metric,) = (one for one in selections.metrics if one.heading == heading)
        assert {name: line[heading] for name, line in lines.items()} == {
            name: f"{one.of(metric):.4f}" for name, one in found.items()
        }
    judged = metrics_of(selections, selections.rule)
    expected = {one.method.label: one.of(of_title(selections, "macro-F1")) or 0 for one in judged}
    with (report / "tables" / "main.csv").open(newline="") as file:
        shown = [line for line in csv.DictReader(file) if line["column"] == "toy, macro-F1"]
    assert {line["line"]: float(line["value"]) for line in shown}.items() <= {
        n: round(v, 6) for n, v in expected.items()
    }.items()
    with (report / "tables" / "verdicts.csv").open(newline="") as file:
        (of_icm,) = [line for line in csv.DictReader(file) if line["method"] == "CLIP-ICM + zero-shot"]
    assert (of_icm["metric"], of_icm["rule"]) == ("macro-F1", "lodo_1se")
    for column, name in (("plain", "Zero-shot"), ("value", "CLIP-ICM + zero-shot")):
        assert float(of_icm[column]) == pytest.approx(expected[name], abs=1e-5)
