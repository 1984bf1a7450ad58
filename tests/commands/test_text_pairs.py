"""Pairs of texts as a recipe asks for them: named like the data set, and of known halves where classes are open."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.commands.preparing.text_pairs import text_pairs_of
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.datasets.manifest import Manifest, read_manifest
from benchmark.datasets.spec import DatasetSpec
from benchmark.method.interventions.text import edited_pairs
from benchmark.recipe.loading import parse_recipe
from benchmark.recipe.recipe import Recipe
from benchmark.store.rows import all_trials, read_rows


@pytest.fixture
def manifest(toy_root: Path) -> Manifest:
    return read_manifest(DatasetSpec(name="toy", root=str(toy_root)))


def recipe(text: dict[str, Any], protocol: str = "open_class") -> Recipe:
    return parse_recipe(
        {
            "name": "pairs",
            "datasets": ["toy"],
            "backbones": [{"name": "ViT-B-32", "pretrained": "random"}],
            "interventions": {"kinds": [], "text": text},
            "sweep": {"protocols": [protocol], "intervention_sets": [{"name": "words", "kinds": ["text"]}]},
        }
    )


def written(folder: Path, *pairs: dict[str, str]) -> dict[str, str]:
    file = folder / "pairs.jsonl"
    file.write_text("\n".join(json.dumps({"caption": f"a {i}", "rewrite": "b", **p}) for i, p in enumerate(pairs)))
    return {"pairs": str(file)}


def test_classes_of_one_name_have_their_pairs_once_and_they_are_of_the_later_class(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Manifest, "prompt_names", ["missile", "missile"])  # as two classes of ImageNet are called
    for text in ({"per_class": 3}, {"per_class": 3, "edits": ["colour"]}):
        assert [pair.class_name for pair in text_pairs_of(recipe(text), manifest)] == [manifest.classes[1]] * 3


def test_templates_and_edits_make_pairs_of_every_class(manifest: Manifest) -> None:
    edits = {"per_class": 3, "edits": ["colour", "noise"], "seed": 5}
    plain, made = (text_pairs_of(recipe(text), manifest) for text in ({"per_class": 3}, edits))
    for pairs in (plain, made):
        assert [pair.class_name for pair in pairs] == [name for name in manifest.classes for _ in range(3)]
    assert made == edited_pairs(manifest.classes, ["colour", "noise"], 3, seed=5)
    with pytest.raises(IcmBenchError, match="per_class=241 is not between 1 and 240"):
        text_pairs_of(recipe({"per_class": 241, "edits": ["size"]}), manifest)


def test_a_pair_of_unknown_class_is_refused_where_classes_are_open(manifest: Manifest, tmp_path: Path) -> None:
    text = written(tmp_path, {"class_name": manifest.classes[0]}, {"class_name": "of no data set"})
    with pytest.raises(IcmBenchError, match="the pair 'a 1' names no class"):
        text_pairs_of(recipe(text), manifest)
    kept = text_pairs_of(recipe(text, "held_out"), manifest)
    assert [pair.class_name for pair in kept] == [manifest.classes[0], "of no data set"]
    two = recipe(text).model_copy(update={"datasets": recipe(text).datasets * 2})  # it may be of the other
    assert len(text_pairs_of(two, manifest)) == 2
    with pytest.raises(IcmBenchError, match=r"base classes of toy \(cat to cat\), but has no pairs of them"):
        text_pairs_of(recipe(written(tmp_path, {"class_name": manifest.classes[1]})), manifest)


def test_images_are_named_by_path_or_id(manifest: Manifest, tmp_path: Path) -> None:
    (path, *_), (_, image_id, *_) = (manifest.table[name].to_pylist() for name in ("path", "image_id"))
    pairs = text_pairs_of(recipe(written(tmp_path, {"image_id": path}, {"image_id": image_id})), manifest)
    assert [pair.image_id for pair in pairs] == manifest.table["image_id"].to_pylist()[:2]
    with pytest.raises(IcmBenchError, match=r"'nowhere.jpg' is not an image of toy; give its path in the folder"):
        text_pairs_of(recipe(written(tmp_path, {"image_id": "nowhere.jpg"})), manifest)
    with pytest.raises(IcmBenchError, match="1 of 2 pairs describe single images"):
        text_pairs_of(recipe(written(tmp_path, {"image_id": path}, {})), manifest)


@pytest.mark.long("pairs of texts of held-out images reach a fit")
@pytest.mark.usefixtures("local_ray")
def test_pairs_of_held_out_images_reach_no_fit(toy_root: Path, tmp_path: Path, tiny_random: dict[str, Any]) -> None:
    table = read_manifest(DatasetSpec(name="toy", root=str(toy_root))).table.to_pylist()
    last = max(row["environment"] for row in table)
    pairs = [
        {"caption": f"a {row['class_name']} number {i}", "rewrite": f"{i} in the snow", "image_id": row["image_id"]}
        for i, row in enumerate(table)
    ]
    file, storage, seen = tmp_path / "recipe.yaml", Storage(str(tmp_path / "store")), set[str]()

    def rows(text: dict[str, str], command: str) -> Any:
        content = {
            "name": "pairs", "datasets": [{"name": "toy", "root": str(toy_root)}], "backbones": [tiny_random],
            "interventions": {"kinds": [], "text": text}, "run": {"batch_size": 8},
            "sweep": {
                "intervention_sets": [{"name": "words", "kinds": ["text"]}], "projections": ["icm"], "lambdas": [1],
                "predictors": ["zero_shot"], "seeds": [0], "ranks": [2, 8, 16],
            },
        }  # fmt: skip
        file.write_text(json.dumps(content))  # JSON is YAML
        assert main([command, str(file), "--store", str(tmp_path / "store")]) == 0
        new = sorted(set(all_trials(storage)) - seen)
        seen.update(new)
        return read_rows(storage, new).set_index("held_out").sort_index()

    clean = rows(written(tmp_path, *pairs), "run")
    for i, row in enumerate(table):
        pairs[i] |= {"rewrite": f"poison {i}"} if row["environment"] == last else {}
    poison = rows(written(tmp_path, *pairs), "sweep")
    far = {name: np.abs(clean["spectrum"][name] / poison["spectrum"][name] - 1).max() for name in clean.index}
    assert far.pop(last) == 0 < 1e-2 < min(far.values())  # the poison does arrive elsewhere
    assert clean["correct"][last] == poison["correct"][last]
