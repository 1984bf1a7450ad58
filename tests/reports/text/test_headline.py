"""Headlines of planted cases, word for word: accuracy first, at most 45 words, and none that takes a glossary."""

import re
from collections.abc import Sequence
from typing import Any

import pytest

from reports.text.headline import MAX_WORDS, headline
from tests.reports.analysis.test_verdicts import ENVIRONMENTS, answered, of, right, world

JARGON = re.compile(r"\b(Holm|lodo|N|isotropic|\d+ of \d+(?! \w+))\b")
PLAIN = "Plain prediction gets 50.0 % of images of held-out environments right."


def sets(shares: Sequence[tuple[float, float]], column: str = "dataset") -> list[dict[str, Any]]:
    return [
        r | {column: f"{column}{i}", f"{column}_fingerprint": f"{i}"} for i, s in enumerate(shares) for r in world(s)
    ]


def one_candidate(projection: str, **other: Any) -> list[dict[str, Any]]:
    """Rows of a method without ranks, right in 60 %."""
    alone: dict[str, Any] = {"correct": [right((0.6, 0.6))], "target": (0.6,), "predicted": None}
    return of((0.6, 0.6), projection, **(alone | other))


MINE = one_candidate("mine:Leace", lodo=[0.2], dim=2, ranks=[2])
SHRINKAGE = one_candidate("shrinkage", lodo=[0.9], lodo_se=[0.01], training_domain=[0.9], training_domain_se=[0.01])
CASES = {
    "helps": (world((0.6, 0.6)), f"{PLAIN} CLIP-ICM raises it to 60.0 % (+10.0, 9.1 to 10.9)."),
    "in accuracy only": (
        world((0.6, 0.4)),
        f"{PLAIN} CLIP-ICM raises it to 58.0 % (+8.0, 7.1 to 8.9), but not averaged over classes.",
    ),
    "in balanced only": (
        world((0.48, 0.68)),
        f"{PLAIN} CLIP-ICM helps only averaged over classes (+8.0; over images +0.0).",
    ),
    "trades": (
        world((0.6, 0.1)),
        f"{PLAIN} CLIP-ICM trades images for classes: +5.0 over images, -15.0 averaged over classes.",
    ),
    "hurts": (world((0.4, 0.4)), f"{PLAIN} CLIP-ICM lowers it to 40.0 % (-10.0, -10.9 to -9.1)."),
    "no difference": (world((0.5, 0.5)), f"{PLAIN} CLIP-ICM makes no measurable difference (50.0 %)."),
    "grouped": (
        world((0.6, 0.6), groups=[i // 2 for i in range(1000)]),
        f"{PLAIN} CLIP-ICM raises it to 60.0 % (+10.0, 7.4 to 12.6).",
    ),
    "three environments": (
        world((0.6, 0.6), environments=ENVIRONMENTS[:3]),
        f"{PLAIN} CLIP-ICM raises it to 60.0 % (+10.0, 8.9 to 11.1).",
    ),
    "all plain": (
        world((0.6, 0.6), lodo=[0.505, 0.5]),
        f"{PLAIN} CLIP-ICM was never chosen over plain prediction.",
    ),
    "sets agree": (
        sets([(0.6, 0.6), (0.7, 0.7)]),
        "Over 2 data sets, plain prediction gets 50.0 % of images of held-out environments right. CLIP-ICM helps in "
        "both.",
    ),
    "sets disagree": (
        sets([(0.6, 0.6), (0.4, 0.4)]),
        "Over 2 data sets, plain prediction gets 50.0 % of images of held-out environments right. CLIP-ICM helps in 1 "
        "and hurts in 1 of 2 settings.",
    ),
    "ten encoders": (
        sets([(0.5 + 0.01 * i,) * 2 for i in range(10)], "backbone"),
        "Over 10 encoders, plain prediction gets 50.0 % of images of held-out environments right. CLIP-ICM helps in 9 "
        "and makes no measurable difference in 1 of 10 settings.",
    ),
    "own method first": (
        [*world((0.5, 0.5)), *MINE],
        f"{PLAIN} mine:Leace raises it to 60.0 % (+10.0, 9.1 to 10.9).",
    ),
    "another does best": (
        [*world((0.5, 0.5)), *SHRINKAGE],
        f"{PLAIN} CLIP-ICM makes no measurable difference (50.0 %). Shrinkage raises it to 60.0 % (+10.0, 9.1 to 10.9).",
    ),
    "nothing but plain": (of((0.5, 0.5)), PLAIN),
    "without plain": (
        of((0.6, 0.6), "icm"),
        "Plain prediction was not tested on all held-out environments. CLIP-ICM has 60.0 %; what it gains cannot be "
        "said.",
    ),
    "bounds alone": (
        world((0.6, 0.6), protocol="in_domain"),
        "No accuracy can be given: there are bounds alone, or nothing that a fair rule chooses.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_headline_says_accuracy_then_what_methods_make_of_it(case: str) -> None:
    rows, expected = CASES[case]
    said = headline(answered(rows))
    assert said == expected
    assert len(said.split()) <= MAX_WORDS
    assert not JARGON.search(said)


def test_random_weights_come_first() -> None:
    assert headline(answered(world((0.6, 0.6), random_weights=True))).startswith("RANDOM WEIGHTS, NOT A RESULT: Plain")
