"""Recipes in published records: no place, no secret, and the same hash when they come back."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark.commands.recipes import packaged_recipes
from benchmark.common.errors import IcmBenchError
from benchmark.recipe.loading import load_recipe, parse_recipe
from benchmark.recipe.published import recipe_from, without_paths
from benchmark.recipe.recipe import Recipe
from tests.conftest import EXAMPLES

RECIPES = [*packaged_recipes().values(), EXAMPLES / "parts" / "recipe.yaml"]
HOME = "/home/ada/private"
OWN: dict[str, Any] = {
    "name": "own",
    "datasets": [{"name": "toy", "root": f"{HOME}/toy", "expected": {"predictor": "zero_shot"}}],
    "backbones": ["MiniLiT"],
    "names": {"toy": "Toy"},
    "run": {"store": f"{HOME}/store", "out": "s3://bucket/out", "logs": f"{HOME}/logs"},
}


def own(**changes: Any) -> Recipe:
    return parse_recipe({**OWN, **changes})


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
@pytest.mark.parametrize("data", [None, "/data"])
def test_a_recipe_comes_back_with_its_hash_and_its_order(file: Path, data: str | None) -> None:
    try:
        recipe = load_recipe(file, {"run.data": data} if data else {})
    except IcmBenchError:
        pytest.skip("the recipe needs data or a class beside it")
    if any(d.root is not None or not d.is_built for d in recipe.datasets):
        with pytest.raises(IcmBenchError, match=r"is images in a folder; give the folder that holds it with --data\."):
            recipe_from(without_paths(recipe), "r.json")
    back = recipe_from(without_paths(recipe), "r.json", data or "/data")
    assert back.hash() == recipe.hash()
    assert without_paths(back) == without_paths(recipe)
    assert [d.name for d in back.datasets] == [d.name for d in recipe.datasets]


def test_no_place_remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "hf_verysecrettoken")
    model = tmp_path / "model"
    model.mkdir()
    recipe = own(
        datasets=[{"name": "toy", "layout": "table", "root": HOME, "table": f"{HOME}/a.csv", "columns": {"path": f"{HOME}/{{x}}"},
                   "lookup": {"environment": {"table": "s3://bucket/b.csv?x=1", "key": "k", "name": "n"}}}],
        backbones=[f"hf:{model}", f"local-dir:{HOME}/m1", {"name": "mine", "folder": f"{HOME}/m2"},
                   {"name": "ViT-B-32", "pretrained": "runs/last.pt", "quick_gelu": False}],
        interventions={"text": {"pairs": "private/pairs.jsonl"}},
        prompts={"templates": ["/ {} hf_verysecrettoken"]},
    )  # fmt: skip
    text = without_paths(recipe)
    for place in ("ada", str(tmp_path), "bucket", "runs", "private", "verysecret", "Toy", '"run"'):
        assert place not in text, place
    content = json.loads(text)
    assert [b["name"] for b in content["backbones"]] == ["hf:PLACE/model", "local-dir:PLACE/m1", "mine", "ViT-B-32"]
    assert content["datasets"][0]["table"] == "PLACE/a.csv"
    assert content["prompts"]["templates"] == ["/ {} ***"]


def test_files_of_the_author_are_asked_for_by_key() -> None:
    recipe = own(backbones=[{"name": "ViT-B-32", "pretrained": f"{HOME}/last.pt", "quick_gelu": False}])
    with pytest.raises(
        IcmBenchError, match=r"backbones\.0\.pretrained .* 'last\.pt'; give yours: --set backbones\.0\.pretrained="
    ):
        recipe_from(without_paths(recipe), "r.json", "/data")
    given = {"backbones.0.pretrained": f"{HOME}/last.pt"}
    assert recipe_from(without_paths(recipe), "r.json", "/data", given).hash() == recipe.hash()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"run": {"store": "/"}}, "names places"),
        ({"datasets": [{"name": "toy", "root": "/etc"}]}, "names places"),
        ({"interventions": {"text": {"pairs": "/etc/passwd"}}}, "names places"),
        ({"datasets": [{"name": "toy", "layout": "imported"}]}, "were imported"),
        ({"datasets": "toy"}, "no list of datasets"),
        ({"sweep": {"ranks": -1}}, r"sweep\.ranks"),
    ],
)
def test_what_a_record_cannot_give_is_refused(change: dict[str, Any], said: str) -> None:
    content = {**json.loads(without_paths(own())), **change}
    with pytest.raises(IcmBenchError, match=said):
        recipe_from(json.dumps(content), "r.json", "/data")
