"""Embeddings that exist: what a run exports gives the same rows and tables again, and foreign files are read right."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import md5
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.neighbors import NearestCentroid

import benchmark
from benchmark.cli import main
from benchmark.commands.interchange import import_embeddings, read_embeddings
from benchmark.commands.interchange.read_embeddings import ImportOptions
from benchmark.commands.preparing.imported_sets import imported_subject, manifests_of
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.recipe.loading import load_recipe, parse_recipe
from benchmark.store import embeddings as store
from benchmark.store import imported_embeddings, upkeep
from benchmark.store.embeddings import read_texts
from benchmark.store.rows import all_trials, read_rows
from benchmark.sweep.trials import trials_of
from tests.commands.conftest import Command
from tests.conftest import REPOSITORY, make_toy

# As sitecustomize, in every process of a command, Ray's workers among them: models cannot be imported.
GUARD = """\
import os, sys

class Guard:
    def find_spec(self, name, *_):
        if name in ("open_clip", "transformers", "timm", "benchmark.backbones.loading", "benchmark.embedding.encoder"):
            os._exit(3)

sys.meta_path.insert(0, Guard())
with open(os.path.join(os.path.dirname(__file__), "processes"), "a") as file:
    file.write(" ".join(sys.orig_argv) + "\\n")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_random: dict[str, Any], local_ray: None) -> tuple[Path, Path]:  # noqa: ARG001
    """The folder of a finished run, and that of its exported embeddings. One image stands twice, and one cannot be read."""
    folder = tmp_path_factory.mktemp("made")
    images = make_toy(folder / "toy", images=10)
    shutil.copy(images / "env0" / "cat" / "0.png", images / "env0" / "cat" / "again.png")
    (images / "env1" / "dog" / "3.png").write_bytes(b"no image")
    recipe = {
        "name": "toy",
        "datasets": [{"name": "toy", "root": str(images)}],
        "backbones": [tiny_random],
        "interventions": {"kinds": ["grayscale", "gaussian_blur"], "draws": 2},
        "sweep": {
            "projections": ["identity", "icm", {"name": "shrinkage", "lambdas": [10]}], "predictors": ["zero_shot"],
            "lambdas": [2], "ranks": [4, 16], "seeds": [0, 1], "test_splits": ["full"],
        },
        "run": {"store": str(folder / "store"), "max_bad_images": 0.1},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    benchmark.run(load_recipe(folder / "recipe.yaml"))
    assert main(["export-embeddings", str(folder / "recipe.yaml"), "--to", str(folder / "exported")]) == 0
    return folder, folder / "exported"


def asked(file: Path, folder: Path, *more: str, name: str = "mine") -> list[str]:
    """Return the words that import a file into the store of a folder, with a recipe beside it."""
    words = ["import-embeddings", str(file), f"--name={name}", f"--store={folder / 'store'}"]
    return [*words, f"--recipe={folder / 'start.yaml'}", *more]


def contents(folder: Path, *suffixes: str) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.suffix in suffixes)
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture
def imported_again(made: tuple[Path, Path], tmp_path: Path, command: Command) -> Path:
    """The recipe of the run, on its embeddings as they are imported into a fresh store."""
    folder, exported = made
    assert "identity of the exporting run" in command(*asked(exported, tmp_path, name="toy")).out
    start = yaml.safe_load((tmp_path / "start.yaml").read_text())
    recipe = json.loads((folder / "recipe.yaml").read_text())
    # Of the views, the texts and the backbone it says what was exported; the sweep is the reader's.
    start["interventions"]["kinds"] = [kind["name"] for kind in start["interventions"]["kinds"]]
    assert start["interventions"] == recipe["interventions"]
    assert start["backbones"] == [{"name": "tiny RANDOM WEIGHTS (seed 0)"}]
    recipe |= {"datasets": [{"name": "toy", "layout": "imported"}], "run": {"store": str(tmp_path / "store")}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    return tmp_path / "recipe.yaml"


def test_an_export_gives_the_same_bytes_again_without_images(
    made: tuple[Path, Path], imported_again: Path, tmp_path: Path, command: Command
) -> None:
    said = command("run", imported_again).err
    assert "imported, nothing to embed" in said
    assert "not all views" not in said
    stores = made[0] / "store", tmp_path / "store"
    rows, again = (contents(store / "rows", ".parquet") for store in stores)
    assert len(rows) == 6
    assert again == rows
    reports = [[*(store / "reports").iterdir()] for store in stores]
    (tables,), (again,) = ([contents(one / "tables", ".csv", ".md", ".tex", ".json") for one in of] for of in reports)
    assert len(tables) > 10
    assert again == tables
    parts = [set(contents(store / "embeddings", ".parquet")) for store in stores]
    assert parts[0] == parts[1]


@pytest.mark.long("a worker of a run without images imports a library of models")
def test_no_process_of_a_run_on_imported_embeddings_imports_a_model(imported_again: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(GUARD)
    done = subprocess.run(
        [sys.executable, "-m", "benchmark.cli", "run", str(imported_again)],
        capture_output=True, text=True, cwd=tmp_path, check=False,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "default_worker.py" in (tmp_path / "processes").read_text()  # the guard stood in them too


def test_an_edited_export_is_refused_and_may_be_taken_as_it_is(
    made: tuple[Path, Path], tmp_path: Path, command: Command
) -> None:
    _, exported = made
    edited = shutil.copytree(exported, tmp_path / "edited")
    table = pq.read_table(edited / "embeddings.parquet")
    metadata = pq.read_metadata(edited / "embeddings.parquet").metadata
    frame = table.to_pandas()
    frame.loc[frame["image_id"] == frame["image_id"][0], "class"] = frame["class"].drop_duplicates().iloc[1]
    classes = pa.array(frame["class"].tolist())
    table = table.set_column(table.column_names.index("class"), "class", classes)
    pq.write_table(table.replace_schema_metadata(metadata), edited / "embeddings.parquet")
    assert "were edited after the export" in command.refused(*asked(edited, tmp_path, name="toy"))
    assert not (tmp_path / "store" / "embeddings").exists()
    assert "identified by their content" in command(*asked(edited, tmp_path, "--foreign", name="toy")).out


ENVIRONMENTS, CLASSES, D = ("a", "b", "c"), ("cat", "dog"), 6


def columns(n: int = 90, seed: int = 0) -> dict[str, Any]:
    """Return foreign embeddings in a random order, in which the classes differ a little (synthetic)."""
    rng = np.random.default_rng(seed)
    environment = np.array(ENVIRONMENTS)[rng.integers(3, size=n)]
    label = rng.integers(2, size=n)
    z = rng.normal(size=(n, D)) + 0.8 * label[:, None]
    paths = np.array([f"{number:03d}.png" for number in rng.permutation(n)])
    words = {"path": paths, "environment": environment, "class": np.array(CLASSES)[label]}
    return {**words, "embedding": z.astype(np.float32)}


def with_view(content: dict[str, Any], name: str = "fog", seed: int = 1) -> dict[str, Any]:
    """Return the same images with a view of each, in another order, all rows mixed."""
    rng = np.random.default_rng(seed)
    n = len(content["path"])
    both = {key: np.concatenate([value, value]) for key, value in content.items()}
    both["embedding"][n:] += rng.normal(size=(n, D)).astype(np.float32)
    both["view"] = np.array(["original"] * n + [name] * n)
    order = rng.permutation(2 * n)
    return {key: value[order] for key, value in both.items()}


def parquet(content: dict[str, Any], file: Path, rows: int = 32) -> Path:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(content["embedding"].ravel()), content["embedding"].shape[1])
    words = {key: pa.array(value.tolist()) for key, value in content.items() if key != "embedding"}
    pq.write_table(pa.table({**words, "embedding": vectors}), file, row_group_size=rows, write_page_checksum=True)
    return file


def texts(file: Path, names: tuple[str, ...] = CLASSES, width: int = D, seed: int = 5) -> Path:
    t = np.random.default_rng(seed).normal(size=(len(names), width)).astype(np.float32)
    content: dict[str, Any] = {"class": np.array(names), "embedding": t}
    np.savez(file, **content)
    return file


def imported(file: Path, folder: Path, *more: str) -> Any:
    """Import a file, and return the recipe that came of it."""
    (folder / "start.yaml").unlink(missing_ok=True)
    assert main(asked(file, folder, *more)) == 0
    return load_recipe(folder / "start.yaml", {"run.store": str(folder / "store")})


def test_views_and_texts_of_a_foreign_file_lie_with_their_images(tmp_path: Path) -> None:
    content = with_view(columns())
    file = parquet(content, tmp_path / "mine.parquet")
    options = ["--texts", str(texts(tmp_path / "t.npz")), "--backbone", "own", "--logit-scale", "9"]
    recipe = imported(file, tmp_path, *options)
    storage = Storage(str(tmp_path / "store"))
    (manifest,) = manifests_of(recipe, storage)
    subject = imported_subject(recipe, storage, manifest, recipe.backbones[0])
    assert (subject.facts.label, subject.facts.logit_scale, subject.facts.texts) == ("own", 9.0, "classes")
    assert [view.label for view in subject.views] == ["original", "fog"]
    assert "fog" in subject.kinds
    table = manifest.table.to_pylist()
    places = {row["path"]: (row["environment"], row["class_name"]) for row in table}
    assert [*places] == sorted(set(content["path"]), key=lambda path: (*places[path], path))  # DomainBed's order
    for view in subject.views:
        stored = store.read(storage, view, [row["image_id"] for row in table])
        for row, z in zip(table, stored, strict=True):
            (place,) = np.flatnonzero((content["path"] == row["path"]) & (content["view"] == view.label))
            assert (content["environment"][place], content["class"][place]) == (row["environment"], row["class_name"])
            np.testing.assert_array_equal(z, content["embedding"][place])
    given = np.load(tmp_path / "t.npz")["embedding"].astype(np.float64)
    unit = given / np.linalg.norm(given, axis=1, keepdims=True)
    np.testing.assert_allclose(read_texts(storage, subject.texts), unit, rtol=1e-6)


def test_content_tells_imports_apart_and_the_order_of_rows_does_not(tmp_path: Path) -> None:
    def directories(content: dict[str, Any], folder: str) -> list[str]:
        (tmp_path / folder).mkdir()
        imported(parquet(content, tmp_path / folder / "x.parquet"), tmp_path / folder)
        return sorted(place.name for place in (tmp_path / folder / "store/embeddings").iterdir())

    content = with_view(columns())
    first = directories(content, "first")
    assert len(first) == 2
    assert directories({key: value[::-1] for key, value in content.items()}, "turned") == first
    relabelled = {**content, "class": np.where(content["class"] == "cat", "cow", content["class"])}
    assert set(directories(relabelled, "relabelled")).isdisjoint(first)
    moved = {**content, "embedding": content["embedding"].copy()}
    moved["embedding"][0, 0] += 1
    assert len(set(directories(moved, "moved")) & set(first)) == 1


def test_imports_that_differ_in_what_changes_numbers_share_no_trial(tmp_path: Path) -> None:
    content, z = with_view(columns()), with_view(columns())["embedding"]

    def ids(embedding: Any = z, seed: int = 5, scale: str = "100") -> set[str]:
        files = (
            parquet({**content, "embedding": embedding}, tmp_path / "x.parquet"),
            texts(tmp_path / "t.npz", seed=seed),
        )
        recipe = imported(files[0], tmp_path, "--texts", str(files[1]), "--logit-scale", scale, "--overwrite")
        storage = Storage(str(tmp_path / "store"))
        (manifest,) = manifests_of(recipe, storage)
        subject = imported_subject(recipe, storage, manifest, recipe.backbones[0])
        return {trial.id for trial in trials_of(recipe, [subject])}

    facts: dict[str, dict[str, Any]] = {
        "as it was": {},
        "scale of the logits": {"scale": "15.5"},
        "texts of the classes": {"seed": 6},
        "unit length": {"embedding": (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)},
        "precision": {"embedding": z.astype(np.float16).astype(np.float32)},
    }
    found = {name: ids(**fact) for name, fact in facts.items()}
    assert found["as it was"] == ids()
    assert len(found["as it was"]) > 10
    assert len(set.union(*found.values())) == sum(map(len, found.values()))


@pytest.mark.usefixtures("local_ray")
def test_a_file_without_views_or_texts_leaves_what_needs_neither(tmp_path: Path, command: Command) -> None:
    content = columns()
    np.savez(tmp_path / "mine.npz", **content)
    recipe = imported(tmp_path / "mine.npz", tmp_path)
    assert [predictor.name for predictor in recipe.sweep.predictors] == ["linear_probe"]
    changes = {
        "predictors": [{"name": "class_means", "metric": "euclidean"}], "seeds": [0], "test_splits": ["full"], "ranks": [D],
        "projections": ["identity", "icm", {"name": "shrinkage", "lambdas": [0, 10]}, "fixed", "isotropic_environments"],
    }  # fmt: skip
    options = [word for key, value in changes.items() for word in ("--set", f"sweep.{key}={json.dumps(value)}")]
    printed = command("sweep", tmp_path / "start.yaml", "--store", tmp_path / "store", *options)
    assert "Shrinkage (environments alone)" in printed.out  # what remains is judged; lodo needs 4 of them
    said = printed.err
    assert "left out are the views color_jitter, grayscale" in said
    assert "the intervention set all; the projections icm, fixed; " in said
    assert "instead there is shrinkage(nuisance=environments) for shrinkage" in said
    storage = Storage(str(tmp_path / "store"))
    rows = read_rows(storage, all_trials(storage))
    assert set(rows["projection"]) == {"identity", "shrinkage", "isotropic_environments"}
    assert set(rows["predictor"]) == {"class_means"}
    assert set(rows["intervention_set"]) == {None}
    plain = rows[rows["projection"] == "identity"].set_index("held_out")["target"]
    for held_out in ENVIRONMENTS:
        assert plain[held_out][-1] == pytest.approx(nearest_mean(content, held_out))


def nearest_mean(content: dict[str, Any], held_out: str) -> float:
    """Return the accuracy of the nearest class mean of DomainBed's 80 % of the other environments."""
    fitted: list[int] = []
    for number, name in enumerate(ENVIRONMENTS):
        here = np.flatnonzero(content["environment"] == name)
        here = here[np.lexsort((content["path"][here], content["class"][here]))]
        order = list(range(len(here)))
        np.random.RandomState(int(md5(str((0, number)).encode()).hexdigest(), 16) % 2**31).shuffle(order)
        fitted += [] if name == held_out else here[order[int(len(here) * 0.2) :]].tolist()
    model = NearestCentroid().fit(content["embedding"][fitted].astype(np.float64), content["class"][fitted])
    rows = content["environment"] == held_out
    return float((model.predict(content["embedding"][rows].astype(np.float64)) == content["class"][rows]).mean())


def foreign(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Path], Path]:
    """Return what writes images with a view of each after a change of their columns."""
    return lambda folder: parquet(change(with_view(columns())), folder / "x.parquet")


def edit(column: str, row: Any, value: Any) -> Callable[[Path], Path]:
    def change(content: dict[str, Any]) -> dict[str, Any]:
        array = content[column].astype(object) if column != "embedding" else content[column].copy()
        array[row] = value
        return {**content, column: array}

    return foreign(change)


def without(view: str) -> Callable[[Path], Path]:
    """Return what writes them without a view of one image."""

    def change(content: dict[str, Any]) -> dict[str, Any]:
        row = int(np.flatnonzero(content["view"] == view)[3])
        return {key: np.delete(value, row, axis=0) for key, value in content.items()}

    return foreign(change)


def spoilt(spoil: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        file = parquet(columns(2000), folder / "x.parquet")
        file.write_bytes(spoil(file.read_bytes()))
        return file

    return write


def no_npz(folder: Path) -> Path:
    (folder / "x.npz").write_bytes(b"PK no archive")
    return folder / "x.npz"


def objects(folder: Path) -> Path:
    content = columns()
    np.savez(folder / "x.npz", **{**content, "class": content["class"].astype(object)})
    return folder / "x.npz"


def mixed_width(folder: Path) -> Path:
    content = columns()
    lists = [row.tolist() for row in content.pop("embedding")]
    lists[70] = lists[70][:-1]
    pq.write_table(pa.table({**content, "embedding": pa.array(lists, pa.list_(pa.float32()))}), folder / "x.parquet")
    return folder / "x.parquet"


NAN, INF = np.full(D, np.nan, np.float32), np.full(D, np.inf, np.float32)
BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "truncated": (spoilt(lambda content: content[:-100]), r" cannot be read"),
    "garbled": (spoilt(lambda content: content[:2000] + bytes(100) + content[2100:]), r" cannot be read"),
    "no npz": (no_npz, r" is not a \.npz file; save it with numpy\.savez"),
    "objects": (objects, r": 'class' has Python objects; save it as text or numbers"),
    "mixed width": (mixed_width, r", row 71: the embedding has width 5, others 6"),
    "NaN": (edit("embedding", 40, NAN), r", row 41: the embedding has NaN or infinite values"),
    "infinite": (edit("embedding", 40, INF), r", row 41: the embedding has NaN or infinite values"),
    "doubled": (
        foreign(lambda c: {k: np.concatenate([v, v[4:5]]) for k, v in c.items()}),
        r", row 181: '\d+\.png' in the view '\w+' repeats row 5; remove one",
    ),
    "no class": (edit("class", 2, None), r", row 3: 'class' is empty"),
    "no environment": (edit("environment", 2, ""), r", row 3: 'environment' is empty"),
    "no name": (edit("path", 2, None), r", row 3: 'path' is empty"),
    "control letters": (edit("environment", 2, "a\tb"), r", row 3: 'environment' is 'a\\tb', which"),
    "class of a view": (edit("class", 2, "cow"), r", row \d+: '\d+\.png' .* has another class than"),
    "no view of an image": (without("fog"), r", row \d+: .* has no view 'fog' as other images have"),
    "no original": (without("original"), r", row \d+: '\d+\.png' in the view 'fog' has no row of the view 'original'"),
    "only views": (edit("view", ..., "fog"), r": no row has the view 'original', only 'fog'"),
    "one class": (edit("class", ..., "cat"), r" has one class only \(cat\)"),
    "groups of some": (
        foreign(lambda c: {**c, "group": np.array([None if p == "027.png" else "g" for p in c["path"]])}),
        r", row \d+: the group is empty, and other images have one",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_makes_no_sense_is_one_sentence_and_leaves_nothing(name: str, tmp_path: Path, command: Command) -> None:
    write, pattern = BAD[name]
    assert re.match(rf"\S+/x\.\w+{pattern}", command.refused(*asked(write(tmp_path), tmp_path)))
    assert not [*(tmp_path / "store").glob("*")]
    assert not (tmp_path / "start.yaml").exists()


def as_engineers_have_it(folder: Path) -> Path:
    """Write images and views as a table of an engineer, with columns that nobody asks for, one of them a list."""
    content = with_view(columns())
    names = {"path": "id", "environment": "domain", "class": "label", "embedding": "vector", "view": "view"}
    vectors = pa.array(content["embedding"].astype(np.float64).tolist())
    words = {names[key]: pa.array(value.tolist()) for key, value in content.items() if key != "embedding"}
    table = pa.table({**words, "split": pa.array(["train"] * len(vectors)), "boxes": vectors, "vector": vectors})
    pq.write_table(table, folder / "x.parquet")
    return folder / "x.parquet"


OPTION = "image_id=id,environment=domain,class=label,embedding=vector"


@pytest.mark.parametrize(
    "option", [[OPTION], OPTION.replace(",", ", ").split(), OPTION.split(",")], ids=["one word", "blanks", "words"]
)
def test_a_table_of_an_engineer_goes_through_with_one_option(
    option: list[str], tmp_path: Path, command: Command
) -> None:
    """The error names the option; with it the import is that of the same file under the names of this project."""
    file = as_engineers_have_it(tmp_path)
    said = command.refused(*asked(file, tmp_path))
    assert "x.parquet needs a column for each of 'image_id' or 'path', 'environment', 'class', 'embedding'" in said
    assert f"--columns {OPTION} (it has id, domain, label, view, split, boxes, vector)" in said
    record = command.json(*asked(file, tmp_path, "--columns", *option))
    assert record["unused"] == ["split", "boxes"]
    assert "unused columns: split, boxes" in command(*asked(file, tmp_path, "--columns", *option)).out
    content = with_view(columns())
    content["image_id"] = content.pop("path")
    (tmp_path / "plain").mkdir()
    imported(parquet(content, tmp_path / "y.parquet"), tmp_path / "plain")
    stores = [contents(folder / "store", ".parquet", ".json") for folder in (tmp_path, tmp_path / "plain")]
    assert len(stores[0]) > 4
    assert stores[0] == stores[1]


def test_columns_of_an_npz_and_of_its_texts_are_named_too(tmp_path: Path) -> None:
    content = columns()
    content["label"], content["vector"] = content.pop("class"), content.pop("embedding")
    np.savez(tmp_path / "x.npz", **content, notes=np.array([{}]))
    np.savez(tmp_path / "t.npz", label=np.array(CLASSES), vector=np.eye(2, D, dtype=np.float32), notes=np.array([{}]))
    given = ["--columns", "class=label,embedding=vector"]
    recipe = imported(tmp_path / "x.npz", tmp_path, "--texts", str(tmp_path / "t.npz"), *given)
    storage = Storage(str(tmp_path / "store"))
    (manifest,) = manifests_of(recipe, storage)
    subject = imported_subject(recipe, storage, manifest, recipe.backbones[0])
    assert (manifest.classes, subject.facts.dim) == ([*CLASSES], D)
    np.testing.assert_array_equal(read_texts(storage, subject.texts), np.eye(2, D))
    assert imported(texts_beside(tmp_path), tmp_path, "--overwrite", *given) == recipe  # texts may have the usual names


def texts_beside(folder: Path) -> Path:
    """Return a folder with those embeddings, and texts whose columns have the usual names."""
    place = folder / "both"
    place.mkdir()
    shutil.copy(folder / "x.npz", place / "embeddings.npz")
    texts(place / "texts.npz")
    return place


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("klass=label", "--columns klass=label: unknown key 'klass'; did you mean 'class'? Valid: class, embedding, "),
        ("domain=environment", "unknown key 'domain'; did you mean 'environment'?"),  # turned round
        ("id=uid", "unknown key 'id'; did you mean 'image_id'?"),
        ("class", "--columns class: write KEY=COLUMN"),
        (
            "class=lable",
            "has no column 'lable' (--columns class=...); did you mean 'label'? Valid: boxes, ",
        ),
        ("class=label", "--columns class=label,image_id=id,environment=domain,embedding=vector (it has id, "),
        (f"{OPTION},group=boxes", "the column 'boxes' is of type list"),
        (OPTION.replace("vector", "label"), "'label' is of type string; write it as a list of floating point numbers"),
    ],
)
def test_columns_that_are_none_are_one_sentence(given: str, sentence: str, tmp_path: Path, command: Command) -> None:
    file = as_engineers_have_it(tmp_path)
    assert sentence in command.refused(*asked(file, tmp_path, "--columns", given))
    assert not [*(tmp_path / "store").glob("*")]


def test_texts_that_do_not_fit_are_refused(tmp_path: Path, command: Command) -> None:
    file = parquet(columns(), tmp_path / "x.parquet")
    cases = [
        (texts(tmp_path / "few.npz", ("cat", "dogs")), "few.npz: the class 'dog' has no text; did you mean 'dogs'?"),
        (texts(tmp_path / "wide.npz", width=9), "wide.npz: texts have width 9 and images 6"),
        (texts(tmp_path / "twice.npz", ("cat", "dog", "cat")), "twice.npz, row 3: it repeats the class 'cat'"),
    ]
    for place, sentence in cases:
        assert sentence in command.refused(*asked(file, tmp_path, "--texts", str(place)))
    assert not [*(tmp_path / "store").glob("*")]


@pytest.mark.parametrize("given", [("--name", "../up"), ("--name", ""), ("--name", "a b"), ("--backbone", " x"),
                                   ("--logit-scale", "-1"), ("--logit-scale", "nan")])  # fmt: skip
def test_names_that_are_none_are_refused(given: tuple[str, str], tmp_path: Path, command: Command) -> None:
    file = parquet(columns(), tmp_path / "x.parquet")
    assert command.refused(*asked(file, tmp_path, "=".join(given))).startswith(f"{given[0]} ")


def test_a_killed_import_is_invisible_and_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = parquet(with_view(columns()), tmp_path / "x.parquet")
    recipe, storage = recipe_of("imported"), Storage(str(tmp_path / "store"))
    with monkeypatch.context() as patched:
        patched.setattr("benchmark.store.imported_embeddings.write_import", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            import_embeddings.import_embeddings(storage, file, ImportOptions("mine"))
    with pytest.raises(IcmBenchError, match="no imported embeddings of 'mine': `icm-bench import-embeddings FILE"):
        manifests_of(recipe, storage)
    assert import_embeddings.import_embeddings(storage, file, ImportOptions("mine"))[0].written == 0
    assert len(manifests_of(recipe, storage)[0].table) == 90


def recipe_of(*backbones: str) -> Any:
    return parse_recipe({"name": "r", "datasets": [{"name": "mine", "layout": "imported"}], "backbones": [*backbones]})


def test_a_second_backbone_has_the_same_images_or_is_refused(tmp_path: Path, command: Command) -> None:
    content = columns()
    imported(parquet(content, tmp_path / "x.parquet"), tmp_path, "--backbone", "one")
    wider = {**content, "embedding": np.hstack([content["embedding"], content["embedding"]])}
    imported(parquet(wider, tmp_path / "y.parquet"), tmp_path, "--backbone", "two")
    other = asked(parquet(columns(80), tmp_path / "z.parquet"), tmp_path, "--backbone", "three")
    assert "it was imported for one with other images, classes or environments" in command.refused(*other)
    recipe, storage = recipe_of("one", "two"), Storage(str(tmp_path / "store"))
    (manifest,) = manifests_of(recipe, storage)
    widths = [imported_subject(recipe, storage, manifest, spec).facts.dim for spec in recipe.backbones]
    assert widths == [D, 2 * D]
    with pytest.raises(IcmBenchError, match="'thre' is none for which embeddings of 'mine' were imported"):
        manifests_of(recipe_of("thre"), storage)


def test_nothing_that_was_imported_is_replaced_unasked(tmp_path: Path, command: Command) -> None:
    """Two encoders under one label are refused; the same file again, or --overwrite, is not."""
    first, second = parquet(columns(), tmp_path / "x.parquet"), parquet(columns(seed=1), tmp_path / "y.parquet")
    command(*asked(first, tmp_path))
    command(*asked(first, tmp_path))
    said = "--backbone imported: other embeddings, texts or logit scale of 'mine' were imported under this label"
    others: list[tuple[Path, list[str]]] = [
        (second, []), (first, ["--logit-scale", "9"]), (first, ["--texts", str(texts(tmp_path / "t.npz"))]),
    ]  # fmt: skip
    for file, more in others:
        assert said in command.refused(*asked(file, tmp_path, *more))
    command(*asked(second, tmp_path, "--overwrite"))
    command(*asked(second, tmp_path))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("mine", "start.yaml must be a mapping"),
        ("name: r\ndatasets: [PACS]\nbackbones: [{name: one}]\n", "'mine' is not an imported data set of it"),
        (
            "name: r\ndatasets: [{name: mine, layout: imported}]\nnames: {x: &b two}\nbackbones: [*b]\n",
            "add 'imported' to its backbones",
        ),
    ],
)
def test_a_recipe_that_is_of_something_else_stays_as_it_is(
    text: str, why: str, tmp_path: Path, command: Command
) -> None:
    file, recipe = parquet(columns(), tmp_path / "x.parquet"), tmp_path / "start.yaml"
    recipe.write_text(text)
    said = command(*asked(file, tmp_path)).out
    again = command.json(*asked(file, tmp_path))
    assert (again["recipe_written"], again["images"], again["exported"]) == (False, 90, False)
    assert "exists and is unchanged" in said
    assert why in said
    assert "Next: " not in said
    assert recipe.read_text() == text


