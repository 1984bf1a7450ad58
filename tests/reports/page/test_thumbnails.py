"""Which images have thumbnails: those that lists name, the first of every list first. All answers are invented."""

import pyarrow as pa

from benchmark.store.details import Details, Part
from reports.page import wanted

CLASSES = ("cat", "dog")


def part(method: str, projects: bool, answers: dict[str, int], predictor: str = "zero_shot") -> tuple[Part, Details]:
    """A method's answers, image -> class, to images that all are cats."""
    n = len(answers)
    table = pa.table({
        "image_id": [*answers], "held_out": ["art"] * n, "seed": [0] * n, "rule": ["lodo"] * n, "class": ["cat"] * n,
        "predicted": pa.array(answers.values(), pa.int16()),
    })  # fmt: skip
    return Part({}, method, predictor, projects, ()), Details(table, CLASSES, None, ())


def test_the_first_of_every_list_come_first_and_what_is_always_right_not_at_all() -> None:
    plain = part("plain", False, {"a": 0, "b": 1, "c": 1, "d": 1, "e": 0})
    icm = part("icm", True, {"a": 0, "b": 1, "c": 1, "d": 0, "e": 1})
    # Wrong either way: b, c; right only with it: d; wrong only with it: e.
    assert wanted([[plain, icm]]) == ["b", "d", "e", "c"]


def test_settings_share_images() -> None:
    one = [part("plain", False, {"a": 1, "b": 1})]
    assert wanted([one, one, [part("plain", False, {"c": 1})]]) == ["a", "c", "b"]


def test_without_plain_there_are_no_lists() -> None:
    assert wanted([[part("icm", True, {"a": 1})], []]) == []
