"""Tables of methods by data sets: main table, differences to baselines, base and new classes, ImageNet variants."""
# A new table also needs an entry in `TABLES` of reports/tables/all.py.

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from benchmark.method.evaluation.metrics import ACCURACY, Metric
from benchmark.method.evaluation.multiple_testing import adjusted_interval
from reports.analysis.comparisons import Comparison, Overall, compare, in_family, over_data_sets
from reports.analysis.methods import PLAIN, Method
from reports.analysis.metrics import metrics_of
from reports.analysis.selections import mean_over_tests
from reports.render.table import Cell, Column, Line, Table
from reports.tables import cells, words
from reports.tables.by_method import PICKS, Entry, accuracy, by_method, each, mean_ranking, methods_of, picks, ranking
from reports.tables.spec import Request, TableSpec, Values, source_fits

HALVES = {"base": "Base", "new": "New", "harmonic": "H"}
VARIANTS = {"ImageNetV2": "V2", "ImageNet-R": "R", "ImageNet-A": "A", "ImageNet-Sketch": "Sketch"}
_AVERAGE = (
    "Average: mean over data sets, each counting alike, with variances added and divided by their number squared."
)
_LEFT_OUT = "Placebos, parts of methods and shares of the pairs stand in the tables of environments."
_HARMONIC = "H: harmonic mean of the accuracies on base and on new classes, in each environment, then averaged."
_SOURCE = (
    "IN: on images of ImageNet that the fit has not seen, those by which training_domain chooses; the other columns "
    "are tested on all images of a variant."
)


BASELINES = (PLAIN, "pca", "random")
_MIN_P = 0.001  # smaller p-values are printed as "<0.001"
_NOT_COMPARED = "a baseline itself, or no rows of both on the same images"
Compared = Mapping[str, Comparison | Overall]  # projection of a baseline -> one method minus this baseline


def _columns(request: Request) -> Iterator[Values[Entry]]:
    sets = request.sets
    for name in sets:
        column = Column(name, request.short(name), key={"dataset": name})
        yield Values(column, partial(accuracy, dataset=name), partial(ranking, dataset=name))
    if len(sets) > 1:
        average = Column("average over data sets", "Average")
        yield Values(average, partial(Entry.over_sets, number=Entry.accuracy), mean_ranking, "average")
    yield Values(Column("minus plain", "− plain", unit="points"), partial(Entry.over_sets, number=Entry.gain))
    for name, metric in _metrics(request).items():
        heading = f"{name}, {metric.title}", f"{request.short(name)}, {metric.title}"
        yield Values(Column(*heading, unit="%" if metric.percent else ""), partial(_metric, name, metric))
    yield from picks(request, methods_of(request.results))


def _metrics(request: Request) -> dict[str, Metric]:
    """Return the metric of each data set whose metric is not accuracy."""
    return {s.dataset: selections.metric for s, selections in request.results if selections.metric != ACCURACY}


def _metric(name: str, metric: Metric, entry: Entry) -> Cell:
    own = [selections for setting, selections in entry.results if setting.dataset == name][:1]
    every = [one for selections in own for one in metrics_of(selections, entry.request.rule)]
    value = next((one.of(metric) for one in every if one.method == entry.method), None)
    return cells.of_metric(value, metric, bound=accuracy(entry, dataset=name).bound)


def _notes(request: Request, table: Table) -> Iterator[str]:
    several = len(request.sets) > 1
    over = "over data sets" if several else "over held-out environments"
    yield words.INTERVAL
    yield words.PLAIN_PICKS if PICKS in table.columns else ""
    yield _AVERAGE if several else ""
    yield f"− plain: mean difference {over} to plain prediction with the same predictor and images, in points."
    yield _LEFT_OUT if methods_of(request.results, every=True) != methods_of(request.results) else ""
    for name, metric in _metrics(request).items():
        yield f"{metric.title} is the metric of {name}; all is chosen and tested by accuracy."


def _on(request: Request) -> str:
    return f" on {request.what}" if request.what else ""


TABLE = TableSpec(
    "main",
    lambda request: (
        f"Accuracy (%) of methods{_on(request)}, averaged over {request.setting.protocol_class.holdouts_in_words}."
    ),
    by_method(each),
    _columns,
    _notes,
    whole=True,
)


def _columns_by_half(request: Request) -> Iterator[Values[Entry]]:
    sets = request.sets
    for name in sets:
        for half, short in HALVES.items():
            column = Column(f"{name}, {half}", short, request.short(name), key={"dataset": name, "class_half": half})
            ranked = partial(ranking, dataset=name, class_half=half)
            yield Values(column, partial(accuracy, dataset=name, class_half=half), ranked)
    for half, short in HALVES.items() if len(sets) > 1 else ():
        mean = partial(Entry.over_sets, number=partial(Entry.accuracy, class_half=half))
        column = Column(f"average, {half}", short, "Average over data sets")
        yield Values(column, mean, partial(mean_ranking, class_half=half))


def _notes_on_halves(request: Request, _: Table) -> Iterator[str]:
    yield _HARMONIC
    if learnt := dict.fromkeys(m.of_predictor.label for m in methods_of(request.results) if m.learns_classes):
        yield f"Left out, since they never predict a class that they had no training image of: {', '.join(learnt)}."


OPEN_CLASS = TableSpec(
    "open_class",
    lambda request: f"Accuracy (%){_on(request)} on base classes, new classes, and their harmonic mean (H).",
    by_method(lambda entries: each([one for one in entries if not one.method.learns_classes])),
    _columns_by_half,
    _notes_on_halves,
    "open class",
    lambda request: [one for one in request.results if one[0].class_half in HALVES],
    whole=True,
)


