"""Figures as PNG and PDF bytes: the rank curve and the eigenvalue spectrum. Equal rows give equal bytes."""

import io
import math
import textwrap
from dataclasses import dataclass, replace
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from benchmark.method.evaluation.seed_variance import MIN_UNITS
from reports.captions import (
    environment_words,
    number,
    rule_meaning,
    sample_words,
    seeds_of,
    split_words,
    unit_words,
    whole_size,
)
from reports.chosen import Selections
from reports.curves import Curve, Spectra, Spectrum, rank_curves, spectra
from reports.methods import ICM, PLAIN, SHRINKAGE, Method
from reports.settings import BANNER, Setting

# Okabe & Ito's colours, distinct under the common colour-vision deficiencies; each method keeps its own.
_COLOURS = {"pca": "#0072B2", "random": "#009E73", "largest": "#D55E00", "released": "#CC79A7", SHRINKAGE: "#332288"}
_OTHER_COLOURS = ("#E69F00", "#56B4E9", "#999999", "#8A6D00")
_MARKERS = {"pca": "s", "random": "^", "largest": "o", "released": "v", SHRINKAGE: "d"}
_OTHER_MARKERS = ("D", "P", "X", "*")
_DASHES = ("-", ":", "-.")  # one more for each time the colours run out
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 10, "axes.labelsize": 9,
    "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8, "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6, "axes.axisbelow": True, "pdf.fonttype": 42, "path.simplify": True,
}  # fmt: skip
_PANEL_WIDTH, _PANEL_HEIGHT, _ROW_GAP, _LINE_HEIGHT = 4.6, 3.1, 0.85, 0.155  # inches
_MAX_COLUMNS = 3


@dataclass(frozen=True)
class Drawing:
    """A finished figure: 200 dpi PNG and vector PDF of the same drawing, and its caption."""

    png: bytes
    pdf: bytes
    caption: str


def rank_curve(setting: Setting, selections: Selections, rule: str) -> Drawing | None:
    """Draw accuracy on the held-out environment against the rank kept, one panel per predictor.

    Args:
        setting: what the rows share.
        selections: the rows of that setting.
        rule: the selection rule by which everything but the rank is chosen at each rank.

    Returns:
        The drawing, or None if no method has a seed with every held-out environment.
    """
    curves = rank_curves(selections, rule)
    if not curves:
        return None
    banded = any(np.isfinite(curve.stderr).any() for curve in curves if curve.method.projection != PLAIN)
    caption = _rank_caption(setting, selections, rule, banded)
    predictors = list(dict.fromkeys(c.method.predictor for c in curves))
    with matplotlib.rc_context(_STYLE):
        figure, panels = _canvas(len(predictors), caption, _title(setting))
        for axes, predictor in zip(panels, predictors, strict=True):
            of_panel = [c for c in curves if c.method.predictor == predictor]
            _draw_curves(axes, of_panel, _looks([c.method for c in curves]), setting.protocol_class.tested)
        _legend(figure, panels)
        return _finish(figure, setting, caption)


def spectrum(setting: Setting, selections: Selections, rule: str) -> Drawing | None:
    """Draw the eigenvalues of M = C_z - lambda C_d in basis order, and those of PCA.

    Args:
        setting: what the rows share.
        selections: the rows of that setting.
        rule: picks the intervention set and normalisation that are shown.

    Returns:
        The drawing, or None if the rows hold no spectrum of CLIP-ICM or PCA.
    """
    drawn = spectra(selections, rule)
    if not drawn.lines:
        return None
    caption = _spectrum_caption(setting, selections, rule, drawn)
    with matplotlib.rc_context(_STYLE):
        figure, panels = _canvas(1, caption, _title(setting), width=6.4)
        _draw_spectra(panels[0], drawn.lines)
        _legend(figure, panels)
        return _finish(figure, setting, caption)


