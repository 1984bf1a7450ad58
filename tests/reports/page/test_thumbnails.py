"""Selection of images with thumbnails: those in lists, in the order of list positions. All predictions are invented."""

import pandas as pd

from reports.analysis.methods import Method
from reports.analysis.selections import Predictions
from reports.page.data import wanted
from tests.reports.synthetic import row

CLASSES = ("cat", "dog")


def part(projection: str, answers: dict[str, int]) -> Predictions:
    """Return predictions (image -> class) of a method on images of cats."""
    n = len(answers)
    table = pd.DataFrame({
        "image_id": [*answers], "held_out": ["art"] * n, "seed": [0] * n, "rule": ["lodo"] * n, "class": ["cat"] * n,
        "predicted": [CLASSES[k] for k in answers.values()],
    })  # fmt: skip
    return {Method.of_row(row(projection=projection)): table}


def test_first_list_entries_come_first_and_correct_images_are_excluded() -> None:
    plain = part("identity", {"a": 0, "b": 1, "c": 1, "d": 1, "e": 0})
    icm = part("icm", {"a": 0, "b": 1, "c": 1, "d": 0, "e": 1})
    # Wrong with both: b, c; correct only with icm: d; wrong only with icm: e.
    assert wanted([{**plain, **icm}]) == ["b", "d", "e", "c"]


def test_settings_share_images() -> None:
    one = part("identity", {"a": 1, "b": 1})
    assert wanted([one, one, part("identity", {"c": 1})]) == ["a", "c", "b"]


def test_without_plain_there_are_no_lists() -> None:
    assert wanted([part("icm", {"a": 1}), {}]) == []
