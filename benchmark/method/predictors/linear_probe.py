"""The linear probe, logistic regression on projected embeddings, and `Probe`, the base class of similar predictors."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field

from benchmark.method.arrays import Array
from benchmark.method.predictors.base import Head, Predictor, Problem
from benchmark.method.predictors.logistic import SoftmaxRegression


def as_tuple(value: Any) -> Any:
    """Return a single number as a tuple; anything else unchanged."""
    return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else value


def sorted_unique(values: tuple[float, ...]) -> tuple[float, ...]:
    """Return sorted values; ValueError for duplicates."""
    if len(set(values)) < len(values):
        raise ValueError("each value may stand there once.")
    return tuple(sorted(values))


Value = TypeVar("Value")
GridOf = Annotated[tuple[Value, ...], Field(min_length=1), BeforeValidator(as_tuple), AfterValidator(sorted_unique)]
Grid = GridOf[Annotated[float, Field(gt=0, allow_inf_nan=False)]]
GRID = (0.316, 3.16, 31.6, 316.0, 3160.0)


class Probe(Predictor):
    """Base class of predictors that fit a logistic regression for each C of a grid, or combination of several grids.

    Fields:
        C: inverse weights of the L2 penalty, ascending. A selection rule chooses among them and the ranks.
        max_iter: maximum number of solver steps at each rank.
    """

    turns: ClassVar[bool] = True
    samples: ClassVar[bool] = True
    C: Grid = GRID
    max_iter: int = Field(default=1000, ge=1)

    @property
    def settings(self) -> tuple[Self, ...]:
        """See `Predictor.settings`: one predictor for each C."""
        return tuple(self.model_copy(update={"C": (c,)}) for c in self.C) if len(self.C) > 1 else (self,)

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """See `Predictor.scores`."""
        if len(self.settings) > 1:
            raise ValueError(
                f"{self.name} has {len(self.settings)} settings ({self.grid_text}); ask for its `scores_of_settings`, "
                "or give it one of each."
            )
        return self._scores(problem, ranks)

    def scores_of_settings(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """See `Predictor.scores_of_settings`. Fits of all settings share work."""
        return self._scores(problem, ranks) if len(self.settings) > 1 else self.scores(problem, ranks)

    @property
    def grid_text(self) -> str:
        """The grid as text: "C = 0.316, 3.16"."""
        return f"C = {format_numbers(self.C)}"

    @abstractmethod
    def _scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """Yield for every rank, and within it every setting, the scores of each array in `problem.tests`."""

    def heads(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Head]]:
        """Yield the classifiers of every rank, one for each setting."""
        problem, weight = self.training_problem(problem)
        strengths = [weight * strength for strength in self.strengths(problem)]
        points = [(matrix, strength) for matrix in self.penalties(problem) for strength in strengths]
        solver = partial(SoftmaxRegression, labels=problem.labels, classes=problem.n_classes, device=problem.device)
        solver = partial(solver, for_choice=problem.for_choice)
        shared = None if problem.renormalize else solver(problem.train, overwrites=problem.spent)
        heads: list[Head] = []
        for rank in ranks:
            # After scaling to unit length, the coordinates at one rank are no prefix of the coordinates at the next.
            regression = shared or solver(problem.project(problem.train, rank))
            before, heads = heads, []
            for i, (setting, (matrix, strength)) in enumerate(zip(self.settings, points, strict=True)):
                # Starts: the classifier of the previous rank, and that of this rank at the previous C or matrix.
                nearest = heads[-1:] if i % len(strengths) else heads[-len(strengths) :][:1]
                key = f"{setting.label}, {setting.grid_text}, {setting.max_iter}", rank
                if self.turns and key in problem.rotated:
                    heads.append(problem.rotated[key])
                else:
                    # The rotated classifier of rank D, and one from similar coordinates, such as the previous lambda.
                    known = problem.rotated.get((key[0], problem.text.shape[1])), problem.starts.get(key)
                    starts = [*before[i : i + 1], *nearest, *filter(None, known)]
                    heads.append(regression.fit(rank, strength, starts, self.max_iter, matrix))
                problem.found[key] = heads[-1]
            yield [setting.with_notes(head, problem, rank) for setting, head in zip(self.settings, heads, strict=True)]

    def training_problem(self, problem: Problem) -> tuple[Problem, float]:
        """Return the problem to fit, and the weight that all training images have. Default: `problem` itself and 1."""
        return problem, 1.0

    def penalties(self, problem: Problem) -> Sequence[Array | None]:  # noqa: ARG002
        """Return a penalty matrix P, shape (D, D), for each value of the outer grid. Default: the identity, as None."""
        return [None]

    def strengths(self, problem: Problem) -> list[float]:
        """Return the solver's inverse penalty weight C / q for every C, with q from `_q`."""
        return [c / self._q(problem) for c in self.C]

    def _q(self, problem: Problem) -> float:
        """Return the mean squared length of the training embeddings; 1 if all are zero."""
        if problem.renormalize:
            return 1.0
        squares = np.einsum("nd,nd->n", problem.train, problem.train).sum(dtype=np.float64)
        return float(squares) / max(len(problem.train), 1) or 1.0

    def with_notes(self, head: Head, problem: Problem, rank: int) -> Head:
        """Add warnings about a classifier to the problem's notes, and return the classifier."""
        if not head.converged:
            self.note(problem, rank, f"not converged after {self.max_iter} steps.")
        if head.singular:
            self.note(problem, rank, "singular; the penalty is lost beside the embeddings in double precision.")
        return head

    def note(self, problem: Problem, rank: int, what: str) -> None:
        """Add a note about the fit of this setting at a rank."""
        problem.notes.append(f"{self.name}, {self.grid_text}, rank {rank}: {what}")


