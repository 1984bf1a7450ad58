"""Plan of comparisons, pooling over data sets, and reasons of missing comparisons."""

import re
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmark.common.errors import IcmBenchError
from reports.analysis.findings import Family, Findings, check_requested, comparisons, overall
from reports.analysis.settings import Options
from reports.text.sentences import notes, overall_sentences
from tests.reports.synthetic import only, results_of, row


def rows(
    icm: float, plain: float, other: float, n: int = 400, seeds: tuple[int, ...] = (0, 1), **more: Any
) -> list[Any]:
    made = []
    spread = more.pop("spread", 0.0)  # of CLIP-ICM's accuracy from one environment to the next
    for i, held_out in enumerate(more.pop("held_outs", "abc")):
        for projection, order, share in (
            ("icm", "largest", icm + spread * i), ("identity", None, plain), ("pca", None, other), ("random", None, other),
        ):  # fmt: skip
            # Methods differ in the images that they classify correctly.
            right = np.random.default_rng([ord(held_out), *projection.encode()]).permutation(n) < round(share * n)
            made += [
                row(held_out=held_out, seed=s, projection=projection, order=order, correct=right, **more) for s in seeds
            ]
    return made


def found(made: list[Any], *compare: tuple[str, str]) -> Findings:
    return comparisons(*only(made), Options(compare=compare))


def said(made: list[Any]) -> str:
    """Return the notes of rows as one text."""
    setting, selections = only(made)
    return "\n".join(notes(setting, selections, comparisons(setting, selections, Options())))


def families(made: list[Any]) -> list[Family]:
    return overall([(s, comparisons(s, selections, Options())) for s, selections in results_of(made)])


def test_gains_use_both_rules_and_other_comparisons_the_base_rule() -> None:
    made = [r | {"lodo_se": [0.5] * len(r["ranks"])} for r in rows(0.9, 0.5, 0.5)]
    compared = found(made).compared
    assert [(one.baseline.projection, one.rule, round(one.interval.estimate, 6)) for one in compared] == [
        ("identity", "lodo_1se", 0.4),  # one candidate is never held back
        ("identity", "lodo", 0.4),
        ("pca", "lodo", 0.4),
        ("random", "lodo", 0.4),
    ]


PCA, RANDOM, ICM, PLAIN = (
    "PCA + zero-shot",
    "Random projection + zero-shot",
    "CLIP-ICM + zero-shot",
    "Zero-shot",
)


@pytest.mark.parametrize(
    ("pair", "direct", "more"),
    [
        ((ICM, PCA), [(ICM, PCA)], [(PCA, PLAIN)]),
        ((PCA, RANDOM), [(PCA, RANDOM)], [(PCA, PLAIN), (RANDOM, PLAIN), (PCA, RANDOM)]),
        ((PCA, PLAIN), [], [(PCA, PLAIN)]),
        ((PLAIN, ICM), [], []),  # it is the gain with its sign turned
    ],
)
def test_named_methods_are_compared_with_plain_prediction_and_with_each_other(
    pair: tuple[str, str], direct: list[tuple[str, str]], more: list[tuple[str, str]]
) -> None:
    made = rows(0.9, 0.5, 0.5)
    without, asked = found(made), found(made, pair)
    assert [m.label for m in asked.requested] == list(pair)
    assert [(one.method.label, one.baseline.label) for one in asked.direct] == direct
    new = [one for one in asked.compared if one not in without.compared]
    assert sorted((one.method.label, one.baseline.label) for one in new) == sorted(more)


def test_an_unknown_method_is_refused_with_the_nearest_name() -> None:
    every = [selections for _, selections in results_of(rows(0.9, 0.5, 0.5))]
    with pytest.raises(IcmBenchError, match=r"'PCA \+ zero-shoot'.*did you mean 'PCA \+ zero-shot'"):
        check_requested(every, [("PCA + zero-shoot", PLAIN)])


@pytest.mark.parametrize(("groups", "few"), [(1, True), (29, True), (30, False)])
def test_too_few_groups_give_no_interval(groups: int, few: bool) -> None:
    n = 400
    right = [True] * n, [i % 2 == 0 for i in range(n)]
    made = [row(held_out=h, projection=p, order=o, correct=c, groups=[i % groups for i in range(n)]) for h in "ab"
            for p, o, c in (("icm", "largest", right[0]), ("identity", None, right[1]))]  # fmt: skip
    interval = found(made).compared[0].interval
    assert interval.estimate == pytest.approx(0.5)
    assert (interval.min_clusters, bool(np.isnan(interval.low))) == (groups, few)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ([row(projection="icm", order="largest", n_test=40), row(n_test=42)], "no seed has both on the same test images"),
        (
            [row(projection=p, order=o, fold=f, folds=5, test_split="out_fold")
             for p, o, n in (("icm", "largest", 3), ("identity", None, 5)) for f in range(n)],
            f"{ICM} has 3 of 5 folds",
        ),
        ([row(projection="icm", order="largest")], "there are no such rows; add identity to sweep.projections"),
    ],
)  # fmt: skip
def test_missing_comparisons_have_a_reason(made: list[Any], why: str) -> None:
    [(method, baseline, reason)] = found(made).missing
    assert (method.label, baseline.label, reason) == (ICM, PLAIN, why)
    assert f"{ICM} was not compared with {PLAIN}: {why}." in said(made)


