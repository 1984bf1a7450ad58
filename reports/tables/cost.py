"""What the numbers cost: embeddings and trials, in images/s, hours and money."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmark.common.errors import IcmBenchError
from reports.analysis.options import Options
from reports.render.table import Block, Cell, Column, Line, Table
from reports.tables import words
from reports.tables.alike import Described
from reports.tables.blocks import table_of

NAME = "cost"
_COLUMNS = (
    Column("images per second", "Images/s", unit="images/s"),
    Column("share of the bare encoder's speed", "Share of ceiling"),
    Column("GPU hours", unit="h"),
    Column("core hours", unit="h"),
    Column("price", unit=""),
)
_WORDS = (
    "Images/s: views through decoding, interventions and encoder, start-up excluded; share of ceiling: of what the "
    "bare encoder does with full batches. Hours of trials: the mean of what trials of that kind took, times the number "
    "of trials in these rows; a trial has one core."
)


def build(
    described: Described,
    costs: Sequence[Mapping[str, Any]],
    options: Options,
    names: Mapping[str, str] | None = None,
    price: float | None = None,
) -> Table | None:
    """Return a line for each backbone's embeddings, and for each predictor and projection; None with fewer than two.

    Args:
        described: all settings, whose trials are counted.
        costs: measured costs, each with `kind` (words, from the general to the particular), `work`, `seconds` and
            `machine`, as `benchmark.store.costs.Cost` has them; of embeddings also `ceiling` (views/s of the bare
            encoder), `actors`, `cores` (of each actor) and `device`, where they are known.
        options: what the reader asks for.
        names: long name -> short name of predictors and projections.
        price: of a GPU hour where there is a GPU, else of a core hour, in the reader's currency; no price by default.

    Raises:
        IcmBenchError: a cost lacks `kind`, `work` or `seconds`, or has no positive work.
    """
    for number, cost in enumerate(costs):
        missing = [name for name in ("kind", "work", "seconds") if name not in cost]
        if missing or not float(cost["work"]) > 0:
            reason = f"lacks '{missing[0]}'" if missing else "has no work above 0"
            raise IcmBenchError(f"Cost {number} of the list {reason}: give kind, work and seconds of each.")
    names = names or {}
    embedded = [_embedding(cost, price, names) for cost in costs if cost["kind"][0] == "embedding"]
    trials = _trials(described, costs, price, names)
    blocks = [Block(title, tuple(lines)) for title, lines in (("Embeddings", embedded), ("Trials", trials)) if lines]
    machines = sorted({str(cost.get("machine", "")) for cost in costs} - {""})
    own = [_WORDS, f"Measured on: {', '.join(machines)}." if machines else ""]
    own += [f"Price: {price:g} for an hour." if price is not None else ""]
    table = table_of(NAME, "What embeddings and trials cost.", _COLUMNS, blocks, described, None, options, own, "Work")
    if table is None:
        return None
    context = {"random_weights": words.context(described, None, options)["random_weights"]}
    return replace(table, notes=tuple(note for note in own if note), context=context)


def _embedding(cost: Mapping[str, Any], price: float | None, names: Mapping[str, str]) -> Line:
    seconds, work = float(cost["seconds"]), float(cost["work"])
    ceiling, actors = cost.get("ceiling"), int(cost.get("actors") or 1)
    gpu = cost.get("device") in ("cuda", "mps")
    hours = actors * seconds / 3600
    cores = hours * int(cost.get("cores") or 1)
    name = f"{cost['kind'][-1]}, {work:,.0f} views"
    share = Cell(value=100 * work / seconds / (actors * float(ceiling))) if ceiling else Cell(note="not measured")
    own = [
        Cell(value=work / seconds),
        share,
        Cell(value=hours, decimals=2) if gpu else Cell(note="no GPU"),
        Cell(note="on a GPU") if gpu else Cell(value=cores, decimals=2),
        _price(hours if gpu else cores, price),
    ]
    return Line(name, tuple(own), words.short(name, names))


def _trials(
    described: Described, costs: Sequence[Mapping[str, Any]], price: float | None, names: Mapping[str, str]
) -> list[Line]:
    """Return a line for each predictor and projection whose trials were measured."""
    counted: dict[tuple[str, ...], set[str]] = {}
    for _, selections in described:
        said = selections.rows[["trial_id", "predictor", "predictor_label", "projection"]]
        for trial, *kind in said.drop_duplicates().itertuples(index=False):
            counted.setdefault(tuple(map(str, kind)), set()).add(str(trial))
    lines = []
    for (predictor, label, projection), trials in sorted(counted.items()):
        kind = ["trial", predictor, projection]
        seconds = [float(cost["seconds"]) for cost in costs if list(cost["kind"][:3]) == kind]
        if seconds:
            hours = len(trials) * sum(seconds) / len(seconds) / 3600
            name = f"{label}, {projection}: {len(trials):,} trials"
            gap = Cell(note="of embeddings alone")
            own = (gap, gap, Cell(note="no GPU"), Cell(value=hours, decimals=3), _price(hours, price))
            lines.append(Line(name, own, words.short(name, names)))
    return lines


def _price(hours: float, price: float | None) -> Cell:
    return Cell(note="no price was given") if price is None else Cell(value=hours * price, decimals=2)
