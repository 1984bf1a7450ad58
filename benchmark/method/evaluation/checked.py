"""Checks of what projections and predictors return: shapes, counts and finite values.

Users may define projections and predictors. If a result is invalid, an error names the component, and its trial has no
rows.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from benchmark.method.arrays import Array, Labels
from benchmark.method.predictors import Predictor, Problem
from benchmark.method.subspace import Basis


def checked_basis(basis: Basis, name: str, dim: int) -> Basis:
    """Check the basis that a projection returned, and return it unchanged.

    ValueError: it is no `Basis`, a shape does not fit the width D, a value is NaN or infinite, or all directions are
    zero.
    """
    if not isinstance(basis, Basis):
        raise ValueError(f"The projection '{name}' gave {type(basis).__name__} in place of a Basis.")
    parts, spectrum = basis.matrices(), basis.spectrum
    for what, part in zip(("vectors", "a map of texts"), parts, strict=True):
        if type(basis).matrices is Basis.matrices and np.shape(part) != (dim, dim):
            raise ValueError(
                f"The projection '{name}' gave {what} of shape {np.shape(part)} in place of ({dim}, {dim})."
            )
    for what, numbers in (("a spectrum", spectrum), ("an offset", basis.offset)):
        if numbers is not None and np.shape(numbers) != (dim,):
            raise ValueError(f"The projection '{name}' gave {what} of shape {np.shape(numbers)} in place of ({dim},).")
    answer = (*parts, spectrum, basis.offset, basis.text_share)
    if not all(np.isfinite(numbers).all() for numbers in answer if numbers is not None):
        raise ValueError(f"The projection '{name}' gave NaN or infinite values.")
    if not all(np.any(part) for part in parts):
        raise ValueError(f"The projection '{name}' gave directions that are all zero.")
    for own in basis.by_environment.values():
        checked_basis(own, name, dim)
    return basis


def checked_scores(predictor: Predictor, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
    """Yield and check the scores of `Predictor.scores_of_settings`: for every rank, all settings in turn."""
    expected, count = len(ranks) * len(predictor.settings), 0
    for of_point in predictor.scores_of_settings(problem, ranks):
        count += 1
        if count > expected:
            break
        if len(of_point) != len(problem.tests):
            raise _wrong(predictor, f"{len(of_point)} arrays of scores for {len(problem.tests)} sets")
        for scores, z in zip(of_point, problem.tests, strict=True):
            given, shape = np.asarray(scores), (len(z), problem.n_classes)
            if given.shape != shape:
                raise _wrong(predictor, f"scores of shape {given.shape} in place of {shape} (images, classes)")
            if given.size and not np.isfinite(given.max(axis=1)).all():  # NaN if any is; -infinity: no class
                raise _wrong(predictor, "scores with NaN or infinity")
        yield of_point
    if count != expected:
        more = "more than " if count > expected else ""
        raise _wrong(predictor, f"scores for {more}{min(count, expected)} of {expected} ranks and settings")


def checked_predictions(setting: Predictor, problem: Problem, ranks: Sequence[int]) -> Labels:
    """Return the checked predictions of test images at each rank, shape (len(ranks), m).

    The problem must have one array of test images. The classes come from `predict` if the predictor overrides this
    method, otherwise from its scores.
    """
    if type(setting).predict is Predictor.predict:
        classes = problem.candidates[0] if problem.candidates else None
        of_ranks = [scores for (scores,) in checked_scores(setting, problem, ranks)]
        best = [(s if classes is None else s[:, classes]).argmax(axis=1) for s in of_ranks]
        return np.stack(best if classes is None else [classes[b] for b in best])
    predicted = setting.predict(problem, ranks)
    shape = (len(ranks), len(problem.tests[0]))
    if len(predicted) != 1 or np.shape(predicted[0]) != shape:
        raise _wrong(setting, f"predictions of shape {[np.shape(p) for p in predicted]} in place of {[shape]}")
    if predicted[0].size and not (predicted[0].min() >= 0 and predicted[0].max() < problem.n_classes):
        raise _wrong(setting, f"predictions that are none of the {problem.n_classes} classes")
    return predicted[0]


def _wrong(predictor: Predictor, what: str) -> ValueError:
    return ValueError(f"The predictor '{predictor.name}' gave {what}.")
