"""What findings say, in both directions. All rows are synthetic."""

import re
from typing import Any

import numpy as np
import pytest
from scipy import stats

from reports.analysis.findings import comparisons, overall
from reports.analysis.options import Options
from reports.text.notes import notes
from reports.text.sentences import in_words, overall_sentences
from tests.reports.synthetic import described, only, row


def rows(
    icm: float, plain: float, other: float, n: int = 400, seeds: tuple[int, ...] = (0, 1), **more: Any
) -> list[Any]:
    made = []
    spread = more.pop("spread", 0.0)  # of CLIP-ICM's accuracy from one environment to the next
    for i, held_out in enumerate(more.pop("held_outs", "abc")):
        for projection, order, share in (
            ("icm", "largest", icm + spread * i), ("identity", None, plain), ("pca", None, other), ("random", None, other),
        ):  # fmt: skip
            # Different images are right for different methods, as in life.
            right = np.random.default_rng([ord(held_out), *projection.encode()]).permutation(n) < round(share * n)
            made += [
                row(held_out=held_out, seed=s, projection=projection, order=order, correct=right, **more) for s in seeds
            ]
    return made


def said(made: list[Any], options: Options | None = None) -> str:
    setting, selections = only(made)
    return "\n".join(in_words(setting, selections, comparisons(setting, selections, options or Options())))


def all_said(made: list[Any]) -> tuple[dict[str, str], str]:
    """Return name -> what each data set says, and what all of them say together."""
    found = [(s, selections, comparisons(s, selections, Options())) for s, selections in described(made)]
    families = overall([(s, one) for s, _, one in found])
    each = {s.dataset: "\n".join(in_words(s, selections, one, families)) for s, selections, one in found}
    return each, "\n".join(sentence for family in families for sentence in overall_sentences(family))


def test_a_difference_has_its_interval_n_seeds_split_and_rule_and_no_verdict() -> None:
    text = said(rows(0.9, 0.5, 0.5))
    assert "CLIP-ICM (largest) + zero-shot minus Zero-shot: +40.0 points in these environments, 95 % interval" in text
    assert "smallest gain that would have shown" in text
    assert "(n = 1,200 test images in 3 held-out environments, seeds 0, 1, split out_20, rule lodo)" in text
    assert "They describe: what is shown, verdicts say." in text
    assert "Separated from all others as the best: CLIP-ICM (largest)." in text
    assert "CLIP-ICM (largest) 1" in text
    assert not [word for word in ("is ahead of", "Holm)", "Not shown", "p <", "p =") if word in text.split("Ranks")[0]]


def test_gains_stand_by_both_rules_and_methods_are_compared_by_what_keeps_nothing_back() -> None:
    made = [r | {"lodo_se": [0.5] * len(r["ranks"])} for r in rows(0.9, 0.5, 0.5)]
    setting, selections = only(made)
    compared = comparisons(setting, selections, Options()).compared
    assert [(one.baseline.projection, one.rule, round(one.interval.estimate, 6)) for one in compared] == [
        ("identity", "lodo_1se", 0.4),  # one candidate is never held back
        ("identity", "lodo", 0.4),
        ("pca", "lodo", 0.4),
        ("random", "lodo", 0.4),
    ]


def test_equal_answers_say_of_how_many_others_they_may_differ() -> None:
    right = np.random.default_rng(0).random(4000) < 0.6
    same = said([row(projection="icm", order="largest", correct=right), row(correct=right)])
    assert "the same answers on all 4,000 test images (up to 0.1 % of others may" in same


def test_the_same_answers_on_few_images_may_differ_on_more() -> None:
    right = np.arange(40) < 30
    text = said([row(held_out=h, projection=p, order=o, correct=right)
                 for h in "abcd" for p, o in (("icm", "largest"), ("identity", None))])  # fmt: skip
    share = 100 * stats.binomtest(0, 40).proportion_ci(method="exact").high
    assert f"the same answers on all 160 test images (up to {share:.1f} % of others may differ)" in text
    assert "New environments: no interval, for nothing varies over held-out environments." in text
    assert "interval +0.0 to +0.0" not in text


def test_few_images_of_new_classes_give_no_interval_and_two_zeros_are_not_too_few_images() -> None:
    harmonic: dict[str, Any] = {"class_half": "harmonic", "protocol": "held_out_open_class"}
    right, other = (np.random.default_rng(i).random(205) < 0.5 + 0.2 * i for i in (0, 1))
    labels = [0] * 200 + [1] * 5
    right[200], other[200] = True, True
    made = [row(projection="icm", order="largest", correct=right, labels=labels, **harmonic),
            row(correct=other, labels=labels, **harmonic)]  # fmt: skip
    text = said(made)
    assert "no interval, since an environment has 5 test images of base or of new classes where 30 are needed" in text
    zeros = said([row(projection="icm", order="largest", correct=right[:200], **harmonic),
                  row(correct=np.zeros(200, dtype=bool), **harmonic)])  # fmt: skip
    assert "no interval (unknown)" in zeros