class LinearProbe(Probe, label="linear probe", place=1):
    """Multinomial logistic regression with an L2 penalty.

        minimise over W, b :   sum_i cross-entropy(x_i W + b, y_i)  +  q / (2 C) ||W||^2

    With `penalty: scaled`, q is the mean squared length of the training embeddings over all D coordinates, the same at
    every rank. Longer embeddings need smaller weights for the same logits; q compensates for this. So multiplying all
    embeddings by a number changes no prediction. With `penalty: absolute`, q is 1, and C is scikit-learn's. For
    embeddings at unit length q is 1 and both penalties are equal. The intercept is not penalised. With two classes, the
    penalty is on the difference of the two columns, as in scikit-learn.

    The released code's probe is `{name: linear_probe, C: 0.316, penalty: absolute}`, with the C of the CLIP paper. For
    raw CLIP embeddings q is near 100, so this equals a scaled C of about 31.6.

    A class without training images is never predicted.

    Fields:
        C: inverse weights of the L2 penalty, one or several. A selection rule chooses among them and the ranks.
        penalty: `scaled` (default) by the mean squared length of the training embeddings, or `absolute` as in the
            released code.
        max_iter: maximum number of solver steps at each rank and C.

    Raises:
        ValueError: there is no training image at all.
    """

    learns_classes: ClassVar[bool] = True
    spends_training_images: ClassVar[bool] = True
    penalty: Literal["scaled", "absolute"] = "scaled"

    @property
    def variant(self) -> str:
        """The penalty as text; empty for `scaled`."""
        return "released penalty" if self.penalty == "absolute" else ""

    def _q(self, problem: Problem) -> float:
        return 1.0 if self.penalty == "absolute" else super()._q(problem)

    def _scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        for rank, heads in zip(ranks, self.heads(problem, ranks), strict=True):
            tests = [problem.project(z, rank) for z in problem.tests]
            yield from ([head.logits(z) for z in tests] for head in heads)


def format_numbers(values: Sequence[float]) -> str:
    """Return numbers as text, without exponents: "0.316, 3160"."""
    return ", ".join(np.format_float_positional(value, trim="-") for value in values)
