"""Multinomial logistic regression for many ranks and penalties of one problem, on CPU or GPU.

    minimise over W, b :   sum_i s_i ( logsumexp_c(x_i W + b) - (x_i W + b)_{y_i} )  +  tr(W' P W) / (2 C)

x_i, y_i and s_i are embedding, class and weight of image i. For P = I, the default, this is scikit-learn's objective
divided by C; the intercept is not penalised. With two classes scikit-learn fits one column w, the second column of W
minus the first. Its penalty ||w||^2 / (2 C) is ||W||^2 / C at the solution, where the two columns of W sum to zero.

The solver is L-BFGS with the initial inverse Hessian (a X'SX + P / C)^-1. S is the diagonal matrix of the weights s_i.
a is the mean of p (1 - p) over images and classes at the start, with p the predicted probabilities. The matrix a X'SX +
P / C approximates the diagonal block of the Hessian for one class; a is the same for all classes. So convergence does
not depend on the scales of embedding directions or on the balance of loss and penalty. Convergence takes a few steps
with a strong penalty and tens of steps with a weak one. Images are processed in blocks that fit into the processor's
cache, so no array of shape (images, classes) is held. Rank k uses the first k columns of X. So one Gram matrix serves
every rank, C and P, and each solution can start the next fit.

The code uses operations common to NumPy and PyTorch: NumPy arrays on a CPU, PyTorch tensors on a GPU. On a CPU, PyTorch
takes three times as long for the small operations of problems with few classes. If a change alters how often a fit
evaluates the objective, adapt `_EVALUATIONS` in `benchmark/sweep/work.py`.

The solver stops if the expected decrease, relative to the objective, is below a tolerance. For problems of up to
`PRECISE` images x classes, the tolerance is 1e-9 in double precision, or 1e-7 in single precision if solutions only
serve selection. For larger problems it is 3e-4 in single precision. With 4 x `SAMPLE` images or more, the problem is
first solved for a quarter of the images, and the tolerance is 1e-4. If the processor multiplies bfloat16 numbers, which
is twice as fast, matrix products use them until the tolerance 3e-4 is reached. The rounding of bfloat16 changes the
objective by about 1e-5 of its value. If steps in bfloat16 no longer decrease the objective, the solver continues in
single precision.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmark.common.machine import multiplies_bfloat16
from benchmark.method.arrays import Array, Floats, Labels, Values
from benchmark.method.predictors.base import Head

MEMORY = 20  # number of steps that L-BFGS remembers
PRECISE = 4_000_000  # images x classes up to which a problem is solved in double precision
TOLERANCE = 1e-9  # the solver stops if the expected decrease, relative to the objective, is below this ...
FOR_CHOICE = 1e-7  # ... or below this, in single precision, if solutions only serve selection ...
COARSE = 3e-4  # ... or, for larger problems, below this: enough for selection ...
FINE = 1e-4  # ... and below this if a quarter of the images is solved first
SINGLE = 1e-5  # single precision is used until the expected decrease is below this
HALF_FROM = 128  # minimum classes and coordinates for bfloat16: products then dominate the time
JITTER = 1e-12  # share of the mean diagonal that is first added to a singular matrix ...
ATTEMPTS = 12  # ... and number of attempts, each of which adds ten times as much
FLATTEST = 1e-3  # minimum curvature assumed, relative to the curvature at equally likely classes
SAMPLE = 25_000  # with at least four times as many images, a quarter of them is solved first
ESTIMATED = 4096  # images used to compare starts
TOGETHER = 64  # number of images that are transposed together
CELLS = 2**18  # images x classes of a block: 1 MB of logits, which fits into a processor's cache
CELLS_OF_GPU = 2**26

AnyArray = Any  # a NumPy array on a CPU, a PyTorch tensor elsewhere


class SoftmaxRegression:
    """One classification problem, solved for several ranks and penalties.

    Args:
        x: training embeddings in the coordinates of a basis, shape (n, D).
        labels: class of each training image, shape (n,), 0 <= label < classes.
        classes: number of classes, including classes without training images.
        sample_weights: weight s of each training image, shape (n,); by default all are 1.
        device: torch device of the solver, such as `cuda`. Default `cpu`.
        overwrites: whether `x` may be centred in place, if it is large and in single precision. Default false.
        for_choice: whether solutions only serve selection and may be coarser. Default false.

    Raises:
        ValueError: there are no training images.
    """

    def __init__(
        self,
        x: Floats,
        labels: Labels,
        classes: int,
        sample_weights: Array | None = None,
        device: str = "cpu",
        overwrites: bool = False,
        for_choice: bool = False,
    ) -> None:
        self._classes, self._present, self._device = classes, np.unique(labels), device
        if not len(self._present):
            raise ValueError("A probe needs training images, and there are none.")
        ones = np.ones(len(labels)) if sample_weights is None else np.asarray(sample_weights, dtype=np.float64)
        own = np.searchsorted(self._present, labels)
        self._total, self._weighted = float(ones.sum()), bool((ones != 1).any())
        self._shares = np.bincount(own, ones, len(self._present)) / self._total
        self._s = self._on_device(ones)
        self._rows = min(len(own), max(64, (CELLS if device == "cpu" else CELLS_OF_GPU) // len(self._present)))
        blocks = [slice(first, first + self._rows) for first in range(0, len(own), self._rows)]
        self._parts = [(rows, self._on_device(_places(own[rows])), self._s[rows]) for rows in blocks]
        step = max(1, len(own) // ESTIMATED)
        self._sample = slice(None, None, step), self._on_device(_places(own[::step])), self._s[::step]
        precise = len(labels) * len(self._present) <= PRECISE
        # Block by block, without a float64 copy of all images.
        self._mean = sum((ones[rows] @ x[rows] for rows, *_ in self._parts), np.zeros(x.shape[1])) / self._total
        self._subproblem = self._quarter(x, labels, ones)
        ours = overwrites and x.flags.c_contiguous and x.flags.writeable
        exact = precise and not for_choice
        in_place = ours and not exact and x.dtype == np.float32 and device == "cpu"
        self._gram = self._on_device(np.zeros((x.shape[1], x.shape[1])))
        # Shape (D, n): logits are then up to four times as fast, and the first coordinates are one part of memory.
        self._single: AnyArray = x.T if in_place else _empty_like(x.T.shape, self._gram, "float32")
        self._double: AnyArray = _empty_like(x.T.shape, self._gram, "float64") if exact else None
        for rows, *_ in self._parts:
            self._add_block(x[rows], rows)
        self._stages = self._precisions(precise)

    def _on_device(self, array: Values) -> AnyArray:
        """Return an array on the device of the problem."""
        if self._device == "cpu":
            return array
        import torch

        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def _precisions(self, precise: bool) -> list["_Stage"]:
        """Return the stages of the solver, from low to high precision."""
        if self._double is not None:
            return [_Stage(self._single, SINGLE, 1e-6), _Stage(self._double, TOLERANCE, 1e-14)]
        if precise:
            return [_Stage(self._single, FOR_CHOICE, 1e-6)]
        last = _Stage(self._single, COARSE if self._subproblem is None else FINE, 1e-6)
        pays = self._device == "cpu" and len(self._present) >= HALF_FROM and multiplies_bfloat16() and _one_thread()
        return [_Stage(self._single, COARSE, 1e-4, in_bfloat16=True), last] if pays else [last]

    def _add_block(self, x: Floats, rows: slice) -> None:
        """Store a block of embeddings, centred to decouple weights and intercepts."""
        centred = (self._on_device(x) - self._on_device(self._mean)).T
        for held in (self._single, self._double):
            if held is not None:
                _copy_transposed(held[:, rows], centred)
        centred = self._single[:, rows] if self._double is None else centred
        weighted = centred * _cast(centred, self._s[rows]) if self._weighted else centred
        self._gram += weighted @ centred.T

    def _quarter(self, x: Floats, labels: Labels, s: Array) -> "SoftmaxRegression | None":
        """Return the problem with every fourth image, whose solution is a start; None below 4 x `SAMPLE` images."""
        if len(labels) < 4 * SAMPLE:
            return None
        return SoftmaxRegression(x[::4], labels[::4], self._classes, 4 * s[::4], self._device)

    def fit(
        self, rank: int, c: float, starts: Sequence[Head] = (), max_iter: int = 1000, matrix: Array | None = None
    ) -> Head:
        """Return the classifier on the first `rank` coordinates.

        `c` is scikit-learn's C for any number of classes. `starts` are solutions for other ranks or penalties; the
        solver starts from the best of them, by default from class frequencies. `matrix` is P, symmetric positive
        definite, shape (D, D), by default the identity. Its first `rank` rows and columns are used.
        """
        if self._subproblem is not None:
            starts = [self._subproblem.fit(rank, c, starts, max_iter, matrix)]
        present = self._present
        p = None if matrix is None else self._on_device(matrix[:rank, :rank])
        penalty = _Penalty(c / 2 if len(present) == 2 else c, p)
        theta = self._start(rank, penalty, starts)
        value, steps, converged, singular = self._minimise(theta, penalty, max_iter)
        found = _to_numpy(theta)
        weights, bias = np.zeros((rank, self._classes)), np.full(self._classes, -np.inf)
        weights[:, present] = found[:, :-1].T
        bias[present] = found[:, -1] - found[:, :-1] @ self._mean[:rank]
        return Head(weights, bias, value, steps, converged, singular)

    def _start(self, rank: int, penalty: "_Penalty", starts: Sequence[Head]) -> AnyArray:
        """Return the best start, shape (K, rank + 1): columns of weights, then one column of intercepts.

        K is the number of classes with training images. The intercepts are for centred images.
        """
        theta = np.zeros((len(self._shares), rank + 1))
        theta[:, -1] = np.log(np.maximum(self._shares, 1e-12 / self._total))
        found = []
        for start in starts:
            given, shared = theta.copy(), min(rank, len(start.weights))
            given[:, :shared] = start.weights[:shared][:, self._present].T
            bias = start.bias[self._present] + given[:, :shared] @ self._mean[:shared]
            given[:, -1] = np.where(np.isfinite(bias), bias, theta[:, -1])
            found.append(self._on_device(given))
        if len(found) < 2:
            return found[0] if found else self._on_device(theta)
        values = [self._estimate(given, penalty) for given in found]
        return found[values.index(min(values))]

    def _estimate(self, theta: AnyArray, penalty: "_Penalty") -> float:
        """Estimate the objective from about `ESTIMATED` evenly spaced images."""
        images, at_label, s = self._sample
        z = self._single[: theta.shape[1] - 1, images]
        w, bias = _cast(z, theta[:, :-1]), _cast(z, theta[:, -1:])
        losses, _ = _losses(_empty_like((len(w), len(s)), z), w, bias, z, at_label)
        pulled = float((theta[:, :-1] * penalty.gradient(theta[:, :-1])).sum()) / 2
        return float(s @ _cast(s, losses)) * self._total / float(s.sum()) + pulled

    def _metric(self, rank: int, penalty: "_Penalty", curvature: float) -> tuple["_Metric", bool]:
        """Return the metric for the matrix a X'SX + P / C, and whether the matrix is singular in double precision.

        If the matrix is singular, a multiple of the identity is added to it. This changes the steps, not the solution.
        """
        linalg, places = _library(self._gram).linalg, np.arange(rank)
        matrix = self._gram[:rank, :rank] * curvature
        if penalty.matrix is None:
            matrix[places, places] += 1 / penalty.c
        else:
            matrix += penalty.matrix / penalty.c
        jitter = JITTER * float(matrix.diagonal().mean())
        for attempt in range(ATTEMPTS):
            try:
                factor = linalg.cholesky(matrix)
                break
            except linalg.LinAlgError:
                matrix[places, places] += jitter * 10**attempt
        else:
            factor = linalg.cholesky(matrix)
        inverse_factor = self._in_step_precision(_inverse_of_triangle(factor))
        return _Metric(inverse_factor, 1 / (curvature * self._total)), attempt > 0

    def _in_step_precision(self, array: AnyArray) -> AnyArray:
        """Return an array in the precision of the steps: single precision for large problems."""
        return _cast(self._single, array) if self._double is None else array

    def _minimise(self, theta: AnyArray, penalty: "_Penalty", max_iter: int) -> tuple[float, int, bool, bool]:
        """Minimise in place, starting from `theta`.

        Return the objective, the number of steps, whether the solver converged, and whether the metric was singular.
        """
        rank = theta.shape[1] - 1
        stages = [stage for stage in self._stages if rank >= HALF_FROM or not stage.in_bfloat16]
        stage = stages.pop(0)
        value, gradient, curvature = self._evaluate(stage, theta, penalty, curvature=True)
        metric, singular = self._metric(rank, penalty, curvature)
        point = _Point(value, gradient, metric.inverse(gradient))
        history, stalled = _StepHistory(self._in_step_precision(gradient)), False
        for step in range(max_iter):
            direction = -history.newton(point)
            slope = float((direction * point.gradient).sum())
            while stalled or -slope <= 2 * stage.tolerance * point.value:
                if not stages or (stage.tolerance == stages[-1].tolerance and not stalled):
                    return point.value, step, True, singular
                stage, stalled = stages.pop(0), False
                value, gradient, _ = self._evaluate(stage, theta, penalty)
                point = _Point(value, gradient, metric.inverse(gradient))
                direction = -history.newton(point)
                slope = float((direction * gradient).sum())
            size, value, gradient = self._search(stage, theta, direction, penalty, point.value, slope)
            theta += size * direction
            before, point = point, _Point(value, gradient, metric.inverse(gradient))
            stalled = stage.in_bfloat16 and value >= before.value  # only rounding is left
            history.add(size * direction, point, before)
        return point.value, max_iter, False, singular

    def _search(
        self, stage: "_Stage", theta: AnyArray, direction: AnyArray, penalty: "_Penalty", value: float, slope: float
    ) -> tuple[float, float, AnyArray]:
        """Return a step size, and the objective and the gradient after the step.

        The step lowers the objective (up to rounding) and the magnitude of the slope. The slope of a convex function
        increases along a line, so false position finds its zero.
        """
        low, low_slope, high, high_slope, size = 0.0, slope, float("inf"), 0.0, 1.0
        rounding = stage.rounding * abs(value)
        for _ in range(40):
            reached, gradient, _ = self._evaluate(stage, theta + size * direction, penalty)
            here = float((gradient * direction).sum())
            if abs(here) <= 0.9 * -slope and reached <= value + rounding:
                break
            if here < 0 and reached <= value + rounding:
                low, low_slope = size, here
            else:
                high, high_slope = size, here
            tried = size
            if high == float("inf"):
                size *= 2 if here > 0.95 * slope else 1.5
            else:
                # If the slope is steep on one side only, false position is slow: keep away from the ends.
                share = -low_slope / (high_slope - low_slope)
                size = low + (high - low) * min(max(share, 0.1), 0.9)
        else:
            size = tried  # the size that the last objective and gradient belong to
        return size, reached, gradient

    def _evaluate(
        self, stage: "_Stage", theta: AnyArray, penalty: "_Penalty", curvature: bool = False
    ) -> tuple[float, AnyArray, float]:
        """Return the objective, the gradient, shape (K, rank + 1), and the mean of p (1 - p) over images and classes.

        The mean is only computed with `curvature`; otherwise the number is meaningless.
        """
        x = stage.x
        w, bias = stage.factor(_cast(x, theta[:, :-1])), _cast(x, theta[:, -1:])
        total, loss, unsure = _library(theta).zeros_like(theta), 0.0, 0.0
        held, in_double = _empty_like((len(w) * self._rows,), x), x.dtype == theta.dtype
        for rows, at_label, s in self._parts:
            z, p = stage.factor(x[: w.shape[1], rows]), held[: len(w) * len(s)].reshape(len(w), len(s))
            losses, sums = _losses(p, w, bias, z, at_label)
            loss += s @ _cast(s, losses)
            p *= 1 / sums
            if curvature:
                unsure += s @ _cast(s, 1 - (p * p).sum(0))
            p.reshape(-1)[at_label] -= 1
            if self._weighted:
                p *= _cast(p, s)
            # Equal but for time: OpenBLAS takes up to 1.8 times as long for the other order in each precision.
            total[:, :-1] += _product(p, z.T) if in_double else _product(z, stage.factor(p).T).T
            total[:, -1] += p.sum(1)
        pulled = penalty.gradient(theta[:, :-1])
        total[:, :-1] += pulled
        equal = 1 / len(theta) * (1 - 1 / len(theta))
        mean = max(float(unsure) / self._total / len(theta), FLATTEST * equal)
        return float(loss) + float((theta[:, :-1] * pulled).sum()) / 2, total, mean or 1.0


def _places(labels: Labels) -> Labels:
    """Return the place of each image's class in an array of shape (classes, images), as an index of its elements."""
    return np.asarray(labels * len(labels) + np.arange(len(labels)))


