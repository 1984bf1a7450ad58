"""The numbers behind the figure of spectra, averaged. No drawing."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from reports.analysis.chosen import Selections
from reports.analysis.methods import ICM, Method

Array = npt.NDArray[np.float64]
MAX_LAMBDAS = 6


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
