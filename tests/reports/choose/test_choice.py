"""Choice of a backbone: pairs, ties, Pareto front and sentence, against hand-made references. All rows are synthetic."""

import json
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy.stats import t
from statsmodels.stats.multitest import multipletests

from benchmark.common.errors import IcmBenchError
from reports.analysis.settings import Options
from reports.choose import sentence, table_of
from tests.reports.choose.rows import COSTS, ENVIRONMENTS, TIED, N, answers, chosen, cost, of, rows_of
from tests.reports.synthetic import row
from tests.reports.tables.rows import cell


def correct(name: str) -> np.ndarray[Any, Any]:
    """Return the correctness of a backbone, shape (environments, images)."""
    every = {"A": answers(0.85), "B": answers(0.85, 0.06, seed=1), "C": answers(0.70), "D": answers(0.60)}[name]
    return np.array([every[e] for e in ENVIRONMENTS], dtype=float)


def difference(one: str, other: str) -> tuple[float, float, float]:
    """Return a paired difference, its half-width and p-value by the textbook, with images as clusters and one seed."""
    d = correct(one) - correct(other)
    u = (d - d.mean(axis=1, keepdims=True)) / d.size
    error = np.sqrt(d.size / (d.size - 1) * np.square(u).sum())
    freedom = d.size - 1
    return float(d.mean()), float(t.ppf(0.975, freedom) * error), float(2 * t.sf(abs(d.mean() / error), freedom))


def test_pairs_of_backbones_are_compared_image_by_image_and_adjusted_over_all_pairs() -> None:
    choice = chosen()
    pairs = list(combinations("ABCD", 2))
    expected = multipletests([difference(*pair)[2] for pair in pairs], method="holm")[1]
    assert [choice.ties.adjusted[pair] for pair in pairs] == pytest.approx(expected, rel=1e-9)
    best = choice.best.name
    for name, interval in choice.differences.items():
        mean, half, _ = difference(name, best)
        assert (interval.estimate, interval.high - interval.estimate) == pytest.approx((mean, half))
    assert set(choice.ties.tied) == {"A", "B"}
    assert [one.average.value for one in choice.candidates] == pytest.approx(
        sorted((100 * correct(name).mean() for name in "ABCD"), reverse=True)
    )


def test_the_fastest_of_the_tied_backbones_is_chosen_with_a_reason() -> None:
    choice = chosen()
    assert choice.best.name == "A"  # B has the same number of right answers: of equals the first
    assert choice.chosen is not None
    assert choice.chosen.name == "B"
    _, half, _ = difference("B", "A")
    assert sentence(choice) == (
        f"A has the highest average, {100 * correct('A').mean():.1f} %; B is tied with it (0.0 "
        f"[{-100 * half:+.1f}, {100 * half:+.1f}] points) and encodes 3.2 times as many images a second: choose B."
    )


def test_the_front_excludes_dominated_backbones_and_unknown_speeds() -> None:
    assert chosen().front == ["B"]  # as accurate as A in the worst environment, and faster
    slower = chosen(costs=COSTS | {"B": [cost(90.0)], "C": [cost(500.0)]})
    assert slower.front == ["A", "C"]
    assert slower.chosen is slower.best
    assert sentence(slower).endswith("points), and none was measured to encode faster: choose A.")


def test_a_separated_best_is_chosen_and_a_faster_one_is_named() -> None:
    choice = chosen("ACD")
    assert sentence(choice) == (
        f"A is best with {100 * correct('A').mean():.1f} %, ahead of the 2 others in these environments: choose A."
    )
    fast = chosen("ACD", costs={**COSTS, "C": [cost(400.0)]})
    mean, half, _ = difference("A", "C")
    assert sentence(fast) == (
        f"A is best with {100 * correct('A').mean():.1f} %; C encodes 4.0 times as many images a second and is behind "
        f"by {100 * mean:.1f} [{100 * (mean - half):.1f}, {100 * (mean + half):.1f}] points: choose A where accuracy "
        "counts most."
    )
    assert fast.chosen is fast.best


