"""The figure of the backbones among which is chosen."""

from collections.abc import Mapping

from reports.choose.choice import NAME, Choice
from reports.figures.pareto import Dot, draw
from reports.figures.writing import Drawing
from reports.tables import words
from reports.tables.alike import by_data_set


def drawing(choice: Choice, names: Mapping[str, str]) -> Drawing | None:
    """Return the figure of accuracy in the worst environment against speed; None with fewer than two that have both.

    Args:
        choice: what the rows say.
        names: long name -> short name of backbones.
    """
    front = choice.front
    dots = [
        Dot(
            words.short(one.name, names),
            one.measured.images_per_second,
            one.worst.cell.value,
            one.worst.cell.low,
            one.worst.cell.high,
            one in front,
        )
        for one in choice.candidates
        if one.measured.images_per_second and one.worst and one.worst.cell.value is not None
    ]
    return Drawing(NAME, _caption(choice, len(dots)), draw, dots) if len(dots) > 1 else None


def _caption(choice: Choice, drawn: int) -> str:
    missing = [one.name for one in choice.candidates if not one.measured.images_per_second]
    absent = f" Not drawn, for no speed may be compared: {', '.join(missing)}." if missing else ""
    return (
        "Accuracy of what the rule picks, in the held-out environment where it is lowest, against images a second (log "
        f"axis), {drawn} backbones. Filled, at the dashes: the front of those that no other is above in both, by these "
        "numbers alone; bars: 95 % intervals of that environment. Where bars overlap, the order is not shown. Speeds: "
        f"{choice.speeds.where}.{absent} {', '.join(by_data_set(choice.described))}; rule {choice.rule}."
    )