def _columns_by_variant(request: Request) -> Iterator[Values[Entry]]:
    there = {name for _, selections in request.results for name in selections.held_outs}
    names = VARIANTS | dict(request.names)
    yield Values(Column(request.setting.dataset, "IN"), _source)
    for name in [*(name for name in VARIANTS if name in there), *sorted(there - VARIANTS.keys())]:
        yield Values(Column(name, names.get(name, name), key={"held_out": name}), partial(accuracy, held_out=name))
    yield Values(Column("average of shifts", "Average of shifts", key={"held_out": ""}), accuracy, ranking)


def _source(entry: Entry) -> Cell:
    if entry.method not in entry.selections.parts:
        return Cell(note="no result rows of this method")
    on_sources = 100 * mean_over_tests(entry.selections.picks(entry.method, entry.request.rule), "training_domain")
    return cells.known(on_sources, "no accuracy on the source at what was picked")


def _caption_of_variants(request: Request) -> str:
    where = f" under {request.what.partition(', ')[2]}" if ", " in request.what else ""
    return f"Accuracy (%) on ImageNet and its shifted variants{where}."


IMAGENET = TableSpec(
    "imagenet",
    _caption_of_variants,
    by_method(each),
    _columns_by_variant,
    lambda *_: [_SOURCE],
    "variants",
    lambda request: [one for one in request.results if one[0].protocol_class.across_sets],
    whole=True,
)


def _compared_lines(entries: list[Entry]) -> Iterator[tuple[Line, Compared]]:
    """Yield a line for each method, with its differences to the baselines that precede it in table order.

    Over several data sets the differences are pooled. P-values are adjusted over all differences of the block.
    """
    results, methods, rule = entries[0].results, [one.method for one in entries], entries[0].request.rule
    own = {m.projection: m for m in methods if m.projection in BASELINES and not m.variant and m.order != "released"}
    baselines = [own[name] for name in BASELINES if name in own]
    several, made = len(results) > 1, list[Comparison | Overall]()
    for method, baseline in ((m, baseline) for m in methods for baseline in baselines if baseline.place < m.place):
        there = [one for one in results if method in one[1].parts and baseline in one[1].parts]
        of_sets = [(setting.dataset, compare(selections, method, rule, baseline)) for setting, selections in there]
        known = [(name, one) for name, one in of_sets if one is not None]
        made += filter(None, [over_data_sets(known)]) if several else [one for _, one in known]
    found: dict[Method, Compared] = {}
    for one in in_family(made):
        found[one.method] = {**found.get(one.method, {}), one.baseline.projection: one}
    return ((line, found[entry.method]) for line, entry in each([one for one in entries if one.method in found]))


def _differences(request: Request) -> Iterator[Values[Compared]]:
    def p(one: Comparison | Overall) -> Cell:
        value = one.adjusted.p
        text = f"<{_MIN_P}" if value < _MIN_P else None
        return Cell(note="no interval") if np.isnan(value) else Cell(value=value, decimals=3, text=text)

    def in_new(one: Comparison | Overall) -> Cell:
        if (new := one.others.interval) is None:
            return Cell(note="new environments: cannot be answered from these")
        return cells.points(adjusted_interval(new, one.adjusted.family))

    def ahead(one: Comparison | Overall) -> Cell:
        counts = one.others.ahead, one.others.tied, one.others.behind
        return Cell(value=float(counts[0]), decimals=0, text=" / ".join(map(str, counts)))

    def of(baseline: str, cell: Callable[[Comparison | Overall], Cell], found: Compared) -> Cell:
        made = cell(found[baseline]) if baseline in found else Cell(note=_NOT_COMPARED)
        return replace(made, bound=request.bound)

    for baseline in BASELINES:
        name = Method.of_projection_named(baseline).name_in_sentence
        headings: list[tuple[str, str, str, Callable[[Comparison | Overall], Cell]]] = [
            (f"minus {name}", "difference", "points", lambda one: cells.points(one.interval)),
            (f"minus {name}, p (Holm)", "p", "", p),
        ]
        if baseline == PLAIN:
            headings.append(("minus plain, in new environments", "in new environments", "points", in_new))
            headings.append(("environments ahead of, equal to and behind plain", "ahead / equal / behind", "", ahead))
        for long, short, unit, made in headings:
            yield Values(Column(long, short, f"minus {name}", unit), partial(of, baseline, made))


def _notes_on_differences(request: Request, _: Table) -> Iterator[str]:
    yield words.INTERVAL
    yield (
        "p: of no difference, adjusted for all comparisons of a block (Holm). Baselines have the same predictor, and "
        "each method stands with what the rule picks for it."
    )
    yield (
        "In new environments: interval from the variation between environments"
        f"{' and data sets' if len(request.sets) > 1 else ''}, at 95 % for all of a block together (Bonferroni); it "
        "needs four environments or several data sets."
    )
    if any(setting.grouped for setting, _ in request.results):
        yield "Groups of images stand in several environments, which makes intervals for new ones too narrow."


COMPARISONS = TableSpec(
    "comparisons",
    lambda request: (
        "Methods minus plain prediction, PCA and random projection, in points: "
        f"{'over data sets, each counting alike' if len(request.sets) > 1 else request.what}."
    ),
    by_method(_compared_lines, every=True),
    _differences,
    _notes_on_differences,
    "data set",
    source_fits,
)
OVER_SETS = replace(
    COMPARISONS,
    name="over_data_sets",
    scope="data sets",
    settings=lambda request: source_fits(request) if len(request.sets) > 1 else (),
)
