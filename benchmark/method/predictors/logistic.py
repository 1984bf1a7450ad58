"""Multinomial logistic regression for many ranks and penalties of one problem, on torch (CPU or GPU).

    minimise over W, b :   sum_i s_i ( logsumexp_c(x_i W + b) - (x_i W + b)_{y_i} )  +  tr(W' P W) / (2 C)

which for P = I, the default, is scikit-learn's objective divided by C, intercept unpenalised. With two classes
scikit-learn fits one column w in the place of two opposite ones: the penalty is then ||W||^2 / C, which is
||w||^2 / (2 C) for w = the second column minus the first. The Hessian is at most 1/2 (I - 11'/K) (x) X'SX + P/C
(Boehning, 1992), whatever W: L-BFGS that starts from the inverse of that bound no longer feels how unequal the
directions of embeddings are, and needs tens of steps where the plain method needs hundreds. In a basis, rank k is the
first k columns of X, so one Gram matrix serves every rank, C and P, and a solution is a start for the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmark.method.arrays import Array, Labels
from benchmark.method.predictors.base import Linear

if TYPE_CHECKING:
    import torch


MEMORY = 20  # number of steps that L-BFGS remembers
TOLERANCE = 1e-9  # the solver ends where the decrease still expected, relative to the objective, is below this
JITTER = 1e-12  # first share of its mean diagonal that is added to a bound that is singular in double precision ...
ATTEMPTS = 12  # ... and how often, ten times as much each time
SINGLE = 1e-5  # single precision serves for as long as more than this decrease is to be expected


@dataclass(frozen=True)
class Head:
    """A linear classifier: logits are `x @ weights + bias`.

    Attributes:
        weights: weights W, shape (rank, classes).
        bias: intercepts b, shape (classes,); minus infinity for a class without training images.
        objective: value of the objective at the end.
        steps: number of steps that the solver took.
        converged: whether the solver ended by itself, before `max_iter` steps.
        singular: whether the penalty is lost beside the embeddings in double precision, so that of all weights that fit
            equally well the solver may end at any.
    """

    weights: Array
    bias: Array
    objective: float
    steps: int
    converged: bool
    singular: bool = False

    def logits(self, x: NDArray[np.floating]) -> Array:
        """Return the logits of embeddings, shape (n, classes)."""
        return np.asarray(x @ self.weights + self.bias)


class SoftmaxRegression:
    """One classification problem, to be solved for several ranks and penalties.

    Args:
        x: training embeddings in the coordinates of a basis, shape (n, D).
        labels: class of each training image, shape (n,), 0 <= label < classes.
        classes: number of classes, with or without training images.
        sample_weights: weight s of each training image, shape (n,); by default all are 1.
        device: torch device on which it is solved, such as `cuda`. Default `cpu`.

    Raises:
        ValueError: there are no training images.
    """

    def __init__(
        self,
        x: NDArray[np.floating],
        labels: Labels,
        classes: int,
        sample_weights: Array | None = None,
        device: str = "cpu",
    ) -> None:
        import torch

        self._classes, self._present = classes, np.unique(labels)
        if not len(self._present):
            raise ValueError("A probe needs training images, and there are none.")
        x_ = torch.from_numpy(np.ascontiguousarray(x)).to(device, torch.float64)
        ones = np.ones(len(labels)) if sample_weights is None else np.asarray(sample_weights, dtype=np.float64)
        self._s, self._weighted = torch.from_numpy(ones).to(x_), sample_weights is not None
        self._mean = (self._s @ x_) / self._s.sum()
        x_ = x_ - self._mean  # centred, so that weights and intercepts do not disturb each other
        self._x = x_.T.contiguous()  # classes and coordinates by images: the order in which products are fastest
        self._single = self._x.float()
        self._y = torch.from_numpy(np.searchsorted(self._present, labels)).to(device)
        self._columns = torch.arange(len(labels), device=device)
        self._gram = (x_ * self._s[:, None] if self._weighted else x_).T @ x_

    def fit(
        self,
        rank: int,
        c: float,
        starts: Sequence[Linear | Head] = (),
        max_iter: int = 1000,
        matrix: Array | None = None,
    ) -> Head:
        """Return the classifier on the first `rank` coordinates.

        Args:
            rank: number of coordinates kept, 1 <= rank <= D.
            c: inverse weight C of the L2 penalty, > 0, scikit-learn's for any number of classes.
            starts: solutions for other ranks or penalties; the solver starts from the one with the lowest objective
                here, from zeros (default) where there is none.
            max_iter: largest number of steps of the solver, default 1000.
            matrix: P of the penalty, symmetric and positive definite, shape (D, D), of which the first `rank` rows and
                columns count; by default the identity.
        """
        import torch

        present = self._present
        p = None if matrix is None else torch.from_numpy(np.ascontiguousarray(matrix[:rank, :rank])).to(self._mean)
        penalty = _Penalty(c / 2 if len(present) == 2 else c, p)
        w, b = self._start(rank, penalty, starts)
        factor, singular = self._factor(rank, penalty)
        steps, value, converged = self._minimise(w, b, penalty, factor, max_iter)
        weights, bias = np.zeros((rank, self._classes)), np.full(self._classes, -np.inf)
        weights[:, present] = w.T.cpu().numpy()
        bias[present] = (b - w @ self._mean[:rank]).cpu().numpy()
        return Head(weights, bias, value, steps, converged, singular)

    def _start(
        self, rank: int, penalty: "_Penalty", starts: Sequence[Linear | Head]
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Return the weights and intercepts, on centred embeddings, of the best start."""
        import torch

        zeros = torch.zeros((len(self._present), rank), dtype=torch.float64, device=self._mean.device)
        found = []
        for start in starts:
            w, shared = zeros.clone(), min(rank, len(start.weights))
            w[:, :shared] = torch.from_numpy(start.weights[:shared][:, self._present].T).to(w)
            found.append((w, torch.from_numpy(start.bias[self._present]).to(w) + w[:, :shared] @ self._mean[:shared]))
        if len(found) < 2:
            return found[0] if found else (zeros, torch.zeros_like(zeros[:, 0]))
        x = self._single[:rank]
        values = [self._loss(_logits(x, w, b), w, penalty)[0] for w, b in found]
        return found[values.index(min(values))]

    def _factor(self, rank: int, penalty: "_Penalty") -> tuple["torch.Tensor", bool]:
        """Return the Cholesky factor of the bound on the Hessian, and whether that is singular in double precision.

        A singular one gets what it takes on its diagonal: that changes how the solver steps and not where it ends.
        """
        import torch

        bound = self._gram[:rank, :rank] / 2
        penalty.add_to(bound)
        factor, failed = torch.linalg.cholesky_ex(bound)
        singular, jitter = bool(failed), JITTER * float(bound.diagonal().mean())
        for _ in range(ATTEMPTS):
            if not failed:
                break
            bound.diagonal().add_(jitter)
            factor, failed = torch.linalg.cholesky_ex(bound)
            jitter *= 10
        return factor, singular

    def _minimise(
        self, w: "torch.Tensor", b: "torch.Tensor", penalty: "_Penalty", factor: "torch.Tensor", max_iter: int
    ) -> tuple[int, float, bool]:
        """Minimise in place; return steps, objective, and whether it converged."""
        import torch

        # What has a column for each image is in single precision at first, which halves the time; the rest never is.
        x = self._single[: w.shape[1]]
        point = self._evaluate(x, w, b, penalty, factor)
        past = _Past(point.gradient)
        for step in range(max_iter):
            direction = -past.newton(point)
            slope = float((direction * point.gradient).sum())
            if -slope <= 2 * SINGLE * point.value and x.dtype != torch.float64:
                x = self._x[: w.shape[1]]
                point = self._evaluate(x, w, b, penalty, factor)
                direction = -past.newton(point)
                slope = float((direction * point.gradient).sum())
            if -slope <= 2 * TOLERANCE * point.value:
                return step, point.value, True
            moved = _logits(x, direction[:, :-1], direction[:, -1])
            size, value, residual = self._search(point, moved, w, direction[:, :-1], penalty, slope)
            w += size * direction[:, :-1]
            b += size * direction[:, -1]
            gradient = self._gradient(x, residual, w, penalty)
            before, logits = point, point.logits.add_(moved, alpha=size)
            point = _Point(logits, value, gradient, self._precondition(gradient, factor))
            past.add(size * direction, point, before)
        return max_iter, point.value, False

    def _evaluate(
        self, x: "torch.Tensor", w: "torch.Tensor", b: "torch.Tensor", penalty: "_Penalty", factor: "torch.Tensor"
    ) -> "_Point":
        logits = _logits(x, w, b)
        value, residual = self._loss(logits, w, penalty)
        gradient = self._gradient(x, residual, w, penalty)
        return _Point(logits, value, gradient, self._precondition(gradient, factor))

    def _search(
        self,
        point: "_Point",
        moved: "torch.Tensor",
        w: "torch.Tensor",
        direction: "torch.Tensor",
        penalty: "_Penalty",
        slope: float,
    ) -> "tuple[float, float, torch.Tensor]":
        """Return step size, objective and residuals there, where the slope is at most half of what it was.

        Logits move in a line, so no product with X is needed; the slope of a convex function rises along it, so the
        place where it vanishes is found by false position.
        """
        import torch

        low, low_slope, high, high_slope, size = 0.0, slope, float("inf"), 0.0, 1.0
        pulled = penalty.gradient(direction)
        linear, quadratic = float((w * pulled).sum()), float((direction * pulled).sum())
        for _ in range(40):
            reached, residual = self._loss(torch.add(point.logits, moved, alpha=size), w + size * direction, penalty)
            here = float((residual * moved).sum(dtype=torch.float64)) + linear + size * quadratic
            if abs(here) <= 0.5 * -slope:
                break
            if here < 0:
                low, low_slope = size, here
            else:
                high, high_slope = size, here
            tried = size
            if high == float("inf"):
                size *= 2 if here > 0.9 * slope else 1.5
            else:
                # False position may crawl where the slope is steep on one side only: stay off the ends.
                share = -low_slope / (high_slope - low_slope)
                size = low + (high - low) * min(max(share, 0.1), 0.9)
        else:
            size = tried  # what objective and residuals are of
        return size, reached, residual

    def _loss(self, logits: "torch.Tensor", w: "torch.Tensor", penalty: "_Penalty") -> "tuple[float, torch.Tensor]":
        """Return the objective and the weighted residuals s (p - y), shape (K, n)."""
        import torch

        log_p = torch.log_softmax(logits, dim=0)
        value = -float(self._s @ log_p[self._y, self._columns].double()) + float((w * penalty.gradient(w)).sum()) / 2
        residual = log_p.exp_()
        residual[self._y, self._columns] -= 1
        return value, residual.mul_(self._s) if self._weighted else residual

    @staticmethod
    def _gradient(
        x: "torch.Tensor", residual: "torch.Tensor", w: "torch.Tensor", penalty: "_Penalty"
    ) -> "torch.Tensor":
        """Return the gradient with respect to weights and, as the last column, intercepts: shape (K, rank + 1)."""
        import torch

        of_weights = (residual @ x.T).double() + penalty.gradient(w)
        return torch.cat([of_weights, residual.sum(dim=1, keepdim=True, dtype=torch.float64)], dim=1)

    def _precondition(self, gradient: "torch.Tensor", factor: "torch.Tensor") -> "torch.Tensor":
        """Return the inverse of the bound on the Hessian times `gradient`."""
        import torch

        of_weights = torch.cholesky_solve(gradient[:, :-1].T, factor).T
        return torch.cat([of_weights, gradient[:, -1:] * (2 / self._s.sum())], dim=1)


