"""One fit of a predictor: shared by all ranks, calibrated at selected points, block by block if zero-shot."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from benchmark.method.arrays import Array, Labels
from benchmark.method.evaluation import classifier, metrics
from benchmark.method.evaluation.classifier import Choice, Classifier, ImageSet, Scorer
from benchmark.method.evaluation.evaluation import Method
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.splits import OUT, Split, turn_of
from benchmark.method.predictors import PREDICTORS, Predictor, Problem
from benchmark.method.predictors.base import fitted_temperature
from benchmark.method.predictors.linear_probe import Grid, LinearProbe
from benchmark.method.subspace import Basis
from tests.method.predictors.test_reference import D, icm, protocol_of, synthetic
from tests.method.wrapped import Wrapped

RANKS = (2, 5, D)
LOGIT_SCALE = 17.0  # of the backbone, not the default


class Counting(LinearProbe):
    """The linear probe, which counts how often it is fitted to which environments."""

    C: Grid = (3.16,)
    fits: ClassVar[Counter[tuple[int, ...]]] = Counter()

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """See `Predictor.scores`."""
        self.fits[tuple(np.unique(problem.environments).tolist())] += 1
        return super().scores(problem, ranks)


@pytest.mark.parametrize("name", ["held_out", "held_out_pairs", "open_class"])
def test_a_trained_predictor_is_fitted_once_for_each_set_of_sources(name: str) -> None:
    data, views = synthetic()
    holdouts = PROTOCOLS.create(name).holdouts(data.environments, ["out_20"])
    Counting.fits.clear()
    curves = list(protocol_of(data, views).curves(Method(Wrapped(icm), Counting(), RANKS), holdouts))
    rule = "training_domain" if name == "held_out_pairs" else "lodo"  # of two sources none is left out
    assert all(rule in curve.scored for curve in curves if curve.class_half != "harmonic")
    turn = turn_of(Split(0), None, grouped=False)
    left_out = {holdout.without(source) for holdout in holdouts for source in holdout.validation_sources(turn)}
    left_out = {sources for sources in left_out if len(sources) > 1}
    expected = Counter(holdout.sources for holdout in holdouts) + Counter(left_out)
    sets = Counter(set(expected))
    expected += sets  # and once in the plain space, for all maps that only turn it
    expected += sets  # and once as plain prediction, to which scores are compared
    # Of open classes no environment validates the fit where it is tested: the first one does where others are.
    expected += Counter({(0, 1, 2, 3): 1} if name == "open_class" else {})
    assert expected == Counting.fits


def images(rows: Labels) -> ImageSet:
    return ImageSet(rows, synthetic()[0].label[rows])


def mean_over(sets: Sequence[ImageSet]) -> Scorer:
    """The mean over sets of the accuracy on each."""
    ends = np.cumsum([len(one) for one in sets])
    return lambda given: np.mean([part.mean(axis=-1) for part in np.split(given, ends[:-1], axis=-1)], axis=0)


def classifier_of(predictor: Predictor, train: Any) -> Classifier:
    data = replace(synthetic()[0], logit_scale=LOGIT_SCALE)
    return Classifier(predictor, RANKS, data, Basis(np.eye(D)), train, "none", seed=0, device="cpu")


@pytest.mark.parametrize("name", [{"name": "linear_probe", "C": 0.316}, "class_means", "zero_shot"])
def test_calibrations_are_those_of_the_scores_at_the_ranks_that_rules_pick(name: object) -> None:
    data, _ = synthetic()
    out, predictor = data.side[Split(0)] == OUT, PREDICTORS.create(name)
    train = ~out & (data.environment < 3)
    validation = [images(np.flatnonzero(out & (data.environment == e))) for e in range(3)]
    test = images(np.flatnonzero(data.environment == 3))
    lodo = np.array([[0.1, 0.3, 0.2]])
    classified = classifier_of(predictor, train).classify(validation, [test], None, mean_over(validation), lodo)
    training_domain = np.mean([of_set.mean(axis=-1) for of_set in classified.validation], axis=0)
    assert set(classified.scored[0]) == {(int(np.argmax(training_domain)), 0), (1, 0)}
    choice = Choice(frozenset(), {point: one.temperature for point, one in classified.scored[0].items()})
    again = classifier_of(predictor, train).classify([], [test], choice)
    assert again.scored == classified.scored  # as where another fit chooses
    sets = [*validation, test]
    problem = Problem(
        train=data.z[train].astype(float), labels=data.label[train], text=data.text.astype(float),
        tests=[data.z[s.rows].astype(float) for s in sets], environments=data.environment[train],
        logit_scale=LOGIT_SCALE,
    )  # fmt: skip
    for _ in predictor.scores(whole := replace(problem, found={}), [D]):
        pass  # the whole space comes first
    for i, scores in enumerate(predictor.scores(replace(problem, rotated=whole.found), RANKS)):
        *validated, tested = (logits.argmax(axis=1) for logits in scores)
        hits = [np.mean(p == s.labels) for p, s in zip(validated, validation, strict=True)]
        assert training_domain[0, i] == pytest.approx(np.mean(hits))
        np.testing.assert_array_equal(classified.correct[0][0, i], tested == test.labels)
        if (i, 0) in classified.scored[0]:
            labels = np.concatenate([s.labels for s in validation])
            t = fitted_temperature(np.concatenate(scores[:3]), labels)
            gaps = [metrics.confidence_gaps(scores[3], test.labels, x) for x in (1, t)]
            errors = [metrics.calibration_error(of_temperature, len(test)) for of_temperature in gaps]
            calibration = classified.scored[0][i, 0]
            assert calibration.temperature == pytest.approx(t, rel=1e-6)
            assert [calibration.error, calibration.scaled_error] == pytest.approx(errors, abs=1e-9)


def test_what_is_calibrated_is_what_is_best_on_all_validation_sets_together() -> None:
    """The first set alone would take the first rank, where the others are wrong."""
    data, _ = synthetic()
    sets = [images(np.flatnonzero(data.environment == e)) for e in range(4)]

    class Planted(Predictor):
        """Right on the first set at the first rank, on the others at the second one."""

        def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
            """See `Predictor.scores`."""
            n = problem.n_classes
            for i in range(len(ranks)):
                wrong = [i > 1 or (i == 0) != (number == 0) for number in range(len(sets))]
                yield [np.eye(n)[(s.labels + is_wrong) % n] for s, is_wrong in zip(sets, wrong, strict=True)]

    score = mean_over(sets[:3])
    classified = classifier_of(Planted(), data.environment < 3).classify(sets[:3], sets[3:], None, score)
    np.testing.assert_allclose(score(np.concatenate(classified.validation, axis=-1)), [[1 / 3, 2 / 3, 0]])
    assert set(classified.scored[0]) == {(1, 0)}


class InOneBuffer(LinearProbe):
    """A probe that writes the scores of every rank into the same arrays."""

    C: Grid = (3.16,)

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """See `Predictor.scores`."""
        buffers = [np.empty((len(z), problem.n_classes)) for z in problem.tests]
        for of_rank in super().scores(problem, ranks):
            for buffer, logits in zip(buffers, of_rank, strict=True):
                buffer[:] = logits
            yield buffers


def test_a_predictor_may_use_its_arrays_again_at_the_next_rank() -> None:
    data, _ = synthetic()
    train = (data.side[Split(0)] != OUT) & (data.environment == 0)
    validation, test = images(np.flatnonzero(data.environment == 0)), images(np.flatnonzero(data.environment == 3))
    probes = (classifier_of(p, train) for p in (LinearProbe(C=3.16), InOneBuffer()))
    one, other = (probe.classify([validation], [test], None, mean_over([validation])) for probe in probes)
    np.testing.assert_array_equal(one.validation, other.validation)
    assert one.scored == other.scored


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data, views = synthetic()
    holdouts = PROTOCOLS.create("held_out").holdouts(data.environments, ["full"])
    method = Method(Wrapped(icm), PREDICTORS.create("zero_shot"), RANKS)
    curves = [list(protocol_of(data, views).curves(method, holdouts))]
    monkeypatch.setattr(classifier, "BLOCK", 7)
    monkeypatch.setattr(classifier, "ROTATED", 5)
    curves.append(list(protocol_of(data, views).curves(method, holdouts)))
    for one, other in zip(*curves, strict=True):
        assert (one.metrics, one.training_domain, one.lodo) == (other.metrics, other.training_domain, other.lodo)
        a, b = (curve.scored["lodo"] for curve in (one, other))
        assert (a.error, a.scaled_error, a.temperature) == pytest.approx((b.error, b.scaled_error, b.temperature))


def test_few_of_many_source_images_fit_the_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def noted(logits: Array, labels: Labels) -> float:
        sizes.append(len(labels))
        return fitted_temperature(logits, labels)

    monkeypatch.setattr(classifier, "fitted_temperature", noted)
    monkeypatch.setattr(classifier, "MAX_CALIBRATED", 12)
    data, _ = synthetic()
    sets = [images(np.flatnonzero(data.environment == e)) for e in range(4)]
    for name in ("zero_shot", "class_means"):
        fit = classifier_of(PREDICTORS.create(name), data.environment < 3)
        fit.classify(sets[:3], [sets[3]], None, mean_over(sets[:3]))
    assert sizes == [12, 12]


def test_only_the_very_class_that_says_so_may_overwrite_training_images() -> None:
    train = synthetic()[0].environment < 3
    for predictor, spent in ((LinearProbe(), True), (Counting(), False), (PREDICTORS.create("interpolation"), False)):
        assert classifier_of(predictor, train)._problem(train, []).spent == spent
