"""The selection score and its standard error, against the formulas of METHOD, section 10, image by image."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from benchmark.method.evaluation.cells import cells_of
from benchmark.method.evaluation.evaluation import Evaluation, FitSettings, Method
from benchmark.method.evaluation.metrics import METRICS, Metric
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.source_scores import ValidationImages
from benchmark.method.evaluation.splits import Split
from benchmark.method.predictors import PREDICTORS
from benchmark.method.subspace import PROJECTIONS
from tests.method.predictors.test_reference import synthetic

CLASSES, N = 5, 240


def drawn(metric: Metric, grouped: bool) -> tuple[ValidationImages, np.ndarray, np.ndarray]:
    """Images of three sources, what 2 x 4 candidates take them for, and what plain prediction does."""
    rng = np.random.default_rng(3)
    source, label = (
        np.sort(rng.choice(3, N, p=[0.5, 0.3, 0.2])) * 2,
        rng.choice(CLASSES, N, p=[0.4, 0.3, 0.2, 0.09, 0.01]),
    )
    first = np.flatnonzero(source == 4)
    label[first], label[first[0]] = rng.integers(3, size=len(first)), 4  # a class with one image
    cluster = rng.permutation(N) // 4 if grouped else np.arange(N)
    given = np.where(rng.random((2, 4, N)) < 0.6, label, rng.integers(CLASSES, size=(2, 4, N))).astype(np.uint16)
    plain = np.where(rng.random(N) < 0.5, label, rng.integers(CLASSES, size=N)).astype(np.uint16)
    if metric.needs == "correct":
        given, plain = given == label, plain == label
    return ValidationImages(metric, label, source, cluster, CLASSES), given, plain


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", ["accuracy", "balanced"])
def test_standard_errors_are_those_of_the_formula_image_by_image(name: str, grouped: bool) -> None:
    images, given, plain = drawn(METRICS.create(name), grouped)
    d = given.astype(float) - plain
    u = np.zeros((2, 4, images.cluster.max() + 1))
    for i in range(N):
        own = images.source == images.source[i]
        same, classes = own & (images.label == images.label[i]), len(np.unique(images.label[own]))
        same = own if name == "accuracy" else same
        centre = d[..., own if same.sum() == 1 else same].mean(axis=-1)
        weight = 1 / (3 * same.sum() * (1 if name == "accuracy" else classes))
        u[..., images.cluster[i]] += (d[..., i] - centre) * weight
    count = len(np.unique(images.cluster))
    expected = np.sqrt(count / (count - 1) * (u**2).sum(axis=-1))
    np.testing.assert_allclose(images.error(given, plain), expected, rtol=1e-12)
    assert images.error(plain[None], plain).tolist() == [0.0]


@pytest.mark.parametrize("name", ["accuracy", "balanced", "macro_f1", "worst_class"])
def test_scores_are_means_over_sources_of_scikit_learns_metrics(name: str) -> None:
    images, given, _ = drawn(METRICS.create(name), grouped=False)

    def of_source(predicted: np.ndarray, label: np.ndarray) -> float:
        if name == "macro_f1":
            return float(f1_score(label, predicted, average="macro", labels=np.unique(label)))
        if name == "accuracy":
            return float(predicted.mean())
        per_class = [predicted[label == c].mean() for c in np.unique(label)]
        if name == "balanced":
            wrong = np.where(predicted, label, CLASSES)
            assert np.mean(per_class) == pytest.approx(np.sum([(wrong[label == c] == c).mean() for c in np.unique(label)])
                                                       / len(np.unique(label)))  # fmt: skip
            return float(np.mean(per_class))
        return float(min(per_class))

    sources = [images.source == s for s in np.unique(images.source)]
    for at in np.ndindex(2, 4):
        expected = np.mean([of_source(given[at][own], images.label[own]) for own in sources])
        assert images.score(given)[at] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("grouped", [False, True])
def test_the_jackknife_is_within_a_tenth_of_the_formula_where_the_metric_is_a_mean(grouped: bool) -> None:
    images, given, plain = drawn(METRICS.create("accuracy"), grouped)
    np.testing.assert_allclose(images._jackknife(given, plain), images.error(given, plain), rtol=0.1)


def test_one_cluster_says_nothing_of_its_error() -> None:
    images, given, plain = drawn(METRICS.create("accuracy"), grouped=False)
    assert np.isnan(replace(images, cluster=np.zeros(N, np.int64)).error(given, plain)).all()


@pytest.mark.parametrize("name", ["balanced", "macro_f1"])
def test_rules_choose_by_another_metric_where_it_is_asked_for(name: str) -> None:
    """Against scikit-learn, of zero-shot prediction: its answers hang on no fit."""
    data, _ = synthetic()
    split, predictor = Split(0, folds=5), PREDICTORS.create("zero_shot")
    cells = cells_of(data.layout(split), data.z.astype(np.float64), {})
    evaluation = Evaluation(data, cells, FitSettings(split, "none", metric=METRICS.create(name)))
    method = Method(PROJECTIONS.create("identity"), predictor, (data.z.shape[1],))
    predicted = (data.z @ data.text.T / np.linalg.norm(data.text, axis=1)).argmax(axis=1)
    for curve in evaluation.curves(method, PROTOCOLS.create("held_out").holdouts(data.environments, ["out_fold"])):
        rows = [
            (data.environment == e) & (data.side[split] != curve.fold)
            for e, name_ in enumerate(data.environments)
            if name_ != curve.held_out
        ]
        of = {"balanced": balanced_accuracy_score, "macro_f1": lambda a, b: f1_score(a, b, average="macro")}[name]
        expected = np.mean([of(data.label[own], predicted[own]) for own in rows])
        assert curve.lodo == pytest.approx([expected], abs=1e-12)
        assert curve.training_domain == pytest.approx([expected], abs=1e-12)
        assert curve.lodo_se == [0.0]