def _draw_curves(axes: Axes, curves: list[Curve], looks: dict[Method, tuple[str, str, str]], tested: str) -> None:
    for curve in curves:
        if curve.method.projection == PLAIN:
            axes.axhline(curve.mean[-1], color="black", linestyle="--", linewidth=1.2, label="Plain, full space")
            continue
        colour, marker, dashes = looks[_without_predictor(curve.method)]
        if len(curve.ranks) == 1:
            label = curve.method.projection_label
            axes.axhline(curve.mean[-1], color=colour, linestyle=dashes, linewidth=1.5, label=label)
            continue
        axes.plot(
            curve.ranks, curve.mean, color=colour, marker=marker, linestyle=dashes, markersize=3.5,
            linewidth=1.5, label=curve.method.projection_label,
        )  # fmt: skip
        low, high = curve.mean - curve.stderr, curve.mean + curve.stderr
        axes.fill_between(curve.ranks, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.set_title(curves[0].method.predictor_label, loc="left")
    axes.set_ylabel(f"Accuracy on {tested} (%)")
    _log2_axis(axes, "Rank kept", [int(r) for curve in curves for r in curve.ranks])


def _draw_spectra(axes: Axes, lines: tuple[Spectrum, ...]) -> None:
    icm = [line for line in lines if line.method.projection == ICM]
    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, max(len(icm), 1)))
    for line, shade in zip(icm, shades, strict=False):
        label = f"CLIP-ICM, λ = {line.lambda_:g}"
        axes.plot(np.arange(1, len(line.values) + 1), line.values, color=shade, linewidth=1.5, label=label)
    for line in lines:
        if line not in icm:
            index = np.arange(1, len(line.values) + 1)
            axes.plot(index, line.values, color="black", linestyle="--", linewidth=1.2, label="PCA")
    everything = np.concatenate([line.values for line in lines])
    # Linear below a ten-thousandth of the last line's (PCA's) largest eigenvalue: what is smaller is noise.
    reference = float(np.abs(lines[-1].values).max()) or 1.0
    axes.set_yscale("symlog", linthresh=10.0 ** math.floor(math.log10(reference) - 4))
    if everything.min() < 0:
        axes.axhline(0, color="#666666", linewidth=0.8)
    axes.set_ylabel("Eigenvalue (symmetric log scale)")
    _log2_axis(axes, "Position in the basis", [1, max(len(line.values) for line in lines)])


def _log2_axis(axes: Axes, label: str, ranks: list[int]) -> None:
    axes.set_xscale("log", base=2)
    low, high = math.floor(math.log2(min(ranks))), math.ceil(math.log2(max(ranks)))
    axes.set_xticks([2.0**i for i in range(low, high + 1)])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label)


def _looks(methods: list[Method]) -> dict[Method, tuple[str, str, str]]:
    """Return colour, marker and line style of each method, the same for all its predictors."""
    looks: dict[Method, tuple[str, str, str]] = {}
    others = 0
    for method in dict.fromkeys(map(_without_predictor, methods)):
        key = (method.order or "") if method.projection == ICM and not method.variant else method.projection
        if key in _COLOURS and (method.projection == ICM or method.order != "released"):
            looks[method] = (_COLOURS[key], _MARKERS[key], "-")
        elif method.projection != PLAIN:
            round_, place = divmod(others, len(_OTHER_COLOURS))
            dashes = _DASHES[round_ % len(_DASHES)]
            looks[method] = (_OTHER_COLOURS[place], _OTHER_MARKERS[place], dashes)
            others += 1
    return looks


def _without_predictor(method: Method) -> Method:
    return replace(method, predictor="")