def test_ties_without_speeds_of_one_run_have_no_choice() -> None:
    """Speeds of another machine, another run or an earlier version are not comparable."""
    for other in ({"device": "cuda", "cores": 0}, {"run": "another day's"}, {"run": ""}):
        elsewhere = chosen(costs={**COSTS, "B": [cost(320.0, **other)]})
        assert of(elsewhere, "A").speed == pytest.approx(100.0)
        assert of(elsewhere, "B").speed is None
        assert elsewhere.chosen is None
        assert sentence(elsewhere).endswith("and no run measured the speed of these: nothing is chosen.")
    old = chosen(costs={name: [cost(100.0, run="")] for name in "ABCD"})
    assert {one.speed for one in old.candidates} == {None}


def test_speeds_come_from_the_run_with_most_backbones_and_images() -> None:
    alone = cost(500.0, work=9e6, seconds=9e6 / 500, run="of A alone")
    choice = chosen(costs={**COSTS, "A": [cost(999.0, work=8.0, seconds=8 / 999), alone, cost(100.0)]})
    assert of(choice, "A").speed == pytest.approx(100.0)


def test_imported_texts_are_compared_and_different_templates_refused() -> None:
    def rows(*prompts: str) -> dict[str, Any]:
        given = zip("AB", prompts, strict=True)
        return {name: [{**one, "prompts": json.dumps([prompt])} for one in TIED[name]] for name, prompt in given}

    choice = chosen("AB", rows=rows("imported texts 0123456789abcdef", "imported texts fedcba9876543210"))
    assert set(choice.ties.tied) == {"A", "B"}
    with pytest.raises(
        IcmBenchError, match=r"^Rows with different templates of the data set set .* --where backbone=NAME\.$"
    ):
        chosen("AB", rows=rows("a photo of a {}.", "{}"))


def test_an_interval_without_0_that_is_not_separated_shows_its_p_value() -> None:
    """The p-value of A against C is below 5 %, but above it after adjustment for three pairs."""
    turned = {name: own.copy() for name, own in answers(0.85).items()}
    for own in turned.values():
        own[np.flatnonzero(own)[:4]] = False
        own[np.flatnonzero(~own)[-1:]] = True
    rows = {"A": TIED["A"], "B": TIED["B"], "C": rows_of("C", turned)}
    choice = chosen("ABC", costs={**COSTS, "C": [cost(900.0)]}, rows=rows)
    interval, p = choice.differences["C"], choice.p("C")
    assert interval.high < 0
    assert p is not None
    assert p > 0.05
    assert f"points; p = {p:.2f} among 3 pairs, Holm) encodes 9.0 times" in sentence(choice)


def test_equal_averages_are_decided_by_speed() -> None:
    choice = chosen("AB")
    assert sentence(choice) == (
        f"All averages are equal, {100 * correct('A').mean():.1f} %, and B encodes 3.2 times as many images a second as A: "
        "choose B."
    )
    assert not any(one.average.best for one in choice.candidates)


def test_small_differences_of_speed_do_not_decide() -> None:
    choice = chosen(costs={**COSTS, "B": [cost(104.0)]})
    assert choice.chosen is choice.best


def test_too_few_images_give_no_choice() -> None:
    few = {name: [row(held_out=e, n_test=6, target=(share,), backbone=name, backbone_fingerprint=name, dataset="set")
                  for e in "ab"] for name, share in (("A", 0.9), ("B", 0.5))}  # fmt: skip
    choice = chosen("AB", rows=few)
    assert choice.chosen is None
    assert sentence(choice).endswith("for an environment has 6 images, and intervals need 30: nothing is chosen.")


def test_the_highest_source_score_is_picked_for_each_environment() -> None:
    """PCA is only picked in `art`, although on test images it is ahead in `photo` and behind in `art`."""
    plain, pca = answers(0.6), answers(0.9)
    worse = {name: own & (np.arange(N) % 2 == 0) for name, own in plain.items()}
    rows = rows_of("A", plain, 0.7, ece_lodo=0.02) + [
        one
        for name, score in zip(ENVIRONMENTS, (0.8, 0.6, 0.6), strict=True)
        for one in rows_of(
            "A", {name: worse[name] if name == "art" else pca[name]}, score, projection="pca", ece_lodo=0.08
        )
    ]
    choice = chosen("AD", rows={"A": rows})
    one = of(choice, "A")
    assert one.methods == {"PCA + zero-shot": 1, "Zero-shot": 2}
    expected = [worse["art"].mean(), plain["photo"].mean(), plain["sketch"].mean()]
    assert one.average.value == pytest.approx(100 * np.mean(expected))
    assert one.plain.value == pytest.approx(100 * np.mean([own.mean() for own in plain.values()]))
    assert one.worst_name == "art"
    assert one.worst.value == pytest.approx(100 * min(expected))
    assert one.ece.value == pytest.approx(100 * np.mean([0.08, 0.02, 0.02]))
    assert "D has no rows of PCA + zero-shot." in choice.left_out


