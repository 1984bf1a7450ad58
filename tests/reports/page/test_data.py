"""The page's data against hand-computed values. All rows are synthetic."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reports.analysis.methods import Method
from reports.analysis.selections import Predictions, Selections
from reports.analysis.settings import Options
from reports.page import data
from tests.reports.synthetic import only, row


def rows() -> list[dict[str, Any]]:
    """Return two environments: plain accuracy is 50 %, CLIP-ICM's 60 % at lambda 1 and rank 2, the picks of lodo.

    Another rule picks lambda 10 at each rank.
    """
    curves = ((1.0, [0.4, 0.6, 0.5], [0.2, 0.9, 0.5]), (10.0, [0.9, 0.3, 0.5], [0.1, 0.2, 0.5]))
    shared: dict[str, Any] = {"classes": ["cat", "<b>"], "ece_lodo": 0.2, "ece_scaled_lodo": 0.1}
    icm: dict[str, Any] = {"projection": "icm", "order": "largest", "intervention_set": "all", **shared}
    made = []
    for held_out in ("art", "b_c"):
        made.append(row(held_out=held_out, target=[0.5], **shared))
        made += [row(held_out=held_out, target=target, lodo=lodo, training_domain=[0.6 - x for x in lodo],
                     lambda_=x, **icm) for x, target, lodo in curves]  # fmt: skip
    return made


@pytest.fixture
def result() -> tuple[Any, Selections]:
    return only(rows())


def test_results_have_accuracy_difference_and_picks(result: tuple[Any, Selections]) -> None:
    core = data.core(*result, Options())
    assert core["environments"] == ["art", "b_c"]
    assert [m["family"] for m in core["methods"]] == ["plain", "icm"]
    plain, icm = core["results"]["lodo"]
    assert [cell["v"] for cell in plain["cells"]] == [50, 50, 50]
    assert [cell["v"] for cell in icm["cells"]] == [60, 60, 60]
    assert [cell["d"] for cell in icm["cells"]] == [10, 10, 10]
    assert icm["picks"] == [[[2, 1, "all", "", 1]]] * 2
    assert icm["plain"] == [(0, 1), (0, 1), (0, 2)]  # each environment, then all
    assert core["trials"] == 4
    # The average is the last.
    assert core["curves"]["lodo"] == [None, {"ranks": [1, 2, 4], "accuracy": [[40, 60, 50]] * 3}]
    assert core["curves"]["training_domain"][1]["accuracy"] == [[90, 30, 50]] * 3


def test_a_bound_stands_alone_and_has_no_interval() -> None:
    unscored = {"training_domain": [np.nan] * 3, "lodo": None}
    setting, selections = only([{**one, **unscored, "ranks": one["ranks"]} for one in rows()])
    core = data.core(setting, selections, Options())
    assert [(one["name"], one["bound"]) for one in core["rules"]] == [("oracle", True)]
    _, icm = core["results"]["oracle"]
    # Both halves of the images have their highest accuracy at lambda 10 and rank 1: 90 of 100 in total
    assert icm["cells"] == [{"v": 90, "d": 40}] * 3


def test_the_explorer_has_scores_accuracies_and_counted_picks(result: tuple[Any, Selections]) -> None:
    (grid,) = data.grids(result[1])["lodo"]
    assert (grid["lambdas"], grid["ranks"], grid["sets"]) == ([1, 10], [1, 2, 4], [])
    assert grid["score"][0][1] == [[20, 90, 50], [10, 20, 50]]
    assert grid["accuracy"][0][0] == grid["accuracy"][0][-1] == [[40, 60, 50], [90, 30, 50]]
    assert grid["picks"] == [[0, 0, 0, 1, 1], [1, 0, 0, 1, 1]]


def test_classes_count_right_answers_of_all(result: tuple[Any, Selections]) -> None:
    found = data.classes(result[1])
    number, right = found["right"]["lodo"][1][0]  # 60 of 100 images, the first ones; classes take turns
    assert right == [30, 30]
    assert (found["totals"][number], found["images"][number]) == ([50, 50], [50, 50])


def test_missing_results_are_gaps_with_a_reason() -> None:
    made = [*rows(), row(held_out="zzz", target=[0.5], classes=["cat", "<b>"])]
    core = data.core(*only(made), Options())
    cells = core["results"]["lodo"][1]["cells"]
    assert [cell.get("v") for cell in cells] == [60, 60, None, None]
    assert cells[2]["why"] == "no answers of all folds for what is held out here"
    assert cells[3]["why"] == "no average: no seed has every held-out environment"
    json.dumps(core, allow_nan=False)


def test_predictions_stand_by_image_method_and_rule(result: tuple[Any, Selections]) -> None:
    plain, icm = result[1].parts
    known = {**predictions(plain, [0, 1, 1]), **predictions(icm, [1, 1, 0])}
    found = data.predictions_of(result[1], known, {"3": 0, "1": 7})
    assert found is not None
    assert found["names"] == ["photo/one.jpg", "2", "photo/three.jpg"]
    assert found["thumbs"] == [7, -1, 0]
    assert found["class"] == [0, 1, 0]
    assert found["environment"] == [0, 0, 1]
    assert found["answers"] == {"lodo": {"0": [0, 1, 1], "1": [1, 1, 0]}}
    assert data.predictions_of(result[1], {}) is None


def test_numbers_are_short_never_nan_and_print_the_same_tenth() -> None:
    values = (1.0, 1.005, 2.361, float("nan"), float("inf"), None)
    assert [data.rounded(v, 2) for v in values] == [1, 1, 2.36, None, None, None]
    near = (47.94999999, 47.95000001, 100 * (0.4795 - 1e-12), 12.25, 100 * 0.1225)
    assert [f"{data.rounded(v):.1f}" for v in near] == [f"{v:.1f}" for v in near]


def test_the_mean_over_environments_uses_unrounded_values() -> None:
    found = data.with_average(np.array([[0.47951, np.nan], [0.47948, 1.0]]))
    assert found == [[47.951, None], [47.948, 100], [47.9495, None]]


def predictions(method: Method, predicted: list[int]) -> Predictions:
    classes, where = ("cat", "<b>"), ["art", "art", "b_c"]
    table = pd.DataFrame({
        "image_id": ["1", "2", "3"], "path": ["photo/one.jpg", "", "photo/three.jpg"], "held_out": where,
        "class": ["cat", "<b>", "cat"], "seed": [0] * 3, "rule": ["lodo"] * 3,
        "predicted": [classes[k] for k in predicted],
    })  # fmt: skip
    return {method: table}
