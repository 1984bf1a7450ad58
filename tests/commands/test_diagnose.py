"""A small run with every kind of intervention set against NumPy on the stored embeddings; export and diagnose after it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import benchmark
from benchmark.backbones.projection_files import read_projection
from benchmark.cli import main
from benchmark.commands.preparing.prepare import prepare
from benchmark.commands.report import report_stage
from benchmark.commands.stores import open_store
from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.cells import Layout, drawn_pairs
from benchmark.method.interventions import view_rng
from benchmark.recipe.loading import load_recipe
from benchmark.store import embeddings as store
from benchmark.store.embeddings import read_texts
from tests.conftest import make_toy
from tests.method.subspace.test_shift import reference

pytestmark = pytest.mark.usefixtures("local_ray")

KINDS, RANK, ENVIRONMENTS = ("grayscale", "invert"), 24, 4
RECIPE = """\
name: sets
datasets: [{name: toy, root: ROOT}]
backbones: [{name: 'tests.commands.pixels:Pixels', pretrained: random, engine: torch}]
interventions: {kinds: [grayscale, invert], text: {per_class: 8}}
sweep:
  test_splits: [full]
  seeds: [0, 1]
  lambdas: [2]
  ranks: [24, 64]
  normalize: [before]
  intervention_sets:
    - {name: all}
    - {name: text, kinds: [text]}
    - {name: cross, kinds: [cross_environment]}
    - {name: mixed, kinds: [invert, text, cross_environment], weights: [1, 2, 0.5]}
    - {name: drawn, pairing: random_one}
    - {name: half, kinds: [invert], pairs: 0.5, seed: 3}
  projections: [icm, pca]
  predictors: [zero_shot]
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> tuple[Path, Any, Any]:  # noqa: ARG001
    """Recipe file, its source, and the rows of the run."""
    folder = tmp_path_factory.mktemp("sets")
    root = make_toy(folder / "toy", environments=ENVIRONMENTS, classes=3, images=10)
    file = folder / "recipe.yaml"
    file.write_text(RECIPE.replace("ROOT", str(root)) + f"run: {{store: {folder / 'store'}}}\n")
    benchmark.run(load_recipe(file))
    recipe = load_recipe(file)
    (source,) = prepare(recipe, open_store(recipe), lambda _: None).subjects
    return file, source, rows_of(recipe, source)


def rows_of(recipe: Any, source: Any) -> Any:
    from benchmark.store.rows import read_rows
    from benchmark.sweep.trials import trials_of

    return read_rows(open_store(recipe), [trial.id for trial in trials_of(recipe, [source])])


def unit(z: np.ndarray) -> np.ndarray:
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def second_moments(storage: Storage, source: Any, train: np.ndarray) -> dict[str, np.ndarray]:
    """C_d of every kind on the training images, written out."""
    ids = source.manifest.table["image_id"].to_pylist()
    z, *views = (unit(store.read(storage, view, ids).astype(np.float64)) for view in source.views)
    environment, label = source.manifest.environment_index, source.manifest.table["label"].to_numpy()
    moments = {
        kind: (z - view)[train].T @ (z - view)[train] / train.sum() for kind, view in zip(KINDS, views, strict=True)
    }
    pairs = storage.read_table(source.text_pairs)
    d = np.subtract(*(unit(np.array(pairs[name].to_pylist(), dtype=np.float64)) for name in ("caption", "rewrite")))
    moments["text"] = d.T @ d / len(d)
    # One kind for each image, drawn by trial seed and image id.
    draws = [int(view_rng(1, i, "random_one").integers(2)) for i in ids]
    one = np.stack([views[draw][i] for i, draw in enumerate(draws)])
    moments["drawn"] = (z - one)[train].T @ (z - one)[train] / train.sum()
    some = drawn_pairs(Layout(environment, label, 0 * label, 3, 2), 0.5, 3) & train
    moments["half"] = (z - views[1])[some].T @ (z - views[1])[some] / some.sum()
    total, n = np.zeros_like(moments["text"]), 0
    for i in np.flatnonzero(train):
        for other in set(environment[train]) - {environment[i]}:
            there = z[train & (environment == other) & (label == label[i])]
            if len(there):
                total += (z[i] - there).T @ (z[i] - there) / len(there)
                n += 1
    moments["cross_environment"] = total / n
    return moments


WEIGHTS: dict[str, dict[str, float]] = {
    "all": {"grayscale": 1, "invert": 1},
    "text": {"text": 1},
    "cross": {"cross_environment": 1},
    "mixed": {"invert": 1, "text": 2, "cross_environment": 0.5},
    "drawn": {"drawn": 1},
    "half": {"half": 1},
}


