"""Golden headlines of planted cases: accuracy first, at most 45 words, no technical terms."""

import re

import pytest

from reports.text.verdicts import MAX_WORDS, headline
from tests.reports.analysis.test_verdicts import answered, world
from tests.reports.text.cases import EIGHTEEN, MORE, Case

JARGON = re.compile(r"\b(Holm|lodo|N|isotropic|\d+ of \d+(?! \w+))\b")


@pytest.mark.parametrize("case", [*EIGHTEEN.values(), *MORE.values()], ids=[*EIGHTEEN, *MORE])
def test_a_headline_says_accuracy_then_what_methods_make_of_it(case: Case) -> None:
    said = headline(case.answer)
    assert said == case.headline
    assert len([word for word in said.split() if word != "%"]) <= MAX_WORDS
    assert not JARGON.search(said)


def test_random_weights_come_first() -> None:
    assert headline(answered(world((0.6, 0.6), random_weights=True))).startswith("RANDOM WEIGHTS, NOT A RESULT: Plain")
