"""Metrics against scikit-learn and definitions written as loops; temperatures against calculus."""

from collections.abc import Callable

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy.special import softmax

from benchmark.method.evaluation import metrics
from benchmark.method.evaluation.source_scores import ValidationImages
from benchmark.method.predictors.base import fitted_temperature


@pytest.mark.filterwarnings("error")
def test_accuracies_by_class_and_what_is_made_of_them() -> None:
    labels = np.array([0, 0, 1, 1, 1, 3])
    correct = np.array([[1, 0, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], dtype=bool)
    answers, first = metrics.Answers(correct, labels, 5), metrics.Answers(correct[0], labels, 5)
    np.testing.assert_allclose(answers.by_class[0], [1 / 2, 2 / 3, np.nan, 0, np.nan])
    np.testing.assert_allclose(first.by_class, answers.by_class[0])
    np.testing.assert_allclose(metrics.WORST_CLASS.compute(answers), [0, 1])
    np.testing.assert_allclose(metrics.BALANCED.compute(answers), [(1 / 2 + 2 / 3) / 3, 1])
    np.testing.assert_allclose(metrics.accuracy(correct), [3 / 6, 1])
    nothing = metrics.Answers(correct[:, :0], labels[:0], 5)
    assert all(np.isnan(metric.compute(nothing)).all() for metric in metrics.CURVES)


@pytest.mark.filterwarnings("error")
def test_a_score_is_the_mean_of_sources_that_have_images() -> None:
    label, source = np.array([0, 1, 1, 0]), np.array([0, 0, 2, 2])  # none of source 1
    images = ValidationImages(metrics.ACCURACY, label, source, np.arange(4), 2)
    np.testing.assert_allclose(images.score(np.array([[1, 0, 1, 1], [0, 0, 0, 0]], dtype=bool)), [0.75, 0])
    nothing = ValidationImages(metrics.ACCURACY, label[:0], source[:0], np.arange(0), 2)
    assert np.isnan(nothing.score(np.empty((1, 2, 0), dtype=bool))).all()


def test_harmonic_mean() -> None:
    np.testing.assert_allclose(metrics.harmonic_mean([0.5, 0.0, 0.4], [0.5, 0.0, 0.8]), [0.5, 0.0, 0.64 / 1.2])


def test_calibration_error_is_the_sum_over_bins_written_out() -> None:
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((400, 6))
    # Right in every other bin: half a bin to the side, sure and unsure images would even out.
    sure = np.exp(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).max(axis=1)
    labels = np.where((sure * 15).astype(int) % 2, logits.argmax(axis=1), logits.argmin(axis=1))
    for temperature in (1.0, 2.5):
        p = np.exp(logits / temperature)
        p /= p.sum(axis=1, keepdims=True)
        expected = 0.0
        for b in range(15):
            inside = [i for i in range(400) if b / 15 <= p[i].max() < (b + 1) / 15]
            if inside:
                hits = np.mean([p[i].argmax() == labels[i] for i in inside])
                expected += len(inside) / 400 * abs(hits - np.mean([p[i].max() for i in inside]))
        whole = metrics.confidence_gaps(logits, labels, temperature)
        parts = sum(
            metrics.confidence_gaps(logits[rows], labels[rows], temperature)
            for rows in (slice(0, 150), slice(150, 400))
        )
        assert metrics.calibration_error(whole, 400) == pytest.approx(expected)
        assert metrics.calibration_error(np.asarray(parts), 400) == pytest.approx(expected)
    assert np.isnan(metrics.calibration_error(np.zeros(15), 0))


def test_temperature_of_logits_that_are_too_sure_by_a_known_factor() -> None:
    rng = np.random.default_rng(1)
    logits = 2 * rng.standard_normal((20_000, 5))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (p.cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    for factor in (0.2, 1.0, 30.0):
        found = fitted_temperature(factor * logits, labels)
        assert found == pytest.approx(factor, rel=0.05)
    calibrated = metrics.calibration_error(metrics.confidence_gaps(30 * logits, labels, found), 20_000)
    assert calibrated < 0.02 < metrics.calibration_error(metrics.confidence_gaps(30 * logits, labels, 1.0), 20_000)


def test_a_class_that_cannot_be_predicted_has_no_say_in_the_temperature() -> None:
    logits = np.array([[2.0, 0.0, -np.inf], [0.0, 1.0, -np.inf], [1.0, 0.0, -np.inf]])
    assert fitted_temperature(logits, np.array([0, 1, 2])) == fitted_temperature(logits[:2], np.array([0, 1]))
    assert fitted_temperature(logits[:1], np.array([2])) == 1.0
    assert np.isfinite(metrics.confidence_gaps(logits, np.array([0, 1, 2]), 2.0)).all()


def answers(seed: int = 0, classes: int = 7) -> metrics.Answers:
    rng = np.random.default_rng(seed)
    scores, labels = 2 * rng.standard_normal((300, classes)), rng.integers(0, classes, 300)
    scores[:40, 1] = scores[:40, 0]  # equal scores in a row
    scores[1::2] = scores[::2]  # and in a column
    predicted = scores.argmax(axis=1)
    return metrics.Answers(predicted == labels, labels, classes, predicted, scores)


REFERENCES: dict[str, Callable[[metrics.Answers], float]] = {
    "accuracy": lambda a: sk.accuracy_score(a.labels, a.predicted),
    "balanced": lambda a: sk.balanced_accuracy_score(a.labels, a.predicted),
    "macro_f1": lambda a: sk.f1_score(a.labels, a.predicted, average="macro"),
    # Of equal scores the class that comes first is before the others; scikit-learn takes the last.
    "top5": lambda a: sk.top_k_accuracy_score(a.classes - 1 - a.labels, a.scores[:, ::-1], k=5),
    "nll": lambda a: sk.log_loss(a.labels, softmax(a.scores, axis=1)),
    "auroc": lambda a: sk.roc_auc_score(a.labels, softmax(a.scores, axis=1), multi_class="ovr", average="macro"),
    "worst_class": lambda a: sk.recall_score(a.labels, a.predicted, average=None).min(),
    "worst_environment": lambda a: sk.accuracy_score(a.labels, a.predicted),  # in each environment
    "ece": lambda a: metrics.calibration_error(metrics.confidence_gaps(a.scores, a.labels, 1.0), 300),  # see above
}


@pytest.mark.parametrize("name", metrics.METRICS.names())
def test_built_in_metrics_are_those_of_scikit_learn(name: str) -> None:
    given = answers()
    expected = REFERENCES[name](given)
    assert float(metrics.METRICS.create(name).compute(given)) == pytest.approx(expected, abs=1e-12)


def test_classes_without_images_count_for_nothing() -> None:
    given = answers()
    there = given.labels < 4
    some = metrics.Answers(given.correct[there], given.labels[there], 7, given.predicted[there], given.scores[there])
    p = softmax(some.scores, axis=1)
    areas = [sk.roc_auc_score(some.labels == c, p[:, c]) for c in range(4)]
    assert metrics.Auroc().compute(some) == pytest.approx(np.mean(areas), abs=1e-12)
    wilds = sk.f1_score(some.labels, some.predicted, average="macro", labels=np.unique(some.labels))
    assert metrics.MacroF1().compute(some) == pytest.approx(wilds, abs=1e-12)
    one = metrics.Answers(some.correct[:1], some.labels[:1], 7, some.predicted[:1], some.scores[:1])
    assert np.isnan(metrics.Auroc().compute(one))
    assert metrics.of_scores(metrics.SCORED, given.scores[:0], given.labels[:0], True) == {}
    assert set(metrics.of_scores(metrics.SCORED, given.scores, given.labels, False)) == {"top5"}
