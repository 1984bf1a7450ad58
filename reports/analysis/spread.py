"""Accuracies and source scores at every rank, lambda and intervention set, averaged, in arrays."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.method.evaluation.metrics import ACCURACY
from benchmark.method.evaluation.selection import KEY, RULES
from reports.analysis.chosen import Selections
from reports.analysis.methods import Method

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


def spread_of(selections: Selections, method: Method) -> "Spread":
    """Return the spread of one of the methods of `Selections.parts`, made once."""
    return selections.once(("spread", method), lambda: Spread(selections.parts[method], selections.held_outs))


class Spread:
    """The rows of one method with their rank curves as arrays.

    Attributes:
        rows: rows of `benchmark.store.rows.schema` of one method.
        held_outs: all that is held out, in the order in which results are wanted.
        ranks: all ranks, ascending.
    """

    def __init__(self, rows: pd.DataFrame, held_outs: Sequence[str]) -> None:
        self.rows, self.held_outs = rows, held_outs
        self._curves: dict[str, Array] = {}
        self._alike: dict[tuple[int, ...], list[int]] = {}  # ranks -> the positions of the rows that have these
        for i, ranks in enumerate(rows["ranks"].tolist()):
            self._alike.setdefault(tuple(ranks), []).append(i)
        self.ranks = sorted({int(rank) for ranks in self._alike for rank in ranks})
        # Numbers of each row's test (held-out, seed and fold), held-out and seed; and of each held-out's tests.
        self._test: Labels = np.asarray(rows.groupby(list(KEY), sort=True).ngroup().to_numpy(), dtype=np.int64)
        place = {name: k for k, name in enumerate(held_outs)}
        self._held_out: Labels = np.array([place[str(name)] for name in rows["held_out"].tolist()], dtype=np.int64)
        self._seed: Labels = np.unique(rows["seed"].to_numpy(), return_inverse=True)[1]
        _, first = np.unique(self._test, return_index=True)
        self._tests = np.bincount(self._held_out[first], minlength=len(held_outs))

    def _curve(self, column: str) -> Array:
        """Return a column of rank curves, shape (rows, ranks); NaN where a row has none."""
        if column not in self._curves:
            out, curves = np.full((len(self.rows), len(self.ranks)), np.nan), self.rows[column].tolist()
            for ranks, rows in self._alike.items():
                there = np.array([i for i in rows if isinstance(curves[i], list)], dtype=np.int64)
                if len(there):
                    values = np.array([curves[i] for i in there.tolist()], dtype=np.float64)
                    out[there[:, None], np.searchsorted(self.ranks, ranks)] = values
            self._curves[column] = out
        return self._curves[column]

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
        score, target = self._curve(RULES[rule].score), self._curve(ACCURACY.key)
        seeds, n = int(self._seed.max()) + 1, len(self.held_outs)
        weight = self.rows["n_test"].to_numpy(dtype=float)
        out = np.full((2, n, kinds, len(self.ranks)), np.nan)
        for r, rows in enumerate(self._best(score, target, kind, kinds)):
            cell = (self._held_out[rows] * kinds + kind[rows]) * seeds + self._seed[rows]
            weights = np.bincount(cell, weight[rows], n * kinds * seeds)
            made = np.bincount(self._held_out[rows] * kinds + kind[rows], minlength=n * kinds).reshape(n, kinds)
            for which, values in enumerate((score[:, r], target[:, r])):
                sums = np.bincount(cell, weight[rows] * values[rows], n * kinds * seeds)
                with np.errstate(invalid="ignore", divide="ignore"):
                    of_seeds = (sums / weights).reshape(n, kinds, seeds)
                known = ~np.isnan(of_seeds)
                means = np.where(known, of_seeds, 0).sum(axis=2) / np.maximum(known.sum(axis=2), 1)
                out[which, :, :, r] = np.where((made == self._tests[:, None]) & (made > 0), means, np.nan)
        return out[0], out[1]

    def _best(self, score: Array, target: Array, kind: Labels, kinds: int) -> Iterator[Labels]:
        """Yield for each rank the positions of the rows with the highest score of each test and kind."""
        rows = np.flatnonzero(kind >= 0)
        group = self._test[rows] * kinds + kind[rows]
        order = np.argsort(group, kind="stable")
        rows, group = rows[order], group[order]
        if not len(rows):
            yield from [rows] * len(self.ranks)
            return
        starts = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
        usable = ~np.isnan(score[rows]) & ~np.isnan(target[rows])
        value = np.where(usable, score[rows], -np.inf)
        highest = np.repeat(np.maximum.reduceat(value, starts, axis=0), np.diff([*starts, len(rows)]), axis=0)
        place = np.where(usable & (value == highest), np.arange(len(rows))[:, None], len(rows))
        for first in np.minimum.reduceat(place, starts, axis=0).T:
            yield rows[first[first < len(rows)]]
