"""Recipes of published records: no place, and the same hash when they come back."""

import json
from typing import Any

import pytest

from benchmark.commands.recipes import packaged_recipe
from benchmark.common.errors import IcmBenchError
from benchmark.recipe.loading import load_recipe, parse_recipe
from benchmark.recipe.published import recipe_from, without_paths
from benchmark.recipe.recipe import Recipe

HOME = "/srv/ada/private"
OWN: dict[str, Any] = {
    "name": "own",
    "datasets": [{"name": "toy", "root": f"{HOME}/toy", "expected": {"predictor": "zero_shot"}}],
    "backbones": ["MiniLiT"],
    "names": {"toy": "Toy"},
    "run": {"store": f"{HOME}/store", "out": "s3://bucket/out", "logs": f"{HOME}/logs"},
}


def own(**changes: Any) -> Recipe:
    return parse_recipe({**OWN, **changes})


def plain(recipe: Recipe) -> tuple[dict[str, Any], list[str]]:
    """Return what a record holds of a recipe, as it is read again."""
    content, shortened = without_paths(recipe.model_dump(mode="json"))
    return json.loads(json.dumps(content, sort_keys=True)), shortened


@pytest.mark.parametrize(
    ("name", "data"),
    [("demo", None), ("controls", None), ("real", None), ("real", "/data"), ("paper", "/data"), ("cost", "/data")],
)
def test_a_recipe_comes_back_with_its_hash(name: str, data: str | None) -> None:
    recipe = load_recipe(packaged_recipe(name), {"run.data": data} if data else {})
    content, shortened = plain(recipe)
    assert shortened == []
    if any(not dataset.is_built for dataset in recipe.datasets):
        with pytest.raises(IcmBenchError, match=r"is images in a folder; give the folder that holds it with --data\."):
            recipe_from(content, shortened, "r.json", {})
    back = recipe_from(content, shortened, "r.json", {"run.data": data} if data else {})
    assert back.hash() == recipe.hash()
    assert plain(back)[0] == content
    assert [d.name for d in back.datasets] == [d.name for d in recipe.datasets]


def test_no_place_remains() -> None:
    recipe = own(
        datasets=[{"name": "toy", "layout": "table", "root": HOME, "table": f"{HOME}/a.csv", "columns": {"path": f"{HOME}/{{x}}"},
                   "lookup": {"environment": {"table": "s3://bucket/b.csv?x=1", "key": "k", "name": "n"}}}],
        backbones=["hf:/srv/ada/m0", f"local-dir:{HOME}/m1", {"name": "mine", "folder": f"{HOME}/m2"},
                   {"name": "ViT-B-32", "pretrained": "runs/last.pt", "quick_gelu": False}, "hf:openai/clip"],
        interventions={"text": {"pairs": "private/pairs.jsonl"}},
        prompts={"templates": ["/ {}"]},
    )  # fmt: skip
    content, shortened = plain(recipe)
    text = json.dumps(content)
    for place in ("srv", "ada", "bucket", "runs", "private", "Toy", '"run"', '"root"'):
        assert place not in text, place
    assert [b["name"] for b in content["backbones"]] == ["hf:m0", "local-dir:m1", "mine", "ViT-B-32", "hf:openai/clip"]
    assert content["datasets"][0]["table"] == "a.csv"
    assert content["datasets"][0]["lookup"]["environment"]["table"] == "b.csv"
    assert content["prompts"]["templates"] == ["/ {}"]
    assert set(shortened) == {
        "datasets.0.table", "datasets.0.columns.path", "datasets.0.lookup.environment.table", "interventions.text.pairs",
        "backbones.0.name", "backbones.1.name", "backbones.2.folder", "backbones.3.pretrained",
    }  # fmt: skip


def test_files_of_the_author_are_asked_for_by_key() -> None:
    recipe = own(backbones=[{"name": "ViT-B-32", "pretrained": f"{HOME}/last.pt", "quick_gelu": False}])
    with pytest.raises(IcmBenchError, match=r"backbones\.0\.pretrained .* give yours: --set backbones\.0\.pretrained="):
        recipe_from(*plain(recipe), "r.json", {"run.data": "/data"})
    given = {"backbones.0.pretrained": f"{HOME}/last.pt", "run.data": "/data"}
    assert recipe_from(*plain(recipe), "r.json", given).hash() == recipe.hash()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"run": {"store": "/"}}, "names places"),
        ({"datasets": [{"name": "toy", "root": "/etc"}]}, "names places"),
        ({"interventions": {"text": {"pairs": "/etc/passwd"}}}, "names places"),
        ({"datasets": [{"name": "toy", "layout": "imported"}]}, "were imported"),
        ({"datasets": "toy"}, "is damaged"),
        ({"sweep": {"ranks": -1}}, r"sweep\.ranks"),
    ],
)
def test_what_a_record_cannot_give_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(IcmBenchError, match=said):
        recipe_from({**plain(own())[0], **change}, [], "r.json", {"run.data": "/data"})
