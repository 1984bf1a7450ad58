"""Which images have thumbnails: those that lists name, the first of every list first. All answers are invented."""

import pandas as pd

from reports.analysis.chosen import Predictions
from reports.analysis.methods import Method
from reports.page.data import wanted
from tests.reports.synthetic import row

CLASSES = ("cat", "dog")


def part(projection: str, answers: dict[str, int]) -> Predictions:
    """A method's answers, image -> class, to images that all are cats."""
    n = len(answers)
    table = pd.DataFrame({
        "image_id": [*answers], "held_out": ["art"] * n, "seed": [0] * n, "rule": ["lodo"] * n, "class": ["cat"] * n,
        "predicted": [CLASSES[k] for k in answers.values()],
    })  # fmt: skip
    return {Method.of_row(row(projection=projection)): table}


def test_the_first_of_every_list_come_first_and_what_is_always_right_not_at_all() -> None:
    plain = part("identity", {"a": 0, "b": 1, "c": 1, "d": 1, "e": 0})
    icm = part("icm", {"a": 0, "b": 1, "c": 1, "d": 0, "e": 1})
    # Wrong either way: b, c; right only with it: d; wrong only with it: e.
    assert wanted([{**plain, **icm}]) == ["b", "d", "e", "c"]


def test_settings_share_images() -> None:
    one = part("identity", {"a": 1, "b": 1})
    assert wanted([one, one, part("identity", {"c": 1})]) == ["a", "c", "b"]


def test_without_plain_there_are_no_lists() -> None:
    assert wanted([part("icm", {"a": 1}), {}]) == []
