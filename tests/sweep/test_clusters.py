"""Clusters in the place of source environments: what is clustered, what a sweep and `plan` make of it, what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans

from benchmark.cli import main
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.splits import Split
from benchmark.recipe.loading import load_recipe, parse_recipe
from benchmark.store.embeddings import view_of
from benchmark.store.rows import read_rows
from benchmark.sweep.pseudo_environments import Clusters, clustered
from benchmark.sweep.summing import ImageIndex
from benchmark.sweep.trials import unfolded
from tests.conftest import toy_in

N, SPLIT = 90, Split(0)


def images() -> tuple[Embedded, ImageIndex]:
    """Three environments of 30 images, `b` held out later; sides and labels in turns (simulated)."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((N, 6)).astype(np.float32)
    environment, label = np.repeat([0, 1, 2], 30), np.arange(N) % 2
    side = {SPLIT: (np.arange(N) % 5 == 0).astype(np.int64)}
    data = Embedded(z, environment, label, side, z[:2], ["a", "b", "c"], ["cat", "dog"])
    view = view_of("data", N, {"fingerprint": "weights"}, None, 0)
    ids = [str(i) for i in range(N)]
    return data, ImageIndex(view, ids, np.zeros(N, np.int64), {SPLIT: data.layout(SPLIT)}, data.environments, 6)


def test_sources_are_clustered_by_their_embeddings_alone_and_what_is_held_out_stays(tmp_path: Path) -> None:
    data, index = images()
    clusters = Clusters(4, 7, ("b",))
    found, there = clustered(Storage(str(tmp_path / "store")), clusters, data, index)
    assert found.environments == there.environments == ["cluster 1", "cluster 2", "cluster 3", "cluster 4", "b"]
    held_out = data.environment == 1
    assert (found.environment[held_out] == 4).all()
    unit = data.z[~held_out] / np.linalg.norm(data.z[~held_out].astype(float), axis=1, keepdims=True)
    by_hand = KMeans(4, n_init=10, random_state=7).fit(unit).labels_
    pairs = set(zip(by_hand.tolist(), found.environment[~held_out].tolist(), strict=True))
    assert len(pairs) == 4  # the same clusters under other numbers
    np.testing.assert_array_equal(found.side[SPLIT], data.side[SPLIT])  # the same images are tested as without clusters
    np.testing.assert_array_equal(there.layouts[SPLIT].environment, found.environment)
    assert there.digest(SPLIT) != index.digest(SPLIT)  # their moments are others


def test_held_out_images_labels_and_names_of_environments_are_not_seen(tmp_path: Path) -> None:
    data, index = images()
    clusters = Clusters(4, 7, ("b",))
    found = clustered(Storage(str(tmp_path / "one")), clusters, data, index)[0]
    poisoned = data.z.copy()
    poisoned[data.environment == 1] = np.nan
    # One source environment less, the labels of others, and poison in what is held out.
    other = replace(data, z=poisoned, label=1 - data.label, environment=np.where(data.environment == 1, 1, 0))
    again = clustered(Storage(str(tmp_path / "two")), clusters, other, index)[0]
    np.testing.assert_array_equal(found.environment, again.environment)


def test_clusters_come_from_the_store_and_damaged_ones_are_made_again(tmp_path: Path) -> None:
    data, index = images()
    storage, clusters = Storage(str(tmp_path)), Clusters(3, 0, ("a",))
    found = clustered(storage, clusters, data, index)[0].environment
    (file,) = (tmp_path / "clusters").iterdir()
    content = file.read_bytes()
    without = replace(data, z=np.zeros_like(data.z))  # of which there are no clusters to be made
    np.testing.assert_array_equal(clustered(storage, clusters, without, index)[0].environment, found)
    file.write_bytes(content[:-20] + bytes(20))
    np.testing.assert_array_equal(clustered(storage, clusters, data, index)[0].environment, found)
    assert file.read_bytes() == content
    with pytest.raises(IcmBenchError, match=r"cluster:61: 60 images have fewer .* Give fewer clusters"):
        clustered(storage, Clusters(61, 0, ("a",)), data, index)


