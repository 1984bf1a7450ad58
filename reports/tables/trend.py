"""Does the gain survive a better encoder: slopes of gains over plain prediction on plain accuracy, over backbones."""

from collections.abc import Mapping

import numpy as np

from reports.analysis.credit import EQUAL_N_TRUNCATION, OURS
from reports.analysis.methods import ICM
from reports.analysis.options import Options
from reports.analysis.trend import Slope, Trend, same_but_backbone, trend_of
from reports.render.table import Block, Cell, Column, Line, Table
from reports.tables import words
from reports.tables.alike import Described, check_alike, common_rule
from reports.tables.blocks import methods_of, table_of

NAME = "trend"
_SHOWN = ((ICM, ""), EQUAL_N_TRUNCATION, OURS, ("isotropic_environments", ""))
_COLUMNS = (
    Column("slope", "Slope", unit="points per point"),
    Column("mean gain over plain", "Mean gain", unit="points"),
    Column("plain accuracies", "Plain", unit="%"),
    Column("backbones with a gain whose interval is above 0", "Ahead", unit=""),
)
_WORDS = (
    "Slope: points of gain over plain prediction for a point of accuracy, least squares over backbones, each counting "
    "alike.",
    "In brackets: its 95 % interval (Student's t). Backbones of one family are not drawn at random.",
    "A gain has the plain accuracy in it, with the opposite sign. So noise pulls its slope on plain accuracy down, and "
    "not that on the mean of both accuracies.",
    "Plain: the lowest and the highest plain accuracy of a backbone. Ahead: of how many backbones the gain has a 95 % "
    "interval above 0.",
)


def build(
    described: Described, options: Options, rule: str | None = None, names: Mapping[str, str] | None = None
) -> Table | None:
    """Return the slopes of what methods gain, from `robustness.MIN_BACKBONES` backbones on.

    Args:
        described: settings that may share a table; those of random weights take no part.
        options: what the reader asks for.
        rule: what chooses; by default what is fair.
        names: long name -> short name of methods, predictors and data sets.

    Returns:
        The table, a block for each data set, predictor and method; None where too few backbones have one.

    Raises:
        IcmBenchError: the settings may not share a table.
    """
    groups = same_but_backbone(described)
    if not groups:
        return None
    used = [part for group in groups for part in group]
    check_alike(used, NAME)
    names, rule = names or {}, common_rule(used, rule)
    blocks = [block for group in groups for block in _blocks(group, rule, names, len(groups) > 1)]
    caption = f"{words.what(used)}: d" if len(groups) == 1 else "D"
    caption += "oes the gain survive a better encoder? Slope of the gain on accuracy, over backbones."
    return table_of(NAME, caption, _COLUMNS, blocks, used, rule, options, _WORDS, "Slope on")


def _blocks(group: Described, rule: str, names: Mapping[str, str], several: bool) -> list[Block]:
    made = []
    for method in methods_of(group):
        shown = (method.projection, method.variant) in _SHOWN and method.order != "released"
        trend = trend_of(group, method, rule) if shown else None
        if trend is not None and (trend.on_plain or trend.on_mean):
            dataset = words.short(group[0][0].dataset, names)
            name = f"{words.short_name(method, names)}, {words.short(method.predictor_label, names)}"
            title = f"{dataset}, {name}" if several else name
            made.append(Block(f"{title}: {len(trend.gain)} backbones", tuple(_lines(trend)), dataset))
    return made


def _lines(trend: Trend) -> list[Line]:
    gain = Cell(value=float(np.mean(trend.gain)), signed=True)
    middle = float(np.mean(trend.plain))
    plain = Cell(value=middle, text=f"{trend.plain.min():.1f} to {trend.plain.max():.1f}")
    ahead = Cell(value=float(trend.ahead), decimals=0, text=f"{trend.ahead} of {len(trend.gain)}")
    slopes = {"plain accuracy": trend.on_plain, "mean of both accuracies": trend.on_mean}
    return [Line(name, (_slope(slope), gain, plain, ahead)) for name, slope in slopes.items()]


def _slope(slope: Slope | None) -> Cell:
    if slope is None:
        return Cell(note="all backbones have the same accuracy, so there is no trend")
    return Cell(value=slope.value, low=slope.low, high=slope.high, signed=True, decimals=2)
