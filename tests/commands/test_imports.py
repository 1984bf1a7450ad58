"""Imported predictions are rows like any other: equal answers, equal cells; and what does not match is named."""

import csv
import multiprocessing
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark.cli import main
from benchmark.commands.interchange.import_predictions import Imported, import_predictions
from benchmark.commands.interchange.prediction_files import read_predictions
from benchmark.commands.preparing.prepare import Run, prepare
from benchmark.commands.stores import open_store
from benchmark.commands.sweep import sweep_stage
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.selection import unpacked
from benchmark.recipe.loading import load_recipe
from benchmark.store.records import read_record, record_files
from benchmark.store.rows import read_rows
from benchmark.store.tested import read_tested
from tests.commands.conftest import Command
from tests.conftest import Swept

Frame = pd.DataFrame
FORKS = multiprocessing.get_context("fork")  # processes that have what is imported
TEST = ["protocol", "held_out", "test_split", "seed", "fold", "class_half"]


@pytest.fixture(scope="module")
def swept_toy(swept_toy: Swept, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """A copy, since imports are written into its store."""
    folder = tmp_path_factory.mktemp("imports")
    store, file = shutil.copytree(swept_toy.store, folder / "store"), folder / "recipe.yaml"
    file.write_text(swept_toy.file.read_text().replace(str(swept_toy.store), str(store)))
    return Swept(file, store, swept_toy.images)


@pytest.fixture(scope="module")
def run(swept_toy: Swept) -> Run:
    recipe = load_recipe(swept_toy.file)
    return prepare(recipe, open_store(recipe), lambda _: None)


@pytest.fixture(scope="module")
def rows(swept_toy: Swept) -> Frame:
    """The rows of the sweep."""
    storage = Storage(str(swept_toy.store))
    every = read_rows(storage, [Path(name).stem for name in storage.files("rows", ".parquet")])
    return every[every["projection"] == "identity"]


@pytest.fixture(scope="module")
def answers(swept_toy: Swept, rows: Frame) -> Frame:
    """Predictions with the answers of the rows: the right class where they are right, another one elsewhere."""
    storage = Storage(str(swept_toy.store))
    tested = read_tested(storage, rows["tested"])
    paths = sorted(str(p.relative_to(swept_toy.images)) for p in swept_toy.images.rglob("*.png"))
    lines: list[dict[str, Any]] = []
    for row in rows[rows["class_half"] != "harmonic"].to_dict("records"):
        images, correct = tested[row["tested"]], unpacked({str(k): v for k, v in row.items()})[-1]
        for position, label, right in zip(images.position, images.label, correct, strict=True):
            answer = {"image": paths[position], "predicted": row["classes"][label if right else label - 1]}
            lines.append(answer | {"method": "Copy"} | {k: row[k] for k in TEST})
    return pd.DataFrame(lines).drop(columns="class_half").sample(frac=1, random_state=0)  # in any order


def written(frame: Frame, folder: Path, name: str = "answers.csv") -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / name
    frame.to_csv(file, index=False) if file.suffix == ".csv" else frame.to_parquet(file, index=False)
    return file


def held_out(answers: Frame, split: str = "full") -> Frame:
    chosen = answers[(answers["protocol"] == "held_out") & (answers["test_split"] == split)]
    return chosen.reset_index(drop=True)


def imported_rows(swept: Swept, method: str) -> Frame:
    storage = Storage(str(swept.store))
    (record,) = record_files(storage, load_recipe(swept.file).hash())
    every = read_rows(storage, list(read_record(storage, record).imported.values()))
    return every[every["predictor"] == method]


def test_equal_answers_are_equal_rows_under_every_protocol(
    swept_toy: Swept, rows: Frame, answers: Frame, tmp_path: Path, command: Command
) -> None:
    file = written(answers, tmp_path, "answers.parquet")
    said = command.json("import", swept_toy.file, file)
    found = [said[name] for name in ("predictions", "methods", "rows", "written")]
    assert found == [len(answers), ["Copy"], len(rows), len(rows)]
    theirs, ours = (frame.sort_values(TEST) for frame in (rows, imported_rows(swept_toy, "Copy")))
    for name in (*TEST, "tested", "n_test", "dataset_fingerprint", "backbone_fingerprint", "prompts", "rounding"):
        assert theirs[name].fillna("").tolist() == ours[name].fillna("").tolist(), name
    for name in ("target", "balanced", "worst_class", "correct"):  # bits of one rank in both
        assert list(map(str, theirs[name])) == list(map(str, ours[name])), name
    assert (ours["projection"] == "imported").all()
    for name in ("labels_fit", "labels_choice", "n_train", "lambda_", "normalize", "spectrum", "ece_lodo"):
        assert ours[name].isna().all(), name
    assert command.json("import", swept_toy.file, file)["written"] == 0  # the same file again does nothing


def test_imports_at_the_same_moment_are_all_in_the_record(
    swept_toy: Swept, answers: Frame, run: Run, tmp_path: Path
) -> None:
    one = held_out(answers).query("held_out == 'env0' and seed == 0")
    files = [written(one.assign(method=f"Method {i}"), tmp_path, f"{i}.parquet") for i in range(40)]
    (record,) = record_files(run.storage, load_recipe(swept_toy.file).hash())
    before = read_record(run.storage, record).imported
    start = FORKS.Barrier(8)

    def work(mine: list[Path]) -> None:
        start.wait()
        for file in mine:
            import_predictions(run, read_predictions(file))

    processes = [FORKS.Process(target=work, args=(files[i::8],)) for i in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    imported = read_record(run.storage, record).imported
    assert {*before.items()} < {*imported.items()}
    assert len(imported) == len(before) + 40
    assert len({f"Method {i}" for i in range(40)} & {*read_rows(run.storage, [*imported.values()])["predictor"]}) == 40


def read(report: Path, name: str) -> list[dict[str, str]]:
    with (report / "tables" / f"{name}.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def reported(swept: Swept, out: Path, *where: str) -> list[dict[str, str]]:
    """Write a report of the rows with these values, and return its accuracies."""
    narrowed = [word for value in (*where, "test_split=full") for word in ("--where", value)]
    assert main(["report", str(swept.file), "--out", str(out), *narrowed]) == 0
    return read(out, "accuracies")


def test_equal_answers_are_equal_cells_and_no_difference(
    swept_toy: Swept, answers: Frame, run: Run, tmp_path: Path
) -> None:
    import_predictions(run, read_predictions(written(answers, tmp_path)))
    sweep_stage(run)  # keeps them
    settings: dict[tuple[str, ...], dict[str, list[list[str]]]] = {}
    for line in reported(swept_toy, tmp_path, "predictor=Copy", "predictor=zero_shot"):
        setting = tuple(line[n] for n in ("protocol", "class_group", "rule"))
        cells = [line[n] for n in ("held_out", "mean", "stderr", "seeds", "n_units")]
        settings.setdefault(setting, {}).setdefault(line["method"], []).append(cells)
    assert len({setting[:-1] for setting in settings}) == 5
    for setting, of_methods in settings.items():
        assert of_methods["Copy (imported)"] == of_methods["Zero-shot"] != [], setting
    named = [line for line in read(tmp_path, "differences") if line["method"] == "Copy (imported)"]
    pairs = [line for line in named if line["baseline"] == "Zero-shot" and line["protocol"] == "held_out"]
    assert {float(line[name]) for line in pairs for name in ("difference", "low", "high")} == {0.0}
    assert "Copy, chosen by its author" in (tmp_path / "report.md").read_text()


def test_rules_choose_among_settings_by_the_source_score(
    swept_toy: Swept, answers: Frame, run: Run, tmp_path: Path
) -> None:
    frame = held_out(answers).assign(method="Tuned", setting="copy", source_score=0.5)
    wrong = frame.assign(predicted=frame["image"].str.split("/").str[1].map({"cat": "dog"}).fillna("cat"))
    wrong = wrong.assign(setting="wrong", source_score=np.where(frame["held_out"] == "env1", 0.9, 0.1))
    import_predictions(run, read_predictions(written(pd.concat([frame, wrong]), tmp_path)))
    lines = [line for line in reported(swept_toy, tmp_path, "predictor=Tuned") if line["mean"]]
    means = {(line["rule"], line["held_out"]): float(line["mean"]) for line in lines}
    sources = {(line["rule"], line["held_out"]): line["source_accuracy"] for line in lines}
    rule = "training_domain"  # of three environments none is left out
    assert (means[rule, "env1"], sources[rule, "env1"], sources[rule, "env0"]) == (0.0, "90.0000", "50.0000")
    assert min(means[rule, name] for name in ("env0", "env2")) > 0
    assert means["ceiling", "env1"] > 0
    assert "Tuned, chosen among 2 settings by the source score" in (tmp_path / "report.md").read_text()


def test_a_later_file_takes_the_place_of_an_earlier_one_test_by_test(
    swept_toy: Swept, answers: Frame, run: Run, tmp_path: Path
) -> None:
    first = held_out(answers).assign(method="Again")
    import_predictions(run, read_predictions(written(first, tmp_path)))
    before = imported_rows(swept_toy, "Again")
    second = first[(first["held_out"] == "env0") & (first["seed"] == 0)].assign(predicted="cat")
    done = import_predictions(run, read_predictions(written(second, tmp_path)))
    assert (done.rows, done.written, done.replaced) == (1, 1, 1)
    after = imported_rows(swept_toy, "Again")
    assert len(after) == len(before) == 6
    [gone] = set(before["trial_id"]) - set(after["trial_id"])
    assert not (swept_toy.store / "rows" / f"{gone}.parquet").exists()


def test_ids_do_as_well_as_paths_and_equal_images_may_stand_once(run: Run, answers: Frame, tmp_path: Path) -> None:
    table = run.subjects[0].manifest.table.to_pandas()
    id_of = dict(zip(table["path"], table["image_id"], strict=True))
    assert len(set(id_of.values())) == len(id_of) - 1
    frame = held_out(answers)
    by_path = import_predictions(run, read_predictions(written(frame.assign(method="Ids"), tmp_path)))
    named = frame.assign(method="Ids", image=frame["image"].map(id_of))
    assert named[named["image"] == id_of["env1/dog/3.png"]]["predicted"].nunique() == 1  # of equal bytes
    for same in (named, named.drop_duplicates(["image", "seed", "held_out"])):
        done = import_predictions(run, read_predictions(written(same, tmp_path)))
        assert (done.rows, done.written) == (by_path.rows, 0)
    more = pd.concat([named, named[named["image"] == id_of["env0/cat/0.png"]]])
    with pytest.raises(IcmBenchError, match="is given twice; keep one of the two"):
        import_predictions(run, read_predictions(written(more, tmp_path)))


def test_an_image_that_cannot_be_read_takes_no_part(run: Run, answers: Frame, tmp_path: Path) -> None:
    frame = held_out(answers).assign(method="Bad")
    here = frame[frame["held_out"] == "env2"].drop_duplicates("seed")
    more = pd.concat([frame, here.assign(image="env2/hen/bad.png", predicted="hen")])
    first, second = (import_predictions(run, read_predictions(written(one, tmp_path))) for one in (frame, more))
    assert (first.rows, second.rows, second.written) == (6, 6, 0)


def edited(row: int, **values: Any) -> Callable[[Frame], Frame]:
    """Return what gives one row, numbered from 1, other values."""

    def edit(frame: Frame) -> Frame:
        frame = frame.astype(dict.fromkeys(values, object))
        for name, value in values.items():
            frame.loc[row - 1, name] = value
        return frame

    return edit


def settings(frame: Frame) -> Frame:
    return pd.concat([frame.assign(setting=name) for name in "ab"], ignore_index=True)


REFUSALS: list[tuple[Callable[[Frame], Frame], str]] = [
    (edited(3, image="env0/cat/99.png"), "row 3: 'env0/cat/99.png' is not an image of this data set; give the path"),
    (edited(4, predicted="cta"), "row 4: 'cta' is no class of toy; did you mean 'cat'"),
    (edited(2, held_out="env9"), "row 2: the recipe has no held_out 'env9'; did you mean 'env"),
    (edited(2, protocol="held_uot"), "row 2: the recipe has no protocol 'held_uot'; did you mean 'held_out'"),
    (edited(2, seed=7), "row 2: the recipe has no seed '7'; Valid: "),
    (edited(2, seed="x"), "row 2: seed 'x' is not a whole number"),
    (edited(2, fold=1), "row 2: the recipe has no fold '1'"),
    (edited(5, predicted=""), "row 5: 'predicted' is empty; fill it in"),
    (edited(6, method="zero_shot"), "row 6: the method 'zero_shot' is the name of a predictor"),
    (edited(1, test_split="out_fold"), "row 1: the recipe has no test_split 'out_fold'"),
    (edited(1, protocol="open_class"), "row 1: the recipe has no test with dataset toy, "),
    (lambda f: pd.concat([f, f.iloc[[8]]]), "is given twice; keep one of the two."),
    (lambda f: f.drop(index=f.index[(f["held_out"] == "env1") & (f["seed"] == 0)][:2]), "2 of the 41 tested images of method Copy, protocol held_out, held_out env1"),
    (lambda f: f.drop(columns="seed"), "add the column 'seed', which is one of 0, 1."),
    (lambda f: f.drop(columns="image"), "the column 'image' is missing; add it."),
    (lambda f: f.rename(columns={"predicted": "prediction"}), "unknown column 'prediction'; did you mean 'predicted'"),
    (lambda f: f.iloc[:0], "has no predictions; write one line per tested image."),
    (settings, "row 1: Copy has 2 settings here, and not each has a source_score"),
    (lambda f: f.assign(source_score=85.0), "row 1: source_score 85 is not an accuracy; give a number from 0 to 1."),
    (lambda f: edited(9, source_score=0.6)(f.assign(source_score=0.5)), "source_score differs within one test"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), REFUSALS, ids=range(len(REFUSALS)))
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_what_does_not_match_is_refused_in_a_sentence_and_nothing_is_written(
    swept_toy: Swept, run: Run, answers: Frame, tmp_path: Path, change: Callable[[Frame], Frame], words: str, kind: str
) -> None:
    frame = change(held_out(answers))
    frame = frame if kind == "csv" else frame.astype({n: str for n in frame.columns if frame[n].dtype == object})
    file = written(frame, tmp_path, f"answers.{kind}")
    before = sorted((swept_toy.store / "rows").iterdir())
    with pytest.raises(IcmBenchError) as caught:
        import_predictions(run, read_predictions(file))
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(file))
    assert sorted((swept_toy.store / "rows").iterdir()) == before


def test_an_image_of_another_side_is_named_as_not_tested(run: Run, answers: Frame, tmp_path: Path) -> None:
    frame = held_out(answers, "out_20")
    tested = set(frame["image"][(frame["held_out"] == "env0") & (frame["seed"] == 0)])
    other = next(f"env0/cat/{i}.png" for i in range(10) if f"env0/cat/{i}.png" not in tested)
    frame.loc[frame.index[frame["image"].isin(tested) & (frame["seed"] == 0)][0], "image"] = other
    with pytest.raises(IcmBenchError, match=rf"'{other}' is not tested in method Copy.* `icm-bench splits`"):
        import_predictions(run, read_predictions(written(frame, tmp_path)))


def test_in_domain_leaves_nothing_to_choose_by(run: Run, answers: Frame, tmp_path: Path) -> None:
    frame = answers[answers["protocol"] == "in_domain"].assign(source_score=0.5)
    with pytest.raises(IcmBenchError, match="'in_domain' has no model selection; leave source_score empty"):
        import_predictions(run, read_predictions(written(frame, tmp_path)))


def test_a_recipe_that_was_never_run_and_a_file_that_is_none_are_refused(
    swept_toy: Swept, answers: Frame, tmp_path: Path, command: Command
) -> None:
    file = written(held_out(answers), tmp_path)
    said = command.refused("import", swept_toy.file, file, "--set", "sweep.seeds=[0]")
    assert "holds no results of the recipe 'swept' as it stands" in said
    for name, words in (("none.csv", "cannot be read"), ("answers.json", "the suffix is not .parquet or .csv")):
        assert words in command.refused("import", swept_toy.file, tmp_path / name)


def test_the_list_of_splits_with_predictions_is_a_file_to_import(swept_toy: Swept, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "splits.parquet"
    assert main(["splits", str(swept_toy.file), "--to", str(file)]) == 0
    listed = pd.read_parquet(file)
    frame = listed[listed["role"] == "test"]
    right = written(frame.assign(method="Right", predicted=frame["class"]), tmp_path, "r.parquet")
    done: Imported = import_predictions(run, read_predictions(right))
    assert done.rows == 2 * (9 + 9 + 9 + 9 + 3)
    assert all(curve == [1.0] for curve in imported_rows(swept_toy, "Right")["target"])
