"""Embeddings that exist: what a run exports gives the same rows and tables again, and foreign files are read right."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.neighbors import NearestCentroid

import benchmark
from benchmark.cli import main
from benchmark.commands import import_embeddings
from benchmark.commands.imported_sets import imported_subject, manifests_of
from benchmark.commands.read_embeddings import Asked
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import Storage
from benchmark.recipe.loading import load_recipe, parse_recipe
from benchmark.store import embeddings as store
from benchmark.store import upkeep
from benchmark.store.rows import all_trials, read_rows
from benchmark.store.texts import read_texts
from tests.conftest import REPOSITORY, some_of

RECIPE = """\
name: emoji
datasets: [{name: emoji, root: ROOT}]
backbones: [{name: MiniLiT, image_size: 64}]
interventions: {kinds: [grayscale, gaussian_blur], draws: 2}
sweep:
  test_splits: [full]
  seeds: [0, 1]
  lambdas: [2]
  ranks: [32, 256]
  projections: [identity, icm, {name: shrinkage, lambdas: [10]}]
  predictors: [zero_shot]
run: {store: STORE, max_bad_images: 0.1}
"""
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
def made(tmp_path_factory: pytest.TempPathFactory, demo_set: Path, local_ray: None) -> tuple[Path, Path]:  # noqa: ARG001
    """The folder of a finished run on some images of the demo, and that of its exported embeddings.

    One image stands twice, and one cannot be read.
    """
    folder = tmp_path_factory.mktemp("made")
    images = some_of(demo_set, 4, folder / "images")
    some = sorted(images.glob("*/*/*.png"))
    shutil.copy(some[0], some[0].with_name("zz-again.png"))
    some[7].write_bytes(b"no image")
    (folder / "recipe.yaml").write_text(RECIPE.replace("ROOT", str(images)).replace("STORE", str(folder / "store")))
    benchmark.run(load_recipe(folder / "recipe.yaml"))
    assert main(["export-embeddings", str(folder / "recipe.yaml"), "--to", str(folder / "exported")]) == 0
    return folder, folder / "exported"


def contents(folder: Path, *suffixes: str) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.suffix in suffixes)
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.mark.slow
def test_an_export_gives_the_same_bytes_again_without_images_or_models(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, exported = made
    fresh, file = tmp_path / "store", tmp_path / "start.yaml"
    arguments = ["import-embeddings", str(exported), "--name", "emoji", "--store", str(fresh), "--recipe", str(file)]
    assert main(arguments) == 0
    assert "with the identity of the run that exported them" in capsys.readouterr().out
    start = yaml.safe_load(file.read_text())
    made_with = yaml.safe_load((folder / "recipe.yaml").read_text())
    # Of the views, the texts and the backbone it says what was exported; the sweep is the reader's.
    assert {**start["interventions"], "kinds": [kind["name"] for kind in start["interventions"]["kinds"]]} == (
        made_with["interventions"]
    )
    assert start["backbones"] == made_with["backbones"]
    recipe = {**made_with, "datasets": [{"name": "emoji", "layout": "imported"}], "run": {"store": str(fresh)}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    (tmp_path / "sitecustomize.py").write_text(GUARD)
    done = subprocess.run(
        [sys.executable, "-m", "benchmark.cli", "run", str(tmp_path / "recipe.yaml")],
        capture_output=True, text=True, cwd=tmp_path, check=False,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "default_worker.py" in (tmp_path / "processes").read_text()  # the guard stood in them too
    assert "emoji with MiniLiT 64px: imported, nothing is to be embedded" in done.stderr
    assert "not all views" not in done.stderr
    rows = contents(folder / "store" / "rows", ".parquet")
    assert len(rows) == 6
    assert contents(fresh / "rows", ".parquet") == rows
    (report,), (again,) = ([*(place / "reports").iterdir()] for place in (folder / "store", fresh))
    tables = contents(report / "tables", ".csv", ".md", ".tex", ".json")
    assert len(tables) > 10
    assert contents(again / "tables", ".csv", ".md", ".tex", ".json") == tables
    assert report.name == again.name
    assert (set(contents(fresh / "embeddings", ".parquet"))) == set(contents(folder / "store/embeddings", ".parquet"))


@pytest.mark.slow
def test_an_edited_export_is_refused_and_may_be_taken_as_it_is(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, exported = made
    edited = shutil.copytree(exported, tmp_path / "edited")
    table = pq.read_table(edited / "embeddings.parquet")
    metadata = pq.read_metadata(edited / "embeddings.parquet").metadata
    classes = table["class"].to_pylist()
    other = next(name for name in classes if name != classes[0])
    image = table["image_id"][0].as_py()
    classes = [
        other if name == image else old for name, old in zip(table["image_id"].to_pylist(), classes, strict=True)
    ]
    table = table.set_column(table.column_names.index("class"), "class", pa.array(classes))
    pq.write_table(table.replace_schema_metadata(metadata), edited / "embeddings.parquet")
    arguments = ["import-embeddings", str(edited), "--name", "emoji", "--store", str(tmp_path / "store")]
    arguments += ["--recipe", str(tmp_path / "r.yaml")]
    assert main(arguments) == 2
    assert "were edited since they were exported (the digest differs)" in capsys.readouterr().err
    assert not (tmp_path / "store" / "embeddings").exists()
    assert main([*arguments, "--foreign"]) == 0
    assert "known by their content" in capsys.readouterr().out


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


def texts(file: Path, names: tuple[str, ...] = CLASSES, width: int = D) -> Path:
    t = np.random.default_rng(5).normal(size=(len(names), width)).astype(np.float32)
    content: dict[str, Any] = {"class": np.array(names), "embedding": t}
    np.savez(file, **content)
    return file


def imported(file: Path, folder: Path, *more: str) -> Any:
    """Import a file, and return the recipe that came of it."""
    recipe = folder / "start.yaml"
    recipe.unlink(missing_ok=True)
    arguments = ["import-embeddings", str(file), "--name", "mine", "--store", str(folder / "store")]
    assert main([*arguments, "--recipe", str(recipe), *more]) == 0
    return load_recipe(recipe, {"run.store": str(folder / "store")})


def test_views_and_texts_of_a_foreign_file_lie_with_their_images(tmp_path: Path) -> None:
    content = with_view(columns())
    file = parquet(content, tmp_path / "mine.parquet")
    recipe = imported(
        file, tmp_path, "--texts", str(texts(tmp_path / "t.npz")), "--backbone", "own", "--logit-scale", "9"
    )
    storage = Storage(str(tmp_path / "store"))
    (manifest,) = manifests_of(recipe, storage)
    subject = imported_subject(recipe, storage, manifest, recipe.backbones[0])
    assert (subject.facts.label, subject.facts.logit_scale, subject.facts.texts) == ("own", 9.0, "classes")
    assert [view.label for view in subject.views] == ["original", "fog"]
    assert "fog" in subject.kinds
    table = manifest.table.to_pylist()
    assert [row["path"] for row in table] == sorted(
        set(content["path"]), key=lambda p: (*told(content, p), p)
    )  # DomainBed's order
    for view in subject.views:
        stored = store.read(storage, view, [row["image_id"] for row in table])
        for row, z in zip(table, stored, strict=True):
            (place,) = np.flatnonzero((content["path"] == row["path"]) & (content["view"] == view.label))
            assert (content["environment"][place], content["class"][place]) == (row["environment"], row["class_name"])
            np.testing.assert_array_equal(z, content["embedding"][place])
    given = np.load(tmp_path / "t.npz")["embedding"].astype(np.float64)
    unit = given / np.linalg.norm(given, axis=1, keepdims=True)
    np.testing.assert_allclose(read_texts(storage, subject.texts), unit, rtol=1e-6)


def told(content: dict[str, Any], path: str) -> tuple[str, str]:
    place = int(np.flatnonzero(content["path"] == path)[0])
    return str(content["environment"][place]), str(content["class"][place])


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


@pytest.mark.usefixtures("local_ray")
def test_a_file_without_views_or_texts_leaves_what_needs_neither(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = columns()
    np.savez(tmp_path / "mine.npz", **content)
    recipe = imported(tmp_path / "mine.npz", tmp_path)
    assert [predictor.name for predictor in recipe.sweep.predictors] == ["linear_probe"]
    changes = {
        "sweep.predictors": [{"name": "class_means", "metric": "euclidean"}], "sweep.seeds": [0], "sweep.test_splits": ["full"], "sweep.ranks": [D],
        "sweep.projections": ["identity", "icm", {"name": "shrinkage", "lambdas": [0, 10]}, "fixed", "isotropic_environments"],
    }  # fmt: skip
    file = tmp_path / "swept.yaml"
    overridden = load_recipe(tmp_path / "start.yaml", changes)
    file.write_text(json.dumps(overridden.model_dump(mode="json")))
    assert main(["sweep", str(file), "--store", str(tmp_path / "store")]) == 0
    printed = capsys.readouterr()
    assert "Shrinkage (environments alone) + class means" in printed.out  # what remains is judged; lodo needs 4 of them
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


def changed(**changes: Any) -> Callable[[Path], Path]:
    return lambda folder: parquet({**with_view(columns()), **changes}, folder / "x.parquet")


def edit(column: str, row: int, value: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        content = with_view(columns())
        array = content[column].astype(object) if column != "embedding" else content[column].copy()
        array[row] = value
        return parquet({**content, column: array}, folder / "x.parquet")

    return write


def truncated(folder: Path) -> Path:
    file = parquet(columns(), folder / "x.parquet")
    file.write_bytes(file.read_bytes()[:-100])
    return file


def garbled(folder: Path) -> Path:
    file = parquet(columns(2000), folder / "x.parquet")
    content = bytearray(file.read_bytes())
    content[2000:2100] = bytes(100)
    file.write_bytes(bytes(content))
    return file


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


def doubled(folder: Path) -> Path:
    content = columns()
    return parquet({k: np.concatenate([v, v[4:5]]) for k, v in content.items()}, folder / "x.parquet")


def lacking_a_view(folder: Path) -> Path:
    content = with_view(columns())
    row = int(np.flatnonzero(content["view"] == "fog")[3])
    return parquet({k: np.delete(v, row, axis=0) for k, v in content.items()}, folder / "x.parquet")


def lacking_an_original(folder: Path) -> Path:
    content = with_view(columns())
    row = int(np.flatnonzero(content["view"] == "original")[3])
    return parquet({k: np.delete(v, row, axis=0) for k, v in content.items()}, folder / "x.parquet")


def grouped_in_part(folder: Path) -> Path:
    content = columns()
    return parquet({**content, "group": np.array(["g"] * 89 + [None], dtype=object)}, folder / "x.parquet")


NAN, INF = np.full(D, np.nan, np.float32), np.full(D, np.inf, np.float32)
BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "truncated": (truncated, r"x\.parquet cannot be read"),
    "garbled": (garbled, r"x\.parquet cannot be read"),
    "no npz": (no_npz, r"x\.npz cannot be read"),
    "objects": (objects, r"x\.npz: the array 'class' holds Python objects, which are not unpickled"),
    "mixed width": (mixed_width, r"x\.parquet, row 71: an embedding of width 5, others have 6"),
    "NaN": (edit("embedding", 40, NAN), r"x\.parquet, row 41: the embedding holds NaN or infinite values"),
    "infinite": (edit("embedding", 40, INF), r"x\.parquet, row 41: the embedding holds NaN or infinite values"),
    "doubled": (doubled, r"x\.parquet, row 91: '\d+\.png' in the view 'original' stands in row 5 already"),
    "no class": (edit("class", 2, None), r"x\.parquet, row 3: 'class' is empty"),
    "no environment": (edit("environment", 2, ""), r"x\.parquet, row 3: 'environment' is empty"),
    "no name": (edit("path", 2, None), r"x\.parquet, row 3: 'path' is empty"),
    "control letters": (
        edit("environment", 2, "a\tb"),
        r"x\.parquet, row 3: 'environment' is 'a\\tb', which is no name",
    ),
    "class of a view": (
        edit("class", 2, "cow"),
        r"x\.parquet, row \d+: '\d+\.png' in the view .* has another class than",
    ),
    "no view of an image": (lacking_a_view, r"x\.parquet, row \d+: .* has no view 'fog' beside it"),
    "no original": (lacking_an_original, r"x\.parquet, row \d+: '\d+\.png' in the view 'fog' has no 'original'"),
    "only views": (changed(view=np.array(["fog"] * 180)), r"x\.parquet: no row has the view 'original', only 'fog'"),
    "one class": (changed(**{"class": np.array(["cat"] * 180)}), r"x\.parquet has one class only \(cat\)"),
    "unknown column": (
        changed(clas=np.array(["cat"] * 180)),
        r"x\.parquet: unknown column 'clas'; did you mean 'class'",
    ),
    "groups of some": (grouped_in_part, r"x\.parquet, row 90: no group, while others have one"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_makes_no_sense_is_one_sentence_and_leaves_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write, pattern = BAD[name]
    file = write(tmp_path)
    arguments = ["import-embeddings", str(file), "--name", "mine", "--store", str(tmp_path / "store")]
    assert main([*arguments, "--recipe", str(tmp_path / "r.yaml")]) == 2
    said = capsys.readouterr().err
    with pytest.raises(IcmBenchError, match=pattern):
        raise IcmBenchError(said)
    assert said.count("\n") == 1
    assert not [*(tmp_path / "store").glob("*")]
    assert not (tmp_path / "r.yaml").exists()


def test_texts_that_do_not_fit_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = parquet(columns(), tmp_path / "x.parquet")
    cases = [
        (texts(tmp_path / "few.npz", ("cat", "dogs")), "few.npz: the class 'dog' has no text; did you mean 'dogs'?"),
        (texts(tmp_path / "wide.npz", width=9), "wide.npz: texts have width 9, and images 6"),
        (texts(tmp_path / "twice.npz", ("cat", "dog", "cat")), "twice.npz, row 3: it repeats the class 'cat'"),
    ]
    for place, sentence in cases:
        arguments = ["import-embeddings", str(file), "--name", "mine", "--store", str(tmp_path / "store")]
        assert main([*arguments, "--texts", str(place)]) == 2
        assert sentence in capsys.readouterr().err
    assert not [*(tmp_path / "store").glob("*")]


@pytest.mark.parametrize("given", [("--name", "../up"), ("--name", ""), ("--name", "a b"), ("--backbone", " x"),
                                   ("--logit-scale", "-1"), ("--logit-scale", "nan")])  # fmt: skip
def test_names_that_are_none_are_refused(
    given: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = parquet(columns(), tmp_path / "x.parquet")
    options = {"--name": "mine", "--store": str(tmp_path / "store"), given[0]: given[1]}
    assert main(["import-embeddings", str(file), *(f"{key}={value}" for key, value in options.items())]) == 2
    assert f"icm-bench: {given[0]} " in capsys.readouterr().err


def test_a_killed_import_is_invisible_and_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = parquet(with_view(columns()), tmp_path / "x.parquet")
    recipe = parse_recipe(
        {"name": "r", "datasets": [{"name": "mine", "layout": "imported"}], "backbones": ["imported"]}
    )
    storage, asked = Storage(str(tmp_path / "store")), Asked("mine")
    with monkeypatch.context() as patched:
        patched.setattr(import_embeddings, "write_import", interrupt)
        with pytest.raises(KeyboardInterrupt):
            import_embeddings.import_embeddings(storage, file, asked)
    with pytest.raises(IcmBenchError, match="no imported embeddings of 'mine': `icm-bench import-embeddings FILE"):
        manifests_of(recipe, storage)
    before = {place: place.stat().st_mtime_ns for place in (tmp_path / "store").rglob("part-*.parquet")}
    assert import_embeddings.import_embeddings(storage, file, asked)[0].written == 0
    assert {place: place.stat().st_mtime_ns for place in (tmp_path / "store").rglob("part-*.parquet")} == before
    assert len(manifests_of(recipe, storage)[0].table) == 90


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_second_backbone_has_the_same_images_or_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = columns()
    imported(parquet(content, tmp_path / "x.parquet"), tmp_path, "--backbone", "one")
    wider = {**content, "embedding": np.hstack([content["embedding"], content["embedding"]])}
    imported(parquet(wider, tmp_path / "y.parquet"), tmp_path, "--backbone", "two")
    other = parquet(columns(80), tmp_path / "z.parquet")
    arguments = ["import-embeddings", str(other), "--name", "mine", "--store", str(tmp_path / "store")]
    assert main([*arguments, "--backbone", "three", "--recipe", str(tmp_path / "r.yaml")]) == 2
    assert "it was imported for one with other images, classes or environments" in capsys.readouterr().err
    recipe = {"name": "r", "datasets": [{"name": "mine", "layout": "imported"}], "backbones": ["one", "two"]}
    storage = Storage(str(tmp_path / "store"))
    parsed = parse_recipe(recipe)
    (manifest,) = manifests_of(parsed, storage)
    widths = [imported_subject(parsed, storage, manifest, spec).facts.dim for spec in parsed.backbones]
    assert widths == [D, 2 * D]
    with pytest.raises(IcmBenchError, match="'thre' is none for which embeddings of 'mine' were imported"):
        manifests_of(parse_recipe({**recipe, "backbones": ["thre"]}), storage)


def test_a_recipe_that_is_there_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, recipe = parquet(columns(), tmp_path / "x.parquet"), tmp_path / "r.yaml"
    recipe.write_text("mine")
    arguments = ["import-embeddings", str(file), "--name", "mine", "--store", str(tmp_path / "store")]
    assert main([*arguments, "--recipe", str(recipe), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["recipe_written"], said["images"], said["exported"]) == (False, 90, False)
    assert recipe.read_text() == "mine"


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