def reference_basis(storage: Storage, source: Any, chosen: str, train: np.ndarray) -> np.ndarray:
    z = unit(store.read(storage, source.views[0], source.manifest.table["image_id"].to_pylist()).astype(np.float64))
    moments = second_moments(storage, source, train)
    c_d = sum(w * moments[kind] for kind, w in WEIGHTS[chosen].items()) / sum(WEIGHTS[chosen].values())
    return np.linalg.eigh(z[train].T @ z[train] / train.sum() - 2 * c_d)[1][:, ::-1][:, :RANK]


def in_split(source: Any, seed: int) -> np.ndarray:
    from benchmark.method.evaluation.splits import Split
    from benchmark.sweep.subject import sides_of

    return sides_of(source.manifest, Split(seed)) == 0


@pytest.mark.parametrize("chosen", list(WEIGHTS))
def test_every_intervention_set_gives_the_accuracies_of_a_few_lines_of_numpy(done, chosen: str) -> None:  # type: ignore[no-untyped-def]
    file, source, rows = done
    storage = open_store(load_recipe(file))
    z = unit(store.read(storage, source.views[0], source.manifest.table["image_id"].to_pylist()).astype(np.float64))
    text = read_texts(storage, source.texts).astype(np.float64)
    environment, label = source.manifest.environment_index, source.manifest.table["label"].to_numpy()
    found = rows[(rows["intervention_set"] == chosen) & (rows["seed"] == 1)]
    assert len(found) == ENVIRONMENTS
    said = {(0.5, 3)} if chosen == "half" else {(-1, -1)}
    assert set(found[["pairs_share", "pairs_seed"]].fillna(-1).itertuples(index=False, name=None)) == said
    for row in found.to_dict("records"):
        held_out = environment == source.manifest.environments.index(row["held_out"])
        v = reference_basis(storage, source, chosen, in_split(source, 1) & ~held_out)
        predicted = (z[held_out] @ v @ unit(text @ v).T).argmax(axis=1)
        assert row["target"][0] == pytest.approx((predicted == label[held_out]).mean())


def test_all_subsets_are_sets_of_their_own(done) -> None:  # type: ignore[no-untyped-def]
    file, *_ = done
    recipe = load_recipe(file, {"sweep.intervention_sets": "all_subsets", "sweep.projections": ["icm"]})
    assert [s.kinds for s in recipe.intervention_sets()] == [("grayscale",), ("invert",), KINDS]
    outcome = benchmark.run(recipe)
    assert (outcome.trials, outcome.embedded) == (3 * 2, 0)
    (source,) = prepare(recipe, open_store(recipe), lambda _: None).subjects
    rows = rows_of(recipe, source)
    assert sorted(rows["intervention_set"].unique()) == ["grayscale", "grayscale + invert", "invert"]
    assert report_stage(recipe, open_store(recipe), [source]).rows == len(rows)