def test_new_environments_have_a_sentence_of_their_own() -> None:
    three, four = said(rows(0.9, 0.5, 0.5)), said(rows(0.8, 0.5, 0.5, held_outs="abcd", spread=0.06))
    d = [30, 36, 42, 48]
    low, high = stats.t.interval(0.95, 3, np.mean(d), stats.sem(d))
    assert "Of 3 held-out environments it is ahead in 3, level in 0, behind in 0." in three
    assert "New environments: cannot be answered from 3, 4 are needed." in three
    assert f"New environments: {np.mean(d):+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}. Of 4" in four
    assert "84 %" not in four
    same = said(rows(0.9, 0.5, 0.5, held_outs="abcd"))
    assert "New environments: +40.0 points, 95 % interval" in same  # by the floor that images set
    grouped = said(rows(0.8, 0.5, 0.5, held_outs="abcd", spread=0.02, groups=list(range(400))))
    assert "Groups stand in several of them, which makes it too narrow: it covers 84 %." in grouped
    assert "n = 400 groups of test images" in grouped


@pytest.mark.parametrize(("held_outs", "own"), [("abcde", False), ("abcdef", True)])
def test_few_environments_of_several_data_sets_leave_the_answer_to_all(held_outs: str, own: bool) -> None:
    made = [r for name in "xy" for r in rows(0.8, 0.5, 0.5, held_outs=held_outs, spread=0.01, dataset=name)]
    each, _ = all_said(made)
    assert ("New environments: see what all data sets say together." in each["x"]) != own
    assert bool(re.search(r"New environments: \S+ points, 95 % interval", each["x"])) == own


def test_a_data_set_that_is_left_out_of_all_answers_for_itself_and_is_named() -> None:
    def data_set(name: str, n: int, held_outs: str) -> list[Any]:
        return rows(0.8, 0.5, 0.5, n=n, held_outs=held_outs, spread=0.01, dataset=name)

    small = [*data_set("s", 400, "abc"), *data_set("s", 20, "d")]
    each, together = all_said([*data_set("x", 400, "abcd"), *small])
    assert together == ""
    assert "see what all data sets say together" not in each["x"] + each["s"]
    assert re.search(r"New environments: \S+ points, 95 % interval", each["x"])
    each, together = all_said([*data_set("x", 400, "abcd"), *data_set("y", 400, "abcd"), *small])
    assert "see what all data sets say together" in each["x"]
    assert "see what all data sets say together" not in each["s"]
    assert "over 2 data sets (x, y), each" in together
    assert together.count("Left out, for lack of an interval: s.") == 3
    assert "Groups" not in together


def test_groups_of_one_data_set_are_said_to_make_the_interval_of_all_too_narrow() -> None:
    grouped = rows(0.8, 0.5, 0.5, spread=0.01, dataset="g", groups=list(range(400)))
    _, together = all_said([*rows(0.8, 0.5, 0.5, spread=0.01, dataset="x"), *grouped])
    assert together.count("Groups of images stand in several of them, which makes it too narrow.") == 3


def test_methods_that_cannot_be_ranked_are_said_not_to_be() -> None:
    made = [row(held_out=h, seed=s, projection=p, target=[x])
            for p, x, seeds in (("identity", 0.4, (0,)), ("pca", 0.9, (1,)))
            for s in seeds for h in "ab"]  # fmt: skip
    assert "Not ranked: Zero-shot, PCA + zero-shot. No seed has all that is held out for all of them." in said(made)
    harmonic: dict[str, Any] = {"class_half": "harmonic", "protocol": "held_out_open_class", "n_test": 400}
    made = [row(projection=p, correct=np.random.default_rng(i).random(400) < x, **harmonic)
            for i, (p, x) in enumerate((("identity", 0.0), ("pca", 0.9), ("random", 0.2)))]  # fmt: skip
    text = said(made)
    assert "Ranks among zero-shot (95 % together, 1 difference, Holm, seed 0, rule lodo): PCA 1, Random" in text
    assert "Not ranked, for the harmonic mean of two zeros: Plain." in text


