"""What lies behind mean accuracies: balanced accuracy, the worst environment and class, calibration."""

from collections.abc import Mapping, Sequence

from benchmark.method.evaluation.metrics import ACCURACY, ECE, SCORED, WORST_ENVIRONMENT, Metric
from reports.analysis.metrics import MIN_CLASS_IMAGES, Metrics, chance_and_majority, further, metrics_of
from reports.analysis.options import Options
from reports.analysis.robustness import Lines
from reports.render.table import Cell, Column, Line, Table
from reports.tables import cells, words
from reports.tables.alike import Described, check_alike, common_rule
from reports.tables.blocks import block_of, blocks_of, is_contender, line_of, table_of

NAME = "behind"
_COLUMNS = (
    Column("worst environment", "Worst environment"),
    Column("worst class", "Worst class (n)"),
    Column("expected calibration error", "ECE"),
    Column("expected calibration error, scaled", "ECE, scaled"),
)


def build(
    described: Described, options: Options, rule: str | None = None, names: Mapping[str, str] | None = None
) -> Table | None:
    """Return methods by what lies behind their means; None where there is nothing.

    Args:
        described: settings of one data set that may share a table.
        options: what the reader asks for.
        rule: what chooses; by default what is fair.
        names: long name -> short name of methods, predictors and backbones.

    Raises:
        IcmBenchError: the settings may not share a table.
    """
    if not described:
        return None
    check_alike(described, NAME)
    names, rule = names or {}, common_rule(described, rule)
    bound = cells.bound_by(rule, described[0][0].protocol_class.looks_at_target)
    every = {setting: metrics_of(selections, rule, Lines()) for setting, selections in described}

    among = further(described[0][1].metrics)

    def lines(parts: Described, predictor: str, _: str) -> list[Line]:
        setting, selections = parts[0]
        found = [m for m in every[setting] if is_contender(m.method)]
        return [
            line_of(m.method, _cells(m, bound, among, options), names, cells.is_plain([selections], m.method, rule))
            for m in found
            if block_of(m.method) == predictor
        ]

    classes, majority = chance_and_majority(described[0][1])
    own = [
        f"Chance is {classes:.1f} %; always the one answer that is right most often (majority) has {majority:.1f} %.",
        "Means over held-out environments, then seeds, all folds of a seed together. Sources: on images of the source "
        "environments that the fit has not seen. Worst class: the lowest accuracy "
        f"of a class in one environment, over all answers together, among those with {MIN_CLASS_IMAGES} different test "
        "images (n) or more. ECE: expected calibration error in 15 bins, in %; scaled with the temperature fitted on "
        "judging images of the sources.",
    ]
    if any(m.of(metric) is not None for found in every.values() for m in found for metric in SCORED):
        own.append("NLL (in nats) and AUROC (each class against the rest, mean): of the softmax of scores.")
    caption = f"{words.what(described)}: what lies behind the mean accuracies (%). Chance {classes:.1f}, majority "
    caption += f"{majority:.1f}."
    return table_of(
        NAME, caption, [*_means(among), *_COLUMNS], blocks_of(described, names, lines), described, rule, options, own
    )


def _means(among: Sequence[Metric]) -> list[Column]:
    """Return a column for the accuracy, the one on the sources, and each further metric."""
    first, *more = (
        Column(m.heading.replace("_", " "), m.title[:1].upper() + m.title[1:], unit="%" if m.percent else "")
        for m in (ACCURACY, *among)
    )
    return [first, Column("source accuracy", "Sources"), *more]


def _cells(m: Metrics, bound: bool, among: Sequence[Metric], options: Options) -> list[Cell]:
    worst = Cell(note=f"no class has {MIN_CLASS_IMAGES} test images in an environment", bound=bound)
    if m.worst_class is not None:
        one = m.worst_class
        text = f"{one.accuracy:.1f} ({one.name}, {one.held_out}, n = {one.n:,})"
        worst = Cell(value=one.accuracy, n_images=float(one.n), text=text, bound=bound)
    lowest = m.of(WORST_ENVIRONMENT) or 0.0
    errors = {} if options.plus_minus == "seeds" else {k: i.plus_minus for k, i in m.intervals.items() if i.plus_minus}
    of = {key: {"error": 100 * error} for key, error in errors.items() if error is not None}
    return [
        cells.known(m.of(ACCURACY), "unknown", bound=bound, **of.get(ACCURACY.key, {})),
        cells.known(m.source_accuracy, "no such score", bound=bound),
        *(cells.of_metric(m.of(metric), metric, bound=bound, **of.get(metric.key, {})) for metric in among),
        Cell(value=lowest, text=f"{lowest:.1f} ({m.worst_environment})", bound=bound),
        worst,
        cells.known(m.of(ECE), "no likelihood, or no calibration at what was picked", bound=bound),
        cells.known(m.ece_scaled, "no likelihood, or no calibration at what was picked", bound=bound),
    ]
