"""Invalid results of user-defined components: an error message with the component's name, and no row."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from benchmark.method.arrays import Array, Labels
from benchmark.method.evaluation.evaluation import Method
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.predictors import Predictor, Problem
from benchmark.method.predictors.zero_shot import ZeroShot
from benchmark.method.subspace import Basis, SourceMoments
from tests.method.predictors.test_reference import D, icm, protocol_of, synthetic
from tests.method.wrapped import Wrapped

RANKS = (2, 5, D)


class Wrong(Predictor):
    """Dot products, spoilt in one way."""

    way: str = ""

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """See `Predictor.scores`."""
        yield from ([self._spoilt(z @ problem.text.T) for z in problem.tests] for _ in self._ranks(ranks))

    def _ranks(self, ranks: Sequence[int]) -> Sequence[int]:
        return {"few": ranks[:1], "many": [*ranks, ranks[-1]]}.get(self.way, ranks)

    def _spoilt(self, scores: Array) -> Array:
        spoilt: dict[str, Any] = {
            "wide": lambda: np.hstack([scores, scores[:, :2] + 9]),
            "short": lambda: scores[1:],
            "nan": lambda: np.where(np.arange(len(scores))[:, None] == 3, np.nan, scores),
            "infinite": lambda: np.where(scores == scores.max(), np.inf, scores),
            "nothing": lambda: np.full_like(scores, -np.inf),
        }
        return np.asarray(spoilt[self.way]() if self.way in spoilt else scores)


class WrongUntrained(Wrong):
    """The same of a predictor that learns from no image."""

    uses_training_images: ClassVar[bool] = False


class OwnPredictions(ZeroShot):
    """Zero-shot with predictions of its own, spoilt in one way."""

    way: str = ""

    def predict(self, problem: Problem, ranks: Sequence[int]) -> list[Labels]:
        """See `Predictor.predict`."""
        (positions,) = super().predict(problem, ranks)
        return [{"few": positions[:1], "none": positions + problem.n_classes, "short": positions[:, 1:]}[self.way]]


def curves(projection: Any, predictor: Predictor) -> list[Any]:
    data, views = synthetic()
    holdouts = PROTOCOLS.create("held_out").holdouts(data.environments, ["full"])
    return list(protocol_of(data, views).curves(Method(projection, predictor, RANKS), holdouts))


@pytest.mark.parametrize("kind", [Wrong, WrongUntrained])
@pytest.mark.parametrize(
    ("way", "what"),
    [
        ("few", "scores for 1 of 3 ranks"), ("many", "scores for more than 3 of 3 ranks"), ("wide", "scores of shape"),
        ("short", "scores of shape"), ("nan", "scores with NaN or infinity"), ("infinite", "scores with NaN or infinity"), ("nothing", "scores with NaN or infinity"),
    ],
)  # fmt: skip
def test_scores_that_do_not_fit(kind: type[Wrong], way: str, what: str) -> None:
    with pytest.raises(ValueError, match=rf"The predictor '.*:{kind.__name__}' gave {what}"):
        curves(Wrapped(icm), kind(way=way))
    assert curves(Wrapped(icm), kind())


@pytest.mark.parametrize(
    ("way", "what"), [("few", "predictions of shape"), ("short", "predictions of shape"), ("none", "none of the 3 classes")]
)  # fmt: skip
def test_predictions_that_do_not_fit(way: str, what: str) -> None:
    with pytest.raises(ValueError, match=rf"The predictor '.*:OwnPredictions' gave .*{what}"):
        curves(Wrapped(icm), OwnPredictions(way=way))


@pytest.mark.parametrize(
    ("vectors", "spectrum", "what"),
    [
        (np.eye(D)[:, :5], None, rf"vectors of shape \({D}, 5\)"), (np.zeros((D, D)), None, "directions that are all zero"),
        (np.full((D, D), np.nan), None, "NaN or infinite"), (np.eye(D), np.ones(3), "a spectrum of shape"),
        (np.eye(D), np.full(D, np.inf), "NaN or infinite"),
    ],
)  # fmt: skip
def test_a_basis_that_does_not_fit(vectors: Array, spectrum: Array | None, what: str) -> None:
    def fit(_: SourceMoments) -> Basis:
        return Basis(vectors, spectrum)

    with pytest.raises(ValueError, match=rf"The projection '.*:Wrapped' gave {what}"):
        curves(Wrapped(fit), ZeroShot())


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"offset": np.ones(3)}, "an offset of shape"), ({"offset": np.full(D, np.nan)}, "NaN or infinite"),
        ({"text_share": np.nan}, "NaN or infinite"), ({"text_vectors": np.eye(3)}, "a map of texts of shape"),
    ],
)  # fmt: skip
def test_what_a_basis_does_beside_that_does_not_fit(wrong: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=rf"The projection '.*:Wrapped' gave {what}"):
        curves(Wrapped(lambda _: Basis(np.eye(D), **wrong)), ZeroShot())