LISTS = {
    "as it was written": ("backbones:\n- name: one\n", "backbones:\n- {name: two}\n- name: one\n"),
    "comments": (
        "backbones:  # of the paper\n  # first\n  - name: one  # ours\n    # none below\n\nrun: {}\n",
        "backbones:  # of the paper\n  # first\n  - {name: two}\n  - name: one  # ours\n    # none below\n\nrun: {}\n",
    ),
    "words": ("backbones: [one]  # mine\nrun: {}\n", "backbones: [{name: two}, one]  # mine\nrun: {}\n"),
    "lines in brackets": (
        "backbones: [\n  {name: one},  # a\n]\n", "backbones: [\n  {name: two}, {name: one},  # a\n]\n"
    ),
    "last, without an end of line": ("backbones:\n  - one", "backbones:\n  - {name: two}\n  - one"),
    "in the middle": (
        "backbones:\r\n- name: one\r\n  precision: float32\r\nrun: {}\r\n",
        "backbones:\r\n- {name: two}\n- name: one\r\n  precision: float32\r\nrun: {}\r\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("before", LISTS)
def test_a_second_import_adds_its_backbone_and_leaves_all_else(before: str, tmp_path: Path, command: Command) -> None:
    text, expected = LISTS[before]
    head = "# My recipe.\nname: mine\ndatasets: [{name: mine, layout: imported}]  # é\n"
    recipe = tmp_path / "start.yaml"
    recipe.write_bytes((head + text).encode())
    recipe.chmod(0o640)
    file = parquet(columns(), tmp_path / "x.parquet")
    assert "has the backbone 'two' too" in command(*asked(file, tmp_path, "--backbone", "two")).out
    assert recipe.read_bytes().decode().replace("\r\n", "\n") == (head + expected).replace("\r\n", "\n")
    assert recipe.stat().st_mode & 0o777 == 0o640
    assert [spec.label for spec in load_recipe(recipe).backbones] == ["two", "one"]
    assert "has this backbone already" in command(*asked(file, tmp_path, "--backbone", "two")).out
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")] == []


@pytest.mark.usefixtures("local_ray")
def test_two_imports_run_and_are_reported_together(tmp_path: Path, command: Command) -> None:
    content = columns()
    for label, width in (("one", D), ("two", 2 * D)):
        z = np.hstack([content["embedding"]] * (width // D))
        file = parquet({**content, "embedding": z}, tmp_path / f"{label}.parquet")
        out = command(*asked(file, tmp_path, "--backbone", label)).out
        assert f"Next: icm-bench run {tmp_path / 'start.yaml'}" in out
    changes = [
        "sweep.predictors=[class_means]",
        "sweep.projections=[identity, icm]",
        "sweep.seeds=[0]",
        "sweep.ranks=[2]",
    ]
    options = ["--store", tmp_path / "store", *(word for change in changes for word in ("--set", change))]
    command("run", tmp_path / "start.yaml", *options, "--out", tmp_path / "report")
    storage = Storage(str(tmp_path / "store"))
    assert set(read_rows(storage, all_trials(storage))["backbone"]) == {"one", "two"}
    command("report", tmp_path / "start.yaml", "--store", tmp_path / "store", *options[2:], "--out", tmp_path / "again")
    for folder in ("report", "again"):
        table = pd.read_csv(tmp_path / folder / "tables" / "main.csv")
        assert set(table["block"]) == {"one", "two"}


def test_the_store_knows_imports_and_finds_what_is_damaged_in_them(tmp_path: Path) -> None:
    recipe = imported(parquet(with_view(columns()), tmp_path / "x.parquet"), tmp_path)
    storage = Storage(str(tmp_path / "store"))
    assert {(d.dataset, d.view, d.state) for d in upkeep.verify(storage)} == {
        ("mine", "imported", "complete"), ("mine", "original", "complete"), ("mine", "fog", "complete"),
    }  # fmt: skip
    assert upkeep.clean(storage, dry_run=False).names == []
    (file,) = (tmp_path / "store/imported/mine").glob("*.json")
    file.write_text(file.read_text().replace('"dim": 6', '"dim": 7'))
    assert upkeep.clean(storage, dry_run=False).names == [str(file.relative_to(tmp_path / "store"))]
    with pytest.raises(IcmBenchError, match="no imported embeddings of 'mine'"):
        manifests_of(recipe, storage)


def test_imports_stay_valid_when_decoding_changes(
    made: tuple[Path, Path], imported_again: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export and a foreign file, imported before the version of the store was raised."""
    recipe, storage = load_recipe(imported_again), Storage(str(tmp_path / "store"))
    imported(parquet(with_view(columns()), tmp_path / "x.parquet"), tmp_path)

    def subject() -> Any:
        (manifest,) = manifests_of(recipe, storage)
        return imported_subject(recipe, storage, manifest, recipe.backbones[0])

    before, parts = subject(), contents(tmp_path / "store", ".parquet")
    assert len(before.views) == 4
    for module in (store, read_embeddings):
        monkeypatch.setattr(module, "STORE_VERSION", store.STORE_VERSION + 1)
    new = store.view_of("images", 9, {"fingerprint": "weights"}, None, 0)
    assert new.depends_on["view"]["version"] == store.STORE_VERSION
    assert subject().views == before.views
    assert all(d.state == "complete" for d in upkeep.verify(storage))
    assert upkeep.clean(storage, dry_run=False).names == []
    for again in (asked(made[1], tmp_path, name="toy"), asked(tmp_path / "x.parquet", tmp_path)):
        command(*again)
    assert contents(tmp_path / "store", ".parquet") == parts
    shutil.rmtree(tmp_path / "store/imported/toy")  # without its import, what was exported is a stale embedding
    assert set(upkeep.clean(storage, dry_run=False).names) == {view.directory for view in before.views}


def test_an_import_of_other_chunks_is_refused(
    imported_again: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, storage = load_recipe(imported_again), Storage(str(tmp_path / "store"))
    (manifest,) = manifests_of(recipe, storage)
    monkeypatch.setattr(imported_embeddings, "IMPORTS_SINCE", store.STORE_VERSION + 1)
    with pytest.raises(IcmBenchError, match=r"'toy' was imported into .* by an earlier version"):
        imported_subject(recipe, storage, manifest, recipe.backbones[0])


def test_a_set_whose_every_image_can_be_read_and_stands_once_is_exported_and_imported(
    embedded_toy: Path, tmp_path: Path, command: Command
) -> None:
    shutil.copytree(embedded_toy / "store", tmp_path / "store")
    place = f"--store={tmp_path / 'store'}"
    said = command("export-embeddings", embedded_toy / "recipe.yaml", place, "--to", tmp_path / "out").out
    table = pq.read_table(tmp_path / "out" / "embeddings.parquet")
    assert (len(table), "80 images" in said) == (80 * 4, True)
    command(*asked(tmp_path / "out", tmp_path / "fresh", name="toy"))