def _logits(x: "torch.Tensor", w: "torch.Tensor", b: "torch.Tensor") -> "torch.Tensor":
    """Return W X + b, shape (K, n), for embeddings (rank, n), weights (K, rank) and intercepts (K,)."""
    import torch

    return torch.addmm(b[:, None].to(x.dtype), w.to(x.dtype), x)


class _Penalty(NamedTuple):
    """tr(W' P W) / (2 C): C, and P of one rank, shape (rank, rank); None for the identity."""

    c: float
    matrix: "torch.Tensor | None"

    def gradient(self, w: "torch.Tensor") -> "torch.Tensor":
        """Return (P W / C)' for W', both of shape (K, rank)."""
        return (w if self.matrix is None else w @ self.matrix) / self.c

    def add_to(self, bound: "torch.Tensor") -> None:
        """Add P / C in place."""
        if self.matrix is None:
            bound.diagonal().add_(1 / self.c)
        else:
            bound.add_(self.matrix, alpha=1 / self.c)


class _Point(NamedTuple):
    """Where the solver is: logits of the training images, objective, gradient, P^-1 of the gradient.

    P is the bound on the Hessian.
    """

    logits: "torch.Tensor"
    value: float
    gradient: "torch.Tensor"
    preconditioned: "torch.Tensor"