def test_data_sets_have_equal_weights_and_incomplete_backbones_are_excluded() -> None:
    other: dict[str, Any] = {"dataset": "two", "dataset_fingerprint": "data two"}
    both = {name: TIED[name] + rows_of(name, answers(share), **other) for name, share in (("A", 0.5), ("C", 0.8))}
    choice = chosen("ACD", rows=both)
    assert of(choice, "A").average.value == pytest.approx(50 * (correct("A").mean() + answers_mean(0.5)))
    assert of(choice, "A").worst_name == "two: sketch"
    assert choice.left_out == ("D is not compared: it has no rows of two.",)
    single = [difference("A", "C")[0], answers_mean(0.5) - answers_mean(0.8)]
    assert choice.ties.best == ("A" if np.mean(single) > 0 else "C")
    [interval] = choice.differences.values()
    assert abs(interval.estimate) == pytest.approx(abs(np.mean(single)))


def answers_mean(share: float) -> float:
    return float(np.mean([own.mean() for own in answers(share).values()]))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"B": rows_of("B", answers(0.8), protocol="open_class", class_half="all")},
         r"^Rows with different protocol \(held_out, open_class\) cannot share the table 'choose'"),
        ({"B": rows_of("B", answers(0.8), random_weights=True)},
         r"there are rows of 'A' alone \(B is not compared: its weights are random\): finish"),
        ({"B": rows_of("B", {"art": answers(0.8)["art"]})}, "'A' and 'B' share no seed with the same test images"),
        ({"B": rows_of("B", answers(0.8), first=7)}, "'A' and 'B' share no seed with the same test images"),
        ({"B": []}, "there are rows of 'A' alone: finish"),
    ],
)  # fmt: skip
def test_backbones_that_cannot_be_compared_are_refused(rows: dict[str, Any], said: str) -> None:
    with pytest.raises(IcmBenchError, match=said) as refused:
        chosen("AB", rows=rows)
    assert str(refused.value).count(". ") == 0


def test_bounds_and_class_halves_do_not_count() -> None:
    bound = [one for name in "AB" for one in rows_of(name, answers(0.95), protocol="in_domain")]
    assert chosen("ABx", rows={"x": bound}).best.average.value == pytest.approx(100 * correct("A").mean())


def test_the_table_has_a_reason_for_every_gap_and_bold_for_the_group() -> None:
    made = table_of(chosen(), Options(), {"A": "a"})
    assert [column.heading for column in made.columns] == [
        "Plain", "Picked", "Gap", "Worst", "ECE", "Images/s", "GiB"]  # fmt: skip
    assert [line.heading for _, line in made.lines()] == ["a", "B", "C", "D"]
    picked = "what the rule picks"
    assert [cell(made, name, picked).best for name in ("a", "B", "C", "D")] == [True, True, False, False]
    assert cell(made, "D", "images per second").note == "not measured in the run whose speeds are compared"
    assert cell(made, "B", "images per second").value == pytest.approx(320.0)
    assert cell(made, "B", "memory of an encoder in GiB").value == pytest.approx(1.0)
    assert cell(made, "C", "worst environment").value == pytest.approx(100 * correct("C")[2].mean())
    assert "Worst environment: sketch for all." in made.notes
    assert all(c.value is not None or c.note for _, line in made.lines() for c in line.cells)
    assert "1 encoder on cpu with 4 threads each, EPYC" in " ".join(made.notes)
    none = table_of(chosen(costs={}), Options(), {})
    assert {cell(none, name, "images per second").note for name in "ABCD"} == {"no run recorded it"}
