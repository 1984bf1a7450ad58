"""Spectrum: eigenvalues of M = C_z - lambda C_d in the order in which directions are kept, and those of PCA."""

import math
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from reports.chosen import Selections
from reports.curves import Spectra, spectra
from reports.figures.style import COLUMN, GREY, INK, arrange, legend_above, sheet_of
from reports.methods import ICM

_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)), (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)))


def numbers(selections: Selections, rule: str) -> Spectra | None:
    """Return the spectra; None where the rows hold none of CLIP-ICM or PCA.

    Args:
        selections: the rows of one setting.
        rule: picks the intervention set and normalisation that are shown.
    """
    found = spectra(selections, rule)
    return found if found.lines else None


def draw(numbers: Spectra) -> Sheet:
    """Draw the spectra in a column's width: darker for larger lambda, PCA in dashes of its own."""
    sheet = sheet_of(COLUMN, 2.5)
    axes = sheet.add_subplot()
    icm = [line for line in numbers.lines if line.method.projection == ICM]
    shades = matplotlib.colormaps["cividis"](np.linspace(0.85, 0.0, max(len(icm), 2)))
    handles, labels = [], []
    for line in numbers.lines:
        index = np.arange(1, len(line.values) + 1)
        if line in icm:
            place = icm.index(line)
            look: dict[str, Any] = {
                "color": tuple(shades[place]),
                "linestyle": _DASHES[place % len(_DASHES)],
                "linewidth": 1.1,
            }
            labels.append(f"λ = {line.lambda_:g}")
        else:
            look = {"color": INK, "linestyle": "-", "linewidth": 2.0, "alpha": 0.35}
            labels.append("PCA")
        axes.plot(index, line.values, **look)
        handles.append(Line2D([], [], **look))
    _scales(axes, numbers)
    axes.set_xlabel("Position in the basis")
    axes.set_ylabel("Eigenvalue")
    legend = legend_above(sheet, handles, labels)
    arrange(sheet, [[axes]], legend=legend)
    return sheet


def _scales(axes: Axes, numbers: Spectra) -> None:
    everything = np.concatenate([line.values for line in numbers.lines])
    # Linear below a ten-thousandth of the last line's (PCA's) largest eigenvalue: what is smaller is noise.
    reference = float(np.abs(numbers.lines[-1].values).max()) or 1.0
    lowest = math.floor(math.log10(reference)) - 4
    axes.set_yscale("symlog", linthresh=10.0**lowest, linscale=0.5)
    every = 1 if everything.min() >= 0 else 2
    powers = [10.0**e for e in range(lowest, lowest + 24, every)]
    axes.set_yticks([
        *(-power for power in reversed(powers) if power <= 1.5 * -everything.min()), 0.0,
        *(power for power in powers if power <= 1.5 * everything.max()),
    ])  # fmt: skip
    axes.yaxis.set_major_formatter(FuncFormatter(_power))
    axes.yaxis.set_minor_locator(NullLocator())
    if everything.min() < 0:
        axes.axhline(0, color=GREY, linewidth=0.6)
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
