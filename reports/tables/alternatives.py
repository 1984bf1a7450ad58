"""Ablations of what no rule chooses: the order of the eigenvectors, and the predictor."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from reports.analysis.methods import ICM, PLAIN, SHRINKAGE, Method
from reports.render.table import Line, Table
from reports.tables import cells, words
from reports.tables.ablations import FIXED_IN_WORDS, GAIN, HELD_OUT, SOURCE_SCORE, by_what
from reports.tables.by_method import PICKS, Entry, accuracy, methods_of, picks
from reports.tables.spec import Draft, Request, TableSpec, Values, results


def _by_predictor(request: Request) -> list[Method]:
    shown = [m for m in methods_of(request.described) if m.projection in (PLAIN, ICM, SHRINKAGE) and not m.variant]
    return [m for m in shown if m.order != "released"]


def _alternative(
    name: str,
    what: str,
    corner: str,
    shown: Callable[[Request], Sequence[Method]],
    title_of: Callable[[Request, Method], str],
    name_of: Callable[[Method], str],
) -> TableSpec[Entry]:
    """Return a spec with a block for each backbone and title that has two methods or more, each called by its name."""

    def blocks(request: Request) -> Iterator[Draft[Entry]]:
        methods = shown(request)
        titles = list(dict.fromkeys(title_of(request, method) for method in methods))
        for backbone, parts in request.backbones.items():
            for title in titles:
                own = [m for m in methods if title_of(request, m) == title and m in parts[0][1].parts]
                entries = [Entry(request, parts, method) for method in own]
                named = [(name_of(entry.method), entry) for entry in entries]
                lines = [(Line(name, (), request.short(name), entry.is_plain), entry) for name, entry in named]
                said = [request.short(backbone)] if len(request.backbones) > 1 else []
                said += [request.short(title)] if len(titles) > 1 else []
                yield Draft(", ".join(said), lines if len(lines) > 1 else [], request.short(backbone))

    def notes(_: Request, table: Table) -> Iterator[str]:
        yield from (words.INTERVAL, FIXED_IN_WORDS, words.PLAIN_PICKS if PICKS in table.columns else "")

    def columns(request: Request) -> Iterator[Values[Entry]]:
        yield Values(SOURCE_SCORE, lambda entry: cells.source_score(entry.selections.picks(entry.method, request.rule)))
        yield Values(HELD_OUT, accuracy)
        yield Values(GAIN, lambda entry: entry.gain().cell)
        yield from picks(request, shown(request))

    return TableSpec(name, partial(by_what, what), blocks, columns, notes, "data set", results, "base", corner)


ORDER = _alternative(
    "ablation_order",
    "order of the eigenvectors",
    "Order",
    lambda request: [m for m in methods_of(request.described) if m.projection == ICM and not m.variant],
    lambda _, method: method.predictor_label,
    lambda method: str(method.order),
)
PREDICTOR = _alternative(
    "ablation_predictor",
    "predictor",
    "Predictor",
    _by_predictor,
    lambda request, method: words.short_name(method, request.names),
    lambda method: method.predictor_label,
)
