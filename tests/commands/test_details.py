"""Predictions of the picks: they are the rows' answers, for trained predictors too, or they are refused by a sentence."""

import base64
import contextlib
import dataclasses
import gzip
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.commands import details
from benchmark.commands.details import details_stage
from benchmark.commands.prepare import Run, prepared
from benchmark.commands.sweep import sweep_stage
from benchmark.common.storage import Storage
from benchmark.method.evaluation.metrics import ACCURACY
from benchmark.method.evaluation.selection import unpacked
from benchmark.recipe.loading import load_recipe
from benchmark.store.details import Details, Part, Pick, read_details, write_details
from benchmark.store.embeddings import chunk_size, read
from benchmark.store.records import read_record, record_files
from benchmark.store.rows import read_rows
from benchmark.store.tested import read_tested
from benchmark.store.texts import read_texts
from benchmark.sweep import answers
from benchmark.sweep.answers import AnswersDifferError
from benchmark.sweep.refits import Work, refit
from reports.chosen import Selections
from reports.details import parts_of
from reports.settings import by_setting
from tests.conftest import make_toy

pytestmark = [
    pytest.mark.long("predictions in the details are not those that the row counted"),
    pytest.mark.usefixtures("local_ray"),
]

SWEEPS: dict[str, dict[str, Any]] = {
    "splits": {"protocols": ["held_out", "open_class"], "test_splits": ["in_80"], "projections": ["identity", "icm"]},
    "folds": {"folds": 3, "projections": ["identity", "icm"]},
    # Of predictors that say so, fits that only serve a choice are to 9 images of an environment, others to all.
    "some": {"test_splits": ["full"], "selection_images": 9},
}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, tiny_random: dict[str, Any], local_ray: None) -> Path:  # noqa: ARG001
    """A folder with recipes, NAME.json, that were swept into its store, and their images."""
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
                # One step from where it starts: its answers tell from where, as those of large problems do a little.
                "predictors": ["zero_shot", {"name": "linear_probe", "C": [0.316, 31.6], "max_iter": 1}],
                "lambdas": [0.3, 3],
                "ranks": [2, 9, 16],
                "normalize": ["before"],
                **sweep,
            },
            "run": {"store": str(folder / "store"), "max_bad_images": 0.1},
        }
        (folder / f"{name}.json").write_text(json.dumps(content))  # JSON is YAML
        with prepared(load_recipe(folder / f"{name}.json"), lambda _: None) as run:
            if name == "splits":
                from benchmark.commands.embed import embed_stage

                embed_stage(run)
            sweep_stage(run)
    return folder


@pytest.fixture
def copied(swept: Path, tmp_path: Path) -> Path:
    """A copy of the store without details."""
    return shutil.copytree(swept / "store", tmp_path / "store", ignore=shutil.ignore_patterns("details"))


