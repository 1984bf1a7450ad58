"""What findings say, in both directions. All rows are synthetic."""

from typing import Any

import numpy as np
import pytest

from reports.chosen import Selections
from reports.differences import difference
from reports.findings import comparisons, observations
from reports.methods import Method
from reports.settings import by_setting
from tests.reports.synthetic import frame, row

ICM = Method("icm", "largest", "zero_shot")
PLAIN = Method("identity", None, "zero_shot")


def rows(icm: float, plain: float, other: float, n: int = 400, seeds: tuple[int, ...] = (0, 1)) -> list[Any]:
    made = []
    for held_out in ("a", "b", "c"):
        for seed in seeds:
            for projection, order, share in (
                ("icm", "largest", icm), ("identity", None, plain),
                ("pca", None, other), ("random", None, other),
            ):  # fmt: skip
                # Different images are right for different methods, as in life.
                right = np.random.default_rng([seed, ord(held_out), len(projection)]).permutation(n) < share * n
                made.append(
                    row(
                        held_out=held_out, seed=seed, projection=projection, order=order, n_test=n,
                        target=[share], correct=right.tolist(),
                    )
                )  # fmt: skip
    return made


def said(made: list[Any]) -> str:
    [(setting, part)] = by_setting(frame(made))
    selections = Selections(part)
    return "\n".join([*comparisons(setting, selections), *observations(setting, selections)])


def test_a_clear_gain_is_called_one() -> None:
    text = said(rows(0.9, 0.5, 0.5))
    assert "CLIP-ICM (largest) + zero-shot minus Zero-shot: +40.0 points" in text
    assert "CLIP-ICM (largest) + zero-shot is ahead of Zero-shot." in text
    assert "n = 1,200 test images per seed in 3 held-out environments, seeds 0, 1, split out_20, rule lodo" in text
    assert "Not separated" not in text


def test_a_clear_loss_is_called_one() -> None:
    text = said(rows(0.5, 0.9, 0.9))
    assert "Zero-shot beats CLIP-ICM (largest) + zero-shot." in text
    assert "PCA + zero-shot, which uses no intervention, beats CLIP-ICM (largest) + zero-shot." in text
    assert "is ahead of" not in text


def test_equal_methods_are_not_separated_and_the_control_is_named() -> None:
    text = said(rows(0.7, 0.7, 0.7))
    assert text.count("Not separated: the interval includes 0.") == 3
    assert "PCA + zero-shot, which uses no intervention, equals or beats CLIP-ICM" in text


def test_interval_matches_the_paired_variance_and_does_not_shrink_with_repeated_seeds() -> None:
    n = 1000
    right = [i < 550 for i in range(n)], [450 <= i < 950 for i in range(n)]  # 450 wins, 400 losses
    widths = []
    for seeds in ((0,), (0, 1, 2, 3)):
        made = [
            row(seed=s, projection=p, order=o, target=[0.5], n_test=n, correct=c)
            for s in seeds
            for p, o, c in (("icm", "largest", right[0]), ("identity", None, right[1]))
        ]
        found = difference(Selections(frame(made)), ICM, PLAIN, "lodo")
        assert found is not None
        assert found.points == pytest.approx(5)
        widths.append(found.high - found.low)
    # variance of d: (450 + 400) / 1000 - 0.05^2; half-width 1.96 sqrt(variance / n)
    exact = 2 * 1.96 * 100 * np.sqrt((0.85 - 0.0025) / n)
    assert widths == pytest.approx([exact, exact], rel=0.05)


def test_an_image_tested_with_several_pairs_of_environments_is_one_image() -> None:
    n, pairs = 1000, (("a", "b"), ("a", "c"), ("b", "c"))
    right = [i < 550 for i in range(n)], [450 <= i < 950 for i in range(n)]  # in each environment, with either other
    made = [
        row(
            held_out=f"{first} + {second}", projection=p, order=o, target=[0.5], n_test=2 * n, correct=[*c, *c],
            protocol="held_out_pairs", tested=[{"environment": e, "images": n} for e in (first, second)],
        )
        for first, second in pairs
        for p, o, c in (("icm", "largest", right[0]), ("identity", None, right[1]))
    ]  # fmt: skip
    found = difference(Selections(frame(made)), ICM, PLAIN, "lodo")
    assert found is not None
    assert found.points == pytest.approx(5)
    assert found.n_images == 3 * n
    # Each image adds d / 3n to the mean over pairs, so the variance is that of 3n images, not of the 6n answers.
    assert found.high - found.low == pytest.approx(2 * 1.96 * 100 * np.sqrt((0.85 - 0.0025) / (3 * n)), rel=0.05)
    assert "n = 3,000 test images per seed in 3 pairs of held-out environments" in said(made)


