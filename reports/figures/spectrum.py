"""Spectrum figure: eigenvalues of M = C_z - lambda C_d (symbols: docs/glossary.md), largest first, and of PCA."""
# `_KINDS` of every.py lists this module. The figure's name is also in docs/report.md and reports/document/paper.py.

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from benchmark.method.evaluation.metrics import Array
from reports.analysis.methods import ICM
from reports.analysis.selections import Selections
from reports.analysis.settings import Setting
from reports.figures import style

_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)), (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)))
MAX_LAMBDAS = 6
_SKIPPED = 2  # powers of ten next to zero without a tick label in small panels


@dataclass(frozen=True)
class Spectra:
    """The spectra of one setting for one intervention set and normalisation.

    Attributes:
        lines: lambda of CLIP-ICM, or None for PCA -> eigenvalues in basis order, largest first, averaged over held-out
            environments, seeds and folds.
        intervention_set: intervention set of CLIP-ICM.
        normalize: normalisation of CLIP-ICM.
        thinned: whether some lambdas are left out.
    """

    lines: Mapping[float | None, Array]
    intervention_set: str | None
    normalize: str | None
    thinned: bool


def panels(selections: Selections, rule: str) -> dict[str, Spectra]:
    """Return the spectra of CLIP-ICM (one per lambda) and of PCA under the key "" (no title); empty without spectra.

    The released order has the same eigenvalues reversed, so only the order "largest" is shown if both exist. Only the
    pair of intervention set and normalisation that `rule` picks most often is shown.
    """
    known = {
        method: part[part["spectrum"].map(lambda values: isinstance(values, list | np.ndarray) and len(values) > 0)]
        for method, part in selections.parts.items()
    }
    parts = {method: part for method, part in known.items() if len(part)}
    icms = [m for m in reversed(parts) if m.projection == ICM and not m.variant]
    # Trained predictors may have fewer lambdas.
    icm = max(icms, key=lambda m: int(parts[m]["lambda_"].nunique()), default=None)
    lines: dict[float | None, Array] = {}
    intervention_set = normalize = None
    thinned = False
    if icm is not None:
        picks = selections.picks(icm, rule)
        picked = picks.where(~picks["kept_plain"]).frame()
        counts = (picked if len(picked) else parts[icm]).groupby(["intervention_set", "normalize"], dropna=False).size()
        commonest = counts.index[int(np.argmax(counts.to_numpy()))]
        intervention_set, normalize = (None if pd.isna(value) else str(value) for value in commonest)
        shown = parts[icm]
        for name, value in (("intervention_set", intervention_set), ("normalize", normalize)):
            shown = shown[shown[name].isna() if value is None else shown[name] == value]
        lambdas = sorted(shown["lambda_"].dropna().unique())
        spread = np.linspace(0, len(lambdas) - 1, min(len(lambdas), MAX_LAMBDAS)).round()  # evenly, with both ends
        thinned = len(spread) < len(lambdas)
        drawn = [float(lambdas[int(i)]) for i in spread]
        lines |= {x: _mean_spectrum(shown[shown["lambda_"] == x]) for x in drawn}
    if (rows := next((part for m, part in parts.items() if m.projection == "pca"), None)) is not None:
        same = rows[rows["normalize"] == normalize] if normalize is not None else rows
        lines[None] = _mean_spectrum(same if len(same) else rows)
    return {"": Spectra(lines, intervention_set, normalize, thinned)} if lines else {}


def _mean_spectrum(rows: pd.DataFrame) -> Array:
    shortest = min(len(values) for values in rows["spectrum"])
    mean = np.mean([values[:shortest] for values in rows["spectrum"]], axis=0)
    return np.sort(mean)[::-1]  # the released order keeps them ascending


def draw(panels: style.Panels[Spectra]) -> style.Sheet:
    """Draw panels (data set, spectra): darker lines for larger lambda, PCA as a broad grey line."""
    shown = dict.fromkeys(x for _, of_set in panels for x in of_set.lines)
    lambdas = sorted(x for x in shown if x is not None)
    shades = matplotlib.colormaps["cividis"](np.linspace(0.85, 0.0, max(len(lambdas), 2)))
    looks: dict[float | None, dict[str, Any]] = {
        x: {"color": shades[i], "linestyle": _DASHES[i % len(_DASHES)], "linewidth": 1.1} for i, x in enumerate(lambdas)
    }
    looks[None] = {"color": style.INK, "linestyle": "-", "linewidth": 2.0, "alpha": 0.35}
    sheet = style.sheet_for(panels, 2.5 if len(panels) == 1 else 1.75 * len(style.rows_of(panels)) + 0.3)
    for [axes], of_set in style.on_grid(sheet, panels, ("Position in the basis", "Eigenvalue", "")):
        every_line = [*of_set.lines.values()]
        for x, line in of_set.lines.items():
            axes.plot(np.arange(1, len(line) + 1), line, **looks[x])
        # Linear below 1e-4 times the largest eigenvalue of the last line (PCA): smaller values are noise.
        reference = float(np.abs(every_line[-1]).max()) or 1.0
        lowest = math.floor(math.log10(reference)) - 4
        axes.set_yscale("symlog", linthresh=10.0**lowest, linscale=0.5)
        everything = np.concatenate(every_line)
        below, above = -1.5 * everything.min(), 1.5 * everything.max()
        first, every = lowest + (_SKIPPED if len(panels) > 1 else 0), 2 if below > 0 else 1
        powers = [10.0**e for e in range(first, lowest + 24, every)]
        axes.set_yticks([*(-x for x in reversed(powers) if x <= below), 0.0, *(x for x in powers if x <= above)])
        axes.yaxis.set(major_formatter=FuncFormatter(_power), minor_locator=NullLocator())
        if below > 0:
            axes.axhline(0, color=style.GREY, linewidth=0.6)
        style.log2_ticks(axes, 0, math.log2(max(map(len, every_line))), 6)
    return style.arrange(sheet, {"PCA" if x is None else f"λ = {x:g}": Line2D([], [], **looks[x]) for x in shown})


def _power(value: float, _: int) -> str:
    if value == 0:
        return "0"
    exponent = round(math.log10(abs(value)))
    digits = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return f"{'−' if value < 0 else ''}10{str(exponent).translate(digits)}"


def caption(panels: Sequence[Spectra], _: Setting) -> str:
    """Return the caption of the figure."""
    shown = {(one.intervention_set, one.normalize) for one in panels}
    which = " Intervention set and normalize of each data set: those picked most often."
    if len(shown) == 1:
        name, normalize = next(iter(shown))
        which = "" if name is None else f" Intervention set {name}, normalize {normalize}: picked most often."
    fewer = " Not every λ is drawn." if any(one.thinned for one in panels) else ""
    return (
        "Eigenvalues of M = C_z - λ C_d, fitted on the sources, largest first, on a symmetric log scale; mean over "
        f"held-out environments, seeds and folds.{which}{fewer} PCA: eigenvalues of its own second moment. The "
        "released order keeps directions from the right-hand end."
    )