@pytest.fixture(scope="module")
def whole(swept: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the store with the details of all recipes, and what the command printed of each, NAME.out."""
    store = shutil.copytree(swept / "store", tmp_path_factory.mktemp("whole") / "store")
    for name in SWEEPS:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            assert main(["details", str(swept / f"{name}.json"), "--store", str(store), "--json"]) == 0
        (store.parent / f"{name}.out").write_text(out.getvalue())
    return store


def with_run(swept: Path, name: str, store: Path, work: Callable[[Run], Any]) -> Any:
    with prepared(load_recipe(swept / f"{name}.json", {"run.store": str(store)}), lambda _: None) as run:
        return work(run)


def rows_of(swept: Path, name: str, store: Path) -> pd.DataFrame:
    storage, recipe = Storage(str(store)), load_recipe(swept / f"{name}.json")
    (file,) = record_files(storage, recipe.hash())
    return read_rows(storage, read_record(storage, file).trials)


def selections_of(swept: Path, name: str, store: Path) -> list[tuple[Selections, list[Part]]]:
    rows = rows_of(swept, name, store)
    tested = read_tested(Storage(str(store)), rows["tested"])
    every = [(setting, Selections(part, tested)) for setting, part in by_setting(rows)]
    return [(selections, parts_of(setting, selections)) for setting, selections in every]


def found(store: Path, part: Part) -> Details:
    of_part = read_details(Storage(str(store)), part)
    assert of_part is not None
    return of_part


def files_in(store: Path) -> dict[str, bytes]:
    folder = store / "details"
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


@pytest.mark.parametrize("name", SWEEPS)
def test_predictions_have_every_picked_accuracy_and_the_bits_of_its_row(swept: Path, whole: Path, name: str) -> None:
    copied, written = whole, json.loads((whole.parent / f"{name}.out").read_text())
    rows, lines, parts_seen = rows_of(swept, name, copied), 0, 0
    for selections, parts in selections_of(swept, name, copied):
        by_label = {method.label: method for method in selections.parts}
        for part in parts:
            parts_seen += 1
            details = found(copied, part)
            frame = details.predictions.to_pandas()
            right = frame["class"].astype(str) == np.array(details.classes)[frame["predicted"]]
            keys = ["rule", "held_out", "seed", "fold"]
            for (rule, *key), of_pick in frame.groupby(keys, observed=True):
                picks = selections.picks(by_label[part.method], rule)
                (pick,) = [p for p in picks.to_dict("records") if [p["held_out"], p["seed"], p["fold"]] == key]
                position = selections.parts[by_label[part.method]].iloc[pick["position"]]
                row = {str(k): v for k, v in position.items()}
                bits = unpacked(row)[row["ranks"].index(pick["rank"])]
                assert right[of_pick.index].tolist() == bits.tolist()
                if row["class_half"] != "harmonic":
                    assert right[of_pick.index].mean() == pytest.approx(pick[ACCURACY.name], abs=1e-12)
                lines += 1
            assert set(frame["method"]) == {part.method}
            assert frame["image_id"].str.len().eq(64).all()
            assert frame["group"].isna().all()
    predictors = {p.predictor for _, parts in selections_of(swept, name, copied) for p in parts}
    assert predictors == {"zero_shot", "linear_probe"}
    assert written["parts"] == written["written"] == parts_seen == len(written["files"])
    assert lines > len(rows["held_out"].unique()) * 4


def picks_of(rows: pd.DataFrame) -> list[Pick]:
    """Return all ranks of rows as if each was picked."""
    return [
        Pick(
            rule="lodo", trial=row["trial_id"], **{n: row[n] for n in ("held_out", "seed", "fold", "test_split", "class_half")},
            rank=rank, lambda_=None if pd.isna(row["lambda_"]) else row["lambda_"],
            projection_params=row["projection_params"], predictor_params=row["predictor_params"],
            tested=row["tested"], correct=np.packbits(correct).tobytes(), n=len(correct),
        )
        for row in ({str(k): v for k, v in record.items()} for record in rows.to_dict("records"))
        for rank, correct in zip(row["ranks"], unpacked(row), strict=True)
    ]  # fmt: skip


@pytest.mark.parametrize("name", SWEEPS)
def test_a_probe_starts_where_it_started_whatever_is_picked(
    swept: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each lambda, C and rank of each test by itself; from another start most would have other answers."""
    rows = rows_of(swept, name, swept / "store")
    rows = rows[(rows["projection"] == "icm") & (rows["predictor"] == "linear_probe")]

    def refitted(run: Run) -> int:
        trials = {trial.id: trial for trial in details._every_trial(run)}
        tried, by_trial = 0, rows.groupby("trial_id")
        for id_, of_trial in [*by_trial][:3]:
            trial, picks = trials[str(id_)], picks_of(of_trial)
            splits = {trial.subject.key: (trial.spec.split,)}
            for pick in picks[:: max(1, len(picks) // 20)]:
                refit(run.storage, Work(trial, (pick,), (False,), (False,)), splits)  # raises where answers differ
                tried += 1
        return tried

    assert with_run(swept, name, swept / "store", refitted) > 15
    if name != "some":
        monkeypatch.setattr(answers._Notes, "ranks", lambda notes, problem, ranks: _wanted(notes, problem, ranks))
        with pytest.raises(AnswersDifferError, match="answers differ"):
            with_run(swept, name, swept / "store", refitted)


def _wanted(notes: Any, problem: Any, ranks: Any) -> list[int]:  # noqa: ARG001
    return [rank for rank in ranks if any(spot[3] == rank for spot in notes.wanted)]


def test_zero_shot_predictions_and_margins_are_those_of_the_embeddings(swept: Path, whole: Path) -> None:
    def work(run: Run) -> tuple[np.ndarray, np.ndarray, list[str]]:
        (subject,) = run.subjects
        table = subject.manifest.table.to_pandas()
        table = table[~table["path"].str.endswith("bad.png")]
        ids = table["image_id"].tolist()
        distinct = {id_: i for i, id_ in enumerate(subject.manifest.table["image_id"].to_pylist())}
        chunks = np.array([distinct[id_] for id_ in ids]) // chunk_size(len(distinct))
        z = read(run.storage, subject.views[0], ids, chunks)
        return z, read_texts(run.storage, subject.texts), ids

    z, text, ids = with_run(swept, "folds", whole, work)
    cosine = (z / np.linalg.norm(z, axis=1, keepdims=True)) @ text.T
    ((selections, parts),) = selections_of(swept, "folds", whole)
    assert len(selections.parts) >= len(parts) == 4
    (part,) = [p for p in parts if not p.projects and p.predictor == "zero_shot"]
    frame = found(whole, part).predictions.to_pandas()
    frame = frame[frame["rule"] == "lodo"].set_index("image_id")
    assert sorted(frame.index) == sorted(ids)  # of folds each image is tested once
    second, best = np.sort(cosine, axis=1)[:, -2:].T
    assert frame.loc[ids, "predicted"].tolist() == cosine.argmax(axis=1).tolist()
    margins = frame.loc[ids, "margin"].to_numpy()
    factor = margins.max() / (best - second)[margins.argmax()]
    assert factor > 1  # the backbone's factor on similarities
    np.testing.assert_allclose(margins, factor * (best - second), rtol=1e-4, atol=1e-4)


def assert_equal(copied: Path, whole: Path) -> None:
    """Assert that a store has the details of the recipe `some` and no others, byte for byte those of the whole one."""
    said = json.loads((whole.parent / "some.out").read_text())
    mine, theirs = files_in(copied), files_in(whole)
    assert {f"details/{name}" for name in mine if "/" not in name} == set(said["files"])
    keys = {name.partition(".")[0].partition("/")[0] for name in mine}
    assert mine == {
        name: content for name, content in theirs.items() if name.partition(".")[0].partition("/")[0] in keys
    }


@pytest.mark.parametrize("predictor", ["zero_shot", "linear_probe"])
def test_answers_that_are_not_those_of_the_rows_are_refused(
    swept: Path, copied: Path, capsys: pytest.CaptureFixture[str], predictor: str
) -> None:
    rows = rows_of(swept, "some", copied)
    trial = rows[(rows["predictor"] == predictor) & (rows["projection"] == "identity")]["trial_id"].iloc[0]
    file = copied / "rows" / f"{trial}.parquet"
    table = pq.read_table(file)
    bits = [bytes([b[0] ^ 0b10000000, *b[1:]]) for b in table["correct"].to_pylist()]
    place = table.column_names.index("correct")
    pq.write_table(table.set_column(place, table.schema.field(place), pa.array(bits)), file)
    assert main(["details", str(swept / "some.json"), "--store", str(copied)]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"icm-bench: The trial {trial} (toy, tiny")
    assert "1 of 36 answers differ; delete rows/" in said
    written = {part.method: (copied / part.file).exists() for _, parts in selections_of(swept, "some", copied) for part in parts}  # fmt: skip
    assert sorted(written.values()) == [False] + [True] * 7  # the others are there


def test_what_was_interrupted_goes_on_and_ends_with_equal_bytes(
    swept: Path, copied: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrote: list[str] = []

    def interrupted(storage: Storage, part: Part, of_part: Details) -> None:
        if len(wrote) == 3:
            raise KeyboardInterrupt
        wrote.append(part.file)
        write_details(storage, part, of_part)

    with monkeypatch.context() as patched:
        patched.setattr(details, "write_details", interrupted)
        with pytest.raises(KeyboardInterrupt):
            with_run(swept, "some", copied, details_stage)
    times = {name: (copied / name).stat().st_mtime_ns for name in wrote}
    again = with_run(swept, "some", copied, details_stage)
    assert again.written == again.parts - 3
    assert {name: (copied / name).stat().st_mtime_ns for name in wrote} == times
    assert_equal(copied, whole)


def test_several_processes_write_the_same(swept: Path, copied: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("benchmark.sweep.work._OF_A_PROCESS", 1)
    for room in ("commands.details", "sweep.work"):
        monkeypatch.setattr(f"benchmark.{room}.cores", lambda: 2)
    with_run(swept, "some", copied, details_stage)
    assert_equal(copied, whole)


def test_rows_that_change_are_other_files_and_nothing_is_done_twice(
    swept: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["details", str(swept / "some.json"), "--store", str(whole)]) == 0
    head, *files = capsys.readouterr().out.splitlines()
    said = json.loads((whole.parent / "some.out").read_text())
    assert head == "Predictions of 8 methods of settings, 0 of them written now:"
    assert files == [*said["files"], "Maps of images:", *said["maps"]]
    assert all((whole / file).exists() for file in said["files"] + said["maps"])
    part = selections_of(swept, "some", whole)[0][1][0]
    (first, *others), storage = part.picks, Storage(str(whole))
    wrong = dataclasses.replace(first, correct=bytes([first.correct[0] ^ 1, *first.correct[1:]]))
    for picks in (tuple(others), (wrong, *others)):
        other = dataclasses.replace(part, picks=picks)
        assert other.file != part.file
        assert read_details(storage, other) is None


def test_the_map_and_how_well_environments_are_read(swept: Path, whole: Path) -> None:
    maps, every = 0, [pair for name in SWEEPS for pair in selections_of(swept, name, whole)]
    for selections, parts in every:
        protocol = selections.rows["protocol"].iloc[0]
        for part in parts:
            of_part = found(whole, part)
            if not part.projects or protocol == "in_domain":
                assert (of_part.map, of_part.decoded) == (None, ())
                continue
            maps += 1
            assert of_part.map is not None
            frame = of_part.map.to_pandas()
            assert list(frame.columns) == ["id", "path", "class", "environment", "x", "y", "x_after", "y_after"]
            assert len(frame) == 108
            assert frame["path"].str.split("/").str[0].tolist() == frame["environment"].tolist()
            assert not frame.isna().any().any()
            # Principal axes: uncorrelated, centred, and the first has the larger spread.
            x, y = frame["x"].to_numpy(), frame["y"].to_numpy()
            assert abs(np.corrcoef(x, y)[0, 1]) < 1e-4
            assert x.std() >= y.std() > 0
            assert {d.held_out for d in of_part.decoded} == {"env0", "env1", "env2"}
            assert {(d.rule, d.seed, d.fold, d.n) for d in of_part.decoded} == {
                (part.picks[-1].rule, 0, min(p.fold for p in part.picks), 108)
            }
            assert all(0 <= d.after <= 1 and d.chance == pytest.approx(1 / 3) for d in of_part.decoded)
            assert all(d.after == d.before for d in of_part.decoded if d.rank == 16 and "PCA" in part.method)
    assert maps > 8


def test_a_report_shows_thumbnails_where_they_are_asked_for(
    swept: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, store = str(swept / "some.json"), str(whole)

    def page(*words: str) -> str:
        assert main(["report", *words, "--out", str(tmp_path)]) == 0
        return (tmp_path / "index.html").read_text()

    shown = page(recipe, "--store", store, "--images")
    blob = re.search(r'id="data-thumbs">([^<]*)<', shown)
    assert blob is not None
    sprites = json.loads(gzip.decompress(base64.b64decode(blob[1])))
    heights = [Image.open(io.BytesIO(base64.b64decode(one))).height for one in sprites["webp"]]
    said = re.search(r"(\d+) of (\d+) images that a list names", shown)
    assert said is not None
    assert int(said[1]) == int(said[2]) == sum(heights) // sprites["size"] > 0
    assert shown == page(recipe, "--store", store, "--images")
    assert 'id="data-thumbs"' not in page(recipe, "--store", store)
    assert "that a list names" not in page(recipe, "--store", store)
    capsys.readouterr()
    assert main(["report", "--store", store, "--images", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "icm-bench: --images needs a RECIPE: it says where the images lie.\n"
    gone = ["--set", f"datasets=[{{name: toy, root: {tmp_path / 'gone'}}}]"]
    assert main(["report", recipe, "--store", store, "--images", "--out", str(tmp_path), *gone]) == 2
    assert capsys.readouterr().err.count("\n") == 1