class _Past:
    """The last steps, as L-BFGS remembers them, and the inverse Hessian that they say.

    With S and Y the steps and the changes of the gradient as columns, R the upper triangle of S'Y, D its diagonal, and
    H the inverse Hessian that one starts from, it is (Byrd, Nocedal and Schnabel, 1994, theorem 2.2)

        H + S R^-T (D + Y'H Y) R^-1 S' - S R^-T Y'H - H Y R^-1 S'

    which costs four products with all that is remembered, whatever their number.

    Args:
        like: a gradient, of whose shape and type all is.
    """

    def __init__(self, like: "torch.Tensor") -> None:
        self._steps, self._changes, self._preconditioned = (like.new_zeros((MEMORY, like.numel())) for _ in range(3))
        self._s_y, self._y_p_y = (like.new_zeros((MEMORY, MEMORY)) for _ in range(2))
        self._count = 0

    def add(self, step: "torch.Tensor", point: _Point, before: _Point) -> None:
        """Remember a step; forget the oldest one where memory is full, and this one where curvature is none."""
        change = (point.gradient - before.gradient).flatten()
        step = step.flatten()
        if float(step @ change) <= 0:
            return
        if self._count == MEMORY:
            for rows in (self._steps, self._changes, self._preconditioned):
                rows.copy_(rows.roll(-1, 0))
            for products in (self._s_y, self._y_p_y):
                products.copy_(products.roll((-1, -1), (0, 1)))
            self._count -= 1
        last, self._count = self._count, self._count + 1
        self._steps[last], self._changes[last] = step, change
        self._preconditioned[last] = (point.preconditioned - before.preconditioned).flatten()
        self._s_y[: last + 1, last] = self._steps[: last + 1] @ change
        crossed = self._changes[: last + 1] @ self._preconditioned[last]
        self._y_p_y[last, : last + 1] = self._y_p_y[: last + 1, last] = crossed

    def newton(self, point: _Point) -> "torch.Tensor":
        """Return the inverse Hessian times the gradient of a point, of the same shape."""
        from torch.linalg import solve_triangular

        if not (n := self._count):
            return point.preconditioned
        steps, preconditioned = self._steps[:n], self._preconditioned[:n]
        s_y, y_p_y = self._s_y[:n, :n].triu(), self._y_p_y[:n, :n]
        # The bound holds for the worst probabilities: scale it to the curvature met last.
        scale = s_y[-1, -1] / y_p_y[-1, -1]
        gradient = point.gradient.flatten()
        along = solve_triangular(s_y, (steps @ gradient)[:, None], upper=True)[:, 0]
        inner = s_y.diagonal() * along + scale * (y_p_y @ along - preconditioned @ gradient)
        outer = solve_triangular(s_y.T, inner[:, None], upper=False)[:, 0]
        result = outer @ steps + scale * (point.preconditioned.flatten() - along @ preconditioned)
        return result.reshape(point.gradient.shape)
