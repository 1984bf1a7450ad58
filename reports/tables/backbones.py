"""Backbones by what is done with them: plain, PCA, CLIP-ICM, shrinkage, what these gain, and effective robustness."""

from collections.abc import Mapping, Sequence

from reports.analysis.chosen import Selections
from reports.analysis.methods import ICM, PLAIN, SHRINKAGE, Method
from reports.analysis.options import Options
from reports.analysis.robustness import MIN_BACKBONES, ZERO_SHOT, Lines, lines_of
from reports.analysis.whole import mean_beside, whole_estimate
from reports.render.table import Block, Cell, Column, Line, Table
from reports.tables import cells, words
from reports.tables.alike import Described, by_backbone, by_data_set, check_alike, common_rule
from reports.tables.blocks import methods_of, predictor_words, predictors_of, table_of

NAME = "backbones"
SHOWN = {PLAIN: "Plain", "pca": "PCA", ICM: "CLIP-ICM", SHRINKAGE: "Shrinkage"}
OURS = (ICM, SHRINKAGE)
_ROBUST = (
    "Effective robustness: points above the line through plain prediction of the other backbones, accuracy on held-out "
    "against source environments on a logit scale; in brackets from the ends of its 95 % prediction interval."
)
_TOO_FEW = f"Effective robustness needs {MIN_BACKBONES} backbones with weights that are not random."


def build(
    described: Described, options: Options, rule: str | None = None, names: Mapping[str, str] | None = None
) -> Table | None:
    """Return backbones by projections, a block for each data set and predictor, and one for the average over data sets.

    Args:
        described: settings that may share a table.
        options: what stands behind ±.
        rule: what chooses; by default what is fair.
        names: long name -> short name of predictors, backbones and data sets.

    Returns:
        The table; None where there is one backbone alone.

    Raises:
        IcmBenchError: the settings may not share a table.
    """
    if len(by_backbone(described)) < 2:
        return None
    check_alike(described, NAME)
    names, rule = names or {}, common_rule(described, rule)
    columns = [Column(name) for name in SHOWN.values()]
    columns += [Column(f"{SHOWN[one]} minus plain", SHOWN[one], "minus plain", "points") for one in OURS]
    columns += [Column(f"{SHOWN[one]}, effective robustness", SHOWN[one], "robustness", "points") for one in OURS]
    robust = {id(selections): lines for (_, selections), lines in zip(described, lines_of(described), strict=True)}
    sets, predictors = by_data_set(described), predictors_of(described)
    blocks = []
    for predictor in predictors:
        wholes = [("average over data sets", described)] if len(sets) > 1 else []
        for name, parts in [*sets.items(), *wholes]:
            lines = _lines(parts, predictor, rule, options, names, robust)
            titles = [words.short(name, names)] if len(sets) > 1 else []
            titles += [words.short(predictor_words(parts, predictor), names)] if len(predictors) > 1 else []
            blocks += [Block(", ".join(titles), tuple(lines), words.short(name, names))] if len(lines) > 1 else []
    known = any(one.zero_shot.known or one.linear_probe.known for one in robust.values())
    own = [words.INTERVAL, _ROBUST if known else _TOO_FEW]
    where = f" on {next(iter(sets))}" if len(sets) == 1 else ""
    caption = f"Accuracy (%) of backbones{where}, and what CLIP-ICM and shrinkage gain over plain prediction."
    return table_of(NAME, caption, columns, blocks, described, rule, options, own, "Backbone")


def _lines(
    parts: Described,
    predictor: str,
    rule: str,
    options: Options,
    names: Mapping[str, str],
    robust: Mapping[int, Lines],
) -> list[Line]:
    """Return a line for each backbone: of one data set, or the average over all of them."""
    lines = []
    for backbone, own in by_backbone(parts).items():
        methods = _shown(own, predictor)
        if not methods:
            continue
        made = [_over(own, methods.get(name), rule, options, gain=False) for name in SHOWN]
        made += [_over(own, methods.get(name), rule, options, gain=True) for name in OURS]
        made += [_robust(own, methods.get(name), rule, robust) for name in OURS]
        lines.append(Line(backbone, tuple(made), words.short(backbone, names)))
    return lines


def _shown(parts: Described, predictor: str) -> dict[str, Method]:
    """Return projection -> its method, of those that are columns."""
    found = [m for m in methods_of(parts, predictor) if m.projection in SHOWN and not m.variant]
    return {m.projection: m for m in found if m.order != "released"}


def _over(parts: Described, method: Method | None, rule: str, options: Options, gain: bool) -> Cell:
    if method is None:
        return Cell(note="no result rows of this method")
    measure = cells.gain if gain else cells.accuracy
    numbers: Sequence[tuple[str, cells.Number]] = [
        (
            setting.dataset,
            measure(selections, method, rule, options).of(
                cells.bound_by(rule, setting.protocol_class.looks_at_target),
                cells.is_plain([selections], method, rule),
            ),
        )
        for setting, selections in parts
    ]
    return numbers[0][1].cell if len(numbers) == 1 else cells.over_sets(numbers, options)


def _robust(parts: Described, method: Method | None, rule: str, robust: Mapping[int, Lines]) -> Cell:
    """Return how far a method is above what plain prediction of other backbones makes expect, of one data set."""
    if method is None or len(parts) > 1:
        return Cell(note="of one data set alone" if method else "no result rows of this method")
    selections: Selections = parts[0][1]
    of_predictor = robust[id(selections)]
    line = of_predictor.zero_shot if method.predictor == ZERO_SHOT.predictor else of_predictor.linear_probe
    estimate = whole_estimate(selections, selections.pooled(method, rule)) if method in selections.parts else None
    if estimate is None:
        return Cell(note="not all that is held out was tested")
    source = mean_beside(selections.picks(method, rule), "training_domain")
    above = line.above(source, float(estimate.means.mean()))
    if above is None:
        return Cell(note=f"fewer than {MIN_BACKBONES} backbones, or none with an accuracy on the sources")
    return Cell(value=above.points, low=above.low, high=above.high, signed=True)
