"""The table of docs/adding.md: `icm-bench report recipe.yaml --table my_tables:MEDIANS --plugins` adds it."""

from statistics import median

from reports.tables import Cell, Column, TableSpec, Values, by_method, each


def median_accuracy(entry):
    """The median of a method's accuracies on the held-out environments."""
    accuracies = [entry.accuracy(name).cell.value for name in entry.selections.held_outs]
    if None in accuracies:
        return Cell(note="not all environments were tested")
    return Cell(value=median(accuracies))


MEDIANS = TableSpec(
    "medians",
    caption=lambda request: f"{request.what}: median accuracy (%) over held-out environments.",
    blocks=by_method(each),
    columns=lambda _: [Values(Column("median accuracy"), median_accuracy)],
    scope="data set",
)