def test_export_writes_the_fitted_projection_with_its_provenance(done, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file, source, _ = done
    name = source.manifest.environments[1]
    options = ["--projection", "icm", "--intervention-set", "mixed", "--rank", str(RANK), "--without", name]
    assert main(["export", str(file), *options, "--to", str(tmp_path / "out")]) == 0
    projected = read_projection(tmp_path / "out")
    train = in_split(source, 0) & (source.manifest.environment_index != 1)
    expected = reference_basis(open_store(load_recipe(file)), source, "mixed", train)
    np.testing.assert_allclose(projected.matrix.T @ projected.matrix, expected @ expected.T, atol=1e-5)
    facts = projected.provenance
    assert (facts["images"], facts["lambda"], facts["normalize"]) == (train.sum(), 2.0, "before")
    assert name not in facts["environments"]
    assert (facts["backbone"], facts["fingerprint"]) == (source.facts.label, source.facts.fingerprint)


def test_diagnose_says_what_it_found(done, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    file, source, _ = done
    options = ["--intervention-set", "mixed", "--rank", str(RANK), "--out", str(tmp_path / "out")]
    assert main(["diagnose", str(file), *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "out" / "diagnostics.json").read_text())
    train = in_split(source, 0)
    storage = open_store(load_recipe(file))
    v = reference_basis(storage, source, "mixed", train)
    for kind, c_d in second_moments(storage, source, train).items():
        if kind in WEIGHTS["mixed"]:
            np.testing.assert_allclose(found["moved_by"][kind][:RANK], np.diag(v.T @ c_d @ v), atol=1e-8)
    assert len(found["angles"]["held_out"]["labels"]) == ENVIRONMENTS
    assert set(found["angles"]) == {"held_out", "seeds", "kinds"}
    np.testing.assert_allclose(np.diag(found["angles"]["kinds"]["overlap"]), 1.0)
    assert found["environments"] == source.manifest.environments
    assert [d["space"] for d in found["decodability"]] == ["plain", "projected"]
    text = (tmp_path / "out" / "diagnostics.md").read_text()
    assert f"rank {RANK} of 64" in text
    assert {p.suffix for p in (tmp_path / "out").iterdir()} == {".json", ".md", ".png", ".pdf"}


THREE = "nuisance: [interventions, environments, both]"
BEYOND = f"sweep.projections=[icm, {{name: icm, {THREE}}}, shrinkage, {{name: shrinkage, sides: images}}]"
EQUAL_N = "icm(nuisance=('interventions', 'environments', 'both'))"


def nuisance_and_energy(storage: Storage, source: Any, train: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """C_z, C_d of all kinds, and t B / tr(B), on the training images, written out."""
    z = unit(store.read(storage, source.views[0], source.manifest.table["image_id"].to_pylist()).astype(np.float64))
    moments = second_moments(storage, source, train)
    c_d = (moments["grayscale"] + moments["invert"]) / 2
    means = [z[train & (source.manifest.environment_index == e)].mean(axis=0) for e in range(ENVIRONMENTS)]
    b = np.cov([mean for mean in means if np.isfinite(mean).all()], rowvar=False, bias=True)
    return z[train].T @ z[train] / train.sum(), c_d, np.trace(c_d) / np.trace(b) * b


def test_shrinkage_is_exported_without_a_rank_and_with_a_map_of_each_side(done, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file, source, _ = done
    c_z, c_d, b = nuisance_and_energy(open_store(load_recipe(file)), source, in_split(source, 0))
    options = ["--set", BEYOND, "--nuisance", "both", "--lambda", "10", "--intervention-set", "all"]
    exported = {}
    for label in ("shrinkage", "shrinkage(sides=images)"):
        assert main(["export", str(file), *options, "--projection", label, "--to", str(tmp_path / label)]) == 0
        exported[label] = read_projection(tmp_path / label)
    # Where C_z has energy, F is that of a C_z with a little more of it.
    f = c_z @ np.linalg.pinv(c_z + 10 * (c_d + b), rcond=1e-12, hermitian=True)
    energies, u = np.linalg.eigh(c_z)
    used = u[:, energies > 1e-6 * energies.max()]
    images = exported["shrinkage(sides=images)"]
    np.testing.assert_allclose(images.matrix @ used, f @ used, atol=1e-3)
    assert images.text_matrix is not None
    np.testing.assert_array_equal(images.text_matrix, np.eye(64, dtype=np.float32))
    both = exported["shrinkage"]
    assert both.text_matrix is None
    twice = both.matrix.astype(np.float64) @ both.matrix.astype(np.float64)
    assert np.linalg.norm(twice - images.matrix) < 1e-4 * np.linalg.norm(images.matrix)
    facts = both.provenance
    assert (both.rank, facts["lambda"], facts["projection"]["nuisance"]) == (64, 10.0, "both")


def test_diagnose_says_what_a_map_without_ranks_leaves(done, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    file, source, _ = done
    options = ["--set", BEYOND, "--nuisance", "both", "--lambda", "10", "--intervention-set", "all", "--json"]
    label = "shrinkage(sides=images)"
    assert main(["export", str(file), *options, "--projection", label, "--to", str(tmp_path / "map")]) == 0
    f = read_projection(tmp_path / "map").matrix.astype(np.float64)
    capsys.readouterr()
    place = ["--out", str(tmp_path / "out")]
    assert main(["diagnose", str(file), *options, "--projection", label, *place]) == 0
    found = json.loads(capsys.readouterr().out)
    storage, train = open_store(load_recipe(file)), in_split(source, 0)
    c_z, c_d, b = nuisance_and_energy(storage, source, train)
    mapped = found["mapped"]
    assert mapped["energy_left"] == pytest.approx(np.trace(f @ c_z @ f.T) / np.trace(c_z), rel=1e-4)
    for kind, moved in second_moments(storage, source, train).items():
        if kind in KINDS:
            assert mapped["displacement_left"][kind] == pytest.approx(
                np.trace(f @ moved @ f.T) / np.trace(moved), rel=1e-3
            )
    ratios = [np.trace(m @ c_d @ m.T) / np.trace(m @ c_z @ m.T) for m in (np.eye(64), f)]
    np.testing.assert_allclose(mapped["invariance_ratio"], ratios, rtol=1e-3)
    lost = f - np.eye(64)
    assert mapped["reconstruction"] == pytest.approx(np.trace(lost @ c_z @ lost.T), rel=1e-3)
    assert mapped["nuisance_left"] == pytest.approx(10 * np.trace(f @ (c_d + b) @ f.T), rel=1e-3)
    assert (found["angles"], found["spectrum"], found["nuisance"]) == ({}, None, "both")
    assert not {"rank", "energy", "backbones"} & set(found)
    assert [(d["space"], d["rank"]) for d in found["decodability"]] == [("plain", 64), ("projected", 64)]
    text = (tmp_path / "out" / "diagnostics.md").read_text()
    assert "shift to the environments left out" not in text
    assert "all 64 directions are kept in part, so there are no ranks" in text
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"diagnostics.json", "diagnostics.md"}


def test_diagnose_says_what_is_removed_of_the_shift(done, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    file, source, _ = done
    name, place = source.manifest.environments[2], ["--out", str(tmp_path / "out"), "--json"]
    options = ["--projection", "icm", "--intervention-set", "all", "--rank", str(RANK), "--without", name]
    assert main(["diagnose", str(file), *options, *place]) == 0
    shift = json.loads(capsys.readouterr().out)["shift"]
    storage, train = open_store(load_recipe(file)), in_split(source, 0)
    z = unit(store.read(storage, source.views[0], source.manifest.table["image_id"].to_pylist()).astype(np.float64))
    label, environment = source.manifest.table["label"].to_numpy(), source.manifest.environment_index
    parts = [(z[train & (environment == e)], label[train & (environment == e)]) for e in range(ENVIRONMENTS)]
    target, among = parts.pop(2), train & (environment != 2)
    v, c_d = reference_basis(storage, source, "all", among), second_moments(storage, source, among)
    both = {"sources": reference(parts, parts), "target": reference([target], parts)}
    dropped, c_z = np.eye(64) - v @ v.T, z[among].T @ z[among] / among.sum()
    c_d_all = (c_d["grayscale"] + c_d["invert"]) / 2
    assert shift["target"] == [name]
    for of, s in both.items():
        [share] = shift["real"][f"shift_removed_{of}"]
        assert share == pytest.approx(np.trace(dropped @ s) / np.trace(s), abs=1e-6)
        along = (np.trace(s @ c_d_all) / np.trace(s @ c_z)) / (np.trace(c_d_all) / np.trace(c_z))
        assert shift["real"][f"shift_moved_{of}"] == pytest.approx(along, rel=1e-6)
    assert {kind: len(draws) for kind, draws in shift["placebos"].items()} == {"rotated": 20, "matched": 20}
    assert len({draw["shift_moved_sources"] for draws in shift["placebos"].values() for draw in draws}) == 40
    text = (tmp_path / "out" / "diagnostics.md").read_text()
    assert "Removed shift to the environments left out †" in text
    assert f"† uses the labels of {name}." in text


def test_diagnose_weighs_the_nuisance_of_truncation(done, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    file, source, _ = done
    options = ["--set", BEYOND, "--projection", EQUAL_N, "--nuisance", "environments", "--intervention-set", "all"]
    place = ["--rank", str(RANK), "--out", str(tmp_path / "out"), "--json"]
    assert main(["diagnose", str(file), *options, *place]) == 0
    found = json.loads(capsys.readouterr().out)
    c_z, _, b = nuisance_and_energy(open_store(load_recipe(file)), source, in_split(source, 0))
    v = np.linalg.eigh(c_z - 2 * b)[1][:, ::-1][:, :RANK]
    assert found["consistency"][RANK - 1] == pytest.approx(2 * np.trace(v.T @ b @ v), rel=1e-6)
    assert found["reconstruction"][RANK - 1] == pytest.approx(np.trace(c_z) - np.trace(v.T @ c_z @ v), rel=1e-6)
    assert "held_out" in found["angles"]
    assert "nuisance (environments)" in (tmp_path / "out" / "diagnostics.md").read_text()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--rank", "24"], "--intervention-set is needed, since the recipe has several: all, text"),
        (["--rank", "24", "--intervention-set", "txt"], "'txt' is not in the recipe"),
        (["--rank", "300", "--intervention-set", "all"], "--rank: 300 is not between 1 and"),
        (["--rank", "0", "--intervention-set", "all"], "--rank: 0 is not between 1 and"),
        (["--rank", "24", "--intervention-set", "all", "--without", "nowhere"], "no environment 'nowhere'"),
        (["--rank", "24", "--intervention-set", "all", "--lambda", "7"], "--lambda: '7.0' is not in the recipe"),
    ],
)
def test_an_impossible_choice_is_one_sentence(done, options, sentence, capsys, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file, *_ = done
    assert main(["export", str(file), *options, "--to", str(tmp_path)]) == 2
    assert sentence in capsys.readouterr().err