def test_a_group_with_images_in_several_environments_is_one_unit() -> None:
    n = 1000
    right = [i < 550 for i in range(n)], [450 <= i < 950 for i in range(n)]
    widths = {}
    for grouped in (False, True):
        made = [
            row(
                held_out=h, projection=p, order=o, target=[0.5], n_test=n, correct=c, grouped=grouped,
                tested_groups=list(range(7, n + 7)) if grouped else None,
            )
            for h in ("a", "b")
            for p, o, c in (("icm", "largest", right[0]), ("identity", None, right[1]))
        ]  # fmt: skip
        found = difference(Selections(frame(made)), ICM, PLAIN, "lodo")
        assert found is not None
        assert found.points == pytest.approx(5)
        assert found.n_images == 2 * n
        widths[grouped] = found.high - found.low
    # Alone, 2n images; in groups of two that answer alike, as if there were n.
    exact = 2 * 1.96 * 100 * np.sqrt((0.85 - 0.0025) / n)
    assert widths[True] == pytest.approx(exact, rel=0.05)
    assert widths[False] == pytest.approx(exact / np.sqrt(2), rel=0.05)
    assert "takes one seed at random and resamples whole groups of its images" in said(made)


def test_too_few_images_or_groups_give_no_interval_and_no_winner() -> None:
    n = 400
    right = [True] * n, [i % 2 == 0 for i in range(n)]
    for groups, fewest in ((1, 1), (9, 9), (10, None)):
        made = [
            row(
                held_out=h, projection=p, order=o, target=[0.5], n_test=n, correct=c, grouped=True,
                tested_groups=[i % groups for i in range(n)],
            )
            for h in ("a", "b")
            for p, o, c in (("icm", "largest", right[0]), ("identity", None, right[1]))
        ]  # fmt: skip
        text = said(made)
        assert "+50.0 points" in text
        few = f"no interval, since an environment has {fewest} groups of test images where 10 are needed"
        assert (few in text) == (fewest is not None)
        assert ("Too few images to say which is ahead." in text) == (fewest is not None)
        assert ("is ahead of" in text) == (fewest is None)
    assert "no interval, since an environment has 9 test images" in said(
        [row(projection="icm", order="largest", n_test=9), row(n_test=9)]
    )


def test_pairing_needs_the_same_images() -> None:
    made = [row(projection="icm", order="largest", n_test=10), row(n_test=12)]
    assert difference(Selections(frame(made)), ICM, PLAIN, "lodo") is None
    assert "no seed has both on the same test images" in said(made)


def test_an_environment_without_both_methods_is_named() -> None:
    made = [r for r in rows(0.9, 0.5, 0.5) if (r["held_out"], r["projection"]) != ("b", "pca")]
    text = said(made)
    assert "in 2 held-out environments" in text
    assert text.count("Without b: not both were tested.") == 1


def test_oracle_gap_and_worst_environment_are_stated_with_their_n() -> None:
    made = [
        row(held_out="a", projection="icm", order="largest", target=[0.5, 0.9, 0.6], lodo=[0.1, 0.2, 0.3]),
        row(held_out="b", projection="icm", order="largest", target=[0.8, 0.8, 0.8]),
    ]
    text = said(made)
    assert "would add 15.0 points" in text
    assert "70.0 by lodo, 85.0† by oracle (n = 20 test images per seed" in text
    assert "worst on a: 60.0 %, its worst class there 30.0 % (n = 10" in text


def test_without_lodo_the_fallback_is_named() -> None:
    text = said([{**r, "lodo": None, "correct_lodo": None} for r in rows(0.9, 0.5, 0.5)])
    assert "the findings use the training_domain rule" in text
    assert "rule training_domain" in text


def test_random_weights_come_first() -> None:
    assert said([{**r, "random_weights": True} for r in rows(0.9, 0.5, 0.5)]).startswith("RANDOM WEIGHTS, NOT A RESULT")


def test_no_icm_rows_is_said() -> None:
    assert "There are no rows of CLIP-ICM (largest)" in said([row()])