def test_an_environment_without_both_methods_is_left_out() -> None:
    made = [r for r in rows(0.9, 0.5, 0.5) if (r["held_out"], r["projection"]) != ("b", "pca")]
    held_outs = {one.baseline.projection: one.held_outs for one in found(made).compared}
    assert held_outs == {"identity": ("a", "b", "c"), "pca": ("a", "c"), "random": ("a", "b", "c")}


def test_bounds_are_not_compared() -> None:
    assert found([{**r, "protocol": "in_domain"} for r in rows(0.9, 0.5, 0.5)]) == Findings()


def test_data_sets_are_pooled_for_new_environments() -> None:
    made = [r for n, name in enumerate("xyz") for r in rows(0.75 + n / 20, 0.6, 0.7, dataset=name)]
    [family] = families(made)
    gain = family.members[0]
    low, high = stats.t.interval(0.95, 2, 20, stats.sem([15, 20, 25]))  # data sets differ: nearly equal weights
    assert (gain.datasets, round(gain.interval.estimate, 6), gain.others.ahead) == (("x", "y", "z"), 0.2, 9)
    assert gain.others.interval is not None
    assert [100 * gain.others.interval.low, 100 * gain.others.interval.high] == pytest.approx([low, high], abs=0.11)
    first, last = overall_sentences([family])  # of the gain alone, and by which model
    assert first.startswith(f"ViT-B-32: {ICM} minus plain prediction over 3 data sets (x, y, z): +20.0 [")
    found = re.search(r"the mean gain lies between (\S+) and (\S+) points", first)
    assert found
    assert [float(end) for end in found.groups()] == pytest.approx([low, high], abs=0.11)
    assert "random effects" in last
    assert families(made[: len(made) // 3]) == []
    assert families([r for n in ("x", "y") for r in rows(0.8, 0.6, 0.7, dataset=n, backbone=f"B{n}")]) == []
    assert overall_sentences([]) == []


def test_a_data_set_without_an_interval_is_excluded_and_named() -> None:
    def data_set(name: str, n: int, held_outs: str) -> list[Any]:
        return rows(0.8, 0.5, 0.5, n=n, held_outs=held_outs, spread=0.01, dataset=name)

    small = [*data_set("s", 400, "abc"), *data_set("s", 20, "d")]
    assert families([*data_set("x", 400, "abcd"), *small]) == []
    [family] = families([*data_set("x", 400, "abcd"), *data_set("y", 400, "abcd"), *small])
    assert {(one.datasets, one.left_out, one.grouped) for one in family.members} == {(("x", "y"), ("s",), False)}
    assert "Left out, for lack of an interval: s." in overall_sentences([family])[0]


def test_groups_in_one_data_set_add_the_caveat_to_the_pooled_interval() -> None:
    grouped = rows(0.8, 0.5, 0.5, spread=0.01, dataset="g", groups=list(range(400)))
    [family] = families([*rows(0.8, 0.5, 0.5, spread=0.01, dataset="x"), *grouped])
    assert {one.grouped for one in family.members} == {True}
    assert "too narrow" in overall_sentences([family])[0]


def test_a_data_set_with_several_prompts_counts_once() -> None:
    every = [r for name in "xy" for p in ('["{}"]', '["a {}."]') for r in rows(0.8, 0.6, 0.7, dataset=name, prompts=p)]
    assert [one.datasets for family in families(every) for one in family.members] == [("x", "y")] * 6


def test_notes_of_fits_name_their_tests() -> None:
    made = [row(held_out="a", seed=s, folds=2, fold=f, notes=["no end"] if s else []) for s in (0, 1) for f in (0, 1)]
    assert said(made) == "Zero-shot: no end (2 of 4 rows: a seed 1 fold 0, a seed 1 fold 1)"


def test_random_weights_come_first() -> None:
    made = [row(projection="icm", order="largest", random_weights=True)]
    assert said(made).startswith("RANDOM WEIGHTS, NOT A RESULT: ")
