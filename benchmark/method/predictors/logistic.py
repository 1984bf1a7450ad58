"""Multinomial logistic regression for many ranks and penalties of one problem, on torch (CPU or GPU).

    minimise over W, b :   sum_i s_i ( logsumexp_c(x_i W + b) - (x_i W + b)_{y_i} )  +  ||W||^2 / (2 C)

which is scikit-learn's objective divided by C, intercept unpenalised. With two classes scikit-learn fits one column w
in the place of two opposite ones: the penalty is then ||W||^2 / C, which is ||w||^2 / (2 C) for w = the second column
minus the first. The Hessian is at most 1/2 (I - 11'/K) (x) X'SX + I/C (Boehning, 1992), whatever W: L-BFGS that starts
from the inverse of that bound no longer feels how unequal the directions of embeddings are, and needs tens of steps
where the plain method needs hundreds. In a basis, rank k is the first k columns of X, so one Gram matrix serves every
rank and every C, and a solution is a start for other ranks and other C.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmark.method.arrays import Array, Labels

if TYPE_CHECKING:
    import torch


MEMORY = 20  # number of steps that L-BFGS remembers
TOLERANCE = 1e-10  # the solver ends where the decrease still to be expected, relative to the objective, is below this
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
        self._x = x_ - self._mean  # centred, so that weights and intercepts do not disturb each other
        self._y = torch.from_numpy(np.searchsorted(self._present, labels)).to(device)
        self._single = self._x.float()
        self._rows = torch.arange(len(labels), device=device)
        self._gram = (self._x * self._s[:, None] if self._weighted else self._x).T @ self._x

    def fit(self, rank: int, c: float, starts: Sequence[Head] = (), max_iter: int = 1000) -> Head:
        """Return the classifier on the first `rank` coordinates.

        Args:
            rank: number of coordinates kept, 1 <= rank <= D.
            c: inverse weight C of the L2 penalty, > 0, scikit-learn's for any number of classes.
            starts: solutions for other ranks or penalties; the solver starts from the one with the lowest objective
                here, from zeros (default) where there is none.
            max_iter: largest number of steps of the solver, default 1000.
        """
        present = self._present
        c = c / 2 if len(present) == 2 else c
        w, b = self._start(rank, c, starts)
        factor, singular = self._factor(rank, c)
        steps, value, converged = self._minimise(w, b, c, factor, max_iter)
        weights, bias = np.zeros((rank, self._classes)), np.full(self._classes, -np.inf)
        weights[:, present] = w.cpu().numpy()
        bias[present] = (b - self._mean[:rank] @ w).cpu().numpy()
        return Head(weights, bias, value, steps, converged, singular)

    def _start(self, rank: int, c: float, starts: Sequence[Head]) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Return the weights and intercepts, on centred embeddings, of the best start."""
        import torch

        zeros = torch.zeros((rank, len(self._present)), dtype=torch.float64, device=self._x.device)
        found = []
        for start in starts:
            w, shared = zeros.clone(), min(rank, len(start.weights))
            w[:shared] = torch.from_numpy(start.weights[:shared][:, self._present]).to(w)
            found.append((w, torch.from_numpy(start.bias[self._present]).to(w) + self._mean[:shared] @ w[:shared]))
        if len(found) < 2:
            return found[0] if found else (zeros, torch.zeros_like(zeros[0]))
        x = self._single[:, :rank]
        values = [self._loss(x @ w.to(x.dtype) + b.to(x.dtype), w, c)[0] for w, b in found]
        return found[values.index(min(values))]

    def _factor(self, rank: int, c: float) -> tuple["torch.Tensor", bool]:
        """Return the Cholesky factor of the bound on the Hessian, and whether that is singular in double precision.

        A singular one gets what it takes on its diagonal: that changes how the solver steps and not where it ends.
        """
        import torch

        bound = self._gram[:rank, :rank] / 2
        bound.diagonal().add_(1 / c)
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
        self, w: "torch.Tensor", b: "torch.Tensor", c: float, factor: "torch.Tensor", max_iter: int
    ) -> tuple[int, float, bool]:
        """Minimise in place; return steps, objective, and whether it converged."""
        import torch

        past: deque[_Step] = deque(maxlen=MEMORY)
        # What has a row for each image is in single precision at first, which halves the time; the rest never is.
        x = self._single[:, : len(w)]
        point = self._evaluate(x, w, b, c)
        for step in range(max_iter):
            direction = -self._inverse_hessian(point.gradient, past, factor)
            slope = float((direction * point.gradient).sum())
            if -slope <= 2 * SINGLE * point.value and x.dtype != torch.float64:
                x = self._x[:, : len(w)]
                point = self._evaluate(x, w, b, c)
                direction = -self._inverse_hessian(point.gradient, past, factor)
                slope = float((direction * point.gradient).sum())
            if -slope <= 2 * TOLERANCE * point.value:
                return step, point.value, True
            moved = x @ direction[:-1].to(x.dtype) + direction[-1].to(x.dtype)
            size, value, residual = self._search(point, moved, w, direction[:-1], c, slope)
            w += size * direction[:-1]
            b += size * direction[-1]
            gradient = self._gradient(x, residual, w, c)
            change = gradient - point.gradient
            point = _Point(point.logits.add_(moved, alpha=size), value, gradient)
            if (curvature := size * float((direction * change).sum())) > 0:
                past.append(_Step(size * direction, change, curvature, self._precondition(change, factor)))
        return max_iter, point.value, False

    def _evaluate(self, x: "torch.Tensor", w: "torch.Tensor", b: "torch.Tensor", c: float) -> "_Point":
        logits = x @ w.to(x.dtype) + b.to(x.dtype)
        value, residual = self._loss(logits, w, c)
        return _Point(logits, value, self._gradient(x, residual, w, c))

    def _search(
        self,
        point: "_Point",
        moved: "torch.Tensor",
        w: "torch.Tensor",
        direction: "torch.Tensor",
        c: float,
        slope: float,
    ) -> "tuple[float, float, torch.Tensor]":
        """Return step size, objective and residuals there, where the slope is at most half of what it was.

        Logits move in a line, so no product with X is needed; the slope of a convex function rises along it, so the
        place where it vanishes is found by false position.
        """
        import torch

        low, low_slope, high, high_slope, size = 0.0, slope, float("inf"), 0.0, 1.0
        linear, quadratic = float((w * direction).sum()) / c, float((direction * direction).sum()) / c
        for _ in range(40):
            reached, residual = self._loss(torch.add(point.logits, moved, alpha=size), w + size * direction, c)
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

    def _loss(self, logits: "torch.Tensor", w: "torch.Tensor", c: float) -> "tuple[float, torch.Tensor]":
        """Return the objective and the weighted residuals s (p - y), shape (n, K)."""
        import torch

        log_p = torch.log_softmax(logits, dim=1)
        value = -float(self._s @ log_p[self._rows, self._y].double()) + float((w * w).sum()) / (2 * c)
        residual = log_p.exp_()
        residual[self._rows, self._y] -= 1
        return value, residual.mul_(self._s[:, None]) if self._weighted else residual

    @staticmethod
    def _gradient(x: "torch.Tensor", residual: "torch.Tensor", w: "torch.Tensor", c: float) -> "torch.Tensor":
        """Return the gradient with respect to weights and, as the last row, intercepts: shape (rank + 1, K)."""
        import torch

        return torch.cat([(x.T @ residual).double() + w / c, residual.sum(dim=0, keepdim=True, dtype=torch.float64)])

    def _precondition(self, gradient: "torch.Tensor", factor: "torch.Tensor") -> "torch.Tensor":
        """Return the inverse of the bound on the Hessian times `gradient`."""
        import torch

        return torch.cat([torch.cholesky_solve(gradient[:-1], factor), gradient[-1:] * (2 / self._s.sum())])

    def _inverse_hessian(
        self, gradient: "torch.Tensor", past: "deque[_Step]", factor: "torch.Tensor"
    ) -> "torch.Tensor":
        """Return the L-BFGS estimate of the inverse Hessian times `gradient` (Nocedal and Wright, algorithm 7.4)."""
        q, alphas = gradient.clone(), []
        for step in reversed(past):
            alphas.append(float((step.moved * q).sum()) / step.curvature)
            q -= alphas[-1] * step.change
        q = self._precondition(q, factor)
        if past:  # the bound holds for the worst probabilities; scale it to the curvature met last
            q *= past[-1].curvature / float((past[-1].change * past[-1].preconditioned).sum())
        for step, alpha in zip(past, reversed(alphas), strict=True):
            q += (alpha - float((step.change * q).sum()) / step.curvature) * step.moved
        return q


class _Point(NamedTuple):
    """Where the solver is: logits of the training images, objective, gradient."""

    logits: "torch.Tensor"
    value: float
    gradient: "torch.Tensor"


class _Step(NamedTuple):
    """What L-BFGS remembers of a step: the step, the change of the gradient, their product, P^-1 of the change."""

    moved: "torch.Tensor"
    change: "torch.Tensor"
    curvature: float
    preconditioned: "torch.Tensor"
