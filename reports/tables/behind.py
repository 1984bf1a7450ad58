"""What lies behind mean accuracies: balanced accuracy, the worst environment and class, calibration."""

from collections.abc import Iterator
from functools import partial

from benchmark.method.evaluation.metrics import ACCURACY, ECE, SCORED, WORST_ENVIRONMENT, Metric
from reports.analysis.metrics import MIN_CLASS_IMAGES, Metrics, chance_and_majority, further, metrics_of
from reports.render.table import Cell, Column, Line, Table
from reports.tables import cells
from reports.tables.by_method import Entry, by_method, line_of
from reports.tables.spec import Request, TableSpec, Values

_READING = (
    "Means over held-out environments, then seeds, all folds of a seed together. Sources: on images of the source "
    "environments that the fit has not seen. Worst class: the lowest accuracy "
    f"of a class in one environment, over all answers together, among those with {MIN_CLASS_IMAGES} different test "
    "images (n) or more. ECE: expected calibration error in 15 bins, in %; scaled with the temperature fitted on "
    "judging images of the sources."
)


def _lines(entries: list[Entry]) -> Iterator[tuple[Line, Metrics]]:
    """Yield the methods that have answers for all that is held out."""
    for entry in entries:
        every = metrics_of(entry.selections, entry.request.rule)
        yield from ((line_of(entry), found) for found in every if found.method == entry.method)


def _columns(request: Request) -> list[Values[Metrics]]:
    bound, error = request.bound, request.options.plus_minus != "seeds"
    accuracy, *others = (
        Values(
            Column(m.heading.replace("_", " "), m.title[:1].upper() + m.title[1:], unit="%" if m.percent else ""),
            partial(_mean, m, bound, error),
        )
        for m in (ACCURACY, *further(request.selections.metrics))
    )
    gap = "no likelihood, or no calibration at what was picked"
    return [
        accuracy,
        Values(
            Column("source accuracy", "Sources"),
            lambda m: cells.known(m.source_accuracy, "no such score", bound=bound),
        ),
        *others,
        Values(Column("worst environment", "Worst environment"), partial(_worst_environment, bound)),
        Values(Column("worst class", "Worst class (n)"), partial(_worst_class, bound)),
        Values(Column("expected calibration error", "ECE"), lambda m: cells.known(m.of(ECE), gap, bound=bound)),
        Values(
            Column("expected calibration error, scaled", "ECE, scaled"),
            lambda m: cells.known(m.ece_scaled, gap, bound=bound),
        ),
    ]


def _mean(metric: Metric, bound: bool, with_error: bool, m: Metrics) -> Cell:
    interval = m.intervals.get(metric.key) if with_error else None
    error = interval.plus_minus if interval else None
    more = {"error": 100 * error} if error else {}
    return cells.of_metric(m.of(metric), metric, bound=bound, **more)


def _worst_environment(bound: bool, m: Metrics) -> Cell:
    lowest = m.of(WORST_ENVIRONMENT) or 0.0
    return Cell(value=lowest, text=f"{lowest:.1f} ({m.worst_environment})", bound=bound)


def _worst_class(bound: bool, m: Metrics) -> Cell:
    one = m.worst_class
    if one is None:
        return Cell(note=f"no class has {MIN_CLASS_IMAGES} test images in an environment", bound=bound)
    text = f"{one.accuracy:.1f} ({one.name}, {one.held_out}, n = {one.n:,})"
    return Cell(value=one.accuracy, n_images=float(one.n), text=text, bound=bound)


def _notes(request: Request, _: Table) -> Iterator[str]:
    classes, majority = chance_and_majority(request.selections)
    yield f"Chance is {classes:.1f} %; always the one answer that is right most often (majority) has {majority:.1f} %."
    yield _READING
    every = [m for _, x in request.described for m in metrics_of(x, request.rule)]
    if any(m.of(metric) is not None for m in every for metric in SCORED):
        yield "NLL (in nats) and AUROC (each class against the rest, mean): of the softmax of scores."


def _caption(request: Request) -> str:
    classes, majority = chance_and_majority(request.selections)
    chance = f"Chance {classes:.1f}, majority {majority:.1f}."
    return f"{request.what}: what lies behind the mean accuracies (%). {chance}"


TABLE = TableSpec("behind", _caption, by_method(_lines), _columns, _notes, "data set")
