"""The numbers behind the figures: rank curves and spectra, averaged. No drawing."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from reports.chosen import Selections
from reports.methods import ICM, PLAIN, Method
from reports.whole import whole_estimate

Array = npt.NDArray[np.float64]
MAX_LAMBDAS = 6


@dataclass(frozen=True)
class Curve:
    """Accuracy in percent against rank: mean over held-out environments, then over seeds.

    Attributes:
        ranks: int array (n,), ascending; a single rank (the full width) for the plain method.
        mean: float array (n,), percent.
        stderr: float array (n,), cluster standard error over test images in points; NaN where there are too few
            images, or groups of them, and where nothing varied.
    """

    method: Method
    ranks: npt.NDArray[np.int64]
    mean: Array
    stderr: Array


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues in basis order, largest first, averaged over held-out environments, seeds and folds."""

    method: Method
    lambda_: float | None
    values: Array


@dataclass(frozen=True)
class Spectra:
    """The spectra of one setting, and the intervention set and normalisation that they belong to."""

    lines: tuple[Spectrum, ...]
    intervention_set: str | None
    normalize: str | None
    thinned: bool


def rank_curves(selections: Selections, rule: str) -> list[Curve]:
    """Return one curve per method; everything but the rank is what `rule` picks at that rank.

    That is for each rank, held-out environment, seed and fold. Only seeds with every held-out environment count, so
    that all lines average the same environments; a method without such a seed has no line. Of methods without ranks
    only the plain one and shrinkage have one, a level: the others, and imported ones, stand in the table.
    """
    shown = [method for method in selections.parts if not (method.is_control or method.imported)]
    curves = [_rank_curve(selections, method, rule) for method in shown]
    return [curve for curve in curves if curve is not None]


def _rank_curve(selections: Selections, method: Method, rule: str) -> Curve | None:
    ranks = sorted({int(rank) for ranks in selections.parts[method]["ranks"] for rank in ranks})
    among = ranks[-1:] if method.projection == PLAIN else ranks
    estimates = {rank: whole_estimate(selections, selections.pooled(method, rule, rank)) for rank in among}
    most = max((of_rank.seeds for of_rank in estimates.values() if of_rank), key=len, default=())
    drawn = {rank: of_rank for rank, of_rank in estimates.items() if of_rank and of_rank.seeds == most}
    if not drawn:
        return None
    mean = [100 * float(of_rank.means.mean()) for of_rank in drawn.values()]
    errors = [of_rank.interval.plus_minus for of_rank in drawn.values()]
    return Curve(method, np.array(list(drawn)), np.array(mean), 100 * np.array(errors, dtype=np.float64))


def spectra(selections: Selections, rule: str) -> Spectra:
    """Return the spectra of CLIP-ICM, one per lambda, and of PCA.

    The released order has the same eigenvalues in reverse: the largest order stands for both if it is there.
    Of several intervention sets or normalisations the pair that `rule` picks most often is shown.
    """
    known = {method: part[part["spectrum"].map(_is_known)] for method, part in selections.parts.items()}
    parts = {method: part for method, part in known.items() if len(part)}
    icms = [m for m in reversed(parts) if m.projection == ICM and not m.variant]
    # The grid of a trained predictor may be smaller.
    icm = max(icms, key=lambda m: int(parts[m]["lambda_"].nunique()), default=None)
    pca = next((m for m in parts if m.projection == "pca"), None)
    lines: list[Spectrum] = []
    intervention_set = normalize = None
    thinned = False
    if icm is not None:
        picks = selections.chosen_rows(icm, rule, ("intervention_set", "normalize"))
        picks = picks if len(picks) else parts[icm]
        intervention_set, normalize = _commonest(picks)
        shown = parts[icm][_same(parts[icm]["intervention_set"], intervention_set)]
        shown = shown[_same(shown["normalize"], normalize)]
        lambdas = sorted(shown["lambda_"].dropna().unique())
        drawn = _spread(lambdas)
        thinned = len(drawn) < len(lambdas)
        lines += [Spectrum(icm, float(x), _mean_spectrum(shown[shown["lambda_"] == x])) for x in drawn]
    if pca is not None:
        rows = parts[pca]
        same = rows[_same(rows["normalize"], normalize)] if normalize is not None else rows
        lines.append(Spectrum(pca, None, _mean_spectrum(same if len(same) else rows)))
    return Spectra(tuple(lines), intervention_set, normalize, thinned)


def _is_known(values: object) -> bool:
    return isinstance(values, list | np.ndarray) and len(values) > 0


def _commonest(rows: pd.DataFrame) -> tuple[str | None, str | None]:
    counts = rows.groupby(["intervention_set", "normalize"], dropna=False, sort=True).size()
    first, second = counts.index[int(np.argmax(counts.to_numpy()))]
    return (None if pd.isna(first) else str(first), None if pd.isna(second) else str(second))


def _same(column: "pd.Series[str]", value: str | None) -> "pd.Series[bool]":
    return column.isna() if value is None else column == value


def _spread(values: list[float]) -> list[float]:
    """Return at most `MAX_LAMBDAS` of the sorted values, evenly spread, with both ends."""
    if len(values) <= MAX_LAMBDAS:
        return values
    return [values[int(i)] for i in np.linspace(0, len(values) - 1, MAX_LAMBDAS).round()]


def _mean_spectrum(rows: pd.DataFrame) -> Array:
    shortest = min(len(values) for values in rows["spectrum"])
    mean = np.mean([values[:shortest] for values in rows["spectrum"]], axis=0)
    return np.sort(mean)[::-1]  # the released order keeps them ascending
