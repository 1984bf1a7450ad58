"""Which projection of a recipe a command line means, and the sentences where it could be several or none."""

from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class StandIn:
    """As much of a subject as a choice looks at."""

    manifest: Any = field(
        default_factory=lambda: SimpleNamespace(
            name="emoji_styles", environments=["a", "b"], reader=SimpleNamespace(labelled=True)
        )
    )
    facts: Any = field(default_factory=lambda: SimpleNamespace(label="MiniLiT", dim=256, texts="any"))
    kinds: tuple[str, ...] = ("grayscale", "cross_environment")
    clusters: int = 0

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
        ({"projection": "shrinkage", "lambda_": 1.0},
         "--nuisance is needed, since the recipe has several: interventions, environments, both"),
        ({"projection": "shrinkage", "nuisance": "isotropic", "lambda_": 1.0},
         "--nuisance: 'isotropic' is not in the recipe, which has interventions, environments, both"),
        ({"nuisance": "both", "lambda_": 1.0}, "--nuisance: 'both' is not in the recipe, which has interventions"),
        ({"projection": "isotropic", "nuisance": "both"}, "--nuisance: isotropic leaves no choice of it"),
        ({"projection": "shrinkage", "nuisance": "both"},
         "--lambda is needed, since the recipe has several: 0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0"),
        ({"projection": "shrinkage", "nuisance": "both", "lambda_": 2.0}, "--lambda: '2.0' is not in the recipe"),
        ({}, "--lambda is needed, since the recipe has several: 1.0, 10.0"),
    ],
)  # fmt: skip
def test_what_could_be_several_or_none_is_one_sentence(chosen, options, sentence) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(IcmBenchError) as caught:
        chosen(**options)
    assert str(caught.value).startswith(sentence)


def test_the_whole_space_alone_is_no_choice(chosen: Any) -> None:
    with pytest.raises(IcmBenchError, match="no projection but the whole space"):
        chosen({"sweep.projections": ["identity"]})


def test_ranks_are_those_that_there_are(chosen: Any) -> None:
    icm, fixed = chosen(lambda_=1.0), chosen(projection="fixed")
    for rank in (None, 1, 256):
        check_rank(rank, icm)
    check_rank(None, fixed)
    check_rank(256, fixed)
    with pytest.raises(IcmBenchError, match="--rank: fixed has no ranks, for it keeps every direction in part; leave"):
        check_rank(64, fixed)
    for choice in (icm, fixed):
        with pytest.raises(IcmBenchError, match="--rank: 257 is not between 1 and the embedding width D = 256"):
            check_rank(257, choice)