def _canvas(panels: int, caption: str, title: str, width: float | None = None) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels side by side, room for title and legend above, the caption below."""
    columns = min(panels, _MAX_COLUMNS)
    rows = math.ceil(panels / columns)
    wide = width or max(_PANEL_WIDTH * columns, 6.4)
    lines = textwrap.wrap(caption, int(wide * 19))
    below, above = 0.62 + _LINE_HEIGHT * len(lines), 1.02
    tall = _PANEL_HEIGHT * rows + _ROW_GAP * (rows - 1) + below + above
    figure = Figure(figsize=(wide, tall))
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[panels:]:
        unused.remove()
    figure.subplots_adjust(
        left=0.72 / wide,
        right=1 - 0.2 / wide,
        bottom=below / tall,
        top=1 - above / tall,
        wspace=0.22,
        hspace=_ROW_GAP / _PANEL_HEIGHT,
    )
    figure.text(0.12 / wide, 0.1 / tall, "\n".join(lines), fontsize=7, color="#333333", va="bottom", linespacing=1.35)
    size = min(11.0, 105 * wide / len(title))  # a bold letter is about 0.68 of its size wide
    figure.text(0.12 / wide, 1 - 0.14 / tall, title, fontsize=size, fontweight="bold", va="top")
    return figure, axes[:panels]


def _legend(figure: Figure, panels: list[Axes]) -> None:
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    wide, tall = figure.get_size_inches()
    lines = math.ceil(len(handles) / max(1, int(wide / 1.75)))
    figure.legend(
        list(handles.values()), list(handles), loc="upper left", ncol=math.ceil(len(handles) / lines),
        frameon=False, bbox_to_anchor=(0.06 / wide, 1 - 0.34 / tall), borderaxespad=0,
        columnspacing=1.2, handlelength=1.8,
    )  # fmt: skip


def _finish(figure: Figure, setting: Setting, caption: str) -> Drawing:
    if setting.random_weights:
        figure.text(
            0.5, 0.55, BANNER, fontsize=2.7 * float(figure.get_size_inches()[0]), color="#B00020",
            alpha=0.3, rotation=18, ha="center", va="center",
            fontweight="bold", zorder=10,
        )  # fmt: skip
    png, pdf = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=200, metadata={"Software": None})
    figure.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    return Drawing(png.getvalue(), pdf.getvalue(), caption)


def _where(setting: Setting, selections: Selections) -> str:
    seeds, size = seeds_of(selections.rows), whole_size(selections)
    folds = f", {setting.folds} folds" if setting.folds else ""
    return (
        f"{setting.dataset}, {setting.backbone_label}, {setting.precision}; protocol {setting.protocol}; "
        f"test split {split_words(setting)}; "
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}{folds}; "
        f"n = {number(size.units_per_seed)} {unit_words(setting)} per seed in "
        f"{environment_words(setting, selections.rows['held_out'].nunique())}."
    )


def _title(setting: Setting) -> str:
    return f"{setting.banner}{setting.dataset}, {setting.backbone_label}"


def _rank_caption(setting: Setting, selections: Selections, rule: str, banded: bool) -> str:
    units = unit_words(setting)
    band = f"Band: ± one standard error over {units}; how far two lines are apart has an interval of its own."
    few = sample_words(selections.rows)
    few = f" {few} Other ranks rest on the fits to some, and lie lower for it." if few else ""
    none = f"No band: one takes {MIN_UNITS} {units} in every environment, and answers that vary."
    return (
        f"{setting.banner}{_where(setting, selections)} Mean over held-out environments, then seeds. "
        f"{band if banded else none} Everything but the rank (lambda, intervention set, normalisation, the predictor's "
        f"own parameters) is chosen at each rank by rule {rule} ({rule_meaning(rule, setting)}), for each held-out "
        f"environment, seed and fold.{few} Reading the best rank off this figure would be choosing on the target."
    )


def _spectrum_caption(setting: Setting, selections: Selections, rule: str, drawn: Spectra) -> str:
    which = ""
    if drawn.intervention_set is not None:
        which = (
            f" Intervention set {drawn.intervention_set}, normalize {drawn.normalize}: "
            f"what rule {rule} picks most often."
        )
    fewer = " Not every lambda is drawn." if drawn.thinned else ""
    return (
        f"{setting.banner}{_where(setting, selections)} Eigenvalues of M = C_z - λ C_d, fitted on the source "
        "environments, largest first; mean over held-out environments, seeds and folds."
        f"{which}{fewer} PCA: eigenvalues of its own second moment. "
        "The released order keeps directions from the right-hand end."
    )
