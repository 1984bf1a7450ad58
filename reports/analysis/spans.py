"""All settings of a method: accuracy and source score at every rank, and whether what is removed goes with the gain.

Do the interventions span the shift? The shares of what methods remove of it are columns of the rows
(`benchmark.method.evaluation.spans`). Those of the shift between sources look at no label of what is held out; those of
the shift to it do (†).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.method.evaluation.inference import ranks
from benchmark.method.evaluation.metrics import ACCURACY, Array
from benchmark.method.evaluation.selection import KEY, RULES, SETTING, Picks
from reports.analysis.chosen import Selections, mean_beside, once
from reports.analysis.methods import Method

Labels = NDArray[np.int64]


MIN_SETTINGS = 8  # of a method in an environment, for a rank correlation
SHARES = ("energy_removed", "shift_removed_sources", "shift_removed_target")
MOVED = ("shift_moved_sources", "shift_moved_target")
CORRELATED = ("shift_removed_sources", "shift_removed_relative", "shift_removed_target")  # relative: to the energy


@once
def spread_of(selections: Selections, method: Method) -> "Spread":
    """Return the spread of one of the methods of `Selections.parts`."""
    return Spread(selections.parts[method], selections.held_outs)


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
        for i, grid in enumerate(rows["ranks"].tolist()):
            self._alike.setdefault(tuple(grid), []).append(i)
        self.ranks = sorted({int(rank) for grid in self._alike for rank in grid})
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


@dataclass(frozen=True)
class GoesWith:
    """Rank correlation (Spearman) of a share with accuracy over settings, ranks taken within each environment.

    Attributes:
        rho: over all environments together; NaN where one of the two does not vary.
        single: in each environment.
        n: number of settings, those of each environment counted.
    """

    rho: float
    single: tuple[float, ...]
    n: int


@once
def picked(selections: Selections, method: Method, rule: str) -> dict[str, float | None]:
    """Return the shares of a method at what a rule picks, fractions, averaged; None where a pick has none."""
    rows = selections.chosen_rows(method, rule, ("held_out", "seed", "ranks", *SHARES, *MOVED))
    ranks = selections.picks(method, rule)["rank"].tolist()
    at = [known.index(rank) for known, rank in zip(rows["ranks"].tolist(), ranks, strict=True)]
    shares = {
        name: [share[i] if isinstance(share, list) else math.nan for share, i in zip(rows[name], at, strict=True)]
        for name in SHARES
    }
    rows = Picks(shares | {name: rows[name] for name in (*KEY[:2], *MOVED)})
    means = {name: mean_beside(rows, name) for name in (*SHARES, *MOVED)}
    return {name: None if math.isnan(mean) else mean for name, mean in means.items()}


def correlations(rows: pd.DataFrame) -> dict[str, GoesWith]:
    """Return how what is removed goes with accuracy over settings (lambda, rank, set, nuisance), by name of the share.

    Of each of `CORRELATED` that has settings enough; nothing where the shift between sources has too few.
    """
    # Accuracy and shares of each held-out environment and setting, rank included: means of folds and seeds.
    known = {name: rows[name].map(lambda share: isinstance(share, list)) for name in SHARES}
    usable = rows[known["shift_removed_sources"]]
    shares = [name for name in SHARES if known[name][usable.index].all()]
    long = usable[["held_out", *SETTING, "ranks", ACCURACY.key, *shares]].explode(["ranks", ACCURACY.key, *shares])
    long = long.astype(dict.fromkeys([ACCURACY.key, *shares], float))
    by_setting: Any = long.groupby(["held_out", *SETTING, "ranks"], dropna=False)[[ACCURACY.key, *shares]]
    means = by_setting.mean().where(by_setting.count().eq(by_setting.size(), axis=0)).reset_index()
    means = means.reindex(columns=[*means.columns, *(name for name in SHARES if name not in shares)])
    means = means.astype(dict.fromkeys(SHARES, float))
    energy = means["energy_removed"]
    settings = means.assign(shift_removed_relative=means["shift_removed_sources"] / energy.where(energy > 0))
    found = {name: one for name in CORRELATED if (one := goes_with(settings, name)) is not None}
    return found if CORRELATED[0] in found else {}


def goes_with(by_setting: pd.DataFrame, name: str) -> GoesWith | None:
    """Return how a share goes with accuracy; None with too few settings in an environment, or without the share.

    What is subtracted from the accuracies of an environment, as the plain one, changes no rank. Settings without the
    share (such as 0 of 0 removed) are left out.
    """
    known = by_setting.dropna(subset=[name])
    if known.empty or known.groupby("held_out").size().min() < MIN_SETTINGS:
        return None
    pairs = [
        (_centred(part[name].to_numpy()), _centred(part[ACCURACY.key].to_numpy()))
        for _, part in known.groupby("held_out", sort=True)
    ]
    x, y = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return GoesWith(_cosine(x, y), tuple(_cosine(*pair) for pair in pairs), len(known))


def rank_correlation(x: Array, y: Array) -> float:
    """Return Spearman's rank correlation of two arrays of one length; NaN where one is constant."""
    return _cosine(_centred(x), _centred(y))


def _centred(values: Array) -> Array:
    of_values = ranks(np.round(values, 12))
    return np.asarray((of_values - of_values.mean()) / len(of_values))


def _cosine(x: Array, y: Array) -> float:
    length = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / length if length > 0 else np.nan
