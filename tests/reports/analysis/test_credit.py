"""Attribution of a gain of shrinkage to its components. All rows are synthetic."""

import json
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from benchmark.method.evaluation.metrics import ACCURACY
from reports.analysis.findings import Question
from tests.reports.analysis import test_verdicts
from tests.reports.synthetic import only, row

N = 2000


def method(share: float, projection: str, variant: str | None = None, **other: Any) -> list[dict[str, Any]]:
    """Return rows that classify the first images correctly, so that differences are exact."""
    params = json.dumps({"nuisance": other.pop("nuisance")}) if "nuisance" in other else "{}"
    other |= {"projection_variant": variant, "projection_params": params, "correct": np.arange(N) < round(share * N)}
    return [row(held_out=held_out, projection=projection, **other) for held_out in "ab"]


def shrinkage(both: float, environments: float, interventions: float) -> list[dict[str, Any]]:
    shares = {"both": both, "environments": environments, "interventions": interventions}
    return [one for name, share in shares.items() for one in method(share, "shrinkage", nuisance=name)]


def asked(made: list[dict[str, Any]]) -> dict[str, Question]:
    """Return name -> question about shrinkage."""
    [verdict] = [one for one in test_verdicts.answered(made).verdicts if one.method.projection == "shrinkage"]
    return {one.name: one for one in verdict.questions}


def answers(made: list[dict[str, Any]]) -> dict[str, str]:
    return {name: one.answer for name, one in asked(made).items()}


def world(
    both: float = 0.7, environments: float = 0.6, isotropic: float = 0.6, borrowed: float | None = 0.6, icm: float = 0.6
) -> list[dict[str, Any]]:
    made = [*method(0.5, "identity"), *shrinkage(both, environments, 0.55)]
    made += method(isotropic, "isotropic_environments") + method(0.65, "fixed")
    made += method(icm, "icm", "equal N", order="largest")
    return made + ([] if borrowed is None else method(borrowed, "shrinkage", placebo="borrowed", lodo=[0.95]))


ALL = dict.fromkeys(("environments", "interventions", "shrinking"), "yes")


@pytest.mark.parametrize(
    ("shares", "no"),
    [
        ({}, {}),
        ({"environments": 0.7}, {"interventions": "not shown"}),
        ({"isotropic": 0.7}, {"interventions": "not shown"}),
        ({"isotropic": 0.6995}, {"interventions": "not shown"}),  # one image of 2,000 ahead is not shown to be ahead
        ({"borrowed": 0.7}, {"interventions": "not shown"}),
        ({"borrowed": None}, {"interventions": "not asked, for want of borrowed interventions"}),
        ({"icm": 0.7}, {"shrinking": "not shown"}),
        ({"icm": 0.75}, {"shrinking": "not shown"}),
    ],
)
def test_one_missing_or_unbeaten_baseline_prevents_credit(shares: dict[str, float | None], no: dict[str, str]) -> None:
    made = world(**shares)  # type: ignore[arg-type]
    assert answers(made) == ALL | no
    [record] = [
        one.record() for one in test_verdicts.answered(made).verdicts if one.method.label == "Shrinkage + zero-shot"
    ]
    assert {name: record[f"by_{name}"] for name in ALL} == ALL | no


def test_p_of_a_question_is_the_largest_of_its_parts_adjusted_by_holm() -> None:
    found = asked(world(isotropic=0.69, icm=0.685, environments=0.68))
    raw = {name: max(one.interval.p for one in q.parts.values() if one) for name, q in found.items()}
    adjusted = multipletests(list(raw.values()), method="holm")[1]
    assert {name: q.p for name, q in found.items()} == pytest.approx(dict(zip(raw, adjusted, strict=True)))
    assert {one.rule for q in found.values() for one in q.parts.values() if one} == {"lodo"}


def test_no_questions_without_a_gain_and_all_missing_without_parts() -> None:
    assert asked([*method(0.5, "identity"), *shrinkage(0.4, 0.4, 0.4)]) == {}
    found = test_verdicts.answered([*method(0.5, "identity"), *method(0.7, "icm", order="largest")])
    assert all(one.missing for one in found.verdicts[0].questions)


def strengths(**by_lambda: tuple[float, float, float, float]) -> list[dict[str, Any]]:
    """Return rows of two strengths: for each N accuracy and source score at lambda 1 and 10."""
    rows = []
    for name, (small, large, says_small, says_large) in by_lambda.items():
        for lambda_, share, says in ((1.0, small, says_small), (10.0, large, says_large)):
            rows += method(share, "shrinkage", nuisance=name, lambda_=lambda_, target=(share,), lodo=(says,))
    return rows


def test_means_are_not_credited_if_the_selected_strength_explains_the_gain() -> None:
    # Interventions alone select lambda 1 by a small margin, 20 points below their accuracy at lambda 10.
    explained = strengths(both=(0.5, 0.7, 0.5, 0.8), interventions=(0.5, 0.7, 0.61, 0.6))
    assert answers([*method(0.5, "identity"), *explained])["environments"] == "not shown"
    earned = strengths(both=(0.5, 0.7, 0.5, 0.8), interventions=(0.5, 0.6, 0.61, 0.6))
    assert answers([*method(0.5, "identity"), *earned])["environments"] == "yes"


def test_all_else_as_chosen_differs_only_in_n_and_has_no_table_line() -> None:
    rows = strengths(both=(0.5, 0.7, 0.5, 0.8), interventions=(0.5, 0.6, 0.61, 0.6))
    selections = only(rows)[1]
    [replaced] = [m for m in selections.compared if m not in selections.parts]
    picks = selections.picks(replaced, "lodo")
    assert picks["lambda_"].tolist() == [10.0, 10.0]
    assert picks[ACCURACY.key].tolist() == [0.6, 0.6]
    assert replaced.label == "Shrinkage (interventions alone, all else as chosen) + zero-shot"


def test_means_are_not_credited_without_a_row_at_the_selected_strength() -> None:
    rows = strengths(both=(0.5, 0.7, 0.5, 0.8), interventions=(0.5, 0.6, 0.61, 0.6))
    found = [one for one in rows if not ("interventions" in one["projection_params"] and one["lambda_"] == 10)]
    words = answers([*method(0.5, "identity"), *found])["environments"]
    assert words == "not asked, for want of interventions alone with all else as chosen"


def test_rows_of_one_nuisance_are_also_methods_of_their_own() -> None:
    selections = only(shrinkage(0.7, 0.6, 0.5))[1]
    picked = {m.variant: float(selections.picks(m, "lodo")[ACCURACY.key].mean()) for m in selections.parts}
    assert picked == {"": 0.7, "environments": 0.6, "interventions": 0.5}
    labels = [m.name for m in selections.parts]
    assert labels == ["Shrinkage", "Shrinkage (environments alone)", "Shrinkage (interventions alone)"]
