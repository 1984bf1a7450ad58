"""Spectrum: eigenvalues of M = C_z - lambda C_d in the order in which directions are kept, and those of PCA."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from reports.analysis.chosen import Selections
from reports.analysis.methods import ICM
from reports.analysis.spectra import Spectra, spectra
from reports.figures import style

_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)), (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)))

_SKIPPED = 2  # powers of ten next to zero that are not named in a small panel
_PCA: Mapping[str, Any] = {"color": style.INK, "linestyle": "-", "linewidth": 2.0, "alpha": 0.35}


def panels(selections: Selections, rule: str) -> dict[str, Spectra]:
    """Return the spectra, under no name; nothing where the rows hold none of CLIP-ICM or PCA.

    Args:
        selections: the rows of one setting.
        rule: picks the intervention set and normalisation that are shown.
    """
    found = spectra(selections, rule)
    return {"": found} if found.lines else {}


def draw(panels: Sequence[tuple[str, Spectra]]) -> Sheet:
    """Draw panels (data set, spectra): darker for larger lambda, PCA in dashes of its own."""
    rows, _ = style.rows_of(len(panels))
    sheet = style.sheet_of(style.COLUMN, 2.5) if len(panels) == 1 else style.sheet_of(style.PAGE, 1.75 * rows + 0.3)
    grid = style.grid_of(sheet, len(panels))
    every = [line.lambda_ for _, of_set in panels for line in of_set.lines if line.method.projection == ICM]
    lambdas = sorted({x for x in every if x is not None})
    shades = matplotlib.colormaps["cividis"](np.linspace(0.85, 0.0, max(len(lambdas), 2)))
    shown: dict[str, Mapping[str, Any]] = {}
    for axes, (_, of_set) in zip(style.axes_of(grid), panels, strict=True):
        for line in of_set.lines:
            label, look = "PCA", _PCA
            if line.lambda_ in lambdas:
                place = lambdas.index(line.lambda_)
                dashes = _DASHES[place % len(_DASHES)]
                label, look = f"λ = {line.lambda_:g}", {"color": shades[place], "linestyle": dashes, "linewidth": 1.1}
            axes.plot(np.arange(1, len(line.values) + 1), line.values, **look)
            shown.setdefault(label, look)
        _scales(axes, of_set, _SKIPPED if len(panels) > 1 else 0)
    style.label_panels(grid, [title for title, _ in panels], "Position in the basis", "Eigenvalue")
    legend = style.legend_above(sheet, [Line2D([], [], **look) for look in shown.values()], list(shown))
    style.arrange(sheet, grid, legend=legend)
    return sheet


def _scales(axes: Axes, numbers: Spectra, skipped: int) -> None:
    everything = np.concatenate([line.values for line in numbers.lines])
    # Linear below a ten-thousandth of the last line's (PCA's) largest eigenvalue: what is smaller is noise.
    reference = float(np.abs(numbers.lines[-1].values).max()) or 1.0
    lowest = math.floor(math.log10(reference)) - 4
    axes.set_yscale("symlog", linthresh=10.0**lowest, linscale=0.5)
    every = 1 if everything.min() >= 0 else 2
    powers = [10.0**e for e in range(lowest + skipped, lowest + 24, every)]
    axes.set_yticks([
        *(-power for power in reversed(powers) if power <= 1.5 * -everything.min()), 0.0,
        *(power for power in powers if power <= 1.5 * everything.max()),
    ])  # fmt: skip
    axes.yaxis.set_major_formatter(FuncFormatter(_power))
    axes.yaxis.set_minor_locator(NullLocator())
    if everything.min() < 0:
        axes.axhline(0, color=style.GREY, linewidth=0.6)
    most = max(len(line.values) for line in numbers.lines)
    axes.set_xscale("log", base=2)
    step = max(1, math.ceil(math.log2(max(most, 2)) / 6))
    places = [2**i for i in range(0, math.floor(math.log2(most)) + 1, step)]
    axes.set_xticks(places, [str(place) for place in places])
    axes.xaxis.set_minor_locator(NullLocator())


def _power(value: float, _: int) -> str:
    if value == 0:
        return "0"
    exponent = round(math.log10(abs(value)))
    digits = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return f"{'−' if value < 0 else ''}10{str(exponent).translate(digits)}"
