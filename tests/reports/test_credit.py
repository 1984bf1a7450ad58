"""What is credited with a gain of shrinkage, and what is not. All rows are synthetic."""

import json
from typing import Any

import numpy as np

from benchmark.method.evaluation.metrics import ACCURACY
from tests.reports import test_findings
from tests.reports.synthetic import only, row

N = 2000


def method(share: float, projection: str, variant: str | None = None, **other: Any) -> list[dict[str, Any]]:
    """Return rows whose answers are right on the first images, so that differences are exact."""
    params = json.dumps({"nuisance": other.pop("nuisance")}) if "nuisance" in other else "{}"
    other |= {"projection_variant": variant, "projection_params": params, "correct": np.arange(N) < round(share * N)}
    return [row(held_out=held_out, projection=projection, **other) for held_out in "ab"]


def shrinkage(both: float, environments: float, interventions: float) -> list[dict[str, Any]]:
    shares = {"both": both, "environments": environments, "interventions": interventions}
    return [one for name, share in shares.items() for one in method(share, "shrinkage", nuisance=name)]


def said(made: list[dict[str, Any]]) -> str:
    sentences = test_findings.said(made).splitlines()
    [words] = [sentence for sentence in sentences if sentence.startswith("What shrinkage gains")]
    return words


def world(both: float = 0.7, environments: float = 0.6, isotropic: float = 0.6, borrowed: float | None = 0.6) -> str:
    made = [*method(0.5, "identity"), *shrinkage(both, environments, 0.55)]
    made += method(isotropic, "isotropic_environments") + method(0.65, "fixed")
    made += method(0.6, "icm", "equal N", order="largest")
    made += [] if borrowed is None else method(borrowed, "shrinkage", placebo="borrowed")
    return said(made)


def test_interventions_are_credited_where_all_three_are_behind() -> None:
    words = world()
    assert "zero-shot: +20.0 points [+18.8, +21.2] over the plain space" in words
    assert "environment means: credited (+15.0 points" in words
    assert "interventions: credited (+10.0 points" in words
    assert "shrinking instead of truncating: credited (+10.0 points" in words
    assert "nothing chosen +15.0 points [+13.9, +16.1] over the plain space, and choosing adds +5.0 points" in words


def test_one_of_the_three_is_enough_to_credit_none() -> None:
    assert "not shown to be ahead of environments alone (+0.0 points)" in world(environments=0.7)
    words = world(isotropic=0.7)
    assert "interventions: not credited, for it is not shown to be ahead of isotropic + environments" in words
    assert "environment means: credited" in words
    assert "sensitivity" not in words
    # One image of 2,000 ahead is not shown to be ahead.
    assert "not shown to be ahead of isotropic + environments (" in world(isotropic=0.6995)


def test_a_tie_with_borrowed_interventions_is_the_encoders_and_without_them_there_is_no_credit() -> None:
    assert "borrowed interventions (+0.0 points): the encoder's sensitivity" in world(borrowed=0.7)
    assert "interventions: not credited, for want of rows of borrowed interventions" in world(borrowed=None)


def strengths(**by_lambda: tuple[float, float, float, float]) -> list[dict[str, Any]]:
    """Return rows of two strengths: of each N the share of right answers, with what sources say of it."""
    rows = []
    for name, (small, large, says_small, says_large) in by_lambda.items():
        for lambda_, share, says in ((1.0, small, says_small), (10.0, large, says_large)):
            rows += method(share, "shrinkage", nuisance=name, lambda_=lambda_, target=(share,), lodo=(says,))
    return rows


def test_means_are_not_credited_where_the_strength_that_was_chosen_explains_the_gain() -> None:
    # Interventions alone choose lambda 1 by a hair, where they are 20 points behind what they have at lambda 10.
    explained = strengths(both=(0.5, 0.7, 0.5, 0.8), interventions=(0.5, 0.7, 0.61, 0.6))
    words = said([*method(0.5, "identity"), *explained])
    named = "interventions alone with all else as chosen (+0.0 points)"
    assert f"environment means: not credited, for it is not shown to be ahead of {named}" in words
    earned = strengths(both=(0.5, 0.7, 0.5, 0.8), interventions=(0.5, 0.6, 0.61, 0.6))
    words = said([*method(0.5, "identity"), *earned])
    assert "environment means: credited (+10.0 points [+9.1, +10.9] over interventions alone with all else as" in words


def test_all_else_as_chosen_is_the_row_that_differs_in_n_alone_and_no_line_of_tables() -> None:
    rows = strengths(both=(0.5, 0.7, 0.5, 0.8), interventions=(0.5, 0.6, 0.61, 0.6))
    selections = only(rows)[1]
    [replaced] = [m for m in selections.compared if m not in selections.parts]
    picks = selections.picks(replaced, "lodo")
    assert picks["lambda_"].tolist() == [10.0, 10.0]
    assert picks[ACCURACY.key].tolist() == [0.6, 0.6]
    assert replaced.label == "Shrinkage (interventions alone, all else as chosen) + zero-shot"


def test_without_a_row_at_the_chosen_strength_means_are_not_credited() -> None:
    rows = strengths(both=(0.5, 0.7, 0.5, 0.8), interventions=(0.5, 0.6, 0.61, 0.6))
    found = [one for one in rows if not ("interventions" in one["projection_params"] and one["lambda_"] == 10)]
    words = said([*method(0.5, "identity"), *found])
    assert "environment means: not credited, for want of rows of interventions alone with all else as" in words


def test_without_a_gain_there_is_nothing_to_credit() -> None:
    words = said([*method(0.5, "identity"), *shrinkage(0.4, 0.4, 0.4)])
    assert "no gain over the plain space is shown (-10.0 points" in words


def test_rows_of_one_nuisance_are_methods_beside_the_choice_of_all() -> None:
    selections = only(shrinkage(0.7, 0.6, 0.5))[1]
    picked = {m.variant: float(selections.picks(m, "lodo")[ACCURACY.key].mean()) for m in selections.parts}
    assert picked == {"": 0.7, "environments": 0.6, "interventions": 0.5}
    labels = [m.projection_label for m in selections.parts]
    assert labels == ["Shrinkage", "Shrinkage (environments alone)", "Shrinkage (interventions alone)"]
