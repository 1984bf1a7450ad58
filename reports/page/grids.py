"""Accuracies and source scores at every rank, lambda and intervention set, averaged, in arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.method.evaluation.metrics import ACCURACY
from benchmark.method.evaluation.selection import KEY, RULES

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Spread:
    """The rows of one method with their rank curves as arrays.

    Attributes:
        rows: rows of `benchmark.store.rows.schema` of one method.
        held_outs: all that is held out, in the order in which results are wanted.
    """

    rows: pd.DataFrame
    held_outs: Sequence[str]

    @cached_property
    def ranks(self) -> list[int]:
        """All ranks, ascending."""
        return sorted({int(rank) for ranks in self.rows["ranks"] for rank in ranks})

    def curve(self, column: str) -> Array:
        """Return a column of rank curves, shape (rows, ranks); NaN where a row has none."""
        place = {rank: k for k, rank in enumerate(self.ranks)}
        out = np.full((len(self.rows), len(place)), np.nan)
        for i, (ranks, values) in enumerate(zip(self.rows["ranks"], self.rows[column], strict=True)):
            if isinstance(values, list):
                out[i, [place[int(rank)] for rank in ranks]] = [np.nan if v is None else v for v in values]
        return out

    @cached_property
    def target(self) -> Array:
        """Accuracy on what is held out, shape (rows, ranks)."""
        return self.curve(ACCURACY.name)

    @cached_property
    def test(self) -> Labels:
        """Number of each row's test (held-out, seed and fold), shape (rows,)."""
        return np.asarray(self.rows.groupby(list(KEY), sort=True).ngroup().to_numpy(), dtype=np.int64)

    @cached_property
    def held_out(self) -> Labels:
        """Number of what each row holds out, shape (rows,)."""
        place = {name: k for k, name in enumerate(self.held_outs)}
        return np.array([place[str(name)] for name in self.rows["held_out"]], dtype=np.int64)

    def chosen(self, rule: str, kind: Labels, kinds: int) -> tuple[Array, Array]:
        """Return source score and accuracy where all but the rank and the kind of row is chosen by a rule.

        For each test, kind and rank the row with the highest score, the first of equals. Folds weigh as many images as
        they test, seeds alike; without the rows of every test of an environment there is no number.

        Args:
            rule: name of a rule of the sources.
            kind: number of each row's kind, from 0, shape (rows,); below 0 it is of none.
            kinds: how many there are.

        Returns:
            Both of shape (held_outs, kinds, ranks), fractions.
        """
        score, n = self.curve(RULES[rule].score), len(self.held_outs)
        seed = np.unique(self.rows["seed"].to_numpy(), return_inverse=True)[1]
        seeds = int(seed.max()) + 1
        weight = self.rows["n_test"].to_numpy(dtype=float)
        tests = _count_tests(self.held_out, self.test, n)
        out = np.full((2, n, kinds, len(self.ranks)), np.nan)
        for r in range(len(self.ranks)):
            usable = np.flatnonzero((kind >= 0) & ~np.isnan(score[:, r]) & ~np.isnan(self.target[:, r]))
            best = _best(self.test[usable] * kinds + kind[usable], score[usable, r])
            rows = usable[best]
            cell = (self.held_out[rows] * kinds + kind[rows]) * seeds + seed[rows]
            for which, values in enumerate((score[:, r], self.target[:, r])):
                sums = np.bincount(cell, weight[rows] * values[rows], n * kinds * seeds)
                weights = np.bincount(cell, weight[rows], n * kinds * seeds)
                with np.errstate(invalid="ignore", divide="ignore"):
                    of_seeds = (sums / weights).reshape(n, kinds, seeds)
                known = ~np.isnan(of_seeds)
                means = np.where(known, of_seeds, 0).sum(axis=2) / np.maximum(known.sum(axis=2), 1)
                made = np.bincount(self.held_out[rows] * kinds + kind[rows], minlength=n * kinds).reshape(n, kinds)
                out[which, :, :, r] = np.where((made == tests[:, None]) & (made > 0), means, np.nan)
        return out[0], out[1]


def _count_tests(held_out: Labels, test: Labels, n: int) -> Labels:
    """Return how many tests there are of each held-out environment, shape (n,)."""
    _, first = np.unique(test, return_index=True)
    return np.bincount(held_out[first], minlength=n)


def _best(group: Labels, score: Array) -> Labels:
    """Return the position of the highest score of each group, the first of equals."""
    order = np.lexsort((np.arange(len(group)), -score, group))
    _, first = np.unique(group[order], return_index=True)
    return np.asarray(order[first])
