"""Verdicts on planted cases with a known answer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from benchmark.method.evaluation.metrics import ACCURACY, BUILT_IN, MacroF1, WorstClass
from benchmark.method.evaluation.multiple_testing import BALANCED_ONLY, HELPS, HURTS, METRIC_ONLY, NO_DIFFERENCE, TRADES
from reports.analysis.findings import comparisons
from reports.analysis.selections import Selections
from reports.analysis.settings import Options, by_setting
from reports.analysis.verdicts import IS_PLAIN, NO_VERDICT, Answer, Verdict, answer
from reports.text.verdicts import KIND_WORDS, NARROW, headline, sentence
from tests.reports.synthetic import TESTED, frame, row

ENVIRONMENTS = ("art", "photo", "sketch", "toy")
CLASSES = (900, 100)  # images of each class in an environment: unbalanced, so that the two accuracies differ
LABELS = np.repeat([0, 1], CLASSES)


def answered(rows: list[dict[str, Any]], metric: Any = ACCURACY, rule: str | None = None) -> Answer:
    parts = [(setting, Selections(part, TESTED, None, BUILT_IN, metric)) for setting, part in by_setting(frame(rows))]
    parts = [(setting, selections.judged_by(rule or selections.rule)) for setting, selections in parts]
    return answer(parts, [comparisons(*one, Options()) for one in parts])


def only(rows: list[dict[str, Any]], metric: Any = ACCURACY) -> Verdict:
    [verdict] = answered(rows, metric).verdicts
    return verdict


def right(shares: Sequence[float]) -> np.ndarray:
    """Return correctness with the given accuracy in each class, the first images correct."""
    return np.concatenate([np.arange(n) < round(share * n) for share, n in zip(shares, CLASSES, strict=True)])


def of(
    shares: Sequence[float], projection: str = "identity", environments: Sequence[str] = ENVIRONMENTS, **other: Any
) -> list[dict[str, Any]]:
    """Return rows with these accuracies by class at the picked rank, and plain prediction's at the last rank.

    Source scores are more than one standard error (0.01) ahead of plain, unless `lodo` is given.
    """
    every = [right(shares)] if projection == "identity" else [right(shares), right((0.5, 0.5))]
    scores = other.pop("lodo", [0.5] if len(every) == 1 else [0.9, 0.5])
    errors = [0.01] * len(scores)
    predicted = np.where(every, LABELS, 1 - LABELS).astype("<u2")
    asked: dict[str, Any] = {
        "order": {"icm": "largest"}.get(projection), "correct": every, "labels": LABELS, "lodo": scores,
        "training_domain": scores, "lodo_se": errors, "training_domain_se": errors, "predicted": predicted.tobytes(),
        "predicted_ranks": [2, 4][-len(every) :],
    }  # fmt: skip
    return [row(held_out=name, projection=projection, **(asked | other)) for name in environments]


def world(shares: Sequence[float], plain: Sequence[float] = (0.5, 0.5), **other: Any) -> list[dict[str, Any]]:
    alone = {name: value for name, value in other.items() if name != "lodo"}
    return [*of(plain, **alone), *of(shares, "icm", **other)]


@pytest.mark.parametrize(
    ("shares", "kind", "points", "balanced"),
    [
        ((0.6, 0.6), HELPS, 10, 10),
        ((0.6, 0.4), METRIC_ONLY, 8, 0),
        ((0.48, 0.68), BALANCED_ONLY, 0, 8),
        ((0.6, 0.1), TRADES, 5, -15),
        ((0.4, 0.9), TRADES, -5, 15),
        ((0.4, 0.4), HURTS, -10, -10),
        ((0.5, 0.4), HURTS, -1, -5),
        ((0.5, 0.5), NO_DIFFERENCE, 0, 0),
    ],
)
def test_the_kind_follows_from_both_accuracies(
    shares: tuple[float, float], kind: str, points: float, balanced: float
) -> None:
    verdict = only(world(shares))
    record = verdict.record()
    assert (verdict.kind, verdict.rule, verdict.family) == (kind, "lodo_1se", 1)
    assert (record["difference"], record["balanced_difference"]) == pytest.approx((points, balanced))
    assert record["accuracy"] == record["value"] == pytest.approx(50 + points)
    assert record["verdict"] == {METRIC_ONLY: "helps in accuracy only"}.get(kind, kind)
    assert verdict.gain is not None
    assert record["p_holm"] == pytest.approx(verdict.gain.interval.p, abs=1e-6)
    assert KIND_WORDS[kind] in sentence(verdict)


def test_intervals_are_those_of_a_few_lines_of_numpy() -> None:
    record = only(world((0.6, 0.4))).record()
    d = right((0.6, 0.4)).astype(float) - right((0.5, 0.5))
    n, environments = len(d), len(ENVIRONMENTS)
    means = np.array([d[c == LABELS].mean() for c in (0, 1)])
    for name, u in (
        ("", (d - d.mean()) / n),
        ("balanced_", (d - means[LABELS]) / np.array(CLASSES)[LABELS] / 2),
    ):
        clusters = n * environments
        error = np.sqrt(clusters / (clusters - 1) * environments * (u**2).sum()) / environments
        half = 100 * 1.9602 * error  # Student's t with 3,999 degrees of freedom
        ends = [record[f"{name}{end}"] - record[f"{name}difference"] for end in ("low", "high")]
        assert ends == pytest.approx([-half, half], rel=1e-3)


def test_class_share_distance_is_the_total_variation() -> None:
    record = only(world((1.0, 0.0))).record()
    # Plain prediction predicts class 0 for 450 + 50 images, 900 images are of it; the method always predicts class 0.
    assert (record["shares_before"], record["shares_after"]) == pytest.approx((40, 10))
    kept = [{**one, "predicted": None} for one in world((1.0, 0.0))]
    assert only(kept).record()["shares_after"] is None


def test_picks_below_the_gate_are_plain_and_the_ungated_gain_is_reported() -> None:
    """The source score is ahead by less than one standard error, so that all picks are plain."""
    verdict = only(world((0.6, 0.6), lodo=[0.505, 0.5]))
    assert (verdict.kind, verdict.plain_picks, verdict.questions) == (IS_PLAIN, (4, 4), ())
    record = verdict.record()
    assert (record["difference"], record["difference_ungated"]) == pytest.approx((0, 10))
    assert (record["accuracy"], record["value_ungated"]) == pytest.approx((50, 60))
    [other] = answered(world((0.6, 0.6), lodo=[0.505, 0.5]), rule="lodo").verdicts
    assert (other.kind, other.rule, other.plain_picks) == (HELPS, "lodo", (0, 4))
    ahead = only(world((0.6, 0.6), lodo=[0.515, 0.5]))
    assert (ahead.kind, ahead.plain_picks) == (HELPS, (0, 4))
    older = only([{**one, "lodo_se": None, "training_domain_se": None} for one in world((0.6, 0.6), lodo=[0.505, 0.5])])
    assert (older.rule, older.kind) == ("lodo", HELPS)


def test_without_lodo_training_domain_1se_selects() -> None:
    rows = [{**one, "lodo": None, "lodo_se": None} for one in world((0.6, 0.6))]
    assert (only(rows).rule, only(rows).kind) == ("training_domain_1se", HELPS)


def test_claims_on_new_environments_use_an_adjusted_interval() -> None:
    names = [f"e{i}" for i in range(6)]
    shares = [0.58 + 0.01 * i for i in range(6)]
    spread = [r for n, s in zip(names, shares, strict=True) for r in world((s, s), environments=[n])]
    verdict = only(spread)
    assert verdict.holds_in_new
    assert verdict.in_new is not None
    ends = f"between {100 * verdict.in_new.low:+.1f} and {100 * verdict.in_new.high:+.1f} points."
    assert f"Over new environments of this kind the mean gain lies {ends}" in sentence(verdict)
    several = answered([r | {"dataset": f"set{k}", "dataset_fingerprint": f"{k}"} for k in range(5) for r in spread])
    wider = several.verdicts[0].in_new
    assert wider is not None
    assert wider.high - wider.low > 1.5 * (verdict.in_new.high - verdict.in_new.low)
    mixed = zip(names, (0.9, 0.5, 0.9, 0.5, 0.3, 0.9), strict=True)
    unlike = only([r for n, s in mixed for r in world((s, s), environments=[n])])
    assert (unlike.kind, unlike.holds_in_new) == (HELPS, False)


def test_groups_in_several_environments_have_their_caveat() -> None:
    verdict = only(world((0.6, 0.6), groups=[i // 2 for i in range(1000)]))
    record = verdict.record()
    assert (verdict.kind, record["grouped"], verdict.holds_in_new) == (HELPS, True, True)
    assert NARROW in sentence(verdict)


def test_three_environments_give_no_interval_for_new_ones() -> None:
    verdict = only(world((0.6, 0.6), environments=ENVIRONMENTS[:3]))
    assert (verdict.kind, verdict.in_new, verdict.record()["new_low"]) == (HELPS, None, None)
    assert "new environments" not in sentence(verdict)


def test_equal_gains_in_all_environments_leave_an_interval() -> None:
    new = only(world((0.6, 0.6))).in_new
    assert new is not None
    assert new.low < 0.1 < new.high


def test_variation_between_seeds_widens_the_interval() -> None:
    one = only(world((0.6, 0.6)))
    two = only([*world((0.6, 0.6)), *world((0.55, 0.55), seed=1)])
    assert one.gain is not None
    assert two.gain is not None
    assert (one.gain.seeds, two.gain.seeds) == ((0,), (0, 1))
    assert two.gain.interval.standard_error > 2 * one.gain.interval.standard_error


def test_gains_are_adjusted_for_all_that_are_judged() -> None:
    weak = world((0.515, 0.515))
    one = only(weak)
    several = answered([r | {"dataset": f"set{i}", "dataset_fingerprint": f"{i}"} for i in range(30) for r in weak])
    assert one.gain is not None
    raw = one.gain.interval.p
    assert one.record()["p_holm"] == pytest.approx(raw, abs=1e-6)
    assert [v.record()["p_holm"] for v in several.verdicts] == pytest.approx([min(1, 30 * raw)] * 30, abs=1e-5)
    assert {v.family for v in several.verdicts} == {30}
    assert several.verdicts[0].bound > one.bound  # the bound holds for all gains together


def test_fixed_shrinkage_has_a_verdict_and_is_named_if_it_hurts() -> None:
    fixed = of((0.4, 0.4), "fixed", correct=[right((0.4, 0.4))], target=(0.4,), lodo=[0.2], predicted=None)
    found = answered([*world((0.6, 0.6)), *fixed])
    assert [(one.method.projection, one.kind) for one in found.verdicts] == [("icm", HELPS), ("fixed", HURTS)]
    assert "Fixed shrinkage hurts: 40.0 instead of 50.0 %" in sentence(found.verdicts[1])


def test_only_methods_and_the_users_own_are_judged() -> None:
    rest = [r for name in ("pca", "random", "isotropic") for r in of((0.6, 0.6), name)]
    rest += of((0.6, 0.6), "leace", correct=[right((0.6, 0.6))], target=(0.6,), lodo=[0.2], dim=2, ranks=[2])
    rest += of((0.6, 0.6), "icm", placebo="shuffled") + of((0.6, 0.6), "icm", order="released")
    mine = of((0.6, 0.6), "mine:Leace", correct=[right((0.6, 0.6))], target=(0.6,), lodo=[0.2], dim=2, ranks=[2])
    found = answered([*world((0.6, 0.6)), *rest, *mine])
    # The user's own has one candidate, which keeps all directions and is no plain prediction for that.
    picks = {one.method.projection: (one.kind, one.plain_picks) for one in found.verdicts}
    assert picks == {"icm": (HELPS, (0, 4)), "mine:Leace": (HELPS, (0, 4))}


def test_shrinkage_by_environments_is_judged_without_interventions() -> None:
    """Embeddings imported without views have no interventions."""
    alone = of((0.6, 0.6), "shrinkage", projection_variant="environments")
    assert only([*of((0.5, 0.5)), *alone]).method.variant == "environments"
    both = answered([*of((0.5, 0.5)), *alone, *of((0.6, 0.6), "shrinkage")])
    assert [one.method.variant for one in both.verdicts] == [""]  # it is a part of the whole then


@pytest.mark.parametrize("metric", [MacroF1(), WorstClass()])
def test_a_metric_of_the_data_set_is_judged_by_its_jackknife(metric: Any) -> None:
    verdict = only(world((0.9, 0.6)), metric)
    record = verdict.record()
    assert (record["verdict"], record["metric"], record["accuracy"]) == (HELPS, metric.title, pytest.approx(87))

    def value(shares: tuple[float, float]) -> float:
        hits = np.array(shares) * CLASSES
        missed = np.array(CLASSES) - hits
        f1 = 2 * hits / (2 * hits + missed + missed[::-1])
        return 100 * float(f1.mean() if metric == MacroF1() else min(shares))

    assert (record["value"], record["plain"]) == pytest.approx((value((0.9, 0.6)), value((0.5, 0.5))))
    assert record["low"] < record["difference"] < record["high"]
    fell = only(world((0.9, 0.1)), metric)
    assert fell.kind_label == (f"helps in {metric.title} only" if metric == MacroF1() else HURTS)


@pytest.mark.parametrize(
    ("rows", "metric", "why"),
    [
        (of((0.6, 0.6), "icm"), ACCURACY, "there are no such rows; add identity to sweep.projections"),
        ([*of((0.5, 0.5), folds=2, fold=0), *of((0.6, 0.6), "icm", folds=2, fold=0)], ACCURACY, "has 1 of 2 folds"),
        (world((0.6, 0.6)), BUILT_IN[4], "rows do not keep what an interval of top-5 needs"),
        ([row(n_test=20), row(n_test=20, projection="icm", order="largest", target=(0.6,))], ACCURACY, "has 20 images"),
    ],
)
def test_no_verdict_has_a_reason_and_the_accuracy(rows: list[Any], metric: Any, why: str) -> None:
    found = answered(rows, metric)
    [verdict] = found.verdicts
    assert (verdict.kind, verdict.record()["accuracy"]) == (NO_VERDICT, pytest.approx(60))
    assert why in verdict.record()["why"]
    assert "60.0 %" in headline(found)


def test_rows_with_oracle_scores_only_have_no_accuracy() -> None:
    nothing: dict[str, Any] = dict.fromkeys(("lodo", "lodo_se", "training_domain_se")) | {"training_domain": [np.nan]}
    verdict = only([{**one, **nothing, "training_domain": [np.nan] * len(one["ranks"])} for one in world((0.6, 0.6))])
    assert (verdict.kind, verdict.record()["accuracy"]) == (NO_VERDICT, None)
    assert "nan" not in sentence(verdict).lower()


def test_without_a_judged_method_accuracies_are_shown() -> None:
    found = answered(of((0.5, 0.5)))
    assert (found.verdicts, headline(found).startswith("Plain prediction gets 50.0 %")) == ((), True)
    assert [(one.method.label, one.accuracy) for one in found.standings[0].entries] == [("Zero-shot", 0.5)]
    assert [method for _, method in found.left_out] == [None]


def test_bounds_have_no_verdict() -> None:
    assert answered(world((0.6, 0.6), protocol="in_domain")).verdicts == ()


def test_a_predictor_that_cannot_predict_new_classes_is_left_out() -> None:
    new: dict[str, Any] = {"class_half": "new", "protocol": "open_class", "predictor": "linear_probe"}
    said = answered(world((0.6, 0.6), **new))
    assert said.verdicts == ()
    assert [method.predictor_label for _, method in said.left_out if method] == ["linear probe"]


def test_only_the_harmonic_mean_of_base_and_new_classes_is_judged() -> None:
    halves = [world((0.6, 0.6), protocol="open_class", class_half=half) for half in ("base", "new", "harmonic")]
    [verdict] = answered([r for half in halves for r in half]).verdicts
    assert (verdict.setting.class_half, verdict.kind) == ("harmonic", HELPS)
    assert verdict.record()["difference"] == pytest.approx(10)


def test_random_weights_are_named_first() -> None:
    said = answered(world((0.6, 0.6), random_weights=True))
    assert headline(said).startswith("RANDOM WEIGHTS, NOT A RESULT: ")
    assert sentence(said.verdicts[0]).startswith("RANDOM WEIGHTS, NOT A RESULT: ")


def test_images_for_each_dimension_are_a_number_of_the_verdict() -> None:
    for n_train in (2999, 4000):
        verdict = only(world((0.6, 0.6), n_train=n_train, dim=1000))
        assert verdict.record()["images_per_dimension"] == pytest.approx(n_train / 1000)


def test_requested_methods_come_first_and_are_tested_with_all_others() -> None:
    rest = [r for name, share in (("pca", 0.45), ("random", 0.5)) for r in of((share, share), name)]
    mine = of((0.6, 0.6), "mine:Leace", correct=[right((0.6, 0.6))], target=(0.6,), lodo=[0.2], dim=2, ranks=[2])
    [(setting, part)] = by_setting(frame([*world((0.6, 0.6)), *rest, *mine]))
    parts = [(setting, Selections(part, TESTED))]
    names = ("Random projection + zero-shot", "PCA + zero-shot")
    found, without = (
        answer(parts, [comparisons(*parts[0], Options(compare=asked))]) for asked in ((names,), ())
    )  # fmt: skip
    kinds = [(one.method.projection, one.kind, one.requested, one.family) for one in found.verdicts]
    assert kinds == [
        ("random", NO_DIFFERENCE, True, 4),
        ("pca", HURTS, True, 4),
        ("mine:Leace", HELPS, True, 4),
        ("icm", HELPS, False, 4),
    ]
    assert [one.family for one in without.verdicts] == [2, 2]  # only requested methods are added
    [standing] = found.standings
    [direct] = standing.direct
    assert (direct.method.label, direct.baseline.label) == names
    of_both = [one.gain.interval.estimate for one in found.verdicts[:2] if one.gain]
    assert direct.interval.estimate == pytest.approx(of_both[0] - of_both[1])
    assert [one.method.projection for one in standing.shown(0)] == ["identity", "random", "pca", "mine:Leace", "icm"]


def test_standings_are_named_by_the_fields_that_differ() -> None:
    made = [r for p in ("zero_shot", "ridge") for r in world((0.6, 0.6), predictor=p)]
    assert answered(made[:8]).places == [""]
    assert answered(made).places == ["zero-shot", "ridge probe"]
    sets = [r | {"dataset": name, "dataset_fingerprint": name} for name in "ab" for r in made[:8]]
    assert answered(sets).places == ["a", "b"]
    prompts = [r | {"prompts": words} for words in ('["{}"]', '["a {}"]') for r in made[:8]]
    assert len(set(answered(prompts).places)) == 1  # their titles, which do not name prompts