def _copy_transposed(to: AnyArray, array: AnyArray) -> None:
    """Copy an array of another memory order, few columns at a time, so that they stay in the processor's cache."""
    step = TOGETHER if _library(to) is np else len(array.T)
    for first in range(0, len(array.T), step):
        to[:, first : first + step] = array[:, first : first + step]


def _losses(p: AnyArray, w: AnyArray, bias: AnyArray, z: AnyArray, at_label: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Overwrite `p` by exp(logits); return the cross-entropy of each image and the sums over classes of `p`.

    The maximum of an image is subtracted from its logits. `p` has shape (K, n), classes by images, since products with
    few rows are faster than with few columns. `z` has shape (rank, n); `at_label` is from `_places`.
    """
    library = _library(p)
    _product(w, z, p)
    p += bias
    p -= library.amax(p, 0)
    own = p.reshape(-1)[at_label]
    library.exp(p, out=p)
    sums = p.sum(0)
    return library.log(sums) - own, sums


def _inverse_of_triangle(factor: AnyArray) -> AnyArray:
    """Return the inverse of a lower triangular matrix, by halves, in a quarter of the time of a full inverse."""
    half = len(factor) // 2
    if half < 32:
        return _library(factor).linalg.inv(factor)
    inverse = _library(factor).zeros_like(factor)
    inverse[:half, :half] = first = _inverse_of_triangle(factor[:half, :half])
    inverse[half:, half:] = second = _inverse_of_triangle(factor[half:, half:])
    inverse[half:, :half] = -(second @ factor[half:, :half]) @ first
    return inverse


def _product(a: AnyArray, b: AnyArray, out: AnyArray = None) -> AnyArray:
    """Return the matrix product a @ b. For bfloat16 factors it is a NumPy array in single precision."""
    library = _library(a)
    if library is np or a.dtype != library.bfloat16:
        return library.matmul(a, b, out=out)
    product = a @ b
    if out is None:
        return product.float().numpy()
    library.from_numpy(out).copy_(product)
    return out


def _one_thread() -> bool:
    """Whether PyTorch uses one thread, as in trials of one core. More threads would busy-wait for NumPy's threads."""
    import torch

    return torch.get_num_threads() == 1


def _library(array: AnyArray) -> Any:
    """Return the library of an array: NumPy or PyTorch."""
    if isinstance(array, np.ndarray):
        return np
    import torch

    return torch


def _cast(other: AnyArray, array: AnyArray) -> AnyArray:
    """Return `array` in the precision of `other`."""
    return _library(array).asarray(array, dtype=other.dtype)


def _empty_like(shape: tuple[int, ...], like: AnyArray, precision: str = "") -> AnyArray:
    """Return an empty array on the device of `like`, in its precision or in `precision`."""
    library = _library(like)
    dtype = getattr(library, precision) if precision else like.dtype
    return np.empty(shape, dtype) if library is np else library.empty(shape, dtype=dtype, device=like.device)


def _to_numpy(array: AnyArray) -> Values:
    """Return a NumPy array."""
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()


class _Stage(NamedTuple):
    """A stage of the solver: images in one precision, stopping tolerance, and relative rounding of the objective."""

    x: AnyArray
    tolerance: float
    rounding: float
    in_bfloat16: bool = False

    def factor(self, array: AnyArray) -> AnyArray:
        """Return an array as an operand of matrix products: in bfloat16 if the stage uses it, else as it is."""
        if not self.in_bfloat16:
            return array
        import torch

        return torch.from_numpy(array).bfloat16()


class _Penalty(NamedTuple):
    """The penalty tr(W' P W) / (2 C) at one rank: C, and P of shape (rank, rank), or None for the identity."""

    c: float
    matrix: AnyArray

    def gradient(self, w: AnyArray) -> AnyArray:
        """Return the gradient (P W / C)', shape (K, rank); `w` is W', of the same shape."""
        return (w if self.matrix is None else w @ self.matrix) / self.c


class _Metric(NamedTuple):
    """Initial inverse Hessian: inverse Cholesky factor for weights, and a scale for intercepts."""

    inverse_factor: AnyArray
    of_intercepts: float

    def inverse(self, gradient: AnyArray) -> AnyArray:
        """Return an ascent direction, the inverse of the metric times a gradient, shape (K, rank + 1)."""
        result = gradient * self.of_intercepts
        result[:, :-1] = (_cast(self.inverse_factor, gradient[:, :-1]) @ self.inverse_factor.T) @ self.inverse_factor
        return result


class _Point(NamedTuple):
    """An iterate: objective, gradient, and the inverse of the metric times the gradient."""

    value: float
    gradient: AnyArray
    preconditioned: AnyArray


class _StepHistory:
    """The last steps of L-BFGS, and their approximation of the inverse Hessian.

    The columns of S are the steps, and the columns of Y the changes of the gradient. Let R be the upper triangle of
    S'Y, D the diagonal of S'Y, and H the initial inverse Hessian. The approximation is (Byrd, Nocedal and Schnabel,
    1994, theorem 2.2)

        H + S R^-T (D + Y'H Y) R^-1 S' - S R^-T Y'H - H Y R^-1 S'

    It costs four products with all stored steps. H is symmetric, so H Y is stored instead of Y. The products of S and
    H Y with a change y of the gradient g are differences of S'g and (H Y)'g at two points.

    Args:
        like: a gradient, which determines size and type of the stored arrays. Small products are in float64.
    """

    def __init__(self, like: AnyArray) -> None:
        self._pairs = _empty_like((2, MEMORY, like.shape[0] * like.shape[1]), like)  # S' and (H Y)'
        self._inverse, self._y_p_y = np.zeros((2, MEMORY, MEMORY))  # R^-1 and Y'H Y
        self._diagonal = np.zeros(MEMORY)  # of D
        self._products = np.zeros((2, MEMORY))  # S'g and (H Y)'g at the last point
        self._count, self._row, self._incomplete = 0, -1, False  # number of steps, row of the newest, if it lacks R^-1

    def add(self, step: AnyArray, point: _Point, before: _Point) -> None:
        """Store a step, in place of the oldest if the history is full. Steps without positive curvature are skipped.

        `before` is the point of the last direction, and `point` that of the next.
        """
        change, step = (point.gradient - before.gradient).reshape(-1), step.reshape(-1)
        curvature = float(step @ change)
        if curvature <= 0:
            return
        self._row = row = (self._row + 1) % MEMORY
        self._count, self._incomplete = max(self._count, row + 1), True
        preconditioned = (point.preconditioned - before.preconditioned).reshape(-1)
        self._pairs[0, row], self._pairs[1, row], self._diagonal[row] = step, preconditioned, curvature
        self._y_p_y[row, row] = float(change @ preconditioned)

    def newton(self, point: _Point) -> AnyArray:
        """Return the approximate inverse Hessian times the gradient of a point, in the gradient's shape."""
        if not (n := self._count):
            return point.preconditioned
        steps, changes = pairs = self._pairs[:, :n]
        products = np.asarray(_to_numpy(pairs @ _cast(pairs, point.gradient.reshape(-1))), dtype=np.float64)
        if self._incomplete:
            self._complete(*(products - self._products[:, :n]))
        self._products[:, :n] = of_steps, of_changes = products
        inverse, diagonal, y_p_y = self._inverse[:n, :n], self._diagonal[:n], self._y_p_y[:n, :n]
        # The metric is for the worst case, so it is scaled to the last curvature.
        scale = float(diagonal[self._row] / y_p_y[self._row, self._row])
        along = inverse @ of_steps
        outer = (diagonal * along + scale * (y_p_y @ along - of_changes)) @ inverse
        in_rows = np.stack([outer, -scale * along])
        shares = _cast(pairs, in_rows if isinstance(pairs, np.ndarray) else pairs.new_tensor(in_rows))
        result = shares[0] @ steps + shares[1] @ changes
        return result.reshape(point.gradient.shape) + scale * point.preconditioned

    def _complete(self, s_y: Array, y_p_y: Array) -> None:
        """Enter the newest step into R^-1 and Y'H Y, given S'y and (H Y)'y. Rows are in the order of the arrays.

        The inverse of a triangular matrix gains a column with each step. It loses the oldest row and column unchanged.
        """
        n, row, curvature = len(s_y), self._row, self._diagonal[self._row]
        s_y[row], y_p_y[row] = 0.0, self._y_p_y[row, row]
        inverse = self._inverse[:n, :n]
        inverse[row] = inverse[:, row] = 0.0
        inverse[:, row] = inverse @ s_y / -curvature
        inverse[row, row] = 1 / curvature
        self._y_p_y[:n, row] = self._y_p_y[row, :n] = y_p_y
        self._incomplete = False
