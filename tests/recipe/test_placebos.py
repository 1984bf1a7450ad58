"""Placebos in a recipe: what is refused, who lends to whom, and how draws become trials."""

from typing import Any

import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.recipe.loading import parse_recipe
from benchmark.recipe.recipe import Recipe
from benchmark.recipe.sets import InterventionSet
from benchmark.sweep.trials import trial_specs

ROTATED = {"name": "rotated", "placebo": "rotated", "draws": 50}
BORROWED = {"name": "borrowed", "placebo": "borrowed"}


def recipe(sets: list[dict[str, Any]], datasets: tuple[str, ...] = ("PACS",), **sweep: Any) -> Recipe:
    return parse_recipe({
        "name": "placebos", "datasets": list(datasets), "backbones": ["ViT-B-32"],
        "interventions": {"kinds": ["invert", "grayscale"], "text": {}},
        "sweep": {
            "intervention_sets": [{"name": "all"}, *sets], "seeds": [0], "predictors": ["zero_shot"],
            "projections": ["identity", "icm", "shrinkage", "isotropic", "generalized"], **sweep,
        },
    })  # fmt: skip


@pytest.mark.parametrize(
    ("sets", "sweep", "message"),
    [
        ([{**ROTATED, "kinds": ["invert"]}], {}, r"'rotated' has no real set"),
        ([{**ROTATED, "kinds": ["invert"]}, {"name": "tenth", "kinds": ["invert"], "pairs": 0.1}], {}, r"has no real set"),
        ([ROTATED], {"projections": ["identity", "pca"]}, r"a placebo for icm, shrinkage and soft_penalty"),
        ([ROTATED], {"search": {"samples": 2}}, r"a placebo, which searches do not support"),
        ([BORROWED], {}, r"'borrowed' borrows C_d, but there is no other data set; add a second"),
        ([{**BORROWED, "lender": "PAX"}], {}, r"'PAX', from which 'borrowed' borrows, .* did you mean 'PACS'"),
        ([{**BORROWED, "draws": 2}], {}, r"'borrowed' has nothing to draw"),
        ([{"name": "x", "draws": 2}], {}, r"'x' has nothing to draw; leave out draws"),
        ([{**ROTATED, "lender": "PACS"}], {}, r"'rotated' has a lender but does not borrow"),
        ([{"name": "s", "placebo": "shuffled", "kinds": ["text"]}], {}, r"cannot be shuffled; leave them out"),
        ([{"name": "s", "placebo": "shuffled", "pairing": "random_one"}], {}, r"give pairing: each"),
        ([ROTATED, {**ROTATED, "name": "more", "first": 50}], {}, r"draw 50 of 'rotated' is repeated in .*another `first`"),
        ([{"name": "r", "placebo": "turned"}], {}, r"placebo"),
    ],
)  # fmt: skip
def test_placebos_that_say_nothing_are_refused(sets: list[Any], sweep: dict[str, Any], message: str) -> None:
    with pytest.raises(IcmBenchError, match=message):
        recipe(sets, **sweep)


def test_each_data_set_borrows_from_the_next_unless_a_lender_is_named() -> None:
    names = ("PACS", "VLCS", "OfficeHome")
    by_turns = recipe([BORROWED], names)
    (placebo,) = (s for s in by_turns.intervention_sets() if s.placebo)
    assert [by_turns.lender_of(name, placebo) for name in names] == ["VLCS", "OfficeHome", "PACS"]
    named = recipe([{**BORROWED, "lender": "VLCS"}], names)
    (placebo,) = (s for s in named.intervention_sets() if s.placebo)
    assert [named.lender_of(name, placebo) for name in names] == ["VLCS", None, "VLCS"]
    assert len(trial_specs(named, "VLCS", 8)) == len(trial_specs(recipe([]), "PACS", 8))
    with pytest.raises(IcmBenchError, match=r"PACS borrows twice for the same kinds"):
        recipe([BORROWED, {**BORROWED, "name": "again", "lender": "OfficeHome"}], names)


def test_draws_become_trials_of_twenty_for_truncation_and_shrinkage_alone() -> None:
    specs = [s for s in trial_specs(recipe([ROTATED]), "PACS", 8) if s.intervention_set and s.intervention_set.placebo]
    assert [(s.projection.name, s.intervention_set.first, s.intervention_set.draws) for s in specs] == [  # type: ignore[union-attr]
        (name, first, draws) for name in ("icm", "shrinkage") for first, draws in ((1, 20), (21, 20), (41, 10))
    ]
    shrinking = [spec for spec in specs if spec.projection.name != "icm"]
    assert {tuple(s.params["nuisance"] for s in spec.settings) for spec in shrinking} == {("interventions", "both")}
    assert [s.row_count(["a", "b", "c"]) for s in specs] == [20 * 3 * 2, 20 * 3 * 2, 10 * 3 * 2] * 2


def test_a_single_draw_has_no_number_and_a_part_of_several_has() -> None:
    alone = InterventionSet(name="r", placebo="rotated")
    assert not alone.numbered
    many = InterventionSet(name="r", placebo="rotated", draws=21)
    assert [(part.first, part.draws, part.numbered) for part in many.in_trials()] == [(1, 20, True), (21, 1, True)]
    assert [drawn.first for drawn in many.drawn()] == list(range(1, 22))
