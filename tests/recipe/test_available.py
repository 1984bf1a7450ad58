"""What of a sweep is left where views are missing, and how what goes is named."""

from typing import Any

import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.method.predictors import PREDICTORS
from benchmark.method.subspace.moments import CROSS
from benchmark.recipe.loading import parse_recipe
from benchmark.recipe.recipe import Recipe, kinds_of, not_available, settings_of

SETS: list[dict[str, Any]] = [
    {"name": "all"},
    {"name": "grey", "kinds": ["grayscale"]},
    {"name": "both", "kinds": ["grayscale", "invert"]},
    {"name": "cross", "kinds": [CROSS]},
]


def recipe(**sweep: Any) -> Recipe:
    return parse_recipe({
        "name": "r", "datasets": [{"name": "mine", "layout": "imported"}], "backbones": ["own"],
        "interventions": {"kinds": ["grayscale", "invert"]},
        "sweep": {"intervention_sets": SETS, "predictors": ["zero_shot"], **sweep},
    })  # fmt: skip


def settings(asked: Recipe, *kinds: str) -> list[tuple[str, str | None]]:
    [predictor] = asked.sweep.predictors
    return [(p.label, s.name if s else None) for p, s in settings_of(asked, "mine", predictor, kinds, "any")]


def test_sets_whose_kinds_are_there_remain() -> None:
    asked = recipe(projections=["identity", "icm", "isotropic_environments"])
    every = settings(asked, *kinds_of(asked, "mine"))
    assert every == [("identity", None), *(("icm", s["name"]) for s in SETS), ("isotropic_environments", "all")]
    assert not_available(asked, "mine", kinds_of(asked, "mine"), "any") == []
    assert settings(asked, "grayscale", CROSS) == [x for x in every if x[1] != "both"]
    assert not_available(asked, "mine", ("grayscale", CROSS), "any") == ["the view invert", "the intervention set both"]
    assert settings(asked, CROSS) == [("identity", None), ("icm", "cross"), ("isotropic_environments", "cross")]


def test_without_any_pairs_the_methods_of_environments_remain() -> None:
    asked = recipe(intervention_sets=[{"name": "all"}], projections=[
        "pca", "icm", {"name": "icm", "nuisance": ["interventions", "environments"]}, "shrinkage",
        {"name": "shrinkage", "nuisance": "environments"}, "fixed", "nap", "generalized", "within_classes",
    ])  # fmt: skip
    of_environments = [f"{name}(nuisance=environments)" for name in ("icm", "shrinkage", "nap")]
    assert settings(asked, CROSS) == [(label, None) for label in ("pca", *of_environments, "within_classes")]
    assert not_available(asked, "mine", (CROSS,), "any") == [
        "the views grayscale, invert",
        "the intervention set all",
        "the projections icm, fixed, generalized",
        "instead there is icm(nuisance=environments) for icm(nuisance=('interventions', 'environments')), "
        "shrinkage(nuisance=environments) for shrinkage, nap(nuisance=environments) for nap",
    ]


def test_a_predictor_that_needs_views_goes() -> None:
    name = next(name for name in PREDICTORS.names() if PREDICTORS.create(name).uses_views)
    asked = recipe(intervention_sets=[{"name": "all"}], predictors=[name], projections=["identity"])
    assert settings(asked, CROSS) == []
    assert f"the predictor {name}" in not_available(asked, "mine", (CROSS,), "any")


def test_without_texts_what_asks_for_them_goes() -> None:
    asked = recipe(
        intervention_sets=[{"name": "all"}], predictors=["zero_shot", "coop", "linear_probe"],
        projections=["identity", "within_prompts"],
    )  # fmt: skip
    every = kinds_of(asked, "mine", "none")
    words = {texts: not_available(asked, "mine", every, texts) for texts in ("any", "classes", "none")}
    gone = ["the projection within_prompts"]
    assert words == {
        "any": [], "classes": [*gone, "the predictor coop"], "none": [*gone, "the predictors zero_shot, coop"],
    }  # fmt: skip


def test_what_was_imported_and_what_is_to_be_made_stand_in_recipes_of_their_own() -> None:
    content = recipe().model_dump(mode="json")
    with pytest.raises(IcmBenchError, match="'mine' and 'PACS': imported data sets and data sets with images"):
        parse_recipe({**content, "datasets": [*content["datasets"], {"name": "PACS", "root": "/data"}]})
    with pytest.raises(IcmBenchError, match="'mine' was imported and lies in the store: leave root and columns out"):
        parse_recipe({**content, "datasets": [{"name": "mine", "layout": "imported", "root": "/data"}]})


def test_a_recipe_of_an_import_is_the_one_that_made_the_embeddings() -> None:
    content = recipe().model_dump(mode="json")

    def digest(**keys: str) -> str:
        return parse_recipe({**content, "datasets": [{"name": "mine", **keys}]}).hash()

    assert digest(root="/data") == digest(layout="imported")
    assert digest(root="/data", table="t.csv") == digest(layout="imported", table="t.csv") != digest(root="/data")
