"""A record compared with the result of another run: what must be equal, what may differ, and what is named first."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmark.results.comparing import CLOSE, DIFFERS, EQUAL, TOLERANCE, canonical, compared, same_result
from benchmark.results.records import Published, Publisher
from tests.results.made_up import RECIPE, answers, records

RNG = np.random.default_rng(0)
PLAIN, OURS = RNG.random(80) < 0.4, RNG.random(80) < 0.2


def both(wrong: Any = OURS, **changes: Any) -> list[Published]:
    return records(answers(PLAIN), answers(wrong), **changes)


def flipped(count: int) -> Any:
    return np.where(np.arange(80) < count, ~OURS, OURS)


def test_times_and_names_alone_leave_the_bytes_equal() -> None:
    other = Publisher("Bob", "third_party", {"": "bob/encoder"}, 2_000_000_000)
    for one, again in zip(both(), both(about=other), strict=True):
        assert one.path != again.path
        assert canonical(one) == canonical(again)
        assert same_result(one.details) == same_result(again.details)
        assert compared(one, again).status == EQUAL
    first, second = both()
    assert canonical(first) != canonical(second)


def test_with_equal_settings_one_answer_is_enough_to_differ() -> None:
    found = compared(both()[1], both(flipped(3))[1])
    assert (found.status, found.settings, found.tolerance) == (DIFFERS, (), 0)
    assert found.changed == ("art/0.png", "art/1.png", "art/2.png")
    assert found.images == 80
    assert "3 of 80 images changed: art/0.png, art/1.png, art/2.png" in found.text()


@pytest.mark.parametrize(
    ("changes", "first", "status"),
    [
        ({"data_fingerprint": "c" * 64, "weights_fingerprint": "c" * 64, "publication": "1"}, "data", DIFFERS),
        ({"weights_fingerprint": "c" * 64, "prompts": ["the {}."], "publication": "1"}, "weights", DIFFERS),
        ({"weights_fingerprint": "c" * 64, "machine": ["another"], "publication": "1"}, "weights", CLOSE),
        ({"prompts": ["the {}."], "recipe_hash": "0" * 64,
          "recipe": {**RECIPE, "prompts": {"templates": ["the {}."], "by_dataset": {}}}}, "prompts", DIFFERS),
        ({"precision": "bfloat16"}, "precision", DIFFERS),
        ({"engine": "openvino", "versions": {"icm-bench": "0.1.0"}}, "engine", CLOSE),
        ({"recipe": {**RECIPE, "sweep": {"folds": 2, "seeds": [1]}}}, "recipe", DIFFERS),
        ({"code_version": ["0.2.0+abc"], "versions": {}}, "version of icm-bench", CLOSE),
        ({"versions": {"icm-bench": "0.1.0", "numpy": "2.1.0"}, "machine": ["another"]}, "versions of packages", CLOSE),
        ({"machine": ["another"]}, "processor", CLOSE),
        ({"publication": "1"}, "architecture of the encoder, or text pairs", CLOSE),
    ],
)  # fmt: skip
def test_the_first_setting_that_differs_is_named(changes: dict[str, Any], first: str, status: str) -> None:
    for one, again in zip(both(), both(**changes), strict=True):
        found = compared(one, again)
        assert found.settings[0].startswith(f"{first} (")
        assert (found.status, found.tolerance, found.largest) == (status, TOLERANCE, 0)


def test_the_values_of_a_setting_are_shown() -> None:
    [said, *_] = compared(both()[0], both(prompts=["the {}."])[0]).settings
    assert said == "prompts (prompts[0] is 'a {}.' in the record and 'the {}.' in the run)"


def test_on_another_processor_scores_may_differ_by_the_tolerance_and_no_more() -> None:
    found = compared(both()[1], both(flipped(1), machine=["another"])[1])
    assert found.status == DIFFERS  # one image of 40 is 2.5 points
    assert found.largest == pytest.approx(1 / 40)
    assert found.where in ("accuracy/art", "gain_in_accuracy/art")


def test_a_record_without_answers_is_compared_by_its_numbers() -> None:
    one = both()[1]
    without = replace(one, answers=None)
    assert compared(without, both()[1]).status == EQUAL
    found = compared(without, both(flipped(1))[1])
    assert (found.status, found.changed) == (DIFFERS, None)


def test_a_result_that_the_run_lacks_differs() -> None:
    one, other = both()
    assert compared(one, None).status == DIFFERS
    assert "only one of the two has such a result" in compared(one, None).text()
    found = compared(other, replace(other, numbers=other.numbers[:-1]))
    assert (found.status, found.largest, found.where) == (DIFFERS, None, other.numbers[-1].id)
