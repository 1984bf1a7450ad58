"""What a report says first, for planted cases whose answer is known."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from reports import verdicts
from reports.findings import comparisons
from reports.options import Options
from reports.verdicts import HELPS, NO_DIFFERENCE, NOTHING, Answer, answer
from tests.reports.synthetic import described, row

ENVIRONMENTS = ("art", "photo", "sketch")


def answered(rows: list[dict[str, Any]]) -> Answer:
    parts, options = described(rows), Options()
    return answer(parts, [comparisons(*one, options) for one in parts], options)


def method(projection: str, accuracy: float, environments: Sequence[str] = ENVIRONMENTS, **other: Any) -> list[Any]:
    """Return rows with ranks 2 and 4 of a method that the rule gives rank 2, and that is plain (50 %) at rank 4."""
    order = {"icm": "largest"}.get(projection)
    scores: dict[str, Any] = {"target": (accuracy, 0.5), "training_domain": (0.9, 0.5), "lodo": (0.9, 0.5)}
    asked: dict[str, Any] = {"n_test": 400} | scores | other
    return [row(held_out=name, projection=projection, order=order, **asked) for name in environments]


def plain(environments: Sequence[str] = ENVIRONMENTS, **other: Any) -> list[Any]:
    asked: dict[str, Any] = {"n_test": 400, "target": (0.5,)} | other
    return [row(held_out=name, **asked) for name in environments]


def everything(icm: float, pca: float = 0.5, **other: Any) -> list[Any]:
    shares = {"pca": pca, "random": 0.5, "icm": icm}
    return [*plain(**other), *(r for name, share in shares.items() for r in method(name, share, **other))]


def only(rows: list[dict[str, Any]]) -> Any:
    [verdict] = answered(rows).verdicts
    return verdict


def test_where_no_interventions_are_chosen_among_shrinkage_by_environments_is_judged() -> None:
    """As of embeddings that were imported without views."""
    alone = method("shrinkage", 0.6, projection_variant="environments")
    verdict = only([*plain(), *method("pca", 0.5), *method("random", 0.5), *alone])
    assert (verdict.kind, verdict.method.variant, verdict.unbeaten) == (HELPS, "environments", None)
    both = answered([*plain(), *alone, *method("shrinkage", 0.6)])
    assert [one.method.variant for one in both.verdicts] == [""]  # it is a part of the whole then


def test_a_gain_beyond_pca_and_random_helps_in_these_environments() -> None:
    verdict = only(everything(0.6))
    assert verdict.kind == HELPS
    assert verdict.unbeaten is None
    assert verdict.sentence.startswith("synthetic, ViT-B-32, zero-shot: CLIP-ICM helps beyond PCA and random (+10.0")
    assert "{low:+.1f} to {high:+.1f} against plain, in these".format(**verdict.record()) in verdict.sentence
    assert answered(everything(0.6)).headline.endswith("ahead in 3 of 3) beyond PCA and random.")


def test_its_interval_is_that_of_a_few_lines_of_numpy() -> None:
    verdict = only(everything(0.6))
    d = np.repeat([0.0, 1.0, 0.0], [200, 40, 160])  # the images that plain has right, CLIP-ICM alone, and none
    variance = 3 * ((d - d.mean()) ** 2).sum() / (400 * 3) ** 2 * 1200 / 1199
    half = 1.9619 * np.sqrt(variance)  # Student's t with 1,199 degrees of freedom
    assert verdict.record()["low"] == pytest.approx(100 * (0.1 - half), abs=1e-2)
    assert verdict.record()["high"] == pytest.approx(100 * (0.1 + half), abs=1e-2)


def test_in_new_environments_is_said_only_where_their_interval_is_above_zero() -> None:
    names = [f"e{i}" for i in range(6)]
    every = [r for i, n in enumerate(names) for r in (*plain([n]), *method("icm", 0.58 + 0.01 * i, [n]))]
    assert "ahead in 6 of 6, and in new environments" in only(every).sentence
    mixed = [0.9, 0.5, 0.9, 0.5, 0.3, 0.9]
    every = [r for n, a in zip(names, mixed, strict=True) for r in (*plain([n]), *method("icm", a, [n]))]
    assert only(every).kind == HELPS
    assert "new environments" not in only(every).sentence


def test_a_loss_hurts() -> None:
    verdict = only(everything(0.4))
    assert (verdict.kind, verdict.record()["difference"]) == (verdicts.HURTS, pytest.approx(-10))


def test_a_gain_that_pca_has_too_names_pca() -> None:
    verdict = only(everything(0.6, pca=0.6))
    assert (verdict.kind, verdict.unbeaten) == (verdicts.ONLY_AS_BASELINES, "PCA")
    assert answered(everything(0.6, pca=0.6)).headline.endswith(", but is not shown ahead of PCA.")


def test_a_gain_that_a_placebo_has_too_names_the_placebo() -> None:
    placebo = method("icm", 0.6, placebo="shuffled", intervention_set="shuffled")
    verdict = only([*everything(0.6), *placebo])
    assert (verdict.kind, verdict.unbeaten) == (verdicts.ONLY_AS_PLACEBOS, "CLIP-ICM (shuffled, largest)")


def test_beyond_placebos_is_said_only_where_there_are_some() -> None:
    placebo = method("icm", 0.5, placebo="shuffled", intervention_set="shuffled")
    assert answered([*everything(0.6), *placebo]).headline.endswith("beyond PCA, random and placebos.")


def test_an_interval_above_zero_that_holm_does_not_let_pass_says_so() -> None:
    sets = [{"dataset": f"set{i}", "dataset_fingerprint": f"{i}"} for i in range(30)]
    rows = [r for one in sets for r in (*plain(**one), *method("icm", 0.505, **one))]
    gain = next(v for v in answered(rows).verdicts if v.gain)
    assert (gain.kind, gain.gain is not None and gain.gain.interval.low > 0) == (NO_DIFFERENCE, True)
    assert "among 30 gains, Holm" in gain.sentence


def test_a_method_that_keeps_everything_is_plain() -> None:
    kept: dict[str, Any] = {"training_domain": (0.5, 0.9), "lodo": (0.5, 0.9)}
    verdict = only([*plain(), *method("icm", 0.6, **kept)])
    assert (verdict.kind, verdict.plain_picks) == (verdicts.ALL_PLAIN, (3, 3))
    assert "all 3 picks keep the full space" in verdict.sentence


def test_no_difference_says_below_how_many_points() -> None:
    verdict = only(everything(0.5025))
    assert verdict.kind == NO_DIFFERENCE
    record = verdict.record()
    assert f"below {max(abs(record['low']), abs(record['high'])):.1f} points." in verdict.sentence
    assert answered(everything(0.5025)).headline.startswith("CLIP-ICM + zero-shot: no difference found, below ")


def test_few_images_decide_nothing() -> None:
    verdict = only(everything(0.6, n_test=20))
    assert verdict.kind == verdicts.TOO_FEW
    assert "an environment has 20, 30 needed" in verdict.sentence


def test_one_environment_counts_one() -> None:
    rows = [*plain(["art"]), *method("icm", 0.6, ["art"])]
    assert "ahead in 1 of 1" in only(rows).sentence


def test_a_gap_of_the_plain_space_leaves_nothing_to_compare() -> None:
    verdict = only(method("icm", 0.6))
    assert verdict.kind == NOTHING
    assert "there are no such rows." in verdict.sentence


def test_rows_that_only_the_oracle_can_choose_among_leave_nothing_to_compare() -> None:
    nothing: dict[str, Any] = {"training_domain": (np.nan, np.nan), "lodo": None}
    rows = [*plain(training_domain=(np.nan,), lodo=None), *method("icm", 0.6, **nothing)]
    assert only(rows).kind == NOTHING
    assert "nan" not in only(rows).sentence.lower()


def test_bounds_have_no_verdict() -> None:
    bounds = answered([*plain(protocol="in_domain"), *method("icm", 0.6, protocol="in_domain")])
    assert bounds.verdicts == ()
    assert bounds.headline.startswith("Nothing to compare")


def test_a_predictor_that_cannot_predict_new_classes_is_left_out() -> None:
    new: dict[str, Any] = {"class_half": "new", "protocol": "open_class", "predictor": "linear_probe"}
    said = answered([*plain(**new), *method("icm", 0.6, **new)])
    assert said.verdicts == ()
    assert "cannot predict new classes" in said.left_out[0]


def test_random_weights_are_named_first() -> None:
    said = answered(everything(0.6, random_weights=True))
    assert said.headline.startswith("RANDOM WEIGHTS, NOT A RESULT: ")
    assert said.verdicts[0].sentence.startswith("RANDOM WEIGHTS, NOT A RESULT: ")


def test_gains_are_adjusted_for_all_that_are_judged() -> None:
    one = only(everything(0.515)).gain
    several = answered([r for i in range(4) for r in everything(0.515, dataset=f"set{i}", dataset_fingerprint=f"{i}")])
    raw = one.interval.p
    assert one.adjusted.p == pytest.approx(raw)
    assert [v.gain.adjusted.p for v in several.verdicts if v.gain] == pytest.approx([min(1, 4 * raw)] * 4)
    assert "helps in 4 of 4" in several.headline
