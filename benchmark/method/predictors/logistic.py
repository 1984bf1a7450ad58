"""Multinomial logistic regression for many ranks and penalties of one problem, on torch (CPU or GPU).

    minimise over W, b :   sum_i s_i ( logsumexp_c(x_i W + b) - (x_i W + b)_{y_i} )  +  tr(W' P W) / (2 C)

which for P = I, the default, is scikit-learn's objective divided by C, intercept unpenalised. With two classes
scikit-learn fits one column w in the place of two opposite ones: the penalty is then ||W||^2 / C, which is
||w||^2 / (2 C) for w = the second column minus the first.

The solver is L-BFGS that starts from the inverse of a X'SX + P / C, where a is the mean of p (1 - p) over images and
classes at the start: the diagonal blocks of the Hessian with one number in the place of each class's. So it does not
feel how unequal the directions of embeddings are, nor whether images or penalty outweigh each other, and needs a few
steps where the penalty is strong and tens where it is not. Images come by in blocks that stay in the processor's cache,
so that nothing is held that has a column for each image and class. In a basis, rank k is the first k columns of X, so
one Gram matrix serves every rank, C and P, and a solution is a start for the others.

Problems of up to `PRECISE` images times classes end in double precision, where the decrease still expected is below
1e-9 of the objective. Larger ones stay in single precision and end at 3e-4 of it,
and at 1e-4 where a quarter of the images is solved first: those are the ones whose answers stand in tables.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmark.method.arrays import Array, Labels
from benchmark.method.predictors.base import Head

if TYPE_CHECKING:
    import torch


MEMORY = 20  # number of steps that L-BFGS remembers
PRECISE = 4_000_000  # images x classes up to which a problem is solved in double precision
TOLERANCE = 1e-9  # the solver ends where the decrease still expected, relative to the objective, is below this ...
COARSE = 3e-4  # ... or, of larger problems, below this: enough for choices ...
FINE = 1e-4  # ... and of those so large that a quarter is solved first, below this
SINGLE = 1e-5  # single precision serves for as long as more than this decrease is to be expected
JITTER = 1e-12  # first share of its mean diagonal that is added to a matrix that is singular in double precision ...
ATTEMPTS = 12  # ... and how often, ten times as much each time
FLATTEST = 1e-3  # least curvature that is assumed, relative to that of classes that are equally likely
SAMPLE = 25_000  # images of which there are four times as many, and a quarter is solved first
ESTIMATED = 4096  # images by which starts are compared
CELLS = 2**19  # images x classes of a block: two MB of logits, which stay in a processor's cache
CELLS_OF_GPU = 2**26


class SoftmaxRegression:
    """One classification problem, to be solved for several ranks and penalties.

    Args:
        x: training embeddings in the coordinates of a basis, shape (n, D).
        labels: class of each training image, shape (n,), 0 <= label < classes.
        classes: number of classes, with or without training images.
        sample_weights: weight s of each training image, shape (n,); by default all are 1.
        device: torch device on which it is solved, such as `cuda`. Default `cpu`.
        overwrites: whether `x`, where it is large and in single precision, may be centred in its place. Default false.

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
        overwrites: bool = False,
    ) -> None:
        import torch

        self._classes, self._present = classes, np.unique(labels)
        if not len(self._present):
            raise ValueError("A probe needs training images, and there are none.")
        ones = np.ones(len(labels)) if sample_weights is None else np.asarray(sample_weights, dtype=np.float64)
        self._s, self._weighted = torch.from_numpy(ones).to(device), bool((ones != 1).any())
        self._y = torch.from_numpy(np.searchsorted(self._present, labels)).to(device)
        self._rows = max(64, (CELLS if self._s.device.type == "cpu" else CELLS_OF_GPU) // len(self._present))
        precise = len(labels) * len(self._present) <= PRECISE
        total = sum(
            (ones[rows] @ x[rows] for rows in self._blocks()), np.zeros(x.shape[1])
        )  # no copy of all in float64
        self._mean = torch.from_numpy(total / ones.sum()).to(device)
        self._part = self._quarter(x, labels, ones)
        in_place = overwrites and not precise and x.dtype == np.float32 and x.flags.c_contiguous and device == "cpu"
        self._single = torch.from_numpy(x) if in_place else torch.empty(x.shape, dtype=torch.float32, device=device)
        self._double = torch.empty(x.shape, dtype=torch.float64, device=device) if precise else None
        self._gram = torch.zeros((x.shape[1], x.shape[1]), dtype=torch.float64, device=device)
        for rows in self._blocks():
            self._take(x[rows], rows)

    def _blocks(self) -> Iterator[slice]:
        """Yield the images block by block."""
        for first in range(0, len(self._y), self._rows):
            yield slice(first, first + self._rows)

    def _take(self, x: NDArray[np.floating], rows: slice) -> None:
        """Note the centred embeddings of a block: so weights and intercepts do not disturb each other."""
        import torch

        centred = torch.from_numpy(np.ascontiguousarray(x)).to(self._mean) - self._mean
        self._single[rows] = centred.float()
        if self._double is not None:
            self._double[rows] = centred
        else:
            centred = self._single[rows]
        self._gram += ((centred * self._s[rows, None].to(centred.dtype)).T @ centred).double()

    def _quarter(self, x: NDArray[np.floating], labels: Labels, s: Array) -> "SoftmaxRegression | None":
        """Return the problem of every fourth image where there are many, and so on: its solution is a start."""
        if len(labels) < 4 * SAMPLE:
            return None
        return SoftmaxRegression(x[::4], labels[::4], self._classes, 4 * s[::4], str(self._s.device))

    def fit(
        self,
        rank: int,
        c: float,
        starts: Sequence[Head] = (),
        max_iter: int = 1000,
        matrix: Array | None = None,
    ) -> Head:
        """Return the classifier on the first `rank` coordinates.

        Args:
            rank: number of coordinates kept, 1 <= rank <= D.
            c: inverse weight C of the L2 penalty, > 0, scikit-learn's for any number of classes.
            starts: solutions for other ranks or penalties; the solver starts from the one with the lowest objective
                here, from the frequencies of the classes (default) where there is none.
            max_iter: largest number of steps of the solver, default 1000.
            matrix: P of the penalty, symmetric and positive definite, shape (D, D), of which the first `rank` rows and
                columns count; by default the identity.
        """
        import torch

        if self._part is not None:
            starts = [self._part.fit(rank, c, starts, max_iter, matrix)]
        present = self._present
        p = None if matrix is None else torch.from_numpy(np.ascontiguousarray(matrix[:rank, :rank])).to(self._mean)
        penalty = _Penalty(c / 2 if len(present) == 2 else c, p)
        theta = self._start(rank, penalty, starts)
        value, steps, converged, singular = self._minimise(theta, penalty, max_iter)
        weights, bias = np.zeros((rank, self._classes)), np.full(self._classes, -np.inf)
        weights[:, present] = theta[:, :-1].T.cpu().numpy()
        bias[present] = (theta[:, -1] - theta[:, :-1] @ self._mean[:rank]).cpu().numpy()
        return Head(weights, bias, value, steps, converged, singular)

    def _start(self, rank: int, penalty: "_Penalty", starts: Sequence[Head]) -> "torch.Tensor":
        """Return weights and, in the last column, intercepts of the best start for centred images, (K, rank + 1)."""
        import torch

        shares = torch.zeros(len(self._present), dtype=torch.float64, device=self._s.device)
        shares.index_add_(0, self._y, self._s)
        theta = torch.zeros((len(shares), rank + 1), dtype=torch.float64, device=self._s.device)
        theta[:, -1] = torch.log(shares.clamp_min(1e-12) / shares.sum())
        found = []
        for start in starts:
            given, shared = theta.clone(), min(rank, len(start.weights))
            given[:, :shared] = torch.from_numpy(start.weights[:shared][:, self._present].T).to(theta)
            bias = torch.from_numpy(start.bias[self._present]).to(theta) + given[:, :shared] @ self._mean[:shared]
            given[:, -1] = torch.where(bias.isfinite(), bias, theta[:, -1])
            found.append(given)
        if len(found) < 2:
            return found[0] if found else theta
        values = [self._estimate(given, penalty) for given in found]
        return found[values.index(min(values))]

    def _estimate(self, theta: "torch.Tensor", penalty: "_Penalty") -> float:
        """Return the objective by up to `ESTIMATED` or so images, evenly spaced."""
        import torch

        step = max(1, len(self._y) // ESTIMATED)
        w, bias, s = theta[:, :-1].float(), theta[:, -1].float(), self._s[::step]
        logits = torch.addmm(bias, self._single[::step, : w.shape[1]], w.T)
        loss = s @ torch.nn.functional.cross_entropy(logits, self._y[::step], reduction="none").double()
        pulled = float((theta[:, :-1] * penalty.gradient(theta[:, :-1])).sum()) / 2
        return float(loss * self._s.sum() / s.sum()) + pulled

    def _factor(self, rank: int, penalty: "_Penalty", curvature: float) -> tuple["torch.Tensor", bool]:
        """Return the Cholesky factor of a X'SX + P / C, and whether that is singular in double precision.

        A singular one gets what it takes on its diagonal: that changes how the solver steps and not where it ends.
        """
        import torch

        matrix = self._gram[:rank, :rank] * curvature
        penalty.add_to(matrix)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        singular, jitter = bool(failed), JITTER * float(matrix.diagonal().mean())
        for _ in range(ATTEMPTS):
            if not failed:
                break
            matrix.diagonal().add_(jitter)
            factor, failed = torch.linalg.cholesky_ex(matrix)
            jitter *= 10
        return factor, singular

    def _minimise(self, theta: "torch.Tensor", penalty: "_Penalty", max_iter: int) -> tuple[float, int, bool, bool]:
        """Minimise in place; return objective, steps, whether it converged, and whether the start was singular."""
        x, tolerance = self._single, TOLERANCE
        if self._double is None:
            tolerance = COARSE if self._part is None else FINE
        value, gradient, curvature = self._evaluate(x, theta, penalty, curvature=True)
        factor, singular = self._factor(theta.shape[1] - 1, penalty, curvature)
        metric = _Metric(factor, 1 / (curvature * float(self._s.sum())))
        point = _Point(value, gradient, metric.inverse(gradient))
        past = _Past(gradient)
        for step in range(max_iter):
            direction = -past.newton(point)
            slope = float((direction * point.gradient).sum())
            if self._double is not None and x is self._single and -slope <= 2 * SINGLE * point.value:
                x = self._double
                value, gradient, _ = self._evaluate(x, theta, penalty)
                point = _Point(value, gradient, metric.inverse(gradient))
                direction = -past.newton(point)
                slope = float((direction * gradient).sum())
            if -slope <= 2 * tolerance * point.value:
                return point.value, step, True, singular
            size, value, gradient = self._search(x, theta, direction, penalty, point.value, slope)
            theta += size * direction
            before, point = point, _Point(value, gradient, metric.inverse(gradient))
            past.add(size * direction, point, before)
        return point.value, max_iter, False, singular

    def _search(
        self,
        x: "torch.Tensor",
        theta: "torch.Tensor",
        direction: "torch.Tensor",
        penalty: "_Penalty",
        value: float,
        slope: float,
    ) -> "tuple[float, float, torch.Tensor]":
        """Return step size, objective and gradient there, where slope and objective are less than they were.

        The slope of a convex function rises along a line, so the place where it vanishes is found by false position.
        """
        low, low_slope, high, high_slope, size = 0.0, slope, float("inf"), 0.0, 1.0
        rounding = (1e-6 if x is self._single else 1e-14) * abs(value)
        for _ in range(40):
            reached, gradient, _ = self._evaluate(x, theta + size * direction, penalty)
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
                # False position may crawl where the slope is steep on one side only: stay off the ends.
                share = -low_slope / (high_slope - low_slope)
                size = low + (high - low) * min(max(share, 0.1), 0.9)
        else:
            size = tried  # what objective and gradient are of
        return size, reached, gradient

    def _evaluate(
        self, x: "torch.Tensor", theta: "torch.Tensor", penalty: "_Penalty", curvature: bool = False
    ) -> "tuple[float, torch.Tensor, float]":
        """Return the objective, its gradient, (K, rank + 1), and if asked the mean of p (1 - p), block by block."""
        import torch

        w, bias = theta[:, :-1].T.to(x.dtype).contiguous(), theta[:, -1].to(x.dtype)
        total, loss, unsure = torch.zeros_like(theta), theta.new_zeros(()), theta.new_zeros(())
        for rows in self._blocks():
            z, y, s = x[rows, : len(w)], self._y[rows, None], self._s[rows]
            p = torch.addmm(bias, z, w)
            p -= p.amax(dim=1, keepdim=True)
            at_label = p.gather(1, y)[:, 0]
            sums = p.exp_().sum(dim=1, keepdim=True)
            loss += s @ (sums[:, 0].log() - at_label).double()
            p /= sums
            if curvature:
                unsure += s @ (1 - torch.linalg.vector_norm(p, dim=1).square()).double()
            p.scatter_add_(1, y, -torch.ones_like(y, dtype=p.dtype))
            if self._weighted:
                p *= s[:, None].to(p.dtype)
            total[:, :-1] += p.T @ z
            total[:, -1] += p.sum(dim=0)
        pulled = penalty.gradient(theta[:, :-1])
        total[:, :-1] += pulled
        equal = 1 / len(theta) * (1 - 1 / len(theta))
        mean = max(float(unsure / self._s.sum()) / len(theta), FLATTEST * equal)
        return float(loss) + float((theta[:, :-1] * pulled).sum()) / 2, total, mean or 1.0


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


class _Metric(NamedTuple):
    """Where L-BFGS starts from: the Cholesky factor for weights, and what gradients of intercepts are multiplied by."""

    factor: "torch.Tensor"
    of_intercepts: float

    def inverse(self, gradient: "torch.Tensor") -> "torch.Tensor":
        """Return the inverse of the metric times a gradient, shape (K, rank + 1)."""
        import torch

        of_weights = torch.cholesky_solve(gradient[:, :-1].T, self.factor).T
        return torch.cat([of_weights, gradient[:, -1:] * self.of_intercepts], dim=1)


class _Point(NamedTuple):
    """Where the solver is: objective, gradient, and the inverse of the metric times the gradient."""

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
