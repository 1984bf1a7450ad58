"""Table of costs of embeddings and trials, in images/s, hours and money."""

from collections.abc import Iterator
from operator import itemgetter

from benchmark.common.errors import IcmBenchError
from reports.render.table import Cell, Column, Line, Table
from reports.tables.spec import Draft, Request, TableSpec, Values

_WORDS = (
    "Images/s: views through decoding, interventions and encoder, start-up excluded; share of ceiling: relative to the "
    "bare encoder with full batches. Hours of trials: mean duration of trials of that kind, times the number of trials "
    "in these rows; a trial uses one core."
)


_NONE = Cell(note="of embeddings alone")


_COLUMNS = (
    Column("images per second", "Images/s", unit="images/s"),
    Column("share of the bare encoder's speed", "Share of ceiling"),
    Column("GPU hours", unit="h"),
    Column("core hours", unit="h"),
    Column("price", unit=""),
)
_Cells = tuple[Cell, ...]  # one for each column


def _blocks(request: Request) -> Iterator[Draft[_Cells]]:
    """Yield a block with the costs of embeddings, then a block with the costs of trials.

    Raises:
        IcmBenchError: a cost lacks `kind`, `work` or `seconds`, or its work is not positive.
    """
    for number, cost in enumerate(request.costs):
        missing = [name for name in ("kind", "work", "seconds") if name not in cost]
        if missing or not float(cost["work"]) > 0:
            reason = f"lacks '{missing[0]}'" if missing else "has no work above 0"
            raise IcmBenchError(f"Entry {number} of the costs {reason}: each entry needs kind, work and seconds.")
    for title, costs in (("Embeddings", _embeddings(request)), ("Trials", _trials(request))):
        yield Draft(title, [(Line(name, (), request.short(name)), one) for name, one in costs])


def _embeddings(request: Request) -> Iterator[tuple[str, _Cells]]:
    """Yield a line's name and cells for each measured run of an encoder."""
    for cost in (one for one in request.costs if one["kind"][0] == "embedding"):
        seconds, work = float(cost["seconds"]), float(cost["work"])
        ceiling, actors = cost.get("ceiling"), int(cost.get("actors") or 1)
        gpu, hours = cost.get("device") in ("cuda", "mps"), actors * seconds / 3600
        share = Cell(note="not measured")
        if ceiling:
            share = Cell(value=100 * work / seconds / (actors * float(ceiling)))
        hours = hours if gpu else hours * int(cost.get("cores") or 1)
        spent = Cell(value=hours, decimals=2)
        both = (spent, Cell(note="on a GPU")) if gpu else (Cell(note="no GPU"), spent)
        made = (Cell(value=work / seconds), share, *both, _price(request, hours))
        yield f"{cost['kind'][-1]}, {work:,.0f} views", made


def _trials(request: Request) -> Iterator[tuple[str, _Cells]]:
    """Yield a line's name and cells for each predictor and projection whose trials were measured."""
    counted: dict[tuple[str, ...], set[str]] = {}
    for _, selections in request.results:
        columns = selections.rows[["trial_id", "predictor", "predictor_label", "projection"]]
        for trial, *kind in columns.drop_duplicates().itertuples(index=False):
            counted.setdefault(tuple(map(str, kind)), set()).add(str(trial))
    for (predictor, label, projection), trials in sorted(counted.items()):
        kind = ["trial", predictor, projection]
        if seconds := [float(cost["seconds"]) for cost in request.costs if list(cost["kind"][:3]) == kind]:
            hours = len(trials) * sum(seconds) / len(seconds) / 3600
            made = (_NONE, _NONE, Cell(note="no GPU"), Cell(value=hours, decimals=3), _price(request, hours))
            yield f"{label}, {projection}: {len(trials):,} trials", made


def _price(request: Request, hours: float) -> Cell:
    amount = request.options.price
    return Cell(note="no price was given") if amount is None else Cell(value=hours * amount, decimals=2)


def _columns(_: Request) -> list[Values[_Cells]]:
    return [Values(column, itemgetter(i)) for i, column in enumerate(_COLUMNS)]


def _notes(request: Request, _: Table) -> Iterator[str]:
    machines = sorted({str(cost.get("machine", "")) for cost in request.costs} - {""})
    yield _WORDS
    yield f"Measured on: {', '.join(machines)}." if machines else ""
    yield f"Price: {request.options.price:g} for an hour." if request.options.price is not None else ""


# Costs have the fields `kind` (general to specific), `work`, `seconds` and `machine` of `benchmark.store.costs.Cost`.
# Costs of embeddings also have `ceiling` (views/s of the bare encoder), `actors`, `cores` (per actor) and `device`, if
# known. The price is per GPU hour if a GPU was used, else per core hour, in the reader's currency.
TABLE = TableSpec(
    "cost",
    lambda _: "What embeddings and trials cost.",
    _blocks,
    _columns,
    _notes,
    "report",
    settings=lambda request: request.results if request.costs else (),
    several_rules=True,
    corner="Work",
)
