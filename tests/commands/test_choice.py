"""Which projection of a recipe a command line means, and the sentences where it could be several or none."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.commands.choice import Choosing, check_rank, choose, nuisance_of
from benchmark.common.errors import IcmBenchError
from benchmark.recipe.loading import load_recipe

ALL_THREE = "['interventions', 'environments', 'both']"
RECIPE = f"""\
name: choices
datasets: [emoji_styles]
backbones: [MiniLiT]
interventions: {{kinds: [invert]}}
sweep:
  lambdas: [1, 10]
  normalize: [before]
  projections:
    - identity
    - pca
    - icm
    - {{name: icm, order: released}}
    - {{name: icm, nuisance: {ALL_THREE}}}
    - shrinkage
    - {{name: shrinkage, sides: images, nuisance: both}}
    - fixed
    - isotropic
"""
EQUAL_N = "icm(nuisance=('interventions', 'environments', 'both'))"


class StandIn:
    """As much of a subject as a choice looks at."""

    manifest = SimpleNamespace(name="emoji_styles", environments=["a", "b"], reader=SimpleNamespace(labelled=True))
    facts = SimpleNamespace(label="MiniLiT", dim=256, texts="any")
    kinds = ("grayscale", "cross_environment")
    clusters = 0

    def at_draw(self, _: int) -> "StandIn":
        return self


@pytest.fixture
def chosen(tmp_path: Path) -> Any:
    """A function from options to the choice of the recipe."""

    def choice(overrides: dict[str, Any] | None = None, **options: Any) -> Any:
        (tmp_path / "recipe.yaml").write_text(RECIPE)
        run: Any = SimpleNamespace(recipe=load_recipe(tmp_path / "recipe.yaml", overrides), subjects=[StandIn()])
        return choose(run, Choosing(**options))

    return choice


def test_the_papers_projection_is_the_default(chosen: Any) -> None:
    projection = chosen(lambda_=10.0).projection
    assert (projection.label, projection.lambda_, nuisance_of(projection)) == ("icm", 10.0, "interventions")
    without_it = {"sweep.projections": ["identity", "pca", "shrinkage"]}
    assert chosen(without_it, lambda_=3.0, nuisance="both").projection.label == "shrinkage(nuisance=both)"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"projection": "shrinkage", "nuisance": "both", "lambda_": 0.03}, ("shrinkage(nuisance=both)", 0.03, "both")),
        ({"projection": "shrinkage(sides=images, nuisance=both)", "lambda_": 30.0},
         ("shrinkage(sides=images, nuisance=both)", 30.0, "both")),
        ({"projection": EQUAL_N, "nuisance": "environments", "lambda_": 1.0},
         ("icm(nuisance=environments)", 1.0, "environments")),
        ({"projection": "fixed"}, ("fixed", 10.0, "both")),
        ({"projection": "isotropic", "lambda_": 0.3}, ("isotropic", 0.3, "isotropic")),
    ],
)  # fmt: skip
def test_shrinkage_and_its_relatives_are_named(chosen, options, expected) -> None:  # type: ignore[no-untyped-def]
    projection = chosen(**options).projection
    assert (projection.label, projection.lambda_, nuisance_of(projection)) == expected


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"projection": "identity"}, "--projection: 'identity' is not in the recipe, which has pca, icm"),
        ({"projection": "shrinkage", "lambda_": 1.0}, "--nuisance is needed, since the recipe has several: interv"),
        ({"projection": "shrinkage", "nuisance": "isotropic"}, "--nuisance: 'isotropic' is not in the recipe"),
        ({"nuisance": "both", "lambda_": 1.0}, "--nuisance: 'both' is not in the recipe, which has interventions"),
        ({"projection": "isotropic", "nuisance": "both"}, "--nuisance: isotropic has no nuisance to choose"),
        (
            {"projection": "shrinkage", "nuisance": "both"},
            "--lambda is needed, since the recipe has several: 0.0, 0.03",
        ),
        ({"projection": "shrinkage", "nuisance": "both", "lambda_": 2.0}, "--lambda: '2.0' is not in the recipe"),
        ({}, "--lambda is needed, since the recipe has several: 1.0, 10.0"),
    ],
)
def test_what_could_be_several_or_none_is_one_sentence(chosen, options, sentence) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(IcmBenchError, match=f"^{re.escape(sentence)}"):
        chosen(**options)


def test_the_whole_space_alone_is_no_choice(chosen: Any) -> None:
    with pytest.raises(IcmBenchError, match="has only the identity projection"):
        chosen({"sweep.projections": ["identity"]})


def test_ranks_are_those_that_there_are(chosen: Any) -> None:
    icm, fixed = chosen(lambda_=1.0), chosen(projection="fixed")
    for rank, choice in ((None, icm), (1, icm), (256, icm), (None, fixed), (256, fixed)):
        check_rank(rank, choice)
    with pytest.raises(IcmBenchError, match="--rank: fixed has no ranks"):
        check_rank(64, fixed)
    for choice in (icm, fixed):
        with pytest.raises(IcmBenchError, match="--rank: 257 is not between 1 and the embedding width D = 256"):
            check_rank(257, choice)
