"""The plan of tests: families computed by hand, and error rates and power in normal worlds."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from benchmark.method.evaluation import multiple_testing
from benchmark.method.evaluation.inference import ImageInterval, Interval
from benchmark.method.evaluation.multiple_testing import (
    BALANCED_ONLY,
    HELPS,
    HURTS,
    METRIC_ONLY,
    NO_DIFFERENCE,
    TRADES,
    Gain,
    adjusted_gains,
    answered,
    p_of_question,
)


def interval(p: float, sign: int = 1) -> Interval:
    """Return an interval with a two-sided p-value, above or below 0."""
    return Interval(sign * stats.norm.isf(p / 2), 1.0, np.inf)


UNKNOWN = Interval(0.02, np.nan, np.nan)


def test_two_sided_p_values_of_the_parts() -> None:
    assert interval(0.03).p == pytest.approx(0.03)
    assert p_of_question([interval(0.001), interval(0.03), interval(0.02)]) == pytest.approx(0.03)
    for parts in (
        [],
        [None],
        [interval(0.001), None],
        [interval(0.001), UNKNOWN],
        [interval(0.001), interval(0.001, -1)],
        [interval(0.001), Interval(0.0, 1.0, 9.0)],
        [Interval(np.nan, np.nan, np.nan)],
    ):
        assert p_of_question(parts) == 1


def test_holm_runs_over_the_three_questions_whether_or_not_they_can_be_asked() -> None:
    asked: dict[str, list[Interval | None]] = {
        "environments": [interval(0.009), interval(0.001)],
        "interventions": [interval(0.02), interval(0.02), None],
        "shrinking": [interval(0.03)],
    }
    assert answered(asked) == pytest.approx({"environments": 0.027, "interventions": 1.0, "shrinking": 0.06})
    rng = np.random.default_rng(0)
    for _ in range(20):
        p = rng.random(3) ** 4
        got = answered({str(i): [interval(one)] for i, one in enumerate(p)})
        np.testing.assert_allclose(list(got.values()), multipletests(p, method="holm")[1])


# (p of the metric, its sign), (p of class-balanced accuracy, its sign): kind, alone in its family.
CASES: list[tuple[tuple[float, int], tuple[float, int], str]] = [
    ((0.01, 1), (0.04, 1), HELPS),
    ((0.01, 1), (0.06, 1), METRIC_ONLY),
    ((0.01, 1), (0.06, -1), METRIC_ONLY),
    ((0.06, 1), (0.01, 1), BALANCED_ONLY),
    ((0.06, -1), (0.01, 1), BALANCED_ONLY),
    ((0.01, 1), (0.01, -1), TRADES),
    ((0.01, -1), (0.01, 1), TRADES),
    ((0.01, -1), (0.01, -1), HURTS),
    ((0.01, -1), (0.06, 1), HURTS),
    ((0.06, 1), (0.01, -1), HURTS),
    ((0.06, 1), (0.06, 1), NO_DIFFERENCE),
    ((0.06, -1), (0.06, -1), NO_DIFFERENCE),
]


@pytest.mark.parametrize(("metric", "balanced", "kind"), CASES)
def test_what_one_gain_shows(metric: tuple[float, int], balanced: tuple[float, int], kind: str) -> None:
    (got,) = adjusted_gains([Gain(interval(*metric), interval(*balanced))])
    assert (got.kind, got.family) == (kind, 1)
    assert (got.p_metric, got.p_balanced) == pytest.approx((metric[0], balanced[0]))
    both_up = metric[1] > 0 and balanced[1] > 0
    assert got.p_both == pytest.approx(max(metric[0], balanced[0]) if both_up else 1)
    assert got.shown == (metric[1] > 0 and metric[0] <= 0.05)


def test_three_families_over_the_same_pairs() -> None:
    gains = [
        Gain(interval(0.010), interval(0.001)),
        Gain(interval(0.020), interval(0.030)),
        Gain(interval(0.030), interval(0.015, -1)),
        Gain(interval(0.900), interval(0.800, -1)),
    ]
    got = adjusted_gains(gains)
    assert [one.p_metric for one in got] == pytest.approx([0.04, 0.06, 0.06, 0.9])
    assert [one.p_balanced for one in got] == pytest.approx([0.004, 0.06, 0.045, 0.8])
    assert [one.p_both for one in got] == pytest.approx([0.04, 0.09, 1, 1])
    assert [one.kind for one in got] == [HELPS, NO_DIFFERENCE, HURTS, NO_DIFFERENCE]
    assert [one.family for one in got] == [4] * 4
    assert [one.gain for one in got] == gains
    # Each is shown by its own family, and not both together: 2 x 0.04.
    crossed = adjusted_gains([Gain(interval(0.01), interval(0.04)), Gain(interval(0.04), interval(0.01))])
    assert [one.p_both for one in crossed] == pytest.approx([0.08, 0.08])
    assert [one.kind for one in crossed] == [METRIC_ONLY] * 2


def test_gains_of_which_nothing_can_be_said_do_not_count() -> None:
    known = Gain(interval(0.02), interval(0.02))
    behind = Interval(-0.02, np.nan, np.nan)
    got = adjusted_gains([Gain(UNKNOWN, UNKNOWN), known, Gain(interval(0.03), behind)])
    assert np.isnan([got[0].p_metric, got[0].p_balanced, got[0].p_both, got[2].p_balanced, got[2].p_both]).all()
    assert [one.kind for one in got] == [NO_DIFFERENCE, HELPS, METRIC_ONLY]
    assert [one.family for one in got] == [2] * 3
    assert (got[1].p_metric, got[1].p_balanced, got[1].p_both) == pytest.approx((0.04, 0.02, 0.02))
    assert adjusted_gains([]) == []


@pytest.mark.parametrize(("p", "sign", "kind"), [(0.01, 1, HELPS), (0.01, -1, HURTS), (0.2, 1, NO_DIFFERENCE)])
def test_where_class_balanced_accuracy_is_the_metric(p: float, sign: int, kind: str) -> None:
    one = interval(p, sign)
    (got,) = adjusted_gains([Gain(one, one)])
    assert got.kind == kind


def test_an_adjusted_interval_is_bonferroni_s() -> None:
    one = ImageInterval(0.02, 0.01, 57.0, clusters=58, min_clusters=58)
    got = multiple_testing.adjusted_interval(one, 4)
    np.testing.assert_allclose([got.low, got.high], stats.t(57, 0.02, 0.01).interval(1 - 0.05 / 4))
    assert replace(got, confidence=0.95) == one == multiple_testing.adjusted_interval(one, 1)
    for p in np.linspace(0.001, 0.1, 40):  # where Holm shows no difference, 0 is in it
        gains = [Gain(interval(x), interval(x)) for x in (0.01, p, 0.04)]
        for judged in adjusted_gains(gains):
            ends = multiple_testing.adjusted_interval(judged.gain.metric, judged.family)
            assert judged.p_metric <= 0.05 or ends.low <= 0 <= ends.high


# Gain; minus truncation; minus interventions as chosen; the same with all else as chosen; minus environments; minus
# isotropic + environments; minus borrowed; and the gain of the family's second method.
MEANS = {
    "A": (4, 1, 3, 3, 3, -0.5, 0, 0),
    "B": (4.3, 0.7, 0, 0, 4.3, 5.2, 4, 0),
    "nothing": (0,) * 8,
}
ERRORS = dict.fromkeys(("A", "nothing"), (1.14, 0.92, 1.05, 0.84, 0.95, 0.94, 0.95, 1.14)) | {"B": (1.4,) * 8}
QUESTIONS = {"shrinking": [1], "means": [2, 3], "interventions": [4, 5, 6]}
WORLDS = 20_000


def found(world: str) -> dict[str, float]:
    """Return the share of normal worlds in which a gain is claimed, and each question is answered yes."""
    rng = np.random.default_rng(39)
    noise = np.sqrt(0.5) * (rng.standard_normal((WORLDS, 8)) + rng.standard_normal((WORLDS, 1)))
    counts = dict.fromkeys(("gain", "any gain", "any question", *QUESTIONS), 0)
    for values in (np.array(MEANS[world]) + np.array(ERRORS[world]) * noise).tolist():
        drawn: list[Any] = [Interval(one, e, np.inf) for one, e in zip(values, ERRORS[world], strict=True)]
        first, second = adjusted_gains([Gain(drawn[i], drawn[i]) for i in (0, 7)])
        counts["any gain"] += first.shown or second.shown
        if not first.shown:
            continue
        counts["gain"] += 1
        p = answered({name: [drawn[i] for i in parts] for name, parts in QUESTIONS.items()})
        yes = [name for name in QUESTIONS if p[name] <= 0.05]
        counts["any question"] += bool(yes)
        for name in yes:
            counts[name] += 1
    return {name: n / WORLDS for name, n in counts.items()}


@pytest.mark.parametrize("world", MEANS)
def test_normal_worlds(world: str) -> None:
    got = found(world)
    if world == "A":
        assert got["means"] >= 0.58
    elif world == "B":
        assert got["interventions"] >= 0.47
    else:
        assert got["any gain"] <= 0.035
        assert got["any question"] <= 0.02