def test_one_seed_and_one_environment_say_what_was_gained_and_lost() -> None:
    right = np.arange(100) < 60
    other = (np.arange(100) >= 10) & (np.arange(100) < 65)
    made = [row(projection="icm", order="largest", correct=right), row(correct=other)]
    text = said(made)
    assert "10 answers gained and 5 lost (McNemar's exact p = 0.302)." in text
    assert "variation between seeds is not in them" in text
    more = said([*made, *({**r, "seed": 1} for r in made)])
    assert "gained" not in more
    assert "variation between seeds is not" not in more


def test_too_few_images_or_groups_give_no_interval() -> None:
    n = 400
    right = [True] * n, [i % 2 == 0 for i in range(n)]
    for groups, few in ((1, True), (29, True), (30, False)):
        made = [row(held_out=h, projection=p, order=o, correct=c, groups=[i % groups for i in range(n)]) for h in "ab"
                for p, o, c in (("icm", "largest", right[0]), ("identity", None, right[1]))]  # fmt: skip
        text = said(made)
        assert "+50.0 points" in text
        sentence = f"no interval, since an environment has {groups} groups of test images where 30 are needed"
        assert (sentence in text) == few


def test_pairing_needs_the_same_images() -> None:
    made = [row(projection="icm", order="largest", n_test=40), row(n_test=42)]
    assert "no seed has both on the same test images" in said(made)


def test_a_missing_fold_is_no_want_of_common_images() -> None:
    folds: dict[str, Any] = {"folds": 5, "test_split": "out_fold"}
    made = [row(projection=p, order=o, fold=f, **folds)
            for p, o, n in (("icm", "largest", 3), ("identity", None, 5)) for f in range(n)]  # fmt: skip
    text = said(made)
    assert "was not compared with Zero-shot: CLIP-ICM (largest) + zero-shot has 3 of 5 folds." in text
    assert "no seed has both" not in text


def test_an_environment_without_both_methods_is_named() -> None:
    made = [r for r in rows(0.9, 0.5, 0.5) if (r["held_out"], r["projection"]) != ("b", "pca")]
    text = said(made)
    assert "in 2 held-out environments" in text
    assert text.count("Without b: not both were tested.") == 1


def test_bounds_are_not_compared() -> None:
    text = said([{**r, "protocol": "in_domain"} for r in rows(0.9, 0.5, 0.5)])
    assert "bounds (†), which are not compared" in text
    assert "minus" not in text


def test_several_data_sets_have_one_sentence_about_new_environments() -> None:
    made = [r for n, name in enumerate("xyz") for r in rows(0.75 + n / 20, 0.6, 0.7, dataset=name)]
    each, together = all_said(made)
    assert not any("New environments: +" in text for text in each.values())
    low, high = stats.t.interval(0.95, 2, 20, stats.sem([15, 20, 25]))  # sets differ, and weigh alike or nearly so
    first, *_, last = together.splitlines()
    assert "over 3 data sets (x, y, z), each counting alike: +20.0 points in these environments" in first
    [ends] = re.findall(r"New environments: \S+ points, 95 % interval (\S+) to (\S+)\. Of 9 .* ahead in 9", first)
    assert [float(end) for end in ends] == pytest.approx([low, high], abs=0.11)
    assert last.startswith("Of new environments: random effects")
    assert all_said(made[: len(made) // 3])[1] == ""
    backbones = [r for n in ("x", "y") for r in rows(0.8, 0.6, 0.7, dataset=n, backbone=f"B{n}")]
    assert all_said(backbones)[1] == ""


def test_a_data_set_with_several_prompts_counts_once() -> None:
    every = [r for name in "xy" for p in ('["{}"]', '["a {}."]') for r in rows(0.8, 0.6, 0.7, dataset=name, prompts=p)]
    families = overall([(s, comparisons(s, selections, Options())) for s, selections in described(every)])
    assert [one.datasets for family in families for one in family.members] == [("x", "y")] * 6


def test_notes_of_fits_are_said_with_their_places() -> None:
    made = [row(held_out="a", seed=s, folds=2, fold=f, notes=["no end"] if s else []) for s in (0, 1) for f in (0, 1)]
    assert notes(only(made)[1]) == ["Zero-shot: no end (2 of 4 rows: a seed 1 fold 0, a seed 1 fold 1)"]


def test_without_lodo_the_fallback_is_named() -> None:
    text = said([{**r, "lodo": None} for r in rows(0.9, 0.5, 0.5)])
    assert "the findings use the training_domain rule" in text
    assert "rule training_domain" in text


def test_random_weights_come_first() -> None:
    assert said([{**r, "random_weights": True} for r in rows(0.9, 0.5, 0.5)]).startswith("RANDOM WEIGHTS, NOT A RESULT")
