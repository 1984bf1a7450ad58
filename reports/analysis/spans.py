"""Do the interventions span the shift? Rank curves of a method, and correlations of the removed shift with accuracy.

Rows store the shares of the shift that methods remove (`benchmark.method.evaluation.spans`). The shift between sources
uses no target labels. The shift to the held-out environment uses them (†).
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
from reports.analysis.methods import Method
from reports.analysis.selections import Selections, mean_over_tests, memoized

Labels = NDArray[np.int64]


MIN_SETTINGS = 8  # smallest number of settings in an environment for a rank correlation
# Columns of rows. Also in `_SHARES` of reports/tables/behind.py and of reports/text/diagnosis.py, and in `_KEPT` of
# reports/figures/interventions.py.
SHARES = ("energy_removed", "shift_removed_sources", "shift_removed_target")
MOVED = ("shift_moved_sources", "shift_moved_target")
CORRELATED = ("shift_removed_sources", "shift_removed_relative", "shift_removed_target")  # relative: / energy_removed


@memoized
def spread_of(selections: Selections, method: Method) -> "Spread":
    """Return the rank curves of one method of `Selections.parts`."""
    return Spread(selections.parts[method], selections.held_outs)


class Spread:
    """The rows of one method with their rank curves (columns with a value for each rank) as arrays.

    Attributes:
        rows: rows of `benchmark.store.rows.schema` of one method.
        held_outs: held-out environments, in the order of results.
        ranks: all ranks, ascending.
    """

    def __init__(self, rows: pd.DataFrame, held_outs: Sequence[str]) -> None:
        self.rows, self.held_outs = rows, held_outs
        self._curves: dict[str, Array] = {}
        self._by_ranks: dict[tuple[int, ...], list[int]] = {}  # ranks -> positions of the rows with these ranks
        for i, grid in enumerate(rows["ranks"].tolist()):
            self._by_ranks.setdefault(tuple(grid), []).append(i)
        self.ranks = sorted({int(rank) for grid in self._by_ranks for rank in grid})
        # Index of each row's test (held-out, seed and fold), held-out and seed; number of tests of each held-out.
        self._test: Labels = np.asarray(rows.groupby(list(KEY), sort=True).ngroup().to_numpy(), dtype=np.int64)
        place = {name: k for k, name in enumerate(held_outs)}
        self._held_out: Labels = np.array([place[str(name)] for name in rows["held_out"].tolist()], dtype=np.int64)
        self._seed: Labels = np.unique(rows["seed"].to_numpy(), return_inverse=True)[1]
        _, first = np.unique(self._test, return_index=True)
        self._tests = np.bincount(self._held_out[first], minlength=len(held_outs))

    def _curve(self, column: str) -> Array:
        """Return a column of rank curves, shape (rows, ranks); NaN for missing ranks."""
        if column not in self._curves:
            out, curves = np.full((len(self.rows), len(self.ranks)), np.nan), self.rows[column].tolist()
            for ranks, rows in self._by_ranks.items():
                there = np.array([i for i in rows if isinstance(curves[i], list)], dtype=np.int64)
                if len(there):
                    values = np.array([curves[i] for i in there.tolist()], dtype=np.float64)
                    out[there[:, None], np.searchsorted(self.ranks, ranks)] = values
            self._curves[column] = out
        return self._curves[column]

    def chosen(self, rule: str, kind: Labels, kinds: int) -> tuple[Array, Array]:
        """Return source score and accuracy for each rank and each kind of row, such as the rows of one lambda.

        For each test (held-out environment, seed and fold), kind and rank, the rule takes the first row with the
        highest score. Folds are weighted by their number of images, seeds equally. Values that lack a test are NaN.

        Args:
            rule: name of a source rule.
            kind: index of each row's kind, from 0, shape (rows,); negative for rows to be ignored.
            kinds: number of kinds.

        Returns:
            Source score and accuracy, each of shape (held_outs, kinds, ranks), fractions.
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
        """Yield, for each rank, the positions of the rows with the highest score: one for each test and kind."""
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
    """Spearman correlation of a removed share with accuracy over settings. Ranks are taken within each environment.

    Attributes:
        rho: correlation over all environments; NaN if one of the two is constant.
        single: correlation in each environment.
        n: number of settings, summed over environments.
    """

    rho: float
    single: tuple[float, ...]
    n: int


@memoized
def picked(selections: Selections, method: Method, rule: str) -> dict[str, float | None]:
    """Return the mean of each of `SHARES` and `MOVED` over a rule's picks, by name; None if a pick lacks it.

    A pick that keeps plain prediction removes nothing, and has no place in the means of `MOVED`.
    """
    rows = selections.chosen_rows(method, rule, ("held_out", "seed", "ranks", *SHARES, *MOVED))
    picks = selections.picks(method, rule)
    at = [known.index(rank) for known, rank in zip(rows["ranks"].tolist(), picks["rank"].tolist(), strict=True)]
    removed = {
        name: [share[i] if isinstance(share, list) else math.nan for share, i in zip(rows[name], at, strict=True)]
        for name in SHARES
    }
    shares = {name: np.where(picks["kept_plain"], 0.0, values) for name, values in removed.items()}
    rows = Picks(shares | {name: rows[name] for name in (*KEY[:2], *MOVED)})
    own = rows.where(~picks["kept_plain"])
    means = {name: mean_over_tests(own if name in MOVED else rows, name) for name in (*SHARES, *MOVED)}
    return {name: None if math.isnan(mean) else mean for name, mean in means.items()}


def correlations(rows: pd.DataFrame) -> dict[str, GoesWith]:
    """Return the rank correlation with accuracy over settings of each removed share in `CORRELATED`, by name.

    A setting is a combination of lambda, rank, intervention set and nuisance. Shares with too few settings are left
    out. If the share of the shift between sources is left out, the result is empty.
    """
    # Accuracy and shares by held-out environment and setting (rank included), averaged over folds and seeds.
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
    """Return the rank correlation of the share `name` with accuracy; None if too few settings have the share.

    Ranks of accuracy equal ranks of the gain, since within an environment both differ by a constant. Settings without
    the share (such as 0 of 0 removed) are left out.
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
    """Return Spearman's rank correlation of two arrays of equal length; NaN if one is constant."""
    return _cosine(_centred(x), _centred(y))


def _centred(values: Array) -> Array:
    of_values = ranks(np.round(values, 12))
    return np.asarray((of_values - of_values.mean()) / len(of_values))


def _cosine(x: Array, y: Array) -> float:
    length = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / length if length > 0 else np.nan
