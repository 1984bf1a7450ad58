"""The page's data, checked by hand. All rows are synthetic."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reports.analysis.chosen import Selections
from reports.analysis.methods import Method
from reports.analysis.options import Options
from reports.analysis.predictions import MethodPredictions
from reports.analysis.robustness import Lines
from reports.page import data
from reports.page.numbers import rounded, tenths
from tests.reports.synthetic import only, row


def rows() -> list[dict[str, Any]]:
    """Two environments; plain answers half, CLIP-ICM at lambda 1 and rank 2, which its sources pick, 60 of 100.

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
def described() -> tuple[Any, Selections]:
    return only(rows())


def test_results_have_accuracy_difference_picks_and_trials(described: tuple[Any, Selections]) -> None:
    core = data.core(*described, Lines(), Options())
    assert core["environments"] == ["art", "b_c"]
    assert [m["family"] for m in core["methods"]] == ["plain", "icm"]
    plain, icm = core["results"]["lodo"]
    assert [cell["v"] for cell in plain["cells"]] == [50, 50, 50]
    assert [cell["v"] for cell in icm["cells"]] == [60, 60, 60]
    assert [cell["d"] for cell in icm["cells"]] == [10, 10, 10]
    assert icm["picks"] == [[[2, 1, "all", "", 1]]] * 2
    assert icm["plain"] == [0, 2]
    assert core["trials"][icm["trials"][1][0]] == "icm-largest-zero_shot-b_c-0--1"
    assert core["curves"]["lodo"] == [None, {"ranks": [1, 2, 4], "accuracy": [[400, 600, 500]] * 2}]
    assert core["curves"]["training_domain"][1]["accuracy"] == [[900, 300, 500]] * 2
    assert [(one["ece"], one["ece_scaled"]) for one in core["behind"]["lodo"]] == [(20, 10)] * 2


def test_a_bound_has_accuracies_and_no_interval(described: tuple[Any, Selections]) -> None:
    _, icm = data.core(*described, Lines(), Options())["results"]["oracle"]
    # Either half of the images has its highest accuracy at lambda 10 and rank 1: 90 of 100 over both
    assert icm["cells"] == [{"v": 90, "d": 40}] * 3


def test_the_explorer_has_scores_accuracies_and_counted_picks(described: tuple[Any, Selections]) -> None:
    (grid,) = data.grids(described[1])["lodo"]
    assert (grid["lambdas"], grid["ranks"], grid["sets"]) == ([1, 10], [1, 2, 4], [])
    assert grid["score"][0][1] == [[200, 900, 500], [100, 200, 500]]
    assert grid["accuracy"][0][0] == [[400, 600, 500], [900, 300, 500]]
    assert grid["picks"] == [[0, 0, 0, 1, 1], [1, 0, 0, 1, 1]]


def test_classes_count_right_answers_of_all(described: tuple[Any, Selections]) -> None:
    found = data.classes(described[1])
    number, right = found["right"]["lodo"][1][0]  # 60 of 100 images, the first ones; classes take turns
    assert right == [30, 30]
    assert (found["totals"][number], found["images"][number]) == ([50, 50], [50, 50])


def test_what_is_missing_is_a_gap_with_a_reason() -> None:
    made = [*rows(), row(held_out="zzz", target=[0.5], classes=["cat", "<b>"])]
    core = data.core(*only(made), Lines(), Options())
    cells = core["results"]["lodo"][1]["cells"]
    assert [cell.get("v") for cell in cells] == [60, 60, None, None]
    assert cells[2]["why"] == "no answers of all folds for what is held out here"
    assert cells[3]["why"] == "no average: no seed has every held-out environment"
    json.dumps(core, allow_nan=False)


def test_predictions_stand_by_image_method_and_rule(described: tuple[Any, Selections]) -> None:
    plain, icm = described[1].parts
    known = [predictions(plain, [0, 1, 1]), predictions(icm, [1, 1, 0])]
    found = data.details_of(described[1], known, {"3": 0, "1": 7})
    assert found is not None
    assert found["decoded"] == []
    of_images = found["predictions"]
    assert of_images["names"] == ["photo/one.jpg", "2", "photo/three.jpg"]
    assert of_images["thumbs"] == [7, -1, 0]
    assert of_images["class"] == [0, 1, 0]
    assert of_images["environment"] == [0, 0, 1]
    assert of_images["answers"] == {"lodo": {"0": [0, 1, 1], "1": [1, 1, 0]}}


def test_how_well_environments_are_read_is_a_mean_over_what_is_held_out() -> None:
    read = {"read_ranks": [2], "read_before": 0.9, "read_chance": 0.5}
    after = {"art": [0.5], "b_c": [0.7]}
    made = [
        {**one, **read, "read_after": after[one["held_out"]]} if one["projection"] == "icm" else one for one in rows()
    ]
    found = data.details_of(only(made)[1], [])
    assert found == {
        "predictions": None, "decoded": [{"method": 1, "before": 90, "after": 60, "chance": 50, "ranks": [2]}]
    }  # fmt: skip
    assert data.details_of(only(rows())[1], []) is None


def test_numbers_are_short_and_never_nan() -> None:
    values = (1.0, 1.005, 2.345, float("nan"), float("inf"), None)
    assert [rounded(v, 2) for v in values] == [1, 1, 2.35, None, None, None]
    assert tenths(np.array([[0.1234, np.nan], [1.0, 0.0]])) == [[123, None], [1000, 0]]


def predictions(method: Method, predicted: list[int]) -> MethodPredictions:
    classes, where = ("cat", "<b>"), ["art", "art", "b_c"]
    table = pd.DataFrame({
        "image_id": ["1", "2", "3"], "path": ["photo/one.jpg", "", "photo/three.jpg"], "held_out": where,
        "class": ["cat", "<b>", "cat"], "seed": [0] * 3, "rule": ["lodo"] * 3,
        "predicted": [classes[k] for k in predicted],
    })  # fmt: skip
    return MethodPredictions(method, table)