def content(dataset: dict[str, Any], **sweep: Any) -> dict[str, Any]:
    return {
        "name": "clusters",
        "datasets": [{"environments": "cluster:2", **dataset}],
        "backbones": [{"name": "MiniLiT"}],
        "interventions": {"kinds": ["grayscale"]},
        "sweep": {
            "projections": ["identity", "shrinkage", "biased_prompts"], "predictors": ["zero_shot"], "seeds": [0, 1],
            "normalize": ["before"], "test_splits": ["full"], **sweep,
        },
    }  # fmt: skip


def test_a_sweep_has_the_planned_rows_tests_the_same_images_and_says_what_its_environments_are(
    embedded_toy: Path, tiny_random: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy, frames = toy_in(tmp_path, embedded_toy), {}
    for name, entry in {"own": {}, "clusters": {"environments": "cluster:2"}}.items():
        recipe = {**content(toy, seeds=[0]), "name": name, "datasets": [{**toy, **entry}], "backbones": [tiny_random]}
        file, store = tmp_path / f"{name}.yaml", tmp_path / "store"
        file.write_text(json.dumps(recipe))
        assert main(["plan", str(file), "--store", str(store), "--json"]) == 0
        planned = json.loads(capsys.readouterr().out)
        before = {*(store / "rows").glob("*")}
        assert main(["run", str(file), "--store", str(store), "--out", str(tmp_path / name)]) == 0
        said = capsys.readouterr().err
        rows = read_rows(Storage(str(store)), [f.stem for f in (store / "rows").glob("*") if f not in before])
        assert (len(rows), rows["trial_id"].nunique()) == (planned["rows"], planned["trials"])
        frames[name] = rows
    own, rows = frames["own"], frames["clusters"]
    assert set(rows["dataset"]) == {"toy (2 clusters)"}
    assert (rows["clusters"] == 2).all()
    assert own["clusters"].isna().all()
    assert set(rows["held_out"]) == set(own["held_out"]) == {"env0", "env1", "env2", "env3"}
    assert "toy has clusters as environments, which have no names" in said
    assert "biased_prompts" not in set(rows["projection"])
    plain = [f[f["projection"] == "identity"].set_index("held_out")["correct"].to_dict() for f in (own, rows)]
    assert plain[0] == plain[1]  # of the plain space nothing depends on environments
    reports = [(tmp_path / name / "report.md").read_text() for name in frames]
    assert ["clusters of their images" in report for report in reports] == [False, True]


def test_trials_are_planned_for_each_holdout_apart() -> None:
    recipe = parse_recipe(content({"name": "toy", "root": "toy"}))
    trials = list(unfolded(recipe, "toy", 16, {"a": 10, "b": 20, "c": 30}))
    assert {(spec.held_out, *sizes.items()) for spec, sizes in trials} == {
        ("a", ("cluster 1", 25), ("cluster 2", 25), ("a", 10)),
        ("b", ("cluster 1", 20), ("cluster 2", 20), ("b", 20)),
        ("c", ("cluster 1", 15), ("cluster 2", 15), ("c", 30)),
    }
    assert all(len(spec.holdouts(list(sizes))) == 1 for spec, sizes in trials)


@pytest.mark.parametrize("protocol", ["open_class", "in_domain"])
def test_a_protocol_that_fits_on_what_it_tests_is_refused(
    protocol: str, toy_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(content({"name": "toy", "root": str(toy_root)}, protocols=[protocol])))
    assert main(["plan", str(file), "--store", str(tmp_path / "store")]) == 2
    assert f"'{protocol}' on toy has none; leave that protocol out" in capsys.readouterr().err


def test_a_recipe_without_clusters_keeps_its_hash_and_a_wrong_word_is_refused(tmp_path: Path) -> None:
    entry = {"name": "toy", "root": "toy", "environments": None}
    recipes = [parse_recipe(content({**entry, **more})) for more in ({}, {"environments": "cluster:3"})]
    assert "environments" not in recipes[0].model_dump()["datasets"][0]
    assert recipes[0].hash() != recipes[1].hash()
    for word in ("cluster:1", "cluster:", "cluster:x", "3"):
        (tmp_path / "recipe.yaml").write_text(json.dumps(content({"name": "toy", "environments": word})))
        with pytest.raises(IcmBenchError, match=r"give cluster:K with a whole K from 2 on"):
            load_recipe(tmp_path / "recipe.yaml")
