"""Flags of projections match their results: when predictions are those of the plain space."""

import ast

import numpy as np
import pytest
from pydantic import ValidationError

from benchmark.common.code import meaning
from benchmark.common.registry import presented
from benchmark.method.arrays import Array, unit
from benchmark.method.subspace import PROJECTIONS, Basis, Moments, Projection
from tests.method.subspace.test_prompt_rivals import sources
from tests.method.subspace.test_rivals import CLASSES, D, Data

RNG = np.random.default_rng(3)
IMAGES, TEXTS = RNG.standard_normal((50, D)) + 1, RNG.standard_normal((CLASSES, D))


def cosines(basis: Basis, rank: int) -> Array:
    """Cosines of images of a new environment with the texts of the classes, at a rank."""
    own = basis.by_environment.get("new", basis)
    return unit(own.of_images(IMAGES)[:, :rank]) @ unit(basis.of_texts(TEXTS)[:, :rank]).T


def is_plain(projection: Projection, lambda_: float, rank: int) -> bool:
    try:
        fitted = projection.at(lambda_=lambda_).fit(sources(Data()).with_targets({"new": Moments.of(IMAGES)}))
    except ValidationError:  # a lambda that it does not take
        return False
    return bool(np.abs(cosines(fitted, rank) - unit(IMAGES) @ unit(TEXTS).T).max() < 1e-9)


@pytest.mark.parametrize("name", PROJECTIONS.names())
def test_a_projection_says_truly_whether_it_is_the_plain_space_at_full_rank_and_at_lambda_0(name: str) -> None:
    projection = PROJECTIONS.create(name).settings[-1]
    any_rank = D if projection.full_rank_only else D // 2
    assert projection.plain_at_full_rank == is_plain(projection, 0.5, D)
    assert projection.plain_at_lambda_0 == (projection.uses_lambda and is_plain(projection, 0.0, any_rank))
    said = [
        trait
        for trait in ("plain_at_full_rank", "plain_at_lambda_0")
        if trait in presented(name, type(projection)).traits
    ]
    assert [trait for trait in ("plain_at_full_rank", "plain_at_lambda_0") if getattr(projection, trait)] == said


def test_without_keywords_a_class_is_a_method_by_its_name_and_inherits_no_label() -> None:
    class Own(PROJECTIONS.component_class("shrinkage")):  # type: ignore[misc]
        pass

    shown = presented(Own().name, Own)
    assert (shown.label, shown.role, shown.place) == (Own().name, "method", 3)
    assert {"full_rank_only", "plain_at_lambda_0"} <= {*shown.traits}


@pytest.mark.parametrize("keywords", [{"role": "rivl"}, {"position": "1"}])
def test_an_unknown_keyword_or_role_is_refused(keywords: dict[str, str]) -> None:
    with pytest.raises(TypeError, match=f"^class Own: .*{next(iter(keywords))}"):
        type("Own", (Projection,), {}, **keywords)


def test_how_reports_show_a_class_is_no_part_of_its_meaning() -> None:
    plain, shown, other = (
        meaning(ast.parse(f"class A(B{said}):\n    x = 1")) for said in ("", ', label="a", place=2', ", metaclass=C")
    )
    assert plain == shown != other
